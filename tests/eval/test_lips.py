"""Lip curves from landmarks and from the mesh, and the metrics that compare two of them."""

import math

import pytest
import torch

from vividtalk_core.errors import MediaError, MismatchError
from vividtalk_core.eval.lips import (
    amplitude_ratio,
    audio_gain,
    closure_recall,
    frozen_share,
    lag_correlation,
    mouth_distance,
    pearson,
    sync_offset,
    velocity_ratio,
)
from vividtalk_core.head.morphable import landmark_positions, shape
from vividtalk_core.head.mouth_shape import (
    CORNERS,
    EYES,
    GAP,
    aperture_of_landmarks,
    inter_ocular,
    lip_curves,
    width_of_landmarks,
)
from vividtalk_core.structures import ARKIT_NAMES, Expression


def face(gap, width=0.5, size=100.0):
    """Landmarks [T, 478, 2] whose lips are `gap` [T] and whose corners `width` apart, in eye distances of `size`."""
    gap = torch.as_tensor(gap)
    points = torch.randn(478, 2, generator=torch.Generator().manual_seed(3)) * 0.3
    points = points.repeat(len(gap), 1, 1)
    points[:, EYES[0]], points[:, EYES[1]] = torch.tensor([-0.5, 0.0]), torch.tensor([0.5, 0.0])
    points[:, CORNERS[0]], points[:, CORNERS[1]] = torch.tensor([-width / 2, 0.8]), torch.tensor([width / 2, 0.8])
    for index, (upper, lower) in enumerate(GAP):
        points[:, upper] = torch.tensor([0.1 * (index - 1), 0.8])
        points[:, lower, 0] = 0.1 * (index - 1)
        points[:, lower, 1] = 0.8 + gap
    return points * size + 200


def turned(points, angle, scale=1.0):
    c, s = math.cos(angle), math.sin(angle)
    return points @ torch.tensor([[c, s], [-s, c]]) * scale + 17


