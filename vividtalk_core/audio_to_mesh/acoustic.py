"""The baseline without weights: what the log-mel says about the mouth, as blendshapes an animator would choose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..audio.encoder import mel_position
from ..audio.mel import sample_rows
from ..audio.speech import Speech, analyse, blur
from ..structures import ARKIT_NAMES, MEL_RATE, AudioFeatures, Expression


@dataclass(frozen=True, slots=True)
class AcousticSettings:
    """Strengths are coefficients at the clip's strongest moments; times are in seconds."""

    jaw: float = 0.38
    lips: float = 1.0
    brows: float = 0.2
    lead_s: float = 0.02  # lips move before the sound
    attack_s: float = 0.035  # width of smoothing towards a coming sound
    release_s: float = 0.05  # and after it
    asymmetry: float = 0.06  # share that one half of a face moves more than the other
    seed: int = 0


def acoustic_expression(
    features: AudioFeatures, lip_vertices: int, settings: AcousticSettings = AcousticSettings()
) -> Expression:
    """Lips, jaw and a little of the upper face from sound alone.

    Args:
        features: of `encode_audio`, any encoder; only `mel` and `fps` are used.
        lip_vertices: L of the head model; the lip offsets are zero.
        settings: strengths and times.
    """
    curves = _curves(analyse(features.mel), settings)  # name → [M]
    table = torch.stack(list(curves.values()), -1)
    position = mel_position(len(features.features), features.fps) + settings.lead_s * MEL_RATE
    rows = sample_rows(table, position).clamp(0, 1)
    coefficients = rows.new_zeros(len(rows), len(ARKIT_NAMES))
    coefficients[:, [ARKIT_NAMES.index(name) for name in curves]] = rows
    return Expression(coefficients, rows.new_zeros(len(rows), lip_vertices, 3), features.fps)


def _curves(speech: Speech, settings: AcousticSettings) -> dict[str, Tensor]:
    before, after = settings.attack_s * MEL_RATE, settings.release_s * MEL_RATE
    raw = torch.stack((speech.opening, speech.spread, speech.hiss, speech.closure * speech.level), -1)
    opening, spread, hiss, closure = blur(raw, before, after).unbind(-1)
    wide, round_ = spread.clamp(min=0) * settings.lips, (-spread).clamp(min=0) * settings.lips
    both = {
        "mouthLowerDown": settings.lips * (0.22 * opening + 0.12 * hiss),
        "mouthUpperUp": settings.lips * (0.12 * opening + 0.1 * hiss),
        "mouthStretch": 0.12 * wide,
        "mouthSmile": 0.1 * wide,
        "mouthDimple": 0.08 * wide,
        "mouthPress": 0.2 * closure * settings.lips,
        "cheekSquint": 0.1 * wide,
    }
    one = {
        "jawOpen": settings.jaw * opening,
        "mouthFunnel": 0.25 * round_,
        "mouthPucker": 0.35 * round_,
        "mouthRollLower": 0.15 * closure * settings.lips,
        "mouthShrugLower": 0.1 * hiss * settings.lips,
        "browInnerUp": settings.brows * blur(speech.level[:, None], 20, 30)[:, 0] * 0.5,
    }
    return one | {f"{name}{side}": curve for name, curve in both.items() for side in ("Left", "Right")}


def accents(features: AudioFeatures) -> tuple[Tensor, Tensor]:
    """How much is spoken and where it is stressed, [T] and [T], 0..1 at the features' frame rate."""
    speech = analyse(features.mel)
    speaking = blur(speech.level[:, None], 30, 50)[:, 0]
    stress = (blur(speech.level[:, None], 8, 8)[:, 0] - speaking).clamp(min=0)
    position = mel_position(len(features.features), features.fps)
    return tuple(
        sample_rows(curve[:, None], position)[:, 0] for curve in (speaking, blur(stress[:, None], 8, 12)[:, 0])
    )
