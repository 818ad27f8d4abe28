"""Portrait to FaceFit: a photograph fitted, flipped, turned and cut; every refusal and what it says."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core.errors import MediaError, NoFaceError, SettingsError
from vividtalk_core.face.align import cut_crop, face_crop, from_crop, to_crop, to_pixel_centres
from vividtalk_core.face.detector import Detection
from vividtalk_core.face.find import check_portrait
from vividtalk_core.face.fit import face_mask, fit_face
from vividtalk_core.face.landmarks import region_of_landmarks
from vividtalk_core.face.models import load_face_models
from vividtalk_core.geometry import pixel_centres, project, rotation_matrix
from vividtalk_core.head.morphable import landmark_positions, shape
from vividtalk_core.head.topology import INNER_LIPS, OUTER_LIPS
from vividtalk_core.structures import ARKIT_NAMES, Crop
from vividtalk_core.video.reader import read_image

LIPS = list(INNER_LIPS + OUTER_LIPS)


@pytest.fixture(scope="module")
def models():
    return load_face_models()


@pytest.fixture(scope="module")
def portrait():
    return read_image(Path(__file__).parents[1] / "data" / "astronaut.png")


@pytest.fixture(scope="module")
def face(models, portrait):
    return fit_face(models, portrait)


def projected(face, offsets=True):
    """Landmarks [468, 2] of the fitted head in px of the crop."""
    vertices = shape(face.model, face.id_coefficients, face.exp_coefficients) + offsets * face.vertex_offsets
    camera = vertices @ rotation_matrix(face.pose.rotation)[0].T + face.pose.translation
    return landmark_positions(face.model, project(camera))[:, :2]


def test_model_alone_explains_the_landmarks(face):
    error = (projected(face, offsets=False) - face.landmarks[:468, :2]).norm(dim=-1)
    assert error.mean() < 1.1
    assert error[LIPS].mean() < 0.9


def test_offsets_register_the_rest(face):
    error = (projected(face) - face.landmarks[:468, :2]).norm(dim=-1)
    assert error[LIPS].mean() < 0.15
    assert error[LIPS].max() < 0.5
    assert face.vertex_offsets.norm(dim=-1).max() < 0.2


def test_coefficients_are_plausible(face):
    assert face.id_coefficients.abs().max() < 4
    assert face.id_coefficients.norm() < 10
    assert face.exp_coefficients.min() >= 0
    assert face.exp_coefficients.max() <= 1
    used = dict(zip(ARKIT_NAMES, face.exp_coefficients.tolist(), strict=True))
    assert used["mouthSmileLeft"] > 0.2  # she smiles
    assert used["mouthSmileRight"] > 0.2
    assert used["mouthLeft"] + used["mouthRight"] < 0.1
    assert used["browInnerUp"] < 0.1


def test_pose_is_that_of_the_picture(face, portrait):
    assert face.pose.rotation.shape == (1, 3)
    assert face.pose.rotation.abs().max() < 0.45
    assert face.pose.translation[0, :2].abs().max() < 0.3  # the crop is centred on the face


def test_mirrored_portrait_gives_the_mirrored_fit(models, portrait, face):
    mirrored = fit_face(models, portrait.flip(-1))
    pitch, yaw, roll = face.pose.rotation[0].tolist()
    assert mirrored.pose.rotation[0].tolist() == pytest.approx([pitch, -yaw, -roll], abs=0.06)
    for name in ("mouthSmileLeft", "eyeBlinkLeft", "browDownLeft"):
        twin = name.replace("Left", "Right")
        own, other = (mirrored.exp_coefficients[ARKIT_NAMES.index(n)] for n in (name, twin))
        assert abs(own - face.exp_coefficients[ARKIT_NAMES.index(twin)]) < 0.2
        assert abs(other - face.exp_coefficients[ARKIT_NAMES.index(name)]) < 0.2


def test_turned_portrait_rolls(models, portrait, face):
    """A quarter turn clockwise, as the viewer sees it, is a negative roll by 90°."""
    turned = fit_face(models, portrait.rot90(-1, (2, 3)))
    assert float(turned.pose.rotation[0, 2] - face.pose.rotation[0, 2]) == pytest.approx(-1.571, abs=0.12)


def test_same_portrait_gives_the_same_bits(models, portrait, face):
    again = fit_face(models, portrait)
    assert torch.equal(again.exp_coefficients, face.exp_coefficients)
    assert torch.equal(again.vertex_offsets, face.vertex_offsets)


def test_box_by_hand_finds_the_same_face(models, portrait, face):
    low, high = (face.landmarks[:468, :2].amin(0), face.landmarks[:468, :2].amax(0))
    box = torch.cat((from_crop(low, face.crop), from_crop(high, face.crop))).tolist()
    by_hand = fit_face(models, portrait, box=tuple(box))
    assert (by_hand.landmarks - face.landmarks)[:468, :2].abs().mean() < 1
    with_tests = (by_hand.exp_coefficients - face.exp_coefficients).abs().max()
    assert with_tests < 0.2


def test_the_first_of_a_batch_is_used(models, portrait, face):
    batch = torch.cat((portrait, torch.zeros_like(portrait)))
    assert torch.equal(fit_face(models, batch).exp_coefficients, face.exp_coefficients)


def test_second_face_is_the_smaller_one(models, portrait):
    small = F.interpolate(portrait, scale_factor=0.6, mode="bilinear", antialias=True)
    canvas = torch.full((1, 3, portrait.shape[2], portrait.shape[3] + small.shape[3]), 0.5)
    canvas[..., : portrait.shape[3]] = portrait
    canvas[:, :, : small.shape[2], portrait.shape[3] :] = small
    first, second = fit_face(models, canvas), fit_face(models, canvas, face_index=1)
    assert first.crop.size > 1.4 * second.crop.size
    assert second.crop.left > portrait.shape[3] / 2
    message = r"there is no face number 2: 2 faces were found, .*: 0: \(\d+, \d+, \d+, \d+\); 1: \("
    with pytest.raises(NoFaceError, match=message):
        fit_face(models, canvas, face_index=2)


def test_masks(face):
    assert face.face_mask.amin() >= 0
    assert face.face_mask.amax() <= 1 + 1e-6
    x, y = face.landmarks[4, :2].long().tolist()  # nose tip
    assert face.face_mask[0, 0, y, x] > 0.99
    assert face.face_mask[0, 0, :8].max() == 0
    assert face.person_mask[0, 0, y, x] > 0.9
    oval = face.landmarks[152]  # chin
    assert face.face_mask[0, 0, int(oval[1]), int(oval[0])] == pytest.approx(0.5, abs=0.25)


def test_face_mask_is_the_polygon():
    """Against OpenCV's, away from the soft edge."""
    import cv2
    import numpy as np

    from vividtalk_core.head.topology import FACE_OVAL

    angle = torch.arange(36) / 36 * 2 * torch.pi
    oval = torch.stack((128.3 + 60 * angle.sin(), 120.7 - 80 * angle.cos()), 1)
    landmarks = torch.zeros(478, 2)
    landmarks[list(FACE_OVAL)] = oval
    reference = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(reference, [(oval.numpy() * 16 - 8).round().astype(np.int32)], 1, shift=4)
    distance = (pixel_centres(256, 256)[:, :, None] - oval).norm(dim=-1).amin(-1)
    sure = distance > 20
    assert torch.equal((face_mask(landmarks)[0, 0] > 0.5)[sure], (torch.from_numpy(reference) > 0)[sure])


