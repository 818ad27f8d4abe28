"""Recall of the gestures of the mouth that eyes catch: does the curve that shows it move where the phone is spoken?

A gesture is met where the extreme of its curve within the phone lies in the lowest or highest part of the clip's own
range, as for closures (`lips.closure_recall`): it does not depend on how far a person moves. Real lips, which do not
meet every gesture either, are measured in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..audio.phones import CLOSURES, Phone, spans_of
from ..structures import check_shapes
from .lips import extreme_recall

APERTURE, WIDTH, UPPER_LIP = 0, 1, 2  # columns of mouth curves


@dataclass(frozen=True, slots=True)
class Gesture:
    """What the lips do for some phones."""

    phones: tuple[str, ...]  # ARPAbet
    curve: int  # APERTURE, WIDTH or UPPER_LIP
    low: bool  # the curve becomes small
    share: float  # of the clip's range, within which it is met


GESTURES: Mapping[str, Gesture] = {
    "shut": Gesture(CLOSURES, APERTURE, True, 0.25),
    # the lower lip touches the upper teeth, so that the inner lips nearly meet; a shut mouth meets it too
    "bite": Gesture(("F", "V"), APERTURE, True, 0.4),
    # and the upper lip is lifted off them: this tells f and v from p, b and m
    "lift": Gesture(("F", "V"), UPPER_LIP, True, 0.5),
    "round": Gesture(("W", "UW", "UH", "OW", "OY"), WIDTH, True, 0.4),
    "spread": Gesture(("IY", "EY"), WIDTH, False, 0.4),
}


def gesture_recall(
    clips: Sequence[tuple[Tensor, Sequence[Phone]]], gesture: Gesture, fps: float
) -> tuple[float | None, int]:
    """Share of a gesture's phones, over all clips, at which it is met, and their number.

    Args:
        clips: of each the curves [T, 3] of `mouth_shape.mouth_curves` and the phones of its sound.
        gesture: one of `GESTURES`.
        fps: frames per second of the curves.

    Returns:
        0..1, or None without such a phone.
    """
    met, count = 0.0, 0
    for curves, phones in clips:
        check_shapes(curves=(curves, "T 3"))
        spans = [span for span in spans_of(phones, gesture.phones) if round(span[0] * fps) < len(curves)]
        if spans:
            met += extreme_recall(curves[:, gesture.curve], spans, fps, gesture.share, gesture.low) * len(spans)
            count += len(spans)
    return (met / count if count else None), count
