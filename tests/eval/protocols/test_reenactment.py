"""Self-reenactment on a clip whose motion is known to be within reach: one that the renderer made."""

import logging
import math
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vividtalk_core import pipeline
from vividtalk_core.critics import perceptual
from vividtalk_core.errors import MediaError, MissingFileError, SettingsError
from vividtalk_core.eval.evaluators import Evaluators
from vividtalk_core.eval.footage import Footage
from vividtalk_core.eval.protocols import reenactment
from vividtalk_core.eval.protocols.reenactment import (
    ReenactmentSettings,
    _choose_frames,
    find_perceptual,
    motion_from,
    reenact_files,
    self_reenactment,
    still_parts,
)
from vividtalk_core.eval.protocols.reenactment_score import CLOSED_FORM, NETWORK, REAL, STATIC
from vividtalk_core.face.track import track_video
from vividtalk_core.geometry import rotation_matrix
from vividtalk_core.mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig
from vividtalk_core.pipeline import drive, load_models
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion, HeadPose
from vividtalk_core.video.reader import read_image

FRAMES = 5
FEW = ReenactmentSettings(pictures=3)


class Pixels(nn.Module):
    """A backbone whose only features are the colours, and an embedder whose vector is the mean colour."""

    name = "pixels"

    def features(self, images):
        return [images - 0.5]

    def embed(self, image, landmarks):
        return F.normalize(image.mean((1, 2)), dim=0)


@pytest.fixture(scope="module")
def models():
    models = load_models()
    return models.replaced(models.mesh_to_video.replaced(None, None))


@pytest.fixture(scope="module")
def generator():
    """Untrained: it changes nothing."""
    torch.manual_seed(0)
    return FrameGenerator(FrameGeneratorConfig(source_widths=(2, 4), widths=(4, 4, 4, 4, 4))).eval()


@pytest.fixture(scope="module")
def clip(models):
    """The demo portrait turning its head and opening its mouth, a few frames of 256 px."""
    (path,) = (Path(pipeline.__file__).parent / "assets/demo").glob("portrait.*")
    image = read_image(path)
    portrait = F.interpolate(image, scale_factor=256 / max(image.shape[2:]), mode="bilinear", antialias=True)
    lips = torch.zeros(FRAMES, len(models.face.head.lip_vertices), 3)
    expression = Expression(torch.zeros(FRAMES, 52), lips, 25.0, torch.zeros(52), lips[0])
    share = torch.linspace(0, 1, FRAMES)
    expression.coefficients[:, ARKIT_NAMES.index("jawOpen")] = 0.5 * share
    rotation = share[:, None] * torch.tensor([0.03, 0.12, 0.06])
    frames = torch.cat(
        list(drive(portrait.clamp(0, 1), expression, HeadMotion(rotation, torch.zeros(FRAMES, 3), 25.0), models=models))
    )
    return list((frames * 255).round().byte())


@pytest.fixture(scope="module")
def evaluators(models):
    return Evaluators(models.face, embedder=Pixels(), perceptual=Pixels())


@pytest.fixture(scope="module")
def result(models, generator, evaluators, clip):
    return self_reenactment(
        models.replaced(models.mesh_to_video.replaced(None, generator)), Footage(lambda: clip, 25.0), evaluators, FEW
    )


def test_every_row_is_there(result):
    assert (result.frames, result.fps, result.embedder, result.backbone) == (FRAMES, 25.0, "pixels", "pixels")
    assert list(result.rows) == [STATIC, CLOSED_FORM, NETWORK, REAL]


def test_tracked_motion_explains_the_clip_better_than_a_still(result):
    generated, still = result.rows[CLOSED_FORM], result.rows[STATIC]
    assert generated.face_psnr > still.face_psnr + 1 and generated.mouth_psnr > still.mouth_psnr
    assert generated.face_ssim > still.face_ssim and generated.perceptual < still.perceptual
    assert generated.mouth_distance < still.mouth_distance and generated.misregistration_px < still.misregistration_px


def test_the_result_lies_where_the_clip_does(result):
    assert 0 < result.rows[CLOSED_FORM].misregistration_px < 3
    assert result.rows[REAL].misregistration_px < 0.5, "the floor: the same frame found again"


def test_an_untrained_network_is_the_closed_form(result):
    generated, closed_form = asdict(result.rows[NETWORK]), asdict(result.rows[CLOSED_FORM])
    assert generated == pytest.approx(closed_form, abs=1e-4)


def test_what_is_not_moved_is_the_portrait_bit_for_bit(result):
    assert result.rows[CLOSED_FORM].still_change == 0
    assert result.rows[STATIC].still_change is None


def test_jitter_is_a_ratio_to_that_of_the_real_video(result):
    real, generated = result.rows[REAL], result.rows[CLOSED_FORM]
    assert (real.face_jitter, real.border_jitter) == (1, 1)
    assert 0.2 < generated.face_jitter < 3, "both come from the renderer"
    assert result.rows[STATIC].face_jitter is None


