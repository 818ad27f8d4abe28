"""Curve files: named expression curves and head motion in .npz, .json or Live Link Face .csv.

Arrays of an .npz, and keys of a .json: `coefficients [T, E]` with `names [E]`, `lip_offsets [T, L, 3]` model units,
`rotation [T, 3]` rad, `translation [T, 3]` model units, `fps`. Either half, expression or head motion, may be absent.
`neutral_coefficients [E]` are the values at which the portrait's own face does not change; an empty array means a
relaxed, closed mouth. Without it, the first frame is neutral: the portrait then moves by how much the curves change.
"""

from __future__ import annotations

import json
import logging
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import CurveFileError, MismatchError, OutputError
from ..files import existing_file, whole_file
from ..structures import ARKIT_NAMES, Expression, HeadMotion
from ..time_grid import check_fps
from .head_pose import still_pose
from .live_link import read_live_link, write_live_link

SUFFIXES = (".npz", ".csv", ".json")
LARGEST = 10_000  # no curve comes near it, and far larger ones overflow in the geometry of the mesh

logger = logging.getLogger("vividtalk")


@dataclass(frozen=True, eq=False, slots=True)
class Curves:
    """What a curve file holds: expression, head motion, or both, with equal length and frame rate."""

    expression: Expression | None
    pose: HeadMotion | None

    def __post_init__(self) -> None:
        if self.expression is None and self.pose is None:
            raise MismatchError("there are no curves: give an expression, a head motion, or both.")
        if self.expression is None or self.pose is None:
            return
        frames, rates = (self.expression.frame_count, self.pose.frame_count), (self.expression.fps, self.pose.fps)
        if frames[0] != frames[1] or abs(rates[0] - rates[1]) > 1e-3:
            raise MismatchError(
                f"expression and head motion must have one length and fps; got {frames[0]} frames at {rates[0]:g} fps "
                f"and {frames[1]} at {rates[1]:g}",
                advice=("length",) if frames[0] != frames[1] else ("rate",),
            )

    @property
    def halves(self) -> list[Expression | HeadMotion]:
        """Those of the two that the file holds, at least one."""
        return [half for half in (self.expression, self.pose) if half is not None]

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.halves[0].fps

    @property
    def frame_count(self) -> int:
        """T."""
        return self.halves[0].frame_count


def read_curves(path: str | Path, lip_vertices: int | None = None, fps: float | None = None) -> Curves:
    """Read a curve file.

    Args:
        path: .npz, .json or .csv (Live Link Face).
        lip_vertices: L of the head model that will be driven; a file without lip offsets gets zeros of this many, a
            file with another number is an error. None takes what the file has.
        fps: for files without a frame rate; a rate in the file takes precedence.

    Raises:
        MissingFileError: there is no such file.
        CurveFileError: arrays are missing, have wrong shapes, unknown names, NaN, or the file is damaged.
        SettingsError: the frame rate is out of range.
    """
    path = existing_file(path, "curve file")
    if path.suffix.lower() not in SUFFIXES:
        raise CurveFileError(f"'{path.name}' is not a curve file; its ending must be one of {', '.join(SUFFIXES)}.")
    arrays = {".npz": read_npz, ".json": _read_json, ".csv": read_live_link}[path.suffix.lower()](path)
    if "fps" not in arrays and fps is None:
        raise CurveFileError(f"'{path.name}' has no frame rate: there is no 'fps' in it; give one.")
    rate = check_fps(_one_number(path.name, arrays.get("fps", fps)))
    if "coefficients" not in arrays and "rotation" not in arrays:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise CurveFileError(f"'{path.name}' has neither 'coefficients' nor 'rotation'; found {found}.")
    expression = _expression(path.name, arrays, rate, lip_vertices) if "coefficients" in arrays else None
    pose = _pose(path.name, arrays, rate) if "rotation" in arrays else None
    if expression is not None and pose is not None and expression.frame_count != pose.frame_count:
        counts = f"{expression.frame_count} frames of coefficients and {pose.frame_count} of rotation"
        raise CurveFileError(f"'{path.name}' has {counts}; they must be equal.")
    return Curves(expression, pose)


def fill_in(curves: Curves, lip_vertices: int) -> tuple[Expression, HeadMotion]:
    """Both halves; an absent one becomes the portrait's own expression (zeros [T, E]) or a head that does not move."""
    expression, pose, frames = curves.expression, curves.pose, curves.frame_count
    if expression is None:
        zeros, lips = torch.zeros(frames, len(ARKIT_NAMES)), torch.zeros(frames, lip_vertices, 3)
        expression = Expression(zeros, lips, curves.fps, zeros[0], lips[0])
    return expression, still_pose(frames, curves.fps) if pose is None else pose


