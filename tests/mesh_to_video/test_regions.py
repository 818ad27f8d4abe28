"""Parts of the head found from its mean shape."""

from vividtalk_core.head.morphable import landmark_positions, triangles_of
from vividtalk_core.head.topology import FACE_OVAL, INNER_LIPS
from vividtalk_core.mesh_to_video.regions import EYE_SETBACK, OVAL_SOFTNESS, find_regions


def test_the_mouths_inside_is_teeth_tongue_and_cavity(head_model):
    regions = find_regions(head_model)
    parts = {"upper_teeth", "lower_teeth", "upper_gums", "lower_gums", "tongue"}
    found = {head_model.part_names[i] for i in head_model.triangle_parts[regions.teeth_and_tongue].unique()}
    assert found == parts
    found = {head_model.part_names[i] for i in head_model.triangle_parts[regions.interior].unique()}
    assert found == parts | {"cavity"}


def test_only_eyeballs_are_set_back(head_model):
    regions = find_regions(head_model)
    balls = triangles_of(head_model, "left_eye", "right_eye").unique()
    assert (regions.setback[balls] == EYE_SETBACK).all()
    assert regions.setback.count_nonzero() == len(balls)
    assert regions.eyes.sum() == len(triangles_of(head_model, "left_eye", "right_eye"))


def test_what_is_rigid_neither_speaks_nor_bends_with_the_neck(head_model):
    rigid = find_regions(head_model).rigid
    assert head_model.exp_basis[:, rigid].abs().amax() < 1e-3
    assert (head_model.pose_weight[rigid] > 0.999).all()
    assert not rigid[head_model.lip_vertices].any()


def test_trust_is_full_inside_the_oval_and_gone_behind_the_head(head_model):
    inner = find_regions(head_model).inner_face
    points = landmark_positions(head_model, head_model.mean_shape)
    lips = head_model.landmark_vertices[list(INNER_LIPS)].flatten()
    assert (inner[lips] == 1).all()
    assert (inner[head_model.mean_shape[:, 2] < -0.1] == 0).all()
    beyond = head_model.mean_shape[:, 1] < points[list(FACE_OVAL), 1].amin() - OVAL_SOFTNESS  # the neck
    assert beyond.any()
    assert (inner[beyond] == 0).all()