def test_curves_are_in_inter_ocular_distances():
    points = face([0.0, 0.1, 0.2], width=0.6, size=80)
    assert float(inter_ocular(points)) == pytest.approx(80)
    torch.testing.assert_close(aperture_of_landmarks(points), torch.tensor([0.0, 0.1, 0.2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(width_of_landmarks(points), torch.full((3,), 0.6), atol=1e-5, rtol=0)


def test_curves_ignore_roll_size_and_place():
    points = face([0.0, 0.1, 0.2])
    for curve in (aperture_of_landmarks, width_of_landmarks):
        torch.testing.assert_close(curve(turned(points, 0.4, 2.5)), curve(points), atol=1e-5, rtol=0)


def test_overlapping_lips_are_below_zero():
    assert float(aperture_of_landmarks(face([-0.02]))) == pytest.approx(-0.02, abs=1e-5)


def test_one_bad_eye_corner_does_not_change_the_scale():
    points = face([0.1] * 9)
    points[4, EYES[0]] += 500
    assert float(inter_ocular(points)) == pytest.approx(100)


def expression(model, **curves):
    frames = len(next(iter(curves.values())))
    beta = torch.zeros(frames, 52)
    for name, values in curves.items():
        beta[:, ARKIT_NAMES.index(name)] = torch.as_tensor(values)
    return Expression.from_rest(beta, torch.zeros(frames, len(model.lip_vertices), 3), 25.0)


def reference_curves(model, expression, identity):
    """The same with the whole mesh and all landmarks."""
    head = shape(model, identity, expression.coefficients)
    head[:, model.lip_vertices] += expression.lip_offsets
    points, rest = (landmark_positions(model, mesh) for mesh in (head, shape(model, identity, torch.zeros(52))[None]))
    scale = (rest[0, EYES[0], :2] - rest[0, EYES[1], :2]).norm()
    gap = sum(points[:, up, 1] - points[:, low, 1] for up, low in GAP) / 3
    return gap / scale, (points[:, CORNERS[0], :2] - points[:, CORNERS[1], :2]).norm(dim=-1) / scale


def test_curves_of_the_mesh_are_those_of_its_landmarks(head_model):
    motion = expression(head_model, jawOpen=[0, 0.3, 0.6], mouthSmileLeft=[0.5, 0, 0.2])
    motion.lip_offsets.copy_(torch.randn(motion.lip_offsets.shape, generator=torch.Generator().manual_seed(0)) * 0.01)
    identity = torch.linspace(-1, 1, len(head_model.id_basis))
    for predicted, expected in zip(
        lip_curves(motion, head_model, identity), reference_curves(head_model, motion, identity), strict=True
    ):
        torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=0)


def test_the_jaw_opens_and_a_smile_widens(head_model):
    aperture, width = lip_curves(expression(head_model, jawOpen=[0, 0.2, 0.5]), head_model)
    assert (aperture.diff() > 0.03).all()
    _, width = lip_curves(expression(head_model, mouthSmileLeft=[0, 1], mouthSmileRight=[0, 1]), head_model)
    assert width[1] > width[0] + 0.03


def test_gradients_reach_the_curves(head_model):
    motion = expression(head_model, jawOpen=[0.2, 0.4])
    motion.coefficients.requires_grad_()
    sum(curve.sum() for curve in lip_curves(motion, head_model)).backward()
    assert motion.coefficients.grad[:, ARKIT_NAMES.index("jawOpen")].abs().min() > 0


WAVE = torch.sin(torch.arange(100) * 0.7) + 0.3 * torch.sin(torch.arange(100) * 0.23)


def test_pearson_is_numpys():
    other = WAVE + torch.randn(100, generator=torch.Generator().manual_seed(1))
    assert pearson(WAVE, other) == pytest.approx(float(torch.corrcoef(torch.stack((WAVE, other)))[0, 1]), abs=1e-6)
    assert pearson(WAVE, 3 - 2 * WAVE) == pytest.approx(-1)
    assert pearson(WAVE, torch.ones(100)) == 0


def test_curves_of_two_lengths_are_refused():
    with pytest.raises(MismatchError, match=r"one length can be compared; got \[100\] and \[99\]"):
        pearson(WAVE, WAVE[1:])


def test_amplitude_and_velocity_ratios():
    assert amplitude_ratio(0.5 * WAVE + 3, WAVE) == pytest.approx(0.5)
    assert velocity_ratio(0.5 * WAVE + 3, WAVE) == pytest.approx(0.5)
    assert velocity_ratio(torch.ones(100), WAVE) == 0
    with pytest.raises(MediaError, match="the reference does not move"):
        amplitude_ratio(WAVE, torch.ones(100))


def test_audio_gain_is_one_for_what_ignores_the_audio():
    wrong = WAVE.roll(20)
    assert audio_gain(wrong, wrong, WAVE) == pytest.approx(1)
    assert audio_gain(WAVE + 0.1 * wrong, wrong, WAVE) > 5


def test_audio_gain_does_not_count_how_far_a_mouth_is_open_at_rest():
    right, wrong = 0.8 * WAVE, WAVE.roll(20)
    assert audio_gain(right + 1, wrong - 2, WAVE) == pytest.approx(audio_gain(right, wrong, WAVE), rel=1e-6)
    both = torch.stack((WAVE, WAVE), -1)
    assert audio_gain(0.8 * both, both.roll(20, 0), both) == pytest.approx(audio_gain(right, wrong, WAVE), rel=1e-6)


def test_frozen_share_counts_transitions_within_speech():
    curve = torch.tensor([0.0, 0.1, 0.1, 0.1, 0.2, 0.2, 0.3])
    speech = torch.tensor([1, 1, 1, 1, 1, 0, 0], dtype=torch.bool)
    assert frozen_share(curve, speech) == pytest.approx(2 / 4)
    moving = torch.stack((curve, torch.arange(7) * 0.1), -1)  # the width moves while the aperture does not
    assert frozen_share(moving, speech) == 0
    assert math.isnan(frozen_share(curve, torch.zeros(7, dtype=torch.bool)))


def test_closure_recall_looks_into_the_spans():
    aperture = torch.full((100,), 0.2)
    aperture[25:28] = 0.0
    aperture[50:53] = 0.1  # half open
    met, half, never = (1.0, 1.12), (2.0, 2.12), (3.0, 3.12)
    assert closure_recall(aperture, [met], 25.0) == 1
    assert closure_recall(aperture, [met, half, never], 25.0) == pytest.approx(1 / 3)
    assert closure_recall(aperture, [met, half], 25.0, share=0.6) == 1
    assert closure_recall(aperture, [(1.16, 1.2)], 25.0) == 0
    assert closure_recall(aperture, [(1.16, 1.2)], 25.0, reach_s=0.08) == 1


def test_closures_outside_the_clip_do_not_count():
    aperture = torch.linspace(0, 1, 50)
    assert math.isnan(closure_recall(aperture, [(9.0, 9.1)], 25.0))
    assert math.isnan(closure_recall(aperture, [], 25.0))


@pytest.mark.parametrize("late", [-7, 0, 5])
def test_sync_offset_is_positive_when_late(late):
    signal = torch.randn(140, generator=torch.Generator().manual_seed(2))
    reference = signal[20:120]
    generated = signal[20 - late : 120 - late]
    assert sync_offset(generated, reference) == late
    assert lag_correlation(generated, reference, late) == pytest.approx(1)


def test_sync_offset_needs_frames_to_shift():
    with pytest.raises(
        MediaError, match=r"35 frames are too few to look for an offset of up to 12 frames: .* 36 or more"
    ):
        sync_offset(WAVE[:35], WAVE[:35])


def test_mouth_distance_ignores_where_the_head_is():
    points = face([0.0, 0.1, 0.2])
    assert mouth_distance(turned(points, 0.3, 2.0), points) == pytest.approx(0, abs=1e-5)


def test_mouth_distance_is_in_eye_distances():
    points = face([0.0, 0.1, 0.2], size=50)
    moved = points.clone()
    moved[:, 13, 1] -= 4  # one of 40 points by 0.08; the centre follows by a fortieth
    assert mouth_distance(moved, points) == pytest.approx(0.08 / 40 * (39 / 40) * 2, rel=1e-3)