def write_curves(
    path: str | Path,
    expression: Expression | None = None,
    pose: HeadMotion | None = None,
    vertices_2d: Tensor | None = None,
    landmarks_2d: Tensor | None = None,
) -> None:
    """Write a curve file, whole or not at all.

    Args:
        path: .npz or .json keep everything; .csv (Live Link Face) has no lip offsets, no translation and no neutral.
        expression: T frames, or None for a file of head motion alone.
        pose: T frames of head motion, or None.
        vertices_2d: [T, V, 2] px of the tracked video, .npz only.
        landmarks_2d: [T, 478, 2] px of the tracked video, .npz only.

    Raises:
        OutputError: the ending is none of these.
        MismatchError: there is neither expression nor head motion, or they differ in length or frame rate.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"cannot write '{path.name}': the ending must be one of {', '.join(SUFFIXES)}.")
    curves = Curves(expression, pose)
    extra = {"vertices_2d": vertices_2d, "landmarks_2d": landmarks_2d}
    arrays = _arrays(curves) | {k: v.cpu().numpy() for k, v in extra.items() if v is not None}
    with whole_file(path) as part:
        if path.suffix.lower() == ".npz":
            # an open file and not its name: numpy would add .npz to the temporary name
            with part.open("wb") as stream:
                # keys are arguments here, and numpy has one of its own: without types, mypy takes each for it
                np.savez_compressed(stream, **cast(dict[str, Any], arrays))
        elif path.suffix.lower() == ".json":
            # the points of a tracked video are large, and as text several times larger
            tables = {k: np.asarray(v).tolist() for k, v in arrays.items() if k not in extra}
            part.write_text(json.dumps(tables), encoding="utf-8")
        else:
            write_live_link(part, arrays)


def _arrays(curves: Curves) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file by their keys, with the shapes that the module's docstring gives."""
    arrays: dict[str, npt.NDArray[Any]] = {"fps": np.array(curves.fps, np.float64)}
    expression, pose = curves.expression, curves.pose
    if expression is not None:
        arrays |= {
            "coefficients": expression.coefficients.cpu().numpy(),
            "names": np.array(ARKIT_NAMES),
            "lip_offsets": expression.lip_offsets.cpu().numpy(),
        }
        if expression.baseline == "rest":
            # a file has no key for the baseline: an empty neutral means "rest"
            arrays["neutral_coefficients"] = np.zeros(0, np.float32)
        else:
            arrays["neutral_coefficients"] = expression.neutral_coefficients.cpu().numpy()
            arrays["neutral_lip_offsets"] = expression.neutral_lip_offsets.cpu().numpy()
    if pose is not None:
        arrays |= {"rotation": pose.rotation.cpu().numpy(), "translation": pose.translation.cpu().numpy()}
    return arrays


# What numpy and zipfile raise for a damaged archive: RuntimeError for one with a password or an unknown compression,
# those of Python's own parser for the header of an array.
_UNREADABLE = (
    ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error, SyntaxError, tokenize.TokenError
)  # fmt: skip