# --- crop and pixels


def test_crop_of_landmarks():
    landmarks = torch.zeros(478, 3)
    landmarks[1, :2] = torch.tensor([100.0, 60])
    crop = face_crop(landmarks, 300, 400)
    assert (crop.size, crop.height, crop.width) == (210, 300, 400)
    assert crop.left + crop.size / 2 == pytest.approx(50, abs=1)
    assert crop.top + crop.size / 2 == pytest.approx(30 - 0.06 * 210, abs=1)
    assert crop.left < 0  # it overhangs


def test_crop_at_its_own_size_is_the_picture():
    image = torch.rand(1, 3, 300, 320, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(cut_crop(image, Crop(10, 20, 256, 300, 320)), image[:, :, 20:276, 10:266], atol=1e-6)


def test_overhanging_crop_repeats_the_border():
    image = torch.rand(1, 1, 300, 300, generator=torch.Generator().manual_seed(0))
    crop = cut_crop(image, Crop(-20, -30, 256, 300, 300))
    assert torch.allclose(crop[0, 0, :30, 20:], image[0, 0, 0, :236].expand(30, -1), atol=1e-6)


def test_shrinking_averages():
    checks = (torch.arange(1024)[:, None] + torch.arange(1024)) % 2
    crop = cut_crop(checks[None, None].float(), Crop(0, 0, 1024, 1024, 1024))
    assert (crop - 0.5).abs().max() < 0.01


def test_to_crop_and_back():
    crop = Crop(-13, 40, 512, 600, 700)
    points = torch.tensor([[100.0, 200, 8]])
    inside = to_crop(points, crop)
    assert inside.tolist() == [[56.5, 80, 4]]
    assert from_crop(inside[:, :2], crop).tolist() == [[100, 200]]


def test_pixel_centres_follow_the_scale():
    """At one px of the network per px of the image nothing moves; at two, half a px up and left."""
    landmarks = torch.zeros(1, 478, 3)
    landmarks[0, 33, 0], landmarks[0, 263, 0], landmarks[0, 10, 0] = 10, 90, 100
    for scale in (1.0, 2.0):
        size = region_of_landmarks(landmarks).size
        placed = landmarks * scale * 192 / size
        assert (to_pixel_centres(placed) - placed)[0, 5].tolist() == pytest.approx(
            [0.5 - scale / 2, 0.5 - scale / 2, 0], abs=1e-4
        )


# --- refusals


def test_a_picture_without_a_face(models):
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with pytest.raises(NoFaceError, match=r"no face found.*closer crop, or give the face's box by hand"):
        fit_face(models, noise)


def test_a_face_below_the_threshold_is_reported(models, portrait):
    """A detector whose scores are all low; the message names its best face."""
    guess = Detection(torch.tensor([10.0, 20, 110, 140]), torch.zeros(6, 2), 0.31)

    class Unsure(torch.nn.Module):
        def detect(self, image, threshold, *confirm):
            return [guess] if threshold < 0.31 else []

    message = "the best score is 0.31 at box (10, 20, 110, 140), the threshold is 0.5; lower the threshold below it"
    with pytest.raises(NoFaceError, match=re.escape(message)):
        fit_face(replace(models, detector=Unsure()), portrait)


def test_a_detection_that_the_landmark_network_refuses(models, portrait):
    """A score above the threshold is not what was missing, and a lower threshold would not help."""
    guess = Detection(torch.tensor([10.0, 20, 110, 140]), torch.zeros(6, 2), 0.91)

    class Sure(torch.nn.Module):
        def detect(self, image, threshold, *confirm):
            return [] if confirm else [guess]

    with pytest.raises(NoFaceError) as error:
        fit_face(replace(models, detector=Sure()), portrait)
    assert "(10, 20, 110, 140), score 0.91, is none by the landmark network" in str(error.value)
    assert "threshold" not in str(error.value)


class Doubtful(torch.nn.Module):
    """A landmarker whose landmarks are right, and whose presence score is low."""

    def __init__(self, landmarker, presence):
        super().__init__()
        self.landmarker, self.presence = landmarker, presence

    def confirm(self, image, detections):
        return self.landmarker.confirm(image, detections)

    def refine(self, image, region, rounds):
        landmarks, _ = self.landmarker.refine(image, region, rounds)
        return landmarks, torch.tensor([self.presence])


def test_a_face_of_low_presence_is_refused(models, portrait):
    doubtful = replace(models, landmarker=Doubtful(models.landmarker, 0.31))
    message = r"presence score is 0\.31, 0\.5 is needed; give the face.s box by hand, use a closer crop, or set 'force'"
    with pytest.raises(NoFaceError, match=message):
        fit_face(doubtful, portrait)
    fit_face(replace(models, landmarker=Doubtful(models.landmarker, 0.5)), portrait)


def test_a_forced_face_of_low_presence_is_used_with_a_warning(models, portrait, face, caplog):
    doubtful = replace(models, landmarker=Doubtful(models.landmarker, 0.31))
    forced = fit_face(doubtful, portrait, force=True)
    assert torch.equal(forced.landmarks, face.landmarks)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "presence score is 0.31, 0.5 is needed; it is used because 'force' is set" in caplog.text


def test_a_sure_face_needs_no_warning(models, portrait, caplog):
    fit_face(models, portrait, force=True)
    assert not caplog.records


def test_a_small_face_is_reported(models, portrait):
    small = F.interpolate(portrait, scale_factor=60 / portrait.shape[3], mode="bilinear", antialias=True)
    canvas = F.pad(small, (40, 40, 40, 40), mode="replicate")
    with pytest.raises(
        NoFaceError, match=r"the face is [123]\d px large, at least 40 px are needed: use a closer crop"
    ):
        fit_face(models, canvas, threshold=0.1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, 100, 100), "portrait must be [B, 3, H, W] RGB with B ≥ 1; got [3, 100, 100]"),
        (torch.zeros(1, 4, 100, 100), "got [1, 4, 100, 100]"),
        (torch.zeros(0, 3, 100, 100), "got [0, 3, 100, 100]"),
        (torch.zeros(1, 3, 50, 100), "the portrait is 100×50 px; its sides must be 64 to 8192 px"),
        (torch.zeros(1, 3, 64, 8200), "the portrait is 8200×64 px"),
        (torch.zeros(1, 3, 100, 100, dtype=torch.uint8), "floating-point values in 0..1; got torch.uint8"),
        (torch.full((1, 3, 100, 100), float("nan")), "NaN or infinite values"),
        (torch.full((1, 3, 100, 100), 255.0), "must be in 0..1; got 255 to 255"),
    ],
)
def test_unusable_portraits(bad, message):
    with pytest.raises(MediaError, match=re.escape(message)):
        check_portrait(bad)


@pytest.mark.parametrize(
    "box",
    [
        (50, 10, 20, 90),
        (10, 90, 50, 20),
        (-90, 10, -20, 90),
        (9000, 0, 9100, 90),
        (0, 0, 1e30, 1e30),
        (0, 0, math.inf, 9),
    ],
)
def test_unusable_boxes(models, portrait, box):
    with pytest.raises(SettingsError, match=r"box must be left, top, right, bottom in px inside the \d+×\d+ portrait"):
        fit_face(models, portrait, box=box)


def test_nothing_is_edited_in_place(models, portrait):
    before = portrait.clone()
    fit_face(models, portrait)
    assert torch.equal(portrait, before)


def test_models_move_together(models):
    moved = models.to("meta")
    assert moved.head.mean_shape.device.type == moved.landmarker.network.device.type == "meta"
    networks = (models.detector, models.landmarker, models.segmenter)
    assert {network.network.device.type for network in networks} == {models.head.mean_shape.device.type} == {"cpu"}
