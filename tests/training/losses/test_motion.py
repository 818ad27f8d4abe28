"""Loss terms against numbers worked out by hand."""

import math

import pytest
import torch

from vividtalk_core.training.losses import motion

ALL = torch.ones(1, 3, dtype=torch.bool)


def test_frames_outside_the_mask_do_not_count():
    values = torch.tensor([[1.0, 3.0, 100.0]])
    mask = torch.tensor([[True, True, False]])
    assert motion.masked_mean(values, mask) == 2
    assert motion.masked_mean(values[..., None].expand(1, 3, 4), mask) == 2
    assert motion.masked_mean(values, torch.zeros_like(mask)) == 0


def test_coefficients_are_weighted():
    predicted, target = torch.zeros(1, 3, 2), torch.tensor([[[1.0, 2.0]] * 3])
    assert motion.coefficient_loss(predicted, target, torch.tensor([1.0, 0.5]), ALL) == (1 + 0.5 * 4) / 2


def test_mesh_is_the_mean_squared_distance():
    assert motion.mesh_loss(torch.zeros(1, 3, 6), torch.full((1, 3, 6), 2.0), ALL) == 4


def test_shape_ignores_size_and_place():
    curve = torch.tensor([[[0.0], [2.0], [1.0], [9.0]]])
    mask = torch.tensor([[True, True, True, False]])
    assert motion.shape_loss(3 * curve + 1, curve, mask) == pytest.approx(0, abs=1e-3)
    assert motion.shape_loss(-curve, curve, mask) == pytest.approx(2, abs=1e-3)
    # a window without a frame to compare does not count
    two = torch.cat((curve, -curve)), torch.cat((curve, curve)), torch.cat((mask, mask & False))
    assert motion.shape_loss(*two) == pytest.approx(0, abs=1e-3)
    still = torch.zeros_like(curve).requires_grad_()
    motion.shape_loss(still, curve, mask).backward()
    assert still.grad.isfinite().all()


def test_velocity_ignores_where_curves_are():
    predicted = torch.tensor([[[0.0], [1.0], [2.0]]])
    assert motion.velocity_loss(predicted, predicted + 5, ALL) == 0
    assert motion.velocity_loss(predicted, 0 * predicted, ALL) == 1
    # a change needs both of its frames
    assert motion.velocity_loss(predicted, 0 * predicted, torch.tensor([[True, False, True]])) == 0


def test_only_closed_target_lips_give_a_closure_loss():
    target = torch.tensor([[0.0, 0.0, 0.5]])
    predicted = torch.tensor([[0.3, -0.1, 0.9]])
    assert motion.closure_loss(predicted, target, 0.1, ALL) == pytest.approx(0.3 / 2)


def test_unknown_phones_do_not_count():
    logits = torch.zeros(1, 3, 4, requires_grad=True)
    assert motion.phone_loss(logits, torch.tensor([[1, -1, -1]])).item() == pytest.approx(math.log(4))
    nothing = motion.phone_loss(logits, torch.full((1, 3), -1))
    nothing.backward()
    assert nothing == 0
