"""478 landmarks: parity with MediaPipe, batches, refinement, regions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from vividtalk_core.face import landmarks as module
from vividtalk_core.face.detector import Detection, FaceDetector
from vividtalk_core.face.landmarks import region_of_detection, region_of_landmarks
from vividtalk_core.face.region import Region

DATA = Path(__file__).parents[1] / "data"
ASSETS = Path(module.__file__).parents[1] / "assets"


@pytest.fixture(scope="module")
def reference():
    """Name of a view → its region and MediaPipe's landmarks in it."""
    stored = np.load(DATA / "mediapipe_reference.npz")
    regions, landmarks = torch.from_numpy(stored["regions"]), torch.from_numpy(stored["landmarks"])
    regions = [Region(r[None, :2], r[2:3], r[3:]) for r in regions]
    return dict(zip(stored["names"].tolist(), zip(regions, landmarks, strict=True), strict=True))


def test_parity_with_mediapipe(landmarker, views, reference):
    assert len(reference) >= 5
    for name, (region, expected) in reference.items():
        found, presence = landmarker.landmarks(views[name], region)
        difference = (found[0] - expected).abs() * 192 / region.size
        distance = difference[:, :2].norm(dim=-1)
        assert distance.mean() < 0.05, name
        assert distance.max() < 0.3, name
        assert difference[:, 2].mean() < 0.05, name
        assert presence > 0.99, name


def test_region_of_a_detection_is_mediapipes(views, landmarker, reference):
    # MediaPipe's landmarks use its short-range detector, so the regions are near each other, not equal
    detector = FaceDetector(ASSETS / "detector.safetensors")
    for name, (region, _) in reference.items():
        mine = region_of_detection(detector.detect(views[name])[0])
        assert (mine.centre - region.centre).norm() < 0.1 * region.size, name
        assert mine.size / region.size == pytest.approx(1, abs=0.25), name
        assert abs(mine.angle - region.angle) < 0.2, name


def test_region_of_detection_by_hand():
    keypoints = torch.tensor([[10.0, 10], [10, 20], [0, 0], [0, 0], [0, 0], [0, 0]])
    region = region_of_detection(Detection(torch.tensor([0.0, 10, 20, 50]), keypoints, 0.9))
    assert (region.centre.tolist(), region.size.tolist()) == ([[10, 30]], [60])
    assert float(region.angle) == pytest.approx(math.pi / 2)


def test_region_of_landmarks_turns_with_them(reference):
    landmarks = reference["as it is"][1][None]
    region = region_of_landmarks(landmarks)
    turn = torch.tensor([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]])
    turned = landmarks.clone()
    turned[..., :2] = landmarks[..., :2] @ turn.T
    after = region_of_landmarks(turned)
    torch.testing.assert_close(after.centre, region.centre @ turn.T, rtol=0, atol=1e-3)
    torch.testing.assert_close(after.size, region.size)
    torch.testing.assert_close(after.angle, region.angle + 0.5)


def test_many_faces_at_once(landmarker, views, reference):
    regions = [region for region, _ in list(reference.values())[:3]]
    both = Region(*(torch.cat([getattr(r, n) for r in regions]) for n in ("centre", "size", "angle")))
    together, presence = landmarker.landmarks(views["as it is"], both)
    alone = [landmarker.landmarks(views["as it is"], region)[0] for region in regions]
    assert (together.shape, presence.shape) == ((3, 478, 3), (3,))
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=0.02)
    frames = torch.cat([views[name] for name in ("as it is", "mirrored", "grayscale")])
    of_each, _ = landmarker.landmarks(frames, both)
    torch.testing.assert_close(of_each[:1], alone[0], rtol=0, atol=0.02)
    assert (of_each[1] - together[1]).abs().max() > 1


def test_irises_lie_in_the_eyes(landmarker, views, reference):
    found, _ = landmarker.landmarks(views["triple"], reference["triple"][0])
    for centre, rim in ((468, module.LEFT_RIM), (473, module.RIGHT_RIM)):
        eye = found[0, list(rim)]
        assert (eye[:, :2].amin(0) < found[0, centre, :2]).all()
        assert (found[0, centre, :2] < eye[:, :2].amax(0)).all()
        torch.testing.assert_close(found[0, centre : centre + 5, 2], eye[:, 2].mean().expand(5))


def test_refinement_forgets_the_region_it_began_with(landmarker, views, reference):
    region = reference["as it is"][0]
    moved = Region(region.centre + 8, region.size * 1.2, region.angle + 0.15)
    starts = Region(*(torch.cat((getattr(region, n), getattr(moved, n))) for n in ("centre", "size", "angle")))
    spread = [float(landmarker.refine(views["as it is"], starts, n)[0].diff(dim=0).abs().mean()) for n in (1, 2, 3)]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] < 0.5 * spread[0]
    with pytest.raises(ValueError, match="rounds must be at least 1; got 0"):
        landmarker.refine(views["as it is"], region, 0)


def test_confirm_keeps_faces_only(landmarker, views):
    detector = FaceDetector(ASSETS / "detector.safetensors")
    face = detector.detect(views["as it is"])[0]
    elsewhere = Detection(face.box * 0 + torch.tensor([0.0, 150, 100, 250]), face.keypoints, 0.9)
    assert landmarker.confirm(views["as it is"], [elsewhere, face]) == [face]
    assert landmarker.confirm(views["as it is"], []) == []


def test_presence_is_low_in_an_empty_region(landmarker):
    region = Region(torch.tensor([[96.0, 96.0]]), torch.tensor([192.0]), torch.zeros(1))
    assert landmarker.landmarks(torch.full((1, 3, 192, 192), 0.5), region)[1] < 0.5
