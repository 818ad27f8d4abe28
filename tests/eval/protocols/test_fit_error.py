"""Fit error over a folder."""

from pathlib import Path

import pytest
import torch

from vividtalk_core.errors import MissingFileError, NoFaceError, SettingsError
from vividtalk_core.eval.protocols.fit_error import FitError, fit_error, folder_errors, landmark_errors, mean_error
from vividtalk_core.face.models import load_face_models
from vividtalk_core.geometry import project
from vividtalk_core.head.morphable import landmark_positions, shape
from vividtalk_core.video.reader import read_image
from vividtalk_core.video.writer import VideoWriter

ASTRONAUT = Path(__file__).parents[2] / "data" / "astronaut.png"


@pytest.fixture(scope="module")
def models():
    return load_face_models()


@pytest.fixture
def folder(tmp_path):
    """A still, a clip of 7 frames, a picture without a face, and something else."""
    portrait = read_image(ASTRONAUT)
    (tmp_path / "b.png").write_bytes(ASTRONAUT.read_bytes())
    with VideoWriter(tmp_path / "a.mp4", 25.0, portrait.shape[2], portrait.shape[3]) as writer:
        writer.write(portrait.expand(7, -1, -1, -1))
    (tmp_path / "notes.txt").write_text("nothing to see")
    return tmp_path


def test_stills_and_clips_in_order(models, folder):
    clip, still = folder_errors(models, folder, every=3)
    assert (clip.name, clip.frames) == ("a.mp4", 3)
    assert (still.name, still.frames) == ("b.png", 1)
    for result in (clip, still):
        assert 0.1 < result.lips_px < 0.9
        assert 0.3 < result.all_px < 1.1
    assert folder_errors(models, folder, every=3, limit=2)[0].frames == 2


def test_pictures_without_a_face_are_left_out(models):
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    assert fit_error(models, "noise", [noise]) is None
    found = fit_error(models, "both", [noise, read_image(ASTRONAUT)])
    assert found.frames == 1


def test_landmarks_of_the_model_itself_have_no_error(models):
    head = shape(models.head, torch.zeros(80), torch.zeros(52))
    pixels = project(landmark_positions(models.head, head))
    points = torch.cat((pixels[:, :2], (pixels[:, 2:] - 10) * 66), 1)
    irises = points[[159, 386]].mean(0).expand(10, -1)
    assert landmark_errors(models, torch.cat((points, irises))[None]).mean() < 0.4


def test_mean_counts_each_file_once():
    mean = mean_error([FitError("a", 9, 0.4, 1.0), FitError("b", 1, 0.8, 2.0)])
    assert mean == FitError("mean of 2", 10, pytest.approx(0.6), pytest.approx(1.5))
    with pytest.raises(NoFaceError, match="nothing to average"):
        mean_error([])


def test_refusals(models, tmp_path):
    with pytest.raises(MissingFileError, match="no images or videos in"):
        folder_errors(models, tmp_path)
    with pytest.raises(SettingsError, match="every and limit must be at least 1; got 0 and 40"):
        folder_errors(models, tmp_path, every=0)