def read_npz(path: Path) -> dict[str, Any]:
    """The arrays [...] of an .npz by their names, never pickles; CurveFileError if it is damaged or none."""
    # numpy reads other formats too whatever the ending, and advises pickle, which could execute code, for the rest
    if not zipfile.is_zipfile(path):
        raise CurveFileError(f"'{path.name}' is not an .npz file, or only a part of one ({path.stat().st_size} bytes).")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except _UNREADABLE as error:
        raise CurveFileError(f"'{path.name}' is not a readable .npz file of plain arrays ({error}).") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        tables = json.loads(path.read_text(encoding="utf-8"))
        arrays = {key: np.asarray(value) for key, value in tables.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise CurveFileError(f"'{path.name}' is not a JSON object of number tables ({error}).") from error
    if "lip_offsets" in arrays and arrays["lip_offsets"].size == 0:  # JSON keeps only [T, 0] of [T, 0, 3]
        arrays["lip_offsets"] = np.zeros((arrays["lip_offsets"].shape[0], 0, 3), np.float32)
    return arrays


def _expression(name: str, arrays: Mapping[str, Any], fps: float, lip_vertices: int | None) -> Expression:
    """Coefficients [T, E] and lip offsets [T, L, 3] of the file, with the neutral that it gives or its first frame."""
    coefficients = _numbers(name, arrays, "coefficients", (None, None))
    # programs order blendshapes differently: without names a column could be any of them
    if "names" not in arrays:
        raise CurveFileError(f"'{name}' has coefficients but no 'names' for their columns.")
    names = [str(column) for column in np.atleast_1d(arrays["names"])]
    coefficients = _by_name(name, coefficients, names)
    lips = _lips(name, arrays, len(coefficients), lip_vertices)
    expression = Expression(coefficients, lips, fps, coefficients[0].clone(), lips[0].clone())
    if "neutral_coefficients" not in arrays:
        return expression
    neutral = _numbers(name, arrays, "neutral_coefficients", (None,))
    if not len(neutral):
        return Expression.from_rest(coefficients, lips, fps)
    neutral = _by_name(name, neutral[None], names)[0]
    neutral_lips = torch.zeros_like(lips[0])
    if "neutral_lip_offsets" in arrays:
        neutral_lips = _numbers(name, arrays, "neutral_lip_offsets", tuple(lips.shape[1:]))
    return replace(expression, neutral_coefficients=neutral, neutral_lip_offsets=neutral_lips)


def _pose(name: str, arrays: Mapping[str, Any], fps: float) -> HeadMotion:
    """Rotation [T, 3] and translation [T, 3] of the file; without a translation the head turns in place."""
    rotation = _numbers(name, arrays, "rotation", (None, 3))
    if "translation" not in arrays:
        return HeadMotion(rotation, torch.zeros_like(rotation), fps)
    return HeadMotion(rotation, _numbers(name, arrays, "translation", (len(rotation), 3)), fps)


def _lips(name: str, arrays: Mapping[str, Any], frames: int, lip_vertices: int | None) -> Tensor:
    """Lip offsets [T, L, 3] of the file, zeros where it has none."""
    if "lip_offsets" not in arrays:
        return torch.zeros(frames, lip_vertices or 0, 3)
    lips = _numbers(name, arrays, "lip_offsets", (frames, None, 3))
    if lip_vertices is not None and lips.shape[1] == 0:
        return torch.zeros(frames, lip_vertices, 3)
    if lip_vertices is not None and lips.shape[1] != lip_vertices:
        raise CurveFileError(
            f"the lip offsets of '{name}' are for {lips.shape[1]} vertices, this head model has {lip_vertices}."
        )
    return lips


def _one_number(name: str, value: Any) -> float:
    """The frame rate of a file, which may have the shape [] or [1], as a number or as text."""
    array = np.asarray(value)
    try:
        # text, because JSON that was written by hand often has its numbers in quotes
        return float(array.astype(str).reshape(()).item())
    except ValueError:
        found = f"{array.dtype} {list(array.shape)}" if array.size > 1 else repr(array.tolist())
        raise CurveFileError(f"'fps' of '{name}' must be one number; got {found}.") from None


def _numbers(name: str, arrays: Mapping[str, Any], key: str, shape: tuple[int | None, ...]) -> Tensor:
    """An array of the file as float32, or what is wrong with it; None in `shape` is any size: (None, 3) is [T, 3]."""
    array = np.asarray(arrays[key])
    needed = f"[{', '.join('any' if size is None else str(size) for size in shape)}]"
    fits = array.ndim == len(shape) and all(s in (None, size) for s, size in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "iuf":
        raise CurveFileError(f"'{key}' of '{name}' must be numbers {needed}; got {array.dtype} {list(array.shape)}.")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise CurveFileError(f"'{key}' of '{name}' has {bad} of {array.size} values that are NaN or infinite.")
    large = int((np.abs(array.astype(np.float64)) > LARGEST).sum())
    if large:
        raise CurveFileError(
            f"'{key}' of '{name}' has {large} of {array.size} values beyond ±{LARGEST:,}; coefficients are about "
            "0 to 1, rotations in radians, lengths in decimetres."
        )
    if len(shape) > 1 and len(array) == 0:
        raise CurveFileError(f"'{key}' of '{name}' has 0 frames.")
    return torch.from_numpy(array.astype(np.float32))


def _by_name(name: str, coefficients: Tensor, names: list[str]) -> Tensor:
    """Columns [T, K] put in the order of ARKIT_NAMES [T, E]; what the file lacks is 0."""
    if len(names) != coefficients.shape[1]:
        raise CurveFileError(f"'{name}' has {len(names)} names for {coefficients.shape[1]} columns of coefficients.")
    unknown = [column for column in names if column not in ARKIT_NAMES]
    twice = sorted({column for column in names if names.count(column) > 1})
    if unknown or twice:
        found = f"names that are no ARKit blendshape: {', '.join(unknown)}" if unknown else f"{', '.join(twice)} twice"
        raise CurveFileError(f"'{name}' has {found}.")
    missing = [known for known in ARKIT_NAMES if known not in names]
    if missing:
        # no error, because older recorders have 51 blendshapes, without tongueOut
        logger.warning("'%s' has no %s: taken as 0.", name, ", ".join(missing))
    ordered = coefficients.new_zeros(len(coefficients), len(ARKIT_NAMES))
    ordered[:, [ARKIT_NAMES.index(column) for column in names]] = coefficients
    return ordered
