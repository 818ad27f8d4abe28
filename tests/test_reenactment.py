"""Self-reenactment on a clip whose motion is known to be within reach: one that the renderer made itself."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from vividtalk_core import pipeline
from vividtalk_core.eval import reenactment
from vividtalk_core.eval.reenactment import _flatten, _mouth, _oval, _psnr, _small, main, self_reenactment
from vividtalk_core.face.topology import FACE_OVAL, OUTER_LIPS
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


def test_psnr_of_a_known_error():
    wanted = torch.zeros(1, 3, 4, 4)
    where = torch.zeros(4, 4, dtype=torch.bool)
    where[1:3, 1:3] = True
    assert _psnr(wanted + 0.1, wanted, where) == pytest.approx(20, abs=1e-4)
    half = wanted.clone()
    half[..., 1, 1:3] = 0.1  # half of the pixels looked at: 3 dB less
    half[..., 0, 0] = 1  # not looked at
    assert _psnr(half, wanted, where) == pytest.approx(23.0103, abs=1e-3)
    assert _psnr(wanted, wanted, where) == pytest.approx(100)


def points_with(indices, corners):
    """478 landmarks of which only these matter, dealt out to the corners of a shape in order."""
    points = torch.full((478, 2), 128.0)
    corners = torch.tensor(corners)
    share = torch.arange(len(indices)) * len(corners) // len(indices)
    points[list(indices)] = corners[share]
    return points


def test_the_oval_mask_is_the_polygon_of_its_landmarks():
    mask = _oval(points_with(FACE_OVAL, [[60.0, 40], [180, 40], [180, 200], [60, 200]]))
    assert mask.dtype == torch.bool
    assert mask[40:200, 60:180].all()
    assert int(mask.sum()) == 121 * 161  # both edges are drawn


def test_the_mouth_box_has_a_margin_of_the_lips_size():
    mask = _mouth(points_with(OUTER_LIPS, [[100.0, 150], [140, 150], [140, 170], [100, 170]]))
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    assert (int(columns[0]), int(columns[-1]) + 1) == (93, 147)  # 0.35 / 2 of 40 px on each side
    assert (int(rows[0]), int(rows[-1]) + 1) == (143, 177)
    assert int(mask.sum()) == 54 * 34


def test_a_mouth_at_the_edge_is_cut_there():
    mask = _mouth(points_with(OUTER_LIPS, [[-20.0, 240], [20, 240], [20, 270], [-20, 270]]))
    assert mask[-1, 0]
    assert int(mask.any(0).sum()) == 27


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
