"""Self-reenactment on a clip whose motion is known to be within reach: one that the renderer made itself."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core import pipeline
from vividtalk_core.eval import reenactment
from vividtalk_core.eval.reenactment import _flatten, _small, main, self_reenactment
from vividtalk_core.pipeline import drive, load_models
from vividtalk_core.structures import ARKIT_NAMES, Crop, Expression, HeadPose
from vividtalk_core.video.reader import read_image

FRAMES = 4


@pytest.fixture(scope="module")
def models():
    return load_models()


@pytest.fixture(scope="module")
def clip(models):
    """The demo portrait turning its head and opening its mouth, four frames of 256 px."""
    (path,) = (Path(pipeline.__file__).parent / "assets/demo").glob("portrait.*")
    image = read_image(path)
    portrait = F.interpolate(image, scale_factor=256 / max(image.shape[2:]), mode="bilinear", antialias=True)
    lips = torch.zeros(FRAMES, len(models.face.head.lip_vertices), 3)
    expression = Expression(torch.zeros(FRAMES, 52), lips, 25.0, torch.zeros(52), lips[0])
    share = torch.linspace(0, 1, FRAMES)
    expression.coefficients[:, ARKIT_NAMES.index("jawOpen")] = 0.5 * share
    rotation = share[:, None] * torch.tensor([0.03, 0.12, 0.06])
    frames = torch.cat(
        list(drive(models, portrait.clamp(0, 1), expression, HeadPose(rotation, torch.zeros(FRAMES, 3), 25.0)))
    )
    return list((frames * 255).round().byte())


@pytest.fixture(scope="module")
def result(models, clip):
    return self_reenactment(models, clip, 25.0)


def test_tracked_motion_explains_the_clip_better_than_a_still(result):
    assert result.frames == FRAMES - 1
    assert result.face_psnr > result.static_face_psnr + 1
    assert result.mouth_psnr > result.static_mouth_psnr


def test_the_result_lies_where_the_clip_does(result):
    assert 0 < result.misregistration_px < 3


def test_a_clip_that_stands_still_is_given_back(models, clip):
    still = self_reenactment(models, [clip[0]] * 3, 25.0)
    assert still.face_psnr > 35  # the tracker settles over the first frames
    assert still.static_face_psnr == pytest.approx(100)


def test_a_crop_is_shown_at_256():
    image = torch.rand(1, 3, 300, 280)
    same = _small(image, Crop(10, 20, 256, 300, 280))
    torch.testing.assert_close(same, image[:, :, 20:276, 10:266])
    small = _small(torch.full((1, 3, 600, 600), 0.3), Crop(0, 0, 512, 600, 600))
    torch.testing.assert_close(small, torch.full((1, 3, 256, 256), 0.3))


def test_chunks_are_walked_frame_by_frame():
    chunks = [torch.zeros(2, 3, 4, 4), torch.ones(1, 3, 4, 4)]
    assert [float(frame.mean()) for frame in _flatten(iter(chunks))] == [0, 0, 1]


def test_the_command_prints_one_line_per_clip(monkeypatch, capsys, clip, models):
    monkeypatch.setattr(reenactment, "load_models", lambda: models)
    monkeypatch.setattr(reenactment, "read_video", lambda path: SimpleNamespace(frames=iter(clip[:2]), fps=25.0))
    monkeypatch.setattr("sys.argv", ["reenactment", "folder/a.mp4", "b.mp4"])
    main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["clip"] for line in lines] == ["a.mp4", "b.mp4"]
    assert all(line["frames"] == 1 and line["face_psnr"] > 0 for line in lines)