def test_the_portrait_is_as_sharp_and_as_itself_as_can_be(result):
    static = result.rows[STATIC]
    assert static.cpbd_ratio == 1 and static.csim == pytest.approx(1, abs=1e-6)
    assert result.rows[REAL].csim < 1


def test_a_clip_that_stands_still_is_given_back(models, clip):
    still = self_reenactment(models, Footage(lambda: [clip[0]] * 3, 25.0), Evaluators(models.face), FEW)
    assert list(still.rows) == [STATIC, CLOSED_FORM, REAL], "without networks there is no row for them"
    generated = still.rows[CLOSED_FORM]
    assert generated.face_psnr > 35  # the tracker settles over the first frames
    assert still.rows[STATIC].face_psnr == pytest.approx(100)
    assert (generated.csim, generated.perceptual, still.embedder, still.backbone) == (None, None, None, None)
    assert generated.face_jitter is None, "the real video has no jitter"


def test_motion_on_top_of_a_chosen_frame(models, clip):
    track = track_video(models.face, clip, 25.0)
    expression, pose = motion_from(track, 2)
    assert torch.equal(expression.neutral_coefficients, track.expression.coefficients[2])
    assert torch.equal(expression.neutral_lip_offsets, track.expression.lip_offsets[2])
    assert pose.rotation[2].abs().max() < 1e-5 and not pose.translation[2].any()
    turned = rotation_matrix(pose.rotation) @ rotation_matrix(track.pose.rotation[2])
    torch.testing.assert_close(turned, rotation_matrix(track.pose.rotation), atol=1e-5, rtol=0)


def test_any_frame_may_be_the_portrait(models, clip):
    settings = ReenactmentSettings(frames=4, pictures=4, source=3)
    last = self_reenactment(models, Footage(lambda: clip, 25.0), Evaluators(models.face), settings)
    assert last.frames == 4 and last.rows[CLOSED_FORM].face_psnr > last.rows[STATIC].face_psnr


def test_where_motion_dies_out_and_beyond(models, clip):
    face = drive(clip[0][None].float() / 255, *motion_from(track_video(models.face, clip, 25.0), 0), models=models).face
    edge, background = still_parts(face)
    assert edge.shape == (256, 256) and background.shape == (256, 256)
    assert edge.any() and not edge[128, 128]
    assert (
        background[-1, 0] and not background[face.crop.top + face.crop.size // 2, face.crop.left + face.crop.size // 2]
    )


def test_without_the_backbone_its_column_is_left_out(monkeypatch, caplog):
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package")
    with caplog.at_level(logging.WARNING, "vividtalk"):
        assert find_perceptual() is None
    assert "The perceptual distance is left out: the perceptual backbone is not installed" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"frames": 2}, "got frames 2, pictures 30, source 0"),
        ({"source": 300}, "the source must be one of the frames; got frames 200, pictures 30, source 300"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(SettingsError, match=message):
        ReenactmentSettings(**values)


def test_a_clip_that_cannot_be_used_is_left_out_and_a_missing_one_is_an_error(
    monkeypatch, models, clip, caplog, tmp_path
):
    monkeypatch.setattr(reenactment, "read_footage", lambda path: Footage(lambda: clip[:2], 25.0))
    with caplog.at_level(logging.WARNING, "vividtalk"):
        assert list(reenact_files(models, [Path("short.mp4")], Evaluators(models.face), FEW)) == []
    assert "short.mp4 is left out: frame 0 of a clip of 3 or more is needed; the clip has 2 frames" in caplog.text
    monkeypatch.undo()
    with pytest.raises(MissingFileError):
        list(reenact_files(models, [tmp_path / "none.mp4"], Evaluators(models.face), FEW))


def test_turned_frames_are_compared_with_the_frame_that_most_are_turned_from():
    yaw = torch.tensor([0.0, 20.0, 22.0, 5.0, 60.0]) * math.pi / 180
    rotation = torch.stack((torch.zeros(5), yaw, torch.zeros(5)), 1)
    track = SimpleNamespace(
        landmarks_2d=torch.zeros(5, 478, 2), pose=HeadPose(rotation, torch.zeros(5, 3), 25.0)
    )  # all that is read of a track
    settings = ReenactmentSettings(turned=True)
    source, compared = _choose_frames(track, settings)
    assert source in (0, 3) and compared == {1, 2}
    still = SimpleNamespace(landmarks_2d=track.landmarks_2d, pose=HeadPose(rotation * 0, torch.zeros(5, 3), 25.0))
    with pytest.raises(MediaError, match="no frame is turned 15 to 30° from another; yaw goes from 0 to 0°"):
        _choose_frames(still, settings)
