"""The baseline without weights: mouth shapes from the energies of the log-mel, as blendshapes with fixed gains."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..audio.encoder import mel_position
from ..audio.speech import Speech, analyse, speaking_and_stress
from ..errors import SettingsError
from ..filters import blur_rows
from ..structures import ARKIT_NAMES, MEL_RATE, AudioFeatures, Expression
from ..time_grid import sample_rows


@dataclass(frozen=True, slots=True)
class AcousticSettings:
    """Strengths are coefficients at the open vowels of the clip; times are in seconds."""

    jaw: float = 0.36  # together with the lip shapes, the lips then open as far as those of speakers on video
    lips: float = 1.0  # factor on all lip shapes
    brows: float = 0.2  # of browInnerUp on the strongest stress
    lead_s: float = 0.0  # by which lips move before the sound; on video there is none beyond that of the smoothing
    attack_s: float = 0.035  # standard deviation of the smoothing before a sound
    release_s: float = 0.05  # and after it
    asymmetry: float = 0.06  # share that one half of a face moves more than the other
    seed: int = 0  # of the asymmetry

    def __post_init__(self) -> None:
        """SettingsError unless strengths are 0 or more and smoothing times above 0."""
        wrong = [f.name for f in fields(self) if not math.isfinite(getattr(self, f.name))]
        low = [name for name in ("jaw", "lips", "brows", "asymmetry") if getattr(self, name) < 0]
        if wrong or low or min(self.attack_s, self.release_s) <= 0:
            raise SettingsError(f"strengths must be 0 or more and smoothing times above 0; got {self}.")


def acoustic_expression(
    features: AudioFeatures, lip_vertices: int, settings: AcousticSettings = AcousticSettings()
) -> Expression:
    """Lips, jaw and a little of the upper face from sound alone.

    Levels are relative to the whole clip (see `audio.speech`); beyond that, frame t depends on about ±0.3 s of sound
    for the mouth and ±2.5 s for the brows.

    Args:
        features: of `encode_audio`, any encoder; `states` is not used.
        lip_vertices: L of the head model; the lip offsets are zero.
        settings: strengths and times.

    Returns:
        Coefficients [T, 52] from rest (silence is a relaxed, closed mouth), T = features.frame_count.
    """
    curves = _curves(analyse(features.mel), settings)
    table = torch.stack(list(curves.values()), -1)
    # read at a later time, so that the lips move before the sound
    position = mel_position(features.frame_count, features.fps, table.device) + settings.lead_s * MEL_RATE
    rows = sample_rows(table, position).clamp(0, 1)
    coefficients = rows.new_zeros(len(rows), len(ARKIT_NAMES))
    coefficients[:, [ARKIT_NAMES.index(name) for name in curves]] = rows
    return Expression.from_rest(coefficients, rows.new_zeros(len(rows), lip_vertices, 3), features.fps)


def _curves(speech: Speech, settings: AcousticSettings) -> dict[str, Tensor]:
    """Blendshape name → curve [M] at 100 per second."""
    before, after = settings.attack_s * MEL_RATE, settings.release_s * MEL_RATE
    # friction without voice opens the lips a little too: only the teeth are close together
    raw = torch.stack((torch.maximum(speech.opening, 0.4 * speech.hiss), speech.spread, speech.hiss), -1)  # [M, 3]
    opening, spread, hiss = blur_rows(raw, before, after).unbind(-1)
    _, stress = speaking_and_stress(speech.level)
    closed, apart, lips = speech.closure, 1 - speech.closure, settings.lips
    wide, narrow = lips * spread.clamp(min=0), lips * (-spread).clamp(min=0)
    jaw = settings.jaw * opening
    one = {
        # at p, b and m the jaw stays a third open and the lips meet over it: raising it fully looks mechanical
        "jawOpen": jaw * (1 - 0.65 * closed),
        # ARKit's mouthClose joins the lips over an open jaw, so it must grow with the jaw
        "mouthClose": 0.35 * jaw * closed,
        # for an open round o; an almost closed u is a pucker
        "mouthFunnel": 0.35 * narrow * opening * apart,
        "mouthPucker": 0.4 * narrow,
        "mouthRollLower": 0.15 * lips * closed,
        "browInnerUp": settings.brows * stress,
    }
    both = {
        # in speech the lower lip moves further than the upper one
        "mouthLowerDown": lips * apart * (0.3 * opening + 0.25 * hiss),
        "mouthUpperUp": lips * apart * (0.2 * opening + 0.15 * hiss),
        "mouthStretch": 0.15 * wide,
        "mouthSmile": 0.1 * wide,
        "mouthDimple": 0.1 * wide,
        "mouthPress": 0.2 * lips * closed,
        "cheekSquint": 0.1 * wide,
        "browOuterUp": 0.5 * settings.brows * stress,
    }
    return one | _two_sided(both, settings)


def _two_sided(curves: dict[str, Tensor], settings: AcousticSettings) -> dict[str, Tensor]:
    """`nameLeft` and `nameRight` [M] of each curve [M], one of them a little stronger: no face is symmetric."""
    generator = torch.Generator().manual_seed(settings.seed)
    lean = settings.asymmetry * (2 * torch.rand(len(curves), generator=generator) - 1)
    sides: dict[str, Tensor] = {}
    for (name, curve), share in zip(curves.items(), lean.tolist(), strict=True):
        sides |= {f"{name}Left": curve * (1 + share / 2), f"{name}Right": curve * (1 - share / 2)}
    return sides
