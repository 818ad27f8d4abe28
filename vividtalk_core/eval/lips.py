"""What the lips do: curves of a mouth from landmarks or from the mesh, and how two such curves compare.

All lengths are in units of the inter-ocular distance (IOD), the distance of the outer eye corners: its median over the
clip, so that noise and blinks do not reach the mouth. Turning the head foreshortens it: beyond ±25° of yaw the curves
are too large by more than a tenth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..face.morphable import landmark_positions, shape
from ..face.topology import INNER_LIPS, LEFT_EYE_CORNERS, OUTER_LIPS, RIGHT_EYE_CORNERS
from ..structures import Expression, MorphableModel

EYES = (RIGHT_EYE_CORNERS[0], LEFT_EYE_CORNERS[0])  # outer corners
GAP = ((81, 178), (13, 14), (311, 402))  # (upper, lower) of the inner lips: a third to the left, middle, to the right
CORNERS = (61, 291)  # outer: less shaky than the inner ones
LIPS = OUTER_LIPS + INNER_LIPS
STILL = 1e-8  # standard deviation below which a curve does not move
CHUNK = 256  # frames of a mesh that are held at a time

Span = tuple[float, float]


def inter_ocular(landmarks: Tensor) -> Tensor:
    """Median distance, in the landmarks' own unit, of the outer eye corners of [T, 468 or 478, 2 or 3]."""
    points = landmarks[..., :2]
    return (points[:, EYES[0]] - points[:, EYES[1]]).norm(dim=-1).median()


def aperture_of_landmarks(landmarks: Tensor) -> Tensor:
    """How far the inner lips are apart: mean of three gaps, measured across the line of the eyes.

    Args:
        landmarks: [T, 468 or 478, 2 or 3] px, y down; z is not looked at.

    Returns:
        [T] in IOD; about 0 when closed, slightly negative where the network lets the lips overlap.
    """
    down = _upright(landmarks)[1]
    upper, lower = (landmarks[:, list(side), :2] for side in zip(*GAP, strict=True))
    return ((lower - upper) * down[:, None]).sum(-1).mean(-1) / inter_ocular(landmarks)


def width_of_landmarks(landmarks: Tensor) -> Tensor:
    """Distance of the mouth corners [T] in IOD, of landmarks [T, 468 or 478, 2 or 3] px."""
    points = landmarks[..., :2]
    return (points[:, CORNERS[0]] - points[:, CORNERS[1]]).norm(dim=-1) / inter_ocular(landmarks)


