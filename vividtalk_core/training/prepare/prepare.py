"""A folder of videos becomes motion shards, with a report of what was left out and why."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from ...errors import CurveFileError, DatasetError, MediaError, MissingFileError, NoFaceError, SettingsError
from ...head.morphable import load_morphable
from ...hub import resolve_weights
from ...progress import Progress
from ...structures import MorphableModel
from ..dataset.layout import TRACKS, refusal_path, shard_path, track_path
from ..dataset.motion_shard import FPS, Shard, write_shard
from .av_offset import LagSettings, shift_of
from .calibration import CalibrationSettings, Neutral, calibrate, closed_frames, lip_basis, neutral_face, typical_face
from .clips import Clip, find_clips
from .curve_sets import observe_curves
from .frame_filter import FrameSettings
from .observation import Observation, aligned_sound, lag_of, observe_video
from .report import ClipReport, Report
from .tracks import read_track, track_clips

log = logging.getLogger("vividtalk")

# reasons to leave out one clip; anything else ends the preparation
CLIP_ERRORS = (NoFaceError, MediaError, CurveFileError, DatasetError, MissingFileError, SettingsError)


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """Which clips are kept, and how they are calibrated."""

    least_s: float = 1.0  # of good frames in a clip
    least_good: float = 0.5  # share of good frames in a clip
    track: bool = True  # off: use only clips that have a track already
    frames: FrameSettings = field(default_factory=FrameSettings)
    lag: LagSettings = field(default_factory=LagSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)


def prepare(
    folder: str | Path,
    out: str | Path,
    workers: int = 1,
    progress: Progress | None = None,
    settings: PrepareSettings = PrepareSettings(),
) -> Report:
    """Make shards of all clips of a folder; what an earlier run has tracked is not tracked again.

    Args:
        folder: of videos and curve sets, with or without a manifest.csv (see `clips.find_clips`).
        out: gets tracks/, clips/, report.json and report.csv.
        workers: processes that track.
        progress: called as clips are tracked, then as they are written; finished clips stay when it cancels.
        settings: which clips are kept.

    Raises:
        MissingFileError: there is no such folder.
        DatasetError: the folder holds no clips, or its manifest is wrong.
    """
    folder, out = Path(folder), Path(out)
    clips = find_clips(folder)
    steps = _Steps(progress, 2 * len(clips))
    (out / TRACKS).mkdir(parents=True, exist_ok=True)
    _track_missing(clips, out, workers, settings.track, steps)
    model = load_morphable(resolve_weights("embedded").file("head.safetensors"))
    people: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        people[clip.identity].append(clip)
    rows = [row for same in people.values() for row in _prepare_person(same, out, model, settings, steps)]
    report = Report(tuple(sorted(rows, key=lambda row: row.file)))
    report.write(out)
    return report


class _Steps:
    """Counts finished steps and reports them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def add(self, count: int = 1) -> None:
        self.done += count
        if self.progress is not None and count:
            self.progress(self.done, self.total, None)


def _track_missing(clips: list[Clip], out: Path, workers: int, track: bool, steps: _Steps) -> None:
    paths = {clip.path: track_path(out, clip.name) for clip in clips if clip.sound is None and clip.path.is_file()}
    # A refusal is kept like a track, so that a video without a face is not tried again at every run.
    done = {path for path in paths.values() if path.is_file() or refusal_path(path).is_file()}
    jobs = [(video, path) for video, path in paths.items() if path not in done] if track else []
    steps.add(len(clips) - len(jobs))
    for video, reason in track_clips(jobs, workers):
        if reason:
            log.warning("%s cannot be tracked: %s", video.name, reason)
        steps.add()


@dataclass(frozen=True, eq=False, slots=True)
class _Candidate:
    """A clip that may become a shard."""

    clip: Clip
    row: ClipReport
    observed: Observation
    closed: Tensor | None  # [T] bool frames with closed lips, None where there are too few


def _prepare_person(
    clips: list[Clip], out: Path, model: MorphableModel, settings: PrepareSettings, steps: _Steps
) -> Iterator[ClipReport]:
    """Write the shards of one identity; a report row for each of its clips, in any order."""
    basis = lip_basis(model)
    # Clips in which the lips never close need the speaker's neutral face of the others, so they are written last. The
    # others are written at once, to hold few clips in memory.
    waiting: list[_Candidate] = []
    neutrals: list[Neutral] = []
    for clip in clips:
        one = _candidate(clip, out, model, settings)
        if isinstance(one, _Candidate) and one.closed is None:
            waiting.append(one)
            continue
        if isinstance(one, _Candidate):
            neutrals.append(neutral_face(one.observed.coefficients[one.closed], one.observed.lip_offsets[one.closed]))
            one = _write(one, neutrals[-1], "clip", basis, out)
        yield _finished(one, clip, out, steps)
    shared = typical_face(neutrals) if neutrals else None
    for one in waiting:
        reason = "lips never close: in no clip of this person is there a frame to calibrate on"
        row = _write(one, shared, "identity", basis, out) if shared else replace(one.row, reason=reason)
        yield _finished(row, one.clip, out, steps)


