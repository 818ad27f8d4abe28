"""Which face a mask means: drawn around one, of a whole person, or of a cut-out picture's background."""

import logging
from pathlib import Path

import pytest
import torch

from vividtalk_core.errors import MismatchError, NoFaceError
from vividtalk_core.face.find import find_landmarks
from vividtalk_core.face.marked import marked_face
from vividtalk_core.face.models import load_face_models
from vividtalk_core.video.reader import read_image


@pytest.fixture(scope="module")
def models():
    return load_face_models()


@pytest.fixture(scope="module")
def portrait():
    return read_image(Path(__file__).parents[2] / "vividtalk_core/assets/demo/portrait.jpg")


@pytest.fixture(scope="module")
def around(models, portrait):
    """left, top, right, bottom px of the face, and its mask [H, W]."""
    points = find_landmarks(models, portrait)[:468, :2]
    left, top = points.amin(0).long().tolist()
    right, bottom = points.amax(0).long().tolist()
    mask = torch.zeros(portrait.shape[2:])
    mask[top:bottom, left:right] = 1
    return (left, top, right, bottom), mask


def test_a_mask_around_a_face_gives_its_box(models, portrait, around):
    box, mask = around
    assert marked_face(models, portrait, mask) == (box, 0)


def test_an_empty_mask_means_nothing(models, portrait):
    assert marked_face(models, portrait, torch.zeros(portrait.shape[2:]), 3) == (None, 3)


def test_a_full_mask_means_the_face_that_is_there(models, portrait, caplog):
    assert marked_face(models, portrait, torch.ones(portrait.shape[2:])) == (None, 0)
    assert not caplog.records


def test_a_mask_that_leaves_out_the_only_face_means_it(models, portrait, around, caplog):
    """As the transparent background of a cut-out picture does."""
    with caplog.at_level(logging.WARNING, "vividtalk"):
        assert marked_face(models, portrait, 1 - around[1]) == (None, 0)
    assert "transparent background" in caplog.text


def test_a_mask_on_something_else_is_refused(models, portrait):
    mask = torch.zeros(portrait.shape[2:])
    mask[-90:-10, 10:90] = 1
    with pytest.raises(NoFaceError, match="no face is found in its box") as refused:
        marked_face(models, portrait, mask)
    assert refused.value.advice == ("invert", "unlink", "force")
    height, _ = portrait.shape[2:]
    assert marked_face(models, portrait, mask, force=True) == ((10.0, height - 90.0, 90.0, height - 10.0), 0)


def test_one_of_two_faces(models, portrait, around, caplog):
    """A mask over half of the picture chooses a face; one that leaves a face out means the other and says so."""
    box, mask = around
    two = torch.cat((portrait, portrait), 3)
    empty = torch.zeros_like(mask)
    half = torch.cat((empty, torch.ones_like(mask)), 1)
    box_of_half, index = marked_face(models, two, half)
    assert (box_of_half, index) in ((None, 0), (None, 1), ((float(mask.shape[1]), 0.0, 2.0 * mask.shape[1], 512.0), 0))
    with caplog.at_level(logging.WARNING, "vividtalk"):
        chosen = marked_face(models, two, 1 - torch.cat((mask, empty), 1))
    assert chosen[0] is None and "leaves out the face at" in caplog.text
    centre = find_landmarks(models, two, chosen[1])[:, 0].mean()
    assert centre > portrait.shape[3], "the face of the right half"
    with pytest.raises(NoFaceError, match="no face number 1"):
        marked_face(models, two, 1 - torch.cat((mask, empty), 1), face_index=1)
    assert marked_face(models, two, torch.cat((mask, empty), 1))[0] == box


def test_neither_of_two_faces_is_guessed(models, portrait, around):
    two = torch.cat((portrait, portrait), 3)
    mask = 1 - torch.cat((around[1], around[1]), 1)
    with pytest.raises(NoFaceError, match="found elsewhere"):
        marked_face(models, two, mask)


def test_mask_and_picture_have_one_size(models, portrait):
    with pytest.raises(MismatchError, match="100 x 50 px and the portrait"):
        marked_face(models, portrait, torch.ones(50, 100))
