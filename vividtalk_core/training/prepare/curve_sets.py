"""Captured or animated curves with their sound, read like tracks of a video.

Three forms: Live Link Face .csv, curve files of this pack (.npz, .json), and the .npz of a facial rig, `weights
[T, K]` with `names [K]` and `fps`, as the FACEGOOD rig is published. A coefficient that never moves is not counted as
observed. The sound is taken to begin with the first frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...audio.encoder import mel_position
from ...audio.mel import log_mel
from ...audio.speech import analyse
from ...audio.waveform import analysis_gain, read_audio
from ...errors import CurveFileError
from ...eval.lips import pearson
from ...head.mouth_shape import lip_curves
from ...head.upper_face import upper_face_of_coefficients
from ...motion.files import read_curves, read_npz
from ...structures import ARKIT_NAMES, Expression, HeadMotion, MorphableModel
from ...time_grid import check_fps, sample_rows
from .observation import Observation, retimed, sound_of

# ARKit name → columns of the rig whose mean it is. Columns of the rig without a certain counterpart (oh, tooth,
# chinRaise) are left out.
RIG = {
    "jawOpen": ("mouth_stretch_c",),
    "mouthFunnel": ("mouth_funnel_dl", "mouth_funnel_dr", "mouth_funnel_ul", "mouth_funnel_ur"),
    "mouthPucker": ("mouth_pucker_l", "mouth_pucker_r"),
    "mouthRollLower": ("mouth_suck_dl", "mouth_suck_dr"),
    "mouthRollUpper": ("mouth_suck_ul", "mouth_suck_ur"),
    "mouthSmileLeft": ("mouth_lipCornerPull_l",),
    "mouthSmileRight": ("mouth_lipCornerPull_r",),
    "mouthStretchLeft": ("mouth_lipStretch_l",),
    "mouthStretchRight": ("mouth_lipStretch_r",),
    "mouthLowerDownLeft": ("mouth_lowerLipDepress_l",),
    "mouthLowerDownRight": ("mouth_lowerLipDepress_r",),
    "mouthUpperUpLeft": ("mouth_upperLipRaise_l",),
    "mouthUpperUpRight": ("mouth_upperLipRaise_r",),
    "mouthPressLeft": ("mouth_press_l",),
    "mouthPressRight": ("mouth_press_r",),
}
JAW = RIG["jawOpen"][0]
# Offsets between names and columns that are tried, the likely ones first.
SHIFTS = (0, 1, -1, 2, -2)
# Standard deviation of a column that is used at all: below it is rounding of a column that was not animated.
LEAST_MOTION = 1e-3
# Correlation of a jaw with the loudness of its speech; a wrong column seldom follows the loudness.
LEAST_ENERGY = 0.4
# Correlation of left and right, mean over all columns that move, because speech is nearly symmetric.
LEAST_PAIR = 0.8


def observe_curves(path: Path, sound: Path, model: MorphableModel) -> Observation:
    """A curve file and its sound, at 25 frames per second.

    Args:
        path: of a form named above.
        sound: any format.
        model: the 3DMM, on whose mean head aperture and width are measured.

    Raises:
        CurveFileError: no expression in the file, or names that fit no columns of the rig.
    """
    mono = sound_of(read_audio(sound))
    rig = _read_rig(path)
    if rig is None:
        motion = read_curves(path)
        expression, pose = motion.expression, motion.pose
        if expression is None:
            raise CurveFileError(f"{path.name} has a head pose, but no coefficients to learn a mouth from.")
    else:
        weights, names, fps = rig
        expression, pose = _from_rig(path.name, weights, names, fps, mono), None
    return retimed(_observation(expression, pose, mono, model), expression.fps)


def _observation(expression: Expression, pose: HeadMotion | None, mono: Tensor, model: MorphableModel) -> Observation:
    """Curves of T frames and their sound, of shape [N], as an observation."""
    coefficients, lips = expression.coefficients, expression.lip_offsets
    has_offsets = lips.shape[1] == len(model.lip_vertices) and bool(lips.any())
    if not has_offsets:
        lips = torch.zeros(len(coefficients), len(model.lip_vertices), 3)
    # the lips of the mean head are a little open: apertures are counted from there, so that closed lips are 0
    rest = torch.zeros(1, len(ARKIT_NAMES)), torch.zeros(1, *lips.shape[1:])
    closed, _ = lip_curves(Expression.from_rest(*rest, expression.fps), model)
    aperture, width = lip_curves(Expression.from_rest(coefficients, lips, expression.fps), model)
    moving = (coefficients.std(0) > LEAST_MOTION).tolist()
    still = torch.zeros(len(coefficients), 3)
    return Observation(
        coefficients=coefficients,
        lip_offsets=lips,
        rotation=still if pose is None else pose.rotation,
        translation=still if pose is None else pose.translation,
        aperture=aperture - closed,
        width=width,
        upper_face=upper_face_of_coefficients(coefficients, model),
        bad={},
        id_coefficients=torch.zeros(len(model.id_basis)),
        sound=mono,
        has_pose=pose is not None,
        has_offsets=has_offsets,
        known=tuple(name for name, moves in zip(ARKIT_NAMES, moving, strict=True) if moves),
    )


def _read_rig(path: Path) -> tuple[Tensor, list[str], float] | None:
    """Weights [T, K], their names and rate, if the file is a rig's."""
    if path.suffix.lower() != ".npz":
        return None
    arrays = read_npz(path)
    if "weights" not in arrays:
        return None
    missing = [key for key in ("names", "fps") if key not in arrays]
    if missing:
        raise CurveFileError(f"'{path.name}' has weights but no {' and no '.join(missing)}.")
    weights, names, fps = (arrays[key] for key in ("weights", "names", "fps"))
    if weights.ndim != 2 or weights.shape[1] != len(names) or not np.isfinite(weights).all():
        expected = f"finite weights [T, {len(names)}], a column per name"
        raise CurveFileError(f"{path.name} must have {expected}; got {list(weights.shape)}.")
    return torch.from_numpy(weights.astype(np.float32)), [str(name) for name in names], check_fps(float(fps))