def _finished(row: ClipReport, clip: Clip, out: Path, steps: _Steps) -> ClipReport:
    if row.reason:
        # a shard of an earlier run with other settings
        shard_path(out, clip.name).unlink(missing_ok=True)
    steps.add()
    return row


def _candidate(clip: Clip, out: Path, model: MorphableModel, settings: PrepareSettings) -> _Candidate | ClipReport:
    """The clip as observed, or the report of why it is left out."""
    row = ClipReport(clip.file, clip.identity, clip.split)
    try:
        observed = _observe(clip, out, model, settings)
    except CLIP_ERRORS as error:
        return replace(row, reason=str(error))
    # The lag is measured before anything is left out, so that the report has it for every clip.
    valid, lag = observed.valid, lag_of(observed, settings.lag)
    row = replace(
        row,
        frames=len(valid),
        good_frames=int(valid.sum()),
        bad_frames={why: int(bad.sum()) for why, bad in observed.bad.items() if bad.any()},
        has_sound=lag is not None,
        lag=lag.frames if lag else None,
        lag_z=round(lag.z, 2) if lag else 0.0,
    )
    row = replace(row, reason=_too_little(row, settings))
    if lag is not None and not row.reason:
        shift, reason = shift_of(lag, settings.lag)
        row = replace(row, shifted=shift, reason=reason)
    if row.reason:
        return row
    return _Candidate(clip, row, observed, closed_frames(observed.aperture, valid, settings.calibration))


def _too_little(row: ClipReport, settings: PrepareSettings) -> str:
    """Why the clip is too short, or ""."""
    least = settings.least_s * FPS
    if row.frames < least:
        return f"too short: {row.frames / FPS:.1f} s"
    if row.good_frames < max(least, settings.least_good * row.frames):
        return f"too few good frames: {row.good_frames} of {row.frames}"
    return ""


def _observe(clip: Clip, out: Path, model: MorphableModel, settings: PrepareSettings) -> Observation:
    if not clip.path.is_file():
        raise MissingFileError(f"no such file: {clip.path}")
    if clip.sound is not None:
        return _without_wrong_sound(clip, observe_curves(clip.path, clip.sound, model))
    path = track_path(out, clip.name)
    refusal = refusal_path(path)
    if not path.is_file():
        reason = refusal.read_text(encoding="utf-8") if refusal.is_file() else "it has not been tracked yet"
        raise DatasetError(f"no track: {reason}")
    return _without_wrong_sound(clip, observe_video(clip.path, read_track(path), model, settings.frames))


def _without_wrong_sound(clip: Clip, observed: Observation) -> Observation:
    """The observation without its sound where the manifest says that the sound is not of this picture."""
    return replace(observed, sound=observed.sound[:0]) if clip.silent else observed


def _write(one: _Candidate, neutral: Neutral, rest: str, basis: Tensor, out: Path) -> ClipReport:
    """Write the shard of a clip, calibrated with the basis [E, L, 3]; its report."""
    observed, clip = one.observed, one.clip
    coefficients, lip_offsets = calibrate(observed.coefficients, observed.lip_offsets, neutral, basis)
    # Calibration moves a difference into the lip offsets; where none were observed they stay zero and unknown.
    lip_offsets = lip_offsets if observed.has_offsets else torch.zeros_like(lip_offsets)
    shard = Shard(
        name=clip.name,
        identity=clip.identity,
        split=clip.split,
        licence=clip.licence,
        lag_frames=one.row.shifted,
        has_pose=observed.has_pose,
        has_offsets=observed.has_offsets,
        known=observed.known,
        coefficients=coefficients,
        lip_offsets=lip_offsets.half(),
        rotation=observed.rotation,
        translation=observed.translation,
        neutral_coefficients=neutral.coefficients,
        neutral_lip_offsets=neutral.lip_offsets,
        aperture=observed.aperture,
        width=observed.width,
        upper_face=observed.upper_face,
        valid=observed.valid.to(torch.uint8),
        id_coefficients=observed.id_coefficients,
        waveform=aligned_sound(observed.sound, len(coefficients), one.row.shifted),
    )
    write_shard(shard_path(out, clip.name), shard)
    return replace(one.row, rest=rest)
