"""Comparison of two curves of a mouth; the curves themselves come from `head.mouth_shape`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import MediaError, MismatchError
from ..head.mouth_shape import inter_ocular, upright
from ..head.topology import INNER_LIPS, OUTER_LIPS

LIPS = OUTER_LIPS + INNER_LIPS
# Standard deviation below which a curve does not move: rounding, not motion.
STILL = 1e-8

Span = tuple[float, float]  # start and end in seconds


def pearson(a: Tensor, b: Tensor) -> float:
    """Pearson correlation of two curves of shape [T]; 0 when one of them does not move."""
    _check_pair(a, b)
    # In double precision: the difference to a mean loses digits where a curve hardly moves.
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    spread = a.norm() * b.norm()
    return float(a @ b / spread) if spread > STILL * len(a) else 0.0


def amplitude_ratio(generated: Tensor, reference: Tensor) -> float:
    """Standard deviation of a curve, shape [T], over that of the reference, shape [T']: 1 is best, 0 does not move."""
    return _ratio(generated.double().std(), reference.double().std())


def velocity_ratio(generated: Tensor, reference: Tensor) -> float:
    """Mean change per frame of a curve, shape [T], over that of the reference, shape [T'], at one frame rate."""
    return _ratio(generated.double().diff().abs().mean(), reference.double().diff().abs().mean())


def _ratio(generated: Tensor, reference: Tensor) -> float:
    """Quotient of two numbers, tensors of shape []; MediaError if the reference is 0."""
    if not reference > STILL:
        raise MediaError(
            "the mouth of the reference does not move: there is no motion to compare with; choose a clip with speech"
        )
    return float(generated / reference)


def audio_gain(generated_right: Tensor, generated_wrong: Tensor, reference: Tensor) -> float:
    """Error with the wrong audio over the error with the right one: 1 ignores the audio, above 1.4 is good.

    The error is the root mean square difference of the curves after each one's own mean is taken off: how far a mouth
    is open at rest comes from the portrait, not from the audio.

    Args:
        generated_right: [T] or [T, K] curves from the clip's own audio.
        generated_wrong: the same from somebody else's audio.
        reference: the same of the real video.
    """
    right, wrong = _centred_error(generated_right, reference), _centred_error(generated_wrong, reference)
    return wrong / max(right, STILL)


def _centred_error(predicted: Tensor, target: Tensor) -> float:
    """Root mean square difference of curves [T] or [T, K] without each curve's own mean."""
    _check_pair(predicted, target)
    error = predicted.double() - target.double()
    return float((error - error.mean(0)).square().mean().sqrt())


def frozen_share(curves: Tensor, speech: Tensor, threshold: float = 1e-3) -> float:
    """Share of the transitions within speech in which the mouth does not move; below 0.08 is good.

    Args:
        curves: [T] or [T, K] in IOD, e.g. aperture and width; all must be still.
        speech: [T] bool, True where somebody speaks; a transition counts if both its frames are speech.
        threshold: IOD per frame below which a curve is still.

    Returns:
        0..1; NaN without a transition within speech.
    """
    # The largest change of all curves: a mouth whose width moves is not frozen.
    change = curves.reshape(len(curves), -1).diff(dim=0).abs().amax(-1)
    within = speech[1:].bool() & speech[:-1].bool()
    return float((change[within] < threshold).double().mean())


def closure_recall(
    aperture: Tensor, closures: Sequence[Span], fps: float, reach_s: float = 0.0, share: float = 0.25
) -> float:
    """Share of the labial closures (p, b, m) in which the lips meet.

    They meet when the least aperture from `reach_s` before the phone to `reach_s` after it lies in the lowest `share`
    of the clip's own range, from its 2nd to its 95th percentile. The range makes it independent of the tracker's bias
    and of how wide a person opens the mouth; it means nothing for a mouth that hardly moves.

    Args:
        aperture: IOD, shape [T].
        closures: start and end in seconds of each p, b and m.
        fps: frames per second of the aperture.
        reach_s: seconds by which the times of the phones may be wrong, beyond half a frame.
        share: of the range, 0..1.

    Returns:
        0..1; NaN without a closure.
    """
    return extreme_recall(aperture, [(start - reach_s, end + reach_s) for start, end in closures], fps, share)


def extreme_recall(curve: Tensor, spans: Sequence[Span], fps: float, share: float, low: bool = True) -> float:
    """Share of the spans in which a curve reaches into the lowest, or highest, part of the clip's own range.

    Args:
        curve: [T]; its range goes from the 2nd to the 95th percentile, or upside down.
        spans: start and end in seconds.
        fps: frames per second of the curve.
        share: of the range, 0..1.
        low: the lowest part; otherwise the highest.

    Returns:
        0..1; NaN without a span.
    """
    curve = curve.double() if low else -curve.double()
    # Not minimum and maximum, which may be single errors of the tracker.
    least, most = torch.quantile(curve, curve.new_tensor((0.02, 0.95)))
    limit = least + share * (most - least)
    # frame t shows the time (t + 0.5) / fps
    time = (torch.arange(len(curve)) + 0.5) / fps
    # So that each span holds a frame, however short the phone is.
    half = 0.5 / fps
    inside = [(time >= start - half) & (time <= end + half) for start, end in spans]
    met = [bool(curve[span].amin() <= limit) for span in inside if span.any()]
    return sum(met) / len(met) if met else float("nan")


def sync_offset(generated: Tensor, reference: Tensor, reach: int = 12) -> int:
    """Frames by which a curve lags the reference, both of shape [T]: where their correlation is largest.

    Lags of up to ± reach frames are tried; positive is late. The clip needs at least 3 · reach frames: MediaError.
    """
    _check_pair(generated, reference)
    if len(reference) < 3 * reach:
        raise MediaError(
            f"{len(reference)} frames are too few to look for an offset of up to {reach} frames: use a clip of "
            f"{3 * reach} or more"
        )
    # Where two lags are equally good, the smaller shift: a curve that does not move is in sync.
    return max(range(-reach, reach + 1), key=lambda lag: (lag_correlation(generated, reference, lag), -abs(lag)))


def lag_correlation(generated: Tensor, reference: Tensor, lag: int) -> float:
    """Correlation of a curve, shape [T], with the reference, shape [T], `lag` frames earlier."""
    count = len(reference) - abs(lag)
    return pearson(generated[max(lag, 0) :][:count], reference[max(-lag, 0) :][:count])


def mouth_distance(generated: Tensor, reference: Tensor) -> float:
    """M-LMD: mean distance in IOD of the 40 lip landmarks of two clips, frame by frame.

    Before that, each mouth is centred, scaled by its clip's inter-ocular distance and turned until the eyes are level:
    head motion in the image plane, position and size do not count (Chen et al. 2018 only centre it).

    Args:
        generated: [T, N, 2] or [T, N, 3] px, N = 468 or 478 landmarks.
        reference: the same of the real clip.
    """
    _check_pair(generated, reference)
    return float((_mouth_shape(generated) - _mouth_shape(reference)).norm(dim=-1).mean())


def _mouth_shape(landmarks: Tensor) -> Tensor:
    """[T, 40, 2] the lips in IOD, centred and upright."""
    lips = landmarks[:, list(LIPS), :2]
    # Turned by the line between the eyes, because a tilted head would move the mouth's corners without any speech.
    axes = torch.stack(upright(landmarks), -1)  # [T, 2, 2], columns
    return (lips - lips.mean(1, keepdim=True)) @ axes / inter_ocular(landmarks)


def _check_pair(a: Tensor, b: Tensor) -> None:
    """MismatchError unless two curves [T, ...] have one shape."""
    if a.shape != b.shape:
        raise MismatchError(
            f"only curves of one length can be compared; got {list(a.shape)} and {list(b.shape)}: cut both to the "
            "frames that they have in common"
        )
