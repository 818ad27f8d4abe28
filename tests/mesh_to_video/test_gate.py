"""Where networks may change the picture: around what moves or is painted, and nowhere else."""

import pytest
import torch

from vividtalk_core.mesh_to_video.gate import COARSE, MOVING_PX, REACH_PX, change_gate

EVERYWHERE = torch.ones(256, 256)
FAR_PX = REACH_PX + 4 * 256 // COARSE + 256 // COARSE  # beyond the reach, the blur's radius and the interpolation


def moving(px, box=(100, 156, 100, 156), frames=1):
    """Flow of `px` px of the crop inside a box (top, bottom, left, right)."""
    flow = torch.zeros(frames, 256, 256, 2)
    flow[:, box[0] : box[1], box[2] : box[3], 0] = px * 2 / 256
    return flow


def test_a_still_frame_lets_nothing_through():
    assert (change_gate(torch.zeros(2, 256, 256, 2), EVERYWHERE) == 0).all()
    assert (change_gate(torch.zeros(1, 256, 256, 2), EVERYWHERE, torch.zeros(1, 1, 256, 256)) == 0).all()


def test_what_moves_is_let_through_and_what_is_far_is_not():
    gate = change_gate(moving(4.0), EVERYWHERE)[0, 0]
    assert gate.shape == (256, 256)
    torch.testing.assert_close(gate[108:148, 108:148], torch.ones(40, 40))
    assert (gate[100 - REACH_PX // 2, 128] > 0.7) & (gate[128, 155 + REACH_PX // 2] > 0.7), "jaw and cheek follow"
    far = torch.ones(256, 256, dtype=torch.bool)
    far[100 - FAR_PX : 156 + FAR_PX, 100 - FAR_PX : 156 + FAR_PX] = False
    assert far.any() and (gate[far] == 0).all()
    assert 0 <= gate.amin() <= gate.amax() <= 1


def test_little_motion_opens_it_little():
    low, high = MOVING_PX
    levels = [change_gate(moving(px), EVERYWHERE)[0, 0, 128, 128].item() for px in (low, (low + high) / 2, high)]
    assert levels[0] == pytest.approx(0, abs=1e-5)
    assert levels[1:] == pytest.approx([0.5, 1.0], abs=1e-3)


def test_the_direction_of_motion_does_not_matter():
    flow = moving(0.4)
    turned = flow.flip(-1) * -1
    torch.testing.assert_close(change_gate(flow, EVERYWHERE), change_gate(turned, EVERYWHERE))


def test_the_background_stays_closed_bit_for_bit():
    follow = torch.zeros(256, 256)
    follow[:, :128] = 1
    gate = change_gate(moving(8.0), follow)
    assert (gate[..., 128:] == 0).all() and (gate[0, 0, 128, 110] == 1)
    assert torch.equal(gate, change_gate(moving(8.0), follow[None, None]))


def test_paint_opens_a_frame_that_stands_still():
    painted = torch.zeros(1, 1, 256, 256)
    painted[:, :, 120:136, 110:146] = 0.5
    gate = change_gate(torch.zeros(1, 256, 256, 2), EVERYWHERE, painted)
    assert gate[0, 0, 116, 128] == pytest.approx(0.5, abs=0.05)
    assert gate[0, 0, 128, 128] == pytest.approx(0.25, abs=1e-4)  # but what is painted stays
    assert gate[0, 0, 10, 10] == 0
    full = change_gate(torch.zeros(1, 256, 256, 2), EVERYWHERE, painted * 2)
    assert (full[painted > 0] == 0).all() and full[0, 0, 116, 128] > 0.8


def test_frames_are_independent():
    flow = torch.cat([moving(px, (x, x + 40, 60, 90)) for px, x in ((0.0, 0), (0.3, 40), (5.0, 140))])
    together = change_gate(flow, EVERYWHERE)
    assert torch.equal(together, torch.cat([change_gate(frame[None], EVERYWHERE) for frame in flow]))
