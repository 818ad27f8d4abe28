"""Frames that must not be learned from."""

import math

import pytest
import torch

from vividtalk_core.head.mouth_shape import aperture_of_landmarks
from vividtalk_core.training.prepare.frame_filter import (
    JUMPED,
    MISFIT,
    NO_FACE,
    TURNED,
    FrameSettings,
    bad_frames,
    beside,
)
from vividtalk_core.training.prepare.tracks import ClipTrack


@pytest.fixture
def parts():
    """A still face of 12 frames with eyes 80 px apart and a closed mouth, as fields of a track."""
    landmarks = torch.rand(478, 2, generator=torch.Generator().manual_seed(0)) * 100
    landmarks[33], landmarks[263] = torch.tensor((60.0, 80.0)), torch.tensor((140.0, 80.0))
    for upper, lower in ((81, 178), (13, 14), (311, 402)):
        landmarks[lower] = landmarks[upper]
    return {
        "coefficients": torch.zeros(12, 52),
        "lip_offsets": torch.zeros(12, 4, 3).half(),
        "rotation": torch.zeros(12, 3),
        "translation": torch.zeros(12, 3),
        "landmarks": landmarks.repeat(12, 1, 1),
        "identity": torch.zeros(7),
        "interpolated": torch.zeros(0, dtype=torch.long),
        "fps": 25.0,
    }


def found(parts, **settings):
    track = ClipTrack(**parts)
    bad = bad_frames(track, aperture_of_landmarks(track.landmarks), FrameSettings(**settings))
    assert list(bad) == [NO_FACE, TURNED, JUMPED, MISFIT]
    return {reason: frames.nonzero()[:, 0].tolist() for reason, frames in bad.items() if frames.any()}


def test_good_clip(parts):
    parts["rotation"][:, 1] = math.radians(30)
    parts["rotation"][:, 2] = math.radians(60)  # a tilted head shows its mouth
    parts["landmarks"] += torch.arange(12)[:, None, None] * 5.0
    assert found(parts) == {}


def test_frames_without_a_face_and_turned_ones(parts):
    parts["interpolated"] = torch.tensor([2, 3])
    parts["rotation"][3:6, 1] = -math.radians(40)
    parts["rotation"][8, 0] = math.radians(36)
    assert found(parts) == {NO_FACE: [2, 3], TURNED: [4, 5, 8]}  # each frame once
    assert found(parts, most_turned_deg=50) == {NO_FACE: [2, 3]}


def test_cut_marks_both_sides(parts):
    parts["landmarks"][7:] += 40
    assert found(parts) == {JUMPED: [6, 7]}
    parts["fps"] = 5.0  # a fifth of the speed
    assert found(parts) == {}


def test_lips_that_snap_or_do_not_fit(parts):
    parts["landmarks"][4, [178, 14, 402], 1] += 40
    parts["lip_offsets"][9] = 0.1
    assert found(parts) == {MISFIT: [3, 4, 5, 9]}


def test_beside():
    steps = torch.tensor([False, True, False, False])
    assert beside(steps).tolist() == [False, True, True, False, False]
