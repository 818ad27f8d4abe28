"""The still background behind a head that moves."""

import math
from dataclasses import replace

import pytest
import torch

from vividtalk_core.geometry import pixel_centres
from vividtalk_core.head.drive import drive_mesh
from vividtalk_core.mesh_to_video.backdrop import (
    RIM_PX,
    background_hole,
    background_plate,
    person_distance,
    person_matte,
    uncover,
)
from vividtalk_core.mesh_to_video.dense_motion import estimate_motion
from vividtalk_core.mesh_to_video.generator import move_portrait
from vividtalk_core.mesh_to_video.ncc import render_ncc
from vividtalk_core.mesh_to_video.source_view import view_source
from vividtalk_core.structures import Expression, HeadMotion


@pytest.fixture(scope="module")
def lined_face(synthetic_face):
    """A person in front of upright lines 16 px apart."""
    lines = ((pixel_centres(256, 256)[..., 0] / 16).floor() % 2).expand(1, 3, 256, 256)
    away = person_distance(synthetic_face) > 0
    return replace(synthetic_face, image=torch.where(away, lines, synthetic_face.image))


def tilted(face, degrees):
    lips = torch.zeros(2, len(face.model.lip_vertices), 3)
    still = Expression(torch.zeros(2, 52), lips, 25.0, torch.zeros(52), torch.zeros_like(lips[0]))
    angles = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, math.radians(degrees)]])
    return drive_mesh(face, still, HeadMotion(angles, torch.zeros(2, 3), 25.0))


def test_the_background_does_not_bend_beside_a_head_that_tilts(lined_face):
    view = view_source(lined_face)
    motion = estimate_motion(render_ncc(view, tilted(lined_face, 12)))
    image = move_portrait(lined_face, motion)
    assert torch.equal(image[0], lined_face.image[0])
    seen = (motion.backdrop.uncovered[1, 0] == 1) & (view.hole == 0)
    # most of it lies where the head moves, and where the background would have moved with it
    assert (seen & (view.follow > 0.05)).sum() > 500
    assert torch.equal(image[1][:, seen], lined_face.image[0][:, seen])


def test_a_still_head_covers_its_background(lined_face):
    view = view_source(lined_face)
    assert (uncover(view, torch.zeros(256, 256, 2)) == 0).all()


def test_the_matte_holds_the_person_and_a_rim(synthetic_face):
    matte = person_matte(person_distance(synthetic_face))
    person = synthetic_face.person_mask[0, 0] > 0.5
    assert (matte[person] == 1).all()
    assert person.sum() < (matte > 0.5).sum() < person.sum() + 4 * 256 * RIM_PX[1]


def test_the_plate_is_the_background_without_the_person(synthetic_face):
    background = pixel_centres(256, 256)[..., 1].expand(1, 3, 256, 256) / 256
    hole = background_hole(person_distance(synthetic_face))
    image = torch.where(hole > 0, 0.0, background)
    plate = background_plate(replace(synthetic_face, image=image), hole)
    outside = hole == 0
    assert torch.equal(plate[0][:, outside], image[0][:, outside])
    near = (hole > 0) & (hole < 1)
    assert (plate - background)[0][:, near].abs().mean() < 0.05, "the ramp goes on under the rim"


def test_a_person_who_fills_the_crop_has_no_plate(synthetic_face):
    plate = background_plate(synthetic_face, torch.ones(256, 256))
    assert torch.equal(plate, synthetic_face.image)