def _from_rig(file: str, weights: Tensor, names: list[str], fps: float, mono: Tensor) -> Expression:
    """The mouth of a rig, weights [T, K], as ARKit coefficients."""
    columns = name_columns(file, weights, names, fps, mono)
    coefficients = torch.zeros(len(weights), len(ARKIT_NAMES))
    for name, sources in RIG.items():
        coefficients[:, ARKIT_NAMES.index(name)] = torch.stack([columns[source] for source in sources]).mean(0)
    # No lip offsets: a rig of coefficients has none.
    return Expression.from_rest(coefficients.clamp(0, 1), torch.zeros(len(weights), 0, 3), fps)


def name_columns(file: str, weights: Tensor, names: list[str], fps: float, mono: Tensor) -> dict[str, Tensor]:
    """Name → column [T], at the offset that fits the motion of the columns.

    The names of the published rig are shifted by one against their columns. An offset is accepted where left and right
    move alike and the jaw follows the loudness of the speech; without sound none can be accepted.

    Args:
        file: for messages.
        weights: [T, K].
        names: K of them, those of `RIG` among them.
        fps: frames per second.
        mono: [N] at 16 kHz.
    """
    missing = sorted({source for sources in RIG.values() for source in sources} - set(names))
    if missing:
        raise CurveFileError(f"{file} has no columns {', '.join(missing)}: it is not the FACEGOOD rig.")
    level = loudness(mono, len(weights), fps) if len(mono) else torch.zeros(len(weights))
    found = []
    for shift in SHIFTS:
        columns = dict(zip(np.roll(names, shift).tolist(), weights.unbind(1), strict=True))
        jaw, pairs = pearson(columns[JAW], level), _pair_agreement(columns)
        # Both tests, because a wrong offset can pass one of them by chance.
        if jaw >= LEAST_ENERGY and pairs >= LEAST_PAIR:
            return columns
        found.append(f"{shift:+d}: jaw {jaw:.2f}, sides {pairs:.2f}")
    raise CurveFileError(
        f"the names of {file} fit its columns at no shift: the jaw's correlation with loudness must reach "
        f"{LEAST_ENERGY:g} and that of left and right {LEAST_PAIR:g}; found {'; '.join(found)}."
    )


def _pair_agreement(columns: Mapping[str, Tensor]) -> float:
    """Mean correlation of left and right columns, of shape [T], over the pairs of which one moves."""
    lefts = [name for sources in RIG.values() for name in sources if name.endswith("l")]
    pairs = [(columns[name], columns[f"{name[:-1]}r"]) for name in lefts]
    moving = [pair for pair in pairs if max(float(side.std()) for side in pair) > LEAST_MOTION]
    return sum(pearson(left, right) for left, right in moving) / max(1, len(moving))


def loudness(mono: Tensor, frames: int, fps: float) -> Tensor:
    """Loudness 0..1 of each frame, of shape [T], of speech of shape [N]."""
    level = analyse(log_mel(mono * analysis_gain(mono))).level
    return sample_rows(level[:, None], mel_position(frames, fps))[:, 0]
