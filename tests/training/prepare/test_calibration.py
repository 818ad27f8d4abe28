"""Calibration: zero is the speaker's own rest, and nothing of the lips is lost."""

import pytest
import torch

from vividtalk_core.head.morphable import shape
from vividtalk_core.structures import ARKIT_NAMES
from vividtalk_core.training.prepare.calibration import (
    CalibrationSettings,
    Neutral,
    calibrate,
    closed_frames,
    lip_basis,
    neutral_face,
    typical_face,
)

JAW, PRESS = ARKIT_NAMES.index("jawOpen"), ARKIT_NAMES.index("mouthPressLeft")


def speech_aperture():
    """[100] 40 frames of rest with noise, then syllables."""
    noise = 0.002 * torch.randn(100, generator=torch.Generator().manual_seed(0))
    syllables = 0.05 * (1 - torch.cos(torch.arange(100) / 3))
    return noise + torch.where(torch.arange(100) < 40, 0.0, syllables + 0.02)


def test_closed_frames_are_those_at_rest():
    aperture, valid = speech_aperture(), torch.ones(100, dtype=torch.bool)
    assert closed_frames(aperture, valid)[:40].float().mean() > 0.9
    assert not closed_frames(aperture, valid)[40:].any()
    valid[:20] = False
    assert not closed_frames(aperture, valid)[:20].any()


def test_clip_that_rarely_closes_is_measured_by_the_lips_that_touch():
    aperture = torch.full((1000,), 0.15)
    aperture[:6] = 0.005
    assert closed_frames(aperture, torch.ones(1000, dtype=torch.bool)).nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("closed", [0, 4])
def test_clip_that_does_not_close_has_no_rest(closed):
    aperture = torch.full((100,), 0.15)
    aperture[:closed] = 0.0
    assert closed_frames(aperture, torch.ones(100, dtype=torch.bool)) is None
    assert closed_frames(aperture, torch.zeros(100, dtype=torch.bool)) is None


def test_neutral_is_not_moved_by_a_blink():
    coefficients = torch.full((9, 52), 0.1)
    coefficients[3:5] = 1.0
    lips = torch.full((9, 4, 3), 0.01).half()
    lips[7] = 5
    neutral = neutral_face(coefficients, lips)
    assert torch.equal(neutral.coefficients, torch.full((52,), 0.1))
    assert neutral.lip_offsets.dtype == torch.float32
    assert torch.allclose(neutral.lip_offsets, torch.full((4, 3), 0.01), atol=1e-4)


def test_typical_face_of_several_clips():
    faces = [Neutral(torch.full((52,), value), torch.full((4, 3), value)) for value in (0.1, 0.2, 0.9)]
    assert torch.equal(typical_face(faces).coefficients, torch.full((52,), 0.2))
    assert torch.equal(typical_face(faces).lip_offsets, torch.full((4, 3), 0.2))


def test_rest_becomes_zero(head_model):
    neutral = Neutral(torch.rand(52) * 0.3, torch.rand(len(head_model.lip_vertices), 3))
    coefficients, lips = calibrate(
        neutral.coefficients[None], neutral.lip_offsets[None], neutral, lip_basis(head_model)
    )
    assert coefficients.abs().max() == 0
    assert lips.abs().max() < 1e-6


def test_what_the_clamp_cuts_off_stays_in_the_lips(head_model):
    """Relaxing what the rest activates cannot be expressed by β ≥ 0: the lips move as tracked anyway."""
    generator = torch.Generator().manual_seed(1)
    tracked = torch.rand(5, 52, generator=generator)
    offsets = 0.01 * torch.randn(5, len(head_model.lip_vertices), 3, generator=generator)
    rest = torch.zeros(52)
    rest[JAW], rest[PRESS] = 0.1, 0.4
    tracked[:, PRESS] = 0.1
    neutral = Neutral(rest, 0.01 * torch.randn(len(head_model.lip_vertices), 3, generator=generator))
    coefficients, lips = calibrate(tracked, offsets, neutral, lip_basis(head_model))
    assert (coefficients >= 0).all() and (coefficients <= 1).all()
    assert (coefficients[:, PRESS] == 0).all()
    inner = lip_basis(head_model)[JAW] == head_model.exp_basis[JAW, head_model.lip_vertices]  # where nothing fades
    identity = torch.zeros(len(head_model.id_basis))

    def lip_points(beta, moved):
        return shape(head_model, identity, beta)[..., head_model.lip_vertices, :] + moved

    target = lip_points(tracked, offsets) - lip_points(rest, neutral.lip_offsets)
    result = lip_points(coefficients, lips) - lip_points(torch.zeros(52), torch.zeros_like(neutral.lip_offsets))
    assert inner.all(1).float().mean() > 0.3
    assert torch.allclose(result[:, inner.all(1)], target[:, inner.all(1)], atol=1e-5)


def test_errors(head_model):
    neutral = Neutral(torch.zeros(52), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"basis must be \[E, L, 3\], E = 52, L = 4; got \[52, 426, 3\]"):
        calibrate(torch.zeros(2, 52), torch.zeros(2, 4, 3), neutral, lip_basis(head_model))
    with pytest.raises(ValueError, match=r"rest_share must be 0 or more and below 1; got 1\.5"):
        CalibrationSettings(rest_share=1.5)
    with pytest.raises(ValueError, match="least_frames must be at least 1; got 0"):
        CalibrationSettings(least_frames=0)
