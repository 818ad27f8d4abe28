"""The expression generator at a tiny size: shapes, style, causality, cached inference, files."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.audio_to_mesh.expression import (
    LIP_NAMES,
    OTHER_NAMES,
    ExpressionConfig,
    ExpressionGenerator,
    RollState,
)
from vividtalk_core.hub import load_module, save_module
from vividtalk_core.structures import ARKIT_NAMES

TINY = ExpressionConfig(
    front_end="mel",
    width=16,
    heads=2,
    identity_components=5,
    lip_vertices=7,
    components=3,
    style_width=4,
    before=3,
    after=2,
)
SIZE = len(ARKIT_NAMES) + TINY.components


def make(**changes):
    torch.manual_seed(0)
    model = ExpressionGenerator(replace(TINY, **changes)).eval()
    for weight in model.parameters():  # the outputs begin at zero
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.2)
    model.lip_basis.normal_()
    return model


def test_the_groups_share_all_coefficients():
    assert sorted(LIP_NAMES + OTHER_NAMES) == sorted(ARKIT_NAMES)
    assert "jawOpen" in LIP_NAMES
    assert "eyeBlinkLeft" in OTHER_NAMES


@pytest.mark.parametrize(("front_end", "states", "width"), [("mel", 12, 320), ("states", 12, 24), ("both", 12, 344)])
def test_every_front_end_gives_the_same_kind_of_motion(front_end, states, width):
    model = make(front_end=front_end, state_width=states)
    assert sum(model.config.feature_widths) == width
    assert model(torch.randn(2, 9, width), torch.zeros(2, 4)).shape == (2, 9, SIZE)
    assert model.audio_encoder.silence().shape == (1, width)


def test_an_untrained_model_gives_the_mean_motion():
    model = ExpressionGenerator(TINY)
    model.motion_mean.fill_(0.25)
    coefficients, _ = model.to_curves(model(torch.randn(1, 4, 320), torch.zeros(1, 4)))
    assert torch.equal(coefficients, torch.full((1, 4, 52), 0.25))


def test_curves_are_in_the_order_of_the_names():
    model = make()
    motion = torch.zeros(1, SIZE)
    motion[0, LIP_NAMES.index("jawOpen")] = 0.5
    motion[0, len(LIP_NAMES) + OTHER_NAMES.index("browInnerUp")] = 0.25
    motion[0, -1] = 2.0
    coefficients, lips = model.to_curves(motion)
    assert coefficients[0].nonzero()[:, 0].tolist() == [
        ARKIT_NAMES.index("browInnerUp"),
        ARKIT_NAMES.index("jawOpen"),
    ]
    torch.testing.assert_close(lips[0], 2 * model.lip_basis[-1])


def test_style_changes_the_motion_and_its_absence_is_zero():
    model, features = make(), torch.randn(1, 9, 320)
    plain = model(features, torch.zeros(1, 4))
    assert not torch.allclose(plain, model(features, model.style(torch.ones(1, 5))))


def test_motion_depends_on_sound_within_reach_only():
    model, features = make(), torch.randn(1, 60, 320)
    other = features.clone()
    other[0, 30] += 1
    style = torch.zeros(1, 4)
    changed = (model(features, style) - model(other, style)).abs().amax(-1)[0] > 1e-6
    first, last = changed.nonzero()[0].item(), changed.nonzero()[-1].item()
    assert 30 - model.reach <= first < 30 < last <= 30 + model.reach


@pytest.mark.parametrize("piece", [1, 5, 17])
def test_rolling_with_caches_is_the_plain_autoregression(piece):
    model, style = make(causal=True), torch.zeros(1, 4)
    audio = model.encode(torch.randn(1, 17, 320), style)
    motion = torch.zeros(1, 0, SIZE)
    for frames in range(1, 18):  # the whole past again for every frame
        past = torch.cat((torch.zeros(1, 1, SIZE), motion), 1)
        motion = torch.cat((motion, model.decode(audio[:, :frames], past)[:, -1:]), 1)
    state, parts = RollState(), []
    for part in audio.split(piece, 1):
        result, state = model.roll(part, state)
        parts.append(result)
    torch.testing.assert_close(torch.cat(parts, 1), motion, atol=1e-5, rtol=1e-4)


def test_the_past_matters_to_the_causal_form():
    model, features = make(causal=True), torch.randn(1, 6, 320)
    still, moving = torch.zeros(1, 6, SIZE), torch.randn(1, 6, SIZE)
    assert not torch.allclose(model(features, torch.zeros(1, 4), still), model(features, torch.zeros(1, 4), moving))


def test_weights_come_back_from_their_file(tmp_path):
    model, features = make(), torch.randn(1, 6, 320)
    save_module(tmp_path / "expression.safetensors", model, model.config)
    again = load_module(ExpressionGenerator, ExpressionConfig, tmp_path / "expression.safetensors")
    assert again.config == model.config
    assert torch.equal(again(features, torch.zeros(1, 4)), model(features, torch.zeros(1, 4)))


def test_a_few_steps_of_training_lower_the_error():
    model, features, target = make(), torch.randn(4, 12, 320), torch.randn(4, 12, SIZE)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    errors = []
    for _ in range(20):
        error = (model(features, torch.zeros(4, 4)) - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.8 * errors[0]
