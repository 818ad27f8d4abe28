"""From features to curves: frame rates, pieces, gains and bad input."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.audio.encoder import MEL, encode_audio
from vividtalk_core.audio_to_mesh import articulation
from vividtalk_core.audio_to_mesh.articulation import ArticulationSettings, generate_expression
from vividtalk_core.audio_to_mesh.expression import LABIALS, PHONES, ExpressionConfig, ExpressionGenerator
from vividtalk_core.structures import ARKIT_NAMES, AudioFeatures

TINY = ExpressionConfig(front_end="mel", width=16, heads=2, identity_components=5, lip_vertices=7, components=3)


def make(**changes):
    torch.manual_seed(1)
    model = ExpressionGenerator(replace(TINY, **changes)).eval()
    for branch in model.branches:
        torch.nn.init.normal_(branch.out.weight, std=0.1)
    model.motion_mean.fill_(0.3)
    model.motion_std.fill_(0.2)
    model.lip_basis.normal_()
    return model


def sound(seconds=2.0, fps=25.0):
    torch.manual_seed(2)
    return encode_audio(0.1 * torch.randn(1, round(16_000 * seconds)), 16_000, fps, MEL)


def columns(*prefixes):
    return [i for i, name in enumerate(ARKIT_NAMES) if name.startswith(prefixes)]


@pytest.mark.parametrize("fps", [25.0, 29.97, 12.0])
def test_one_frame_of_motion_for_each_of_sound(fps):
    features = sound(fps=fps)
    result = generate_expression(make(), features)
    assert result.coefficients.shape == (features.frame_count, 52)
    assert result.lip_offsets.shape == (features.frame_count, 7, 3)
    assert result.fps == fps
    assert result.baseline == "rest" and not result.neutral_coefficients.any()
    assert 0 <= result.coefficients.min() <= result.coefficients.max() <= 1


def test_another_frame_rate_shows_the_same_motion():
    model = make()
    slow, fast = (generate_expression(model, sound(fps=fps)) for fps in (25.0, 75.0))
    # every third frame of 75 fps is centred where a frame of 25 fps is
    torch.testing.assert_close(fast.coefficients[1::3], slow.coefficients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_the_size_of_the_pieces_does_not_matter(causal, monkeypatch):
    model, features = make(causal=causal), sound(3.0)
    whole = generate_expression(model, features)
    monkeypatch.setattr(articulation, "BLOCK", 11)
    pieces = generate_expression(model, features)
    torch.testing.assert_close(pieces.coefficients, whole.coefficients, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(pieces.lip_offsets, whole.lip_offsets, atol=1e-4, rtol=1e-4)


def test_what_comes_later_does_not_matter():
    model, features = make(), sound(4.0)
    part = AudioFeatures(features.mel[:240], 60, 25.0, 2.4)
    clear = 60 - model.reach  # frames that do not depend on the end
    whole, cut = generate_expression(model, features), generate_expression(model, part)
    torch.testing.assert_close(cut.coefficients[:clear], whole.coefficients[:clear], atol=1e-5, rtol=1e-5)


def test_the_same_input_gives_the_same_bits():
    model, features = make(), sound()
    first, second = (generate_expression(model, features) for _ in range(2))
    assert torch.equal(first.coefficients, second.coefficients)
    assert torch.equal(first.lip_offsets, second.lip_offsets)


def test_gains_reach_their_own_part():
    model, features = make(), sound()
    plain = generate_expression(model, features)
    jaw = generate_expression(model, features, settings=ArticulationSettings(jaw_gain=0))
    lips = generate_expression(model, features, settings=ArticulationSettings(lip_gain=0))
    none = generate_expression(model, features, settings=ArticulationSettings(lip_strength=0, face_gain=0))
    assert jaw.coefficients[:, columns("jaw")].abs().max() == 0
    assert torch.equal(jaw.coefficients[:, columns("mouth")], plain.coefficients[:, columns("mouth")])
    assert lips.coefficients[:, columns("mouth", "tongue")].abs().max() == lips.lip_offsets.abs().max() == 0
    assert torch.equal(lips.coefficients[:, columns("jaw")], plain.coefficients[:, columns("jaw")])
    assert none.coefficients.abs().max() == none.lip_offsets.abs().max() == 0


def test_lids_and_gaze_are_left_to_others():
    assert generate_expression(make(), sound()).coefficients[:, columns("eye")].abs().max() == 0


def test_lips_meet_where_a_labial_is_spoken():
    model, features = make(), sound()
    with torch.no_grad():
        model.phones.weight.zero_()
        model.phones.bias.fill_(-10.0)[LABIALS[0]] = 10.0  # always sure
    closed = generate_expression(model, features)
    assert closed.coefficients[:, columns("jaw", "mouth", "tongue")].abs().max() < 1e-6
    assert closed.lip_offsets.abs().max() < 1e-6
    assert closed.coefficients[:, columns("brow")].max() > 0
    apart = generate_expression(model, features, settings=ArticulationSettings(closure=0))
    assert apart.coefficients[:, columns("jaw", "mouth")].max() > 0.1


@pytest.mark.parametrize("phone, forward", [("TH", 0.8), ("L", 0.5), ("AA", 0.0)])
def test_the_tongue_comes_forward_where_th_or_l_is_spoken(phone, forward):
    model, features = make(), sound()
    with torch.no_grad():
        model.phones.weight.zero_()
        model.phones.bias.fill_(-10.0)[PHONES.index(phone)] = 10.0  # always sure
    spoken = generate_expression(model, features).coefficients[:, columns("tongue")]
    torch.testing.assert_close(spoken, torch.full_like(spoken, forward), atol=1e-4, rtol=0)
    half = generate_expression(model, features, settings=ArticulationSettings(tongue=0.5, lip_strength=0.5))
    torch.testing.assert_close(half.coefficients[:, columns("tongue")], spoken / 4, atol=1e-4, rtol=0)


def test_smoothing_takes_speed_away():
    model, features = make(), sound()
    plain = generate_expression(model, features).coefficients
    smooth = generate_expression(model, features, settings=ArticulationSettings(smoothing_s=0.1)).coefficients
    assert smooth.diff(dim=0).abs().mean() < 0.5 * plain.diff(dim=0).abs().mean()


def test_style_follows_the_face():
    model, features, alpha = make(), sound(), torch.full((5,), 3.0)
    average = generate_expression(model, features).coefficients
    assert not torch.equal(generate_expression(model, features, alpha).coefficients, average)
    off = generate_expression(model, features, alpha, ArticulationSettings(style=0)).coefficients
    assert torch.equal(off, average)


def test_states_of_a_speech_model_are_retimed():
    model = make(front_end="states", state_width=24)
    states = torch.randn(100, 24)
    features = AudioFeatures(torch.zeros(200, 80), 60, 30.0, 2.0, states, "tiny")
    assert generate_expression(model, features).coefficients.shape == (60, 52)
    # at the network's 25 fps a frame covers exactly two of the fifty states per second
    torch.testing.assert_close(articulation.feature_rows(features, model.config, 50), states.view(50, 48))


def test_both_front_ends_hear_states_and_mel():
    model = make(front_end="both", state_width=24)
    states, mel = torch.randn(100, 24), torch.randn(200, 80)
    features = AudioFeatures(mel, 50, 25.0, 2.0, states, "tiny")
    plain = generate_expression(model, features).coefficients
    assert plain.shape == (50, 52)
    for changed in (replace(features, states=states.flip(0)), replace(features, mel=mel.flip(0))):
        assert not torch.allclose(generate_expression(model, changed).coefficients, plain)


def test_a_network_for_the_mel_leaves_states_alone():
    features = AudioFeatures(torch.randn(200, 80), 50, 25.0, 2.0)
    with_states = replace(features, states=torch.randn(100, 24), encoder="tiny")
    first, second = (generate_expression(make(), f).coefficients for f in (features, with_states))
    assert torch.equal(first, second)


def test_features_of_another_encoder_are_refused():
    features = AudioFeatures(torch.zeros(200, 80), 50, 25.0, 2.0)
    with pytest.raises(ValueError, match="trained on 24 features per state, the audio encoder 'mel' gave 0"):
        generate_expression(make(front_end="states", state_width=24), features)


@pytest.mark.parametrize("wrong", [{"jaw_gain": -1.0}, {"smoothing_s": float("nan")}, {"style": float("inf")}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ArticulationSettings(**wrong)
