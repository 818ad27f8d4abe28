"""Tracks on disk, and tracking in other processes that can be interrupted."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vividtalk_core.errors import DatasetError
from vividtalk_core.face.track import Track
from vividtalk_core.structures import Crop, Expression, HeadPose
from vividtalk_core.training.dataset.layout import refusal_path
from vividtalk_core.training.prepare.tracks import KEYS, read_track, track_clips, write_track
from vividtalk_core.video.reader import read_image
from vividtalk_core.video.writer import VideoWriter


@pytest.fixture(scope="module")
def portrait():
    """[3, 128, 128] in 0..1"""
    image = read_image(Path(__file__).parents[2] / "data" / "astronaut.png")
    return torch.nn.functional.interpolate(image, (128, 128), mode="area")[0]


def video(path, portrait, frames):
    with VideoWriter(path, 25.0, *portrait.shape[1:]) as writer:
        writer.write(portrait.expand(frames, -1, -1, -1))
    return path


def test_round_trip(tmp_path):
    frames = 5
    expression = Expression.from_rest(torch.rand(frames, 52), torch.rand(frames, 4, 3), 29.97)
    track = Track(
        expression,
        HeadPose(torch.rand(frames, 3), torch.rand(frames, 3), 29.97),
        torch.rand(frames, 9, 2),
        torch.rand(frames, 478, 2),
        Crop(1, 2, 3, 100, 100),
        torch.rand(7),
        (1, 2),
    )
    write_track(tmp_path / "a.npz", track)
    read = read_track(tmp_path / "a.npz")
    assert torch.equal(read.coefficients, expression.coefficients)
    assert torch.equal(read.lip_offsets, expression.lip_offsets.half())
    assert torch.equal(read.rotation, track.pose.rotation)
    assert torch.equal(read.landmarks, track.landmarks_2d)
    assert torch.equal(read.identity, track.id_coefficients)
    assert read.interpolated.tolist() == [1, 2]
    assert read.fps == pytest.approx(29.97)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert set(file.files) == {*KEYS, "crop"}


def test_damaged_track(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(
        ValueError, match=r"a\.npz is not a track of `train prepare` .*delete it, then it is made again"
    ):
        read_track(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", coefficients=np.zeros((1, 52)))
    with pytest.raises(ValueError, match=r"b\.npz is not a track of `train prepare`"):
        read_track(tmp_path / "b.npz")
    parts = {
        "coefficients": np.zeros((2, 52)),
        "lip_offsets": np.zeros((2, 4, 3)),
        "rotation": np.zeros((2, 3)),
        "translation": np.zeros((2, 3)),
        "landmarks": np.zeros((2, 478, 2)),
        "identity": np.zeros(7),
        "interpolated": np.zeros(0, np.int64),
        "fps": 25.0,
    }
    for change in ({"rotation": np.zeros((3, 3))}, {"coefficients": np.zeros((2, 51))}, {"fps": np.zeros(2)}):
        np.savez(tmp_path / "c.npz", **parts | change)
        with pytest.raises(DatasetError, match=r"c\.npz is not a track of `train prepare`"):
            read_track(tmp_path / "c.npz")
    np.savez(tmp_path / "c.npz", **parts)
    assert len(read_track(tmp_path / "c.npz").rotation) == 2


def test_tracking_in_this_process(tmp_path, portrait):
    good = video(tmp_path / "good.mp4", portrait, 3)
    blank = video(tmp_path / "blank.mp4", torch.zeros_like(portrait)[:, :32, :32], 3)
    jobs = [(clip, tmp_path / f"{clip.stem}.npz") for clip in (good, blank, tmp_path / "gone.mp4")]
    done = dict(track_clips(jobs, 1))
    assert done[good] == ""
    assert read_track(tmp_path / "good.npz").coefficients.shape == (3, 52)
    assert "no face in any of the 3 frames" in done[blank]
    assert "there is no video" in done[tmp_path / "gone.mp4"]
    assert refusal_path(tmp_path / "blank.npz").read_text(encoding="utf-8") == done[blank]
    assert not (tmp_path / "blank.npz").exists()


def test_other_processes_stop_when_nobody_waits_for_them(tmp_path, portrait):
    short = video(tmp_path / "short.mp4", portrait, 2)
    long = video(tmp_path / "long.mp4", portrait, 1500)
    jobs = [(clip, tmp_path / f"{clip.stem}.npz") for clip in (short, long)]
    tracking = track_clips(jobs, 2)
    assert next(tracking) == (short, "")
    tracking.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["long.mp4", "short.mp4", "short.npz"]


def test_nothing_to_do():
    assert list(track_clips([], 4)) == []