def _upright(landmarks: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors [T, 2] along the line of the eyes, to the viewer's right, and across it, towards the chin."""
    across = landmarks[:, EYES[1], :2] - landmarks[:, EYES[0], :2]
    across = across / across.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return across, torch.stack((-across[:, 1], across[:, 0]), -1)


def lip_curves(
    expression: Expression, model: MorphableModel, id_coefficients: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Aperture and width of the mouth that curves give the head mesh, seen from the front without perspective.

    The curves count as they are, `neutral_*` is not subtracted. The scale is the resting face's. Gradients pass.

    Args:
        expression: T frames.
        model: the 3DMM whose expressions and lip vertices it names.
        id_coefficients: [I] α; None is the mean head.

    Returns:
        aperture [T], width [T] in IOD.
    """
    small, rows = _mouth_model(model)
    identity = model.mean_shape.new_zeros(len(model.id_basis)) if id_coefficients is None else id_coefficients
    rest = landmark_positions(small, shape(small, identity, identity.new_zeros(len(model.exp_names))))
    scale = (rest[EYES[0], :2] - rest[EYES[1], :2]).norm()
    curves = []
    for beta, offsets in zip(expression.coefficients.split(CHUNK), expression.lip_offsets.split(CHUNK), strict=True):
        head = shape(small, identity, beta.to(scale)).index_add(1, rows[1], offsets[:, rows[0]].to(scale))
        points = landmark_positions(small, head)
        upper, lower = (points[:, list(side), 1] for side in zip(*GAP, strict=True))
        width = (points[:, CORNERS[0], :2] - points[:, CORNERS[1], :2]).norm(dim=-1)
        curves.append(torch.stack(((upper - lower).mean(-1), width)))
    return tuple(torch.cat(curves, 1) / scale)


def _mouth_model(model: MorphableModel) -> tuple[MorphableModel, tuple[Tensor, Tensor]]:
    """The model cut down to what these curves look at, and which lip offset [N] moves which of its vertices [N]."""
    looked_at = sorted({*EYES, *CORNERS, *sum(GAP, ())})
    kept, index = model.landmark_vertices[looked_at].unique(return_inverse=True)
    landmarks = torch.zeros_like(model.landmark_vertices)
    landmarks[looked_at] = index
    moved = (model.lip_vertices[:, None] == kept).nonzero()
    small = replace(
        model,
        mean_shape=model.mean_shape[kept],
        id_basis=model.id_basis[:, kept],
        exp_basis=model.exp_basis[:, kept],
        landmark_vertices=landmarks,
        pose_weight=model.pose_weight[kept],
    )
    return small, (moved[:, 0], moved[:, 1])


def pearson(a: Tensor, b: Tensor) -> float:
    """Pearson correlation of two curves [T]; 0 when one of them does not move."""
    _check_pair(a, b)
    a, b = a.double() - a.double().mean(), b.double() - b.double().mean()
    spread = a.norm() * b.norm()
    return float(a @ b / spread) if spread > STILL * len(a) else 0.0


def amplitude_ratio(generated: Tensor, reference: Tensor) -> float:
    """Standard deviation of a curve [T] over that of the reference [T']: 1 is wanted, 0 does not move."""
    return _ratio(generated.double().std(), reference.double().std())


def velocity_ratio(generated: Tensor, reference: Tensor) -> float:
    """Mean absolute change per frame of a curve [T] over that of the reference [T'], at the same frame rate."""
    return _ratio(generated.double().diff().abs().mean(), reference.double().diff().abs().mean())


def _ratio(made: Tensor, wanted: Tensor) -> float:
    if not wanted > STILL:
        raise ValueError("the reference does not move: there is nothing to compare the motion with")
    return float(made / wanted)


def audio_gain(generated_right: Tensor, generated_wrong: Tensor, reference: Tensor) -> float:
    """Error with the wrong audio over the error with the right one: 1 ignores the audio, above 1.4 is wanted.

    The error is the root mean square difference of the curves after each one's own mean is taken off: how far a mouth
    is open at rest comes from the portrait, not from the audio.

    Args:
        generated_right: [T] or [T, K] curves from the clip's own audio.
        generated_wrong: the same from somebody else's audio.
        reference: the same of the real video.
    """
    right, wrong = (_centred_error(g, reference) for g in (generated_right, generated_wrong))
    return wrong / max(right, STILL)


def _centred_error(made: Tensor, wanted: Tensor) -> float:
    _check_pair(made, wanted)
    error = made.double() - wanted.double()
    return float((error - error.mean(0)).square().mean().sqrt())


def frozen_share(curves: Tensor, speech: Tensor, threshold: float = 1e-3) -> float:
    """Share of the transitions within speech in which the mouth stands still; below 0.08 is wanted.

    Args:
        curves: [T] or [T, K] in IOD, e.g. aperture and width; all must stand still.
        speech: [T] bool, True where somebody speaks; a transition counts if both its frames do.
        threshold: IOD per frame below which a curve stands still.

    Returns:
        0..1; NaN without a transition within speech.
    """
    change = curves.reshape(len(curves), -1).diff(dim=0).abs().amax(-1)
    within = speech[1:].bool() & speech[:-1].bool()
    return float((change[within] < threshold).double().mean())


def closure_recall(
    aperture: Tensor, closures: Sequence[Span], fps: float, reach_s: float = 0.0, share: float = 0.25
) -> float:
    """Share of the labial closures (p, b, m) in which the lips meet.

    They meet when the least aperture from `reach_s` before the phone to `reach_s` after it lies in the lowest `share`
    of the clip's own range, from its 2nd to its 95th percentile. The range makes it independent of the tracker's bias
    and of how wide a person opens; a mouth that hardly moves is not meant to be judged by it.

    Args:
        aperture: [T] IOD.
        closures: start and end in seconds of each p, b and m.
        fps: frames per second of the aperture.
        reach_s: what the phones' borders may be wrong by, beyond half a frame.
        share: of the range.

    Returns:
        0..1; NaN without a closure.
    """
    low, high = torch.quantile(aperture.double(), aperture.new_tensor((0.02, 0.95), dtype=torch.float64))
    limit = low + share * (high - low)
    # frame t shows the time (t + 0.5) / fps
    time = (torch.arange(len(aperture)) + 0.5) / fps
    half = 0.5 / fps  # so that each span holds a frame
    spans = [(time >= start - reach_s - half) & (time <= end + reach_s + half) for start, end in closures]
    met = [bool(aperture[span].amin() <= limit) for span in spans if span.any()]
    return sum(met) / len(met) if met else float("nan")


def sync_offset(generated: Tensor, reference: Tensor, reach: int = 12) -> int:
    """Frames by which a curve [T] lags the reference [T]: where their correlation over ±reach frames is largest.

    Positive is late. At least 2 · reach frames must remain in common.
    """
    _check_pair(generated, reference)
    if len(reference) < 3 * reach:
        raise ValueError(f"{len(reference)} frames are too few to look {reach} frames around: {3 * reach} are needed")
    return max(range(-reach, reach + 1), key=lambda lag: (lag_correlation(generated, reference, lag), -abs(lag)))


def lag_correlation(generated: Tensor, reference: Tensor, lag: int) -> float:
    """Correlation of a curve [T] with the reference [T] `lag` frames earlier."""
    count = len(reference) - abs(lag)
    return pearson(generated[max(lag, 0) :][:count], reference[max(-lag, 0) :][:count])


def mouth_distance(generated: Tensor, reference: Tensor) -> float:
    """M-LMD: mean distance in IOD of the 40 lip landmarks of two clips, frame by frame.

    Before, each mouth is centred, scaled by its clip's inter-ocular distance and turned until the eyes are level, so
    that head motion in the plane, place and size do not count (Chen et al. 2018 centre it only).

    Args:
        generated: [T, 468 or 478, 2 or 3] px.
        reference: the same of the real clip.
    """
    _check_pair(generated, reference)
    return float((_mouth_shape(generated) - _mouth_shape(reference)).norm(dim=-1).mean())


def _mouth_shape(landmarks: Tensor) -> Tensor:
    """[T, 40, 2] the lips in IOD, centred and upright."""
    lips = landmarks[:, list(LIPS), :2]
    axes = torch.stack(_upright(landmarks), -1)  # [T, 2, 2], columns
    return (lips - lips.mean(1, keepdim=True)) @ axes / inter_ocular(landmarks)


def _check_pair(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"curves of one length are compared; got {list(a.shape)} and {list(b.shape)}")
