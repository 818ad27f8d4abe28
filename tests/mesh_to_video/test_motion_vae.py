"""The motion-VAE: its inputs, the meaning of its output, and that an untrained one changes nothing."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vividtalk_core.hub import load_module, save_module
from vividtalk_core.mesh_to_video.motion_vae import RESIDUAL_PX, MotionVae, MotionVaeConfig, MotionVaeOutput, combine

TINY = {"face_widths": (4, 6, 8, 8), "lip_widths": (4, 6, 8), "latent": 4, "decoder": 6}


def inputs(frames=1, seed=0):
    """PT of portrait and driven mesh, lip maps, closed-form flow and occlusion."""
    generator = torch.Generator().manual_seed(seed)
    pictures = [torch.rand(frames, 3, 256, 256, generator=generator) for _ in range(2)]
    lips = torch.randn(frames, 20, 64, 64, generator=generator)
    flow = 0.02 * torch.randn(frames, 256, 256, 2, generator=generator)
    occlusion = (torch.rand(frames, 1, 256, 256, generator=generator) > 0.2).float()
    return [*pictures, lips, flow, occlusion]


def output(flow, occlusion):
    """An output that is the same everywhere: grid units [2] and a logit."""
    latent = torch.zeros(1, 4, 16, 16)
    return MotionVaeOutput(
        torch.tensor(flow).expand(1, 256, 256, 2), torch.full((1, 1, 256, 256), occlusion), *[latent] * 2
    )


@pytest.fixture(scope="module")
def unanchored(wake):
    torch.manual_seed(1)
    return wake(MotionVae(MotionVaeConfig(anchored=False, **TINY)))


def test_untrained_it_adds_nothing():
    maps = inputs(2)
    produced = MotionVae(MotionVaeConfig()).eval()(*maps)
    assert produced.flow.shape == (2, 256, 256, 2) and produced.occlusion.shape == (2, 1, 256, 256)
    assert produced.mean.shape == produced.log_variance.shape == (2, 32, 16, 16)
    assert (produced.flow == 0).all() and (produced.occlusion == 0).all()
    flow, occlusion = combine(produced, maps[3], maps[4], torch.ones(2, 1, 256, 256))
    assert torch.equal(flow, maps[3])
    torch.testing.assert_close(occlusion, maps[4], atol=0.021, rtol=0)  # no logit is infinite


def test_its_cost_is_what_its_config_says():
    with FlopCounterMode(display=False) as count, torch.no_grad():
        MotionVae(MotionVaeConfig()).eval()(*inputs())
    assert count.get_total_flops() / 2e9 < 0.5, "GMAC per frame"


def test_noise_in_training_and_none_at_inference(motion_vae):
    maps = inputs()
    first, second = motion_vae(*maps), motion_vae(*maps)
    assert torch.equal(first.flow, second.flow)
    motion_vae.train()
    noisy = [motion_vae(*maps) for _ in range(2)]
    motion_vae.eval()
    assert not torch.equal(noisy[0].flow, noisy[1].flow)
    torch.testing.assert_close(noisy[0].mean, first.mean)  # the latent is its mean, not a random sample


def test_the_variance_is_bounded_while_it_trains(motion_vae):
    maps = [value * 1e4 for value in inputs()]
    motion_vae.train()
    produced = motion_vae(*maps)
    motion_vae.eval()
    assert -12 <= produced.log_variance.amin() <= produced.log_variance.amax() <= 6
    assert torch.isfinite(produced.flow).all()


def test_faces_go_through_the_latent_and_lips_beside_it(motion_vae):
    maps, other = inputs(), inputs(seed=1)
    plain = motion_vae(*maps)
    lips = motion_vae(maps[0], maps[1], other[2], *maps[3:])
    assert torch.equal(lips.mean, plain.mean) and not torch.equal(lips.flow, plain.flow)
    for index in (0, 1, 3, 4):
        changed = motion_vae(*(other[i] if i == index else value for i, value in enumerate(maps)))
        assert not torch.equal(changed.mean, plain.mean)


def test_the_papers_own_form_ignores_the_closed_form(unanchored):
    maps = inputs()
    blind = unanchored(*maps[:3], torch.full_like(maps[3], torch.nan), torch.full_like(maps[4], torch.nan))
    assert torch.equal(blind.flow, unanchored(*maps).flow)
    assert blind.flow.any()


def test_an_answer_of_one_is_eight_px():
    model = MotionVae(MotionVaeConfig(**TINY)).eval()
    with torch.no_grad():
        model.head.bias[0:4], model.head.bias[8:12] = 1.0, 2.0  # x of the 2 × 2 px, and their logits
    produced = model(*inputs())
    torch.testing.assert_close(produced.flow[..., 0] * 128, torch.full((1, 256, 256), RESIDUAL_PX))
    assert (produced.flow[..., 1] == 0).all()
    torch.testing.assert_close(produced.occlusion, torch.full((1, 1, 256, 256), 2.0))


def test_combine_adds_where_the_gate_is_open():
    flow, occlusion = inputs()[3:]
    gate = torch.zeros(1, 1, 256, 256)
    gate[..., 100:200, :], gate[..., 200:, :] = 0.5, 1.0
    moved, shown = combine(output((0.1, -0.2), -3.0), flow, occlusion, gate)
    shut = gate[:, 0] == 0
    assert torch.equal(moved[shut], flow[shut]) and torch.equal(shown[:, 0][shut], occlusion[:, 0][shut])
    torch.testing.assert_close(moved - flow, gate.movedim(1, -1) * torch.tensor((0.1, -0.2)))
    maps = occlusion[..., 200:, :] == 1
    expected = 1 - 0.98 + torch.sigmoid(torch.logit(torch.tensor(0.98)) - 3)
    torch.testing.assert_close(shown[..., 200:, :][maps], expected.expand(int(maps.sum())))
    assert 0 <= shown.amin() <= shown.amax() <= 1


def test_frames_of_a_batch_are_independent(motion_vae):
    both = inputs(2)
    together = motion_vae(*both)
    for index in range(2):
        alone = motion_vae(*(value[index : index + 1] for value in both))
        torch.testing.assert_close(alone.flow, together.flow[index : index + 1], atol=1e-6, rtol=1e-4)


def test_it_learns_a_shift_and_every_weight_takes_part(wake):
    torch.manual_seed(0)
    model = MotionVae(MotionVaeConfig(**TINY)).train()
    maps, target = inputs(), torch.tensor((0.01, -0.02))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        loss = ((model(*maps).flow - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    idle = [name for name, weights in model.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert idle == []


def test_it_is_written_and_read_back(tmp_path, motion_vae):
    save_module(tmp_path / "motion.safetensors", motion_vae, motion_vae.config)
    again = load_module(MotionVae, MotionVaeConfig, tmp_path / "motion.safetensors")
    assert again.config == motion_vae.config
    assert torch.equal(again(*inputs()).flow, motion_vae(*inputs()).flow)
