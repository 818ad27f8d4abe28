"""Self-reenactment pairs: far frames of one clip, rendered in closed form, for stage 2 to improve on."""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...face.align import cut_crop, to_crop
from ...face.fit import fit_face
from ...face.models import FaceModels, load_face_models
from ...geometry import pixel_centres, project
from ...head.drive import drive_mesh
from ...head.mouth_shape import aperture_of_landmarks
from ...mesh_to_video.dense_motion import estimate_motion
from ...mesh_to_video.generator import paint_interior
from ...mesh_to_video.lip_maps import lip_points
from ...mesh_to_video.ncc import render_ncc
from ...mesh_to_video.paint import paint_layer
from ...mesh_to_video.rasterizer import interpolate
from ...mesh_to_video.source_view import view_source
from ...motion.head_pose import relative_to_frame
from ...pixels import to_float
from ...progress import Progress
from ...structures import CROP, Expression, HeadMotion, HeadPose, NccRender, SourceView
from ...video.reader import read_video
from ..dataset.image_shard import FOLDER, RUN, STEP_SIZE, PairShard, write_pairs
from .clips import Clip, find_clips
from .frame_filter import FrameSettings, bad_frames
from .tracks import ClipTrack, read_track

log = logging.getLogger("vividtalk")

TRACKS = "tracks"  # folder of a prepared folder


@dataclass(frozen=True, slots=True)
class PairSettings:
    """Which frames of a clip become portraits and what they are compared with."""

    sources: int = 4  # frames of a clip that serve as portrait
    runs: int = 6  # pairs of consecutive frames that each portrait is driven to
    nearest_s: float = 0.4  # a run begins at least so long before or after its portrait: near frames teach nothing
    widest_deg: float = 35.0  # between the heads of a pair; beyond it most of the face was hidden
    seed: int = 0


def render_pairs(
    folder: str | Path,
    prepared: str | Path,
    workers: int = 1,
    progress: Progress | None = None,
    settings: PairSettings = PairSettings(),
) -> int:
    """Render the pairs of all tracked clips; those of an earlier run are kept.

    Args:
        folder: of the videos, as given to `prepare`.
        prepared: the folder that `prepare` made; gets pairs/.
        workers: processes, one thread each.
        progress: called as progress(done, total, None) after each clip; may raise to cancel.
        settings: which frames.

    Returns:
        How many portraits there are now.

    Raises:
        FileNotFoundError: no such folder, no clips in it, or none that `prepare` has tracked.
    """
    prepared = Path(prepared)
    clips = [clip for clip in find_clips(folder) if clip.sound is None and _track_path(prepared, clip).is_file()]
    if not clips:
        raise FileNotFoundError(f"{prepared} holds no tracks of the videos in {folder}: run `prepare` first.")
    jobs = [(clip, prepared, settings) for clip in clips]
    for done, (clip, reason) in enumerate(_in_processes(jobs, workers), 1):
        if reason:
            log.warning("Pairs of %s are missing: %s", clip.file, reason)
        if progress is not None:
            progress(done, len(clips), None)
    return len(list((prepared / FOLDER).glob("*.safetensors")))


def _track_path(prepared: Path, clip: Clip) -> Path:
    return prepared / TRACKS / f"{clip.name}.npz"


Job = tuple[Clip, Path, PairSettings]


def _in_processes(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Clip, str]]:
    """Each clip with "" or the reason why it has no pairs."""
    if workers < 2:
        yield from map(_render_clip, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        try:
            yield from pool.map(_render_clip, jobs)
        finally:
            pool.shutdown(cancel_futures=True)


@functools.cache
def _models() -> FaceModels:
    """Loaded once in each process."""
    return load_face_models()


def _render_clip(job: Job) -> tuple[Clip, str]:
    clip, prepared, settings = job
    try:
        track = read_track(_track_path(prepared, clip))
        chosen = choose_runs(track, settings, clip.name)
        names = {source: f"{clip.name}.{source:05d}" for source in chosen}
        paths = {source: prepared / FOLDER / f"{name}.safetensors" for source, name in names.items()}
        wanted = [source for source in chosen if not paths[source].is_file()]
        frames = list(read_video(clip.path, with_audio=False).frames) if wanted else []
    except (ValueError, FileNotFoundError) as error:
        return clip, str(error)
    if wanted and len(frames) != len(track.coefficients):
        return clip, f"the video has {len(frames)} frames and its track {len(track.coefficients)}: track it again"
    refused = ""
    for source in wanted:
        try:
            tensors = render_source(_models(), frames, track, source, chosen[source])
        except ValueError as error:
            refused = f"frame {source} is no portrait: {error}"
            continue
        shard = PairShard(name=names[source], identity=clip.identity, split=clip.split, **tensors)
        write_pairs(paths[source], shard)
    return clip, refused


def choose_runs(track: ClipTrack, settings: PairSettings, name: str) -> dict[int, list[int]]:
    """First frames of the runs for each portrait; the same for the same seed and name.

    Raises:
        ValueError: the clip has no two frames that are far enough apart.
    """
    bad = bad_frames(track, aperture_of_landmarks(track.landmarks), FrameSettings())
    good = ~torch.stack(list(bad.values())).any(0)
    begins = (good[:-1] & good[1:]).nonzero()[:, 0].tolist()
    chance = random.Random(f"{settings.seed}/{name}")
    portraits = _spread(begins, settings.sources, chance)
    nearest, widest = settings.nearest_s * track.fps, torch.pi / 180 * settings.widest_deg
    chosen = {}
    for source in portraits:
        turn = (track.rotation - track.rotation[source]).abs().amax(1)
        far = [frame for frame in begins if abs(frame - source) >= nearest and turn[frame] <= widest]
        if far:
            chosen[source] = _spread(far, settings.runs, chance)
    if not chosen:
        raise ValueError(f"{len(begins)} good frames, none far enough from another")
    return chosen


def _spread(frames: list[int], count: int, chance: random.Random) -> list[int]:
    """One frame of each of `count` equal parts of the list."""
    count = min(count, len(frames))
    edges = [len(frames) * part // max(1, count) for part in range(count + 1)]
    return [frames[chance.randrange(low, high)] for low, high in pairwise(edges)]


def render_source(
    models: FaceModels, frames: Sequence[Tensor], track: ClipTrack, source: int, runs: Sequence[int]
) -> dict[str, Tensor]:
    """The tensors of one `PairShard`.

    Args:
        models: for the fit.
        frames: [3, H, W] uint8 each, all frames of the clip.
        track: of the clip.
        source: frame that is the portrait.
        runs: first frame of each run.

    Raises:
        ValueError: no face can be fitted in the portrait.
    """
    face = fit_face(models, to_float(frames[source][None]))
    view = view_source(face)
    driven = torch.tensor([frame + offset for frame in runs for offset in range(RUN)])
    mesh = drive_mesh(face, _expression(track, source, driven), _motion(track, source, driven))
    render = render_ncc(view, mesh)
    motion = estimate_motion(render)
    painted = paint_interior(render, motion)
    layer = torch.zeros(len(driven), 4, CROP, CROP)
    for paint in painted.paints:
        above = paint_layer(paint, CROP, CROP, 1.0)
        layer = layer * (1 - above[:, 3:]) + above
    step, step_mask = _step(render)
    real = torch.stack([cut_crop(to_float(frames[frame][None]), face.crop)[0] for frame in driven])
    tensors = {
        "source": face.image[0],
        "source_ncc": _with_mask(view),
        "source_points": face.landmarks[:, :2],
        "source_lips": lip_points(face.model, view.mesh.vertices)[0],
        "follow": (view.follow * view.border)[None],
        "target": _in_runs(real),
        "ncc": _in_runs(torch.cat((render.ncc, render.face_mask), 1)),
        "flow": _in_runs(motion.flow),
        "occlusion": _in_runs(motion.occlusion),
        "paint": _in_runs(layer),
        "points": _in_runs(to_crop(F.pad(track.landmarks[driven], (0, 1)), face.crop)[..., :2]),
        "lips": _in_runs(lip_points(face.model, mesh.vertices)),
        "step": step,
        "step_mask": step_mask,
    }
    return {name: _compact(name, value) for name, value in tensors.items()}


def _compact(name: str, value: Tensor) -> Tensor:
    """Any [...]: motion as float16, points as float32, pictures and masks in 0..1 as uint8."""
    if name in ("flow", "step"):
        return value.half()
    return value.float() if name.endswith(("points", "lips")) else (value.clamp(0, 1) * 255).round().to(torch.uint8)


def _in_runs(values: Tensor) -> Tensor:
    """[N·R, ...] to [N, R, ...]."""
    return values.unflatten(0, (-1, RUN))


def _expression(track: ClipTrack, source: int, driven: Tensor) -> Expression:
    """The curves of the driven frames [T], relative to those of the portrait."""
    lips = track.lip_offsets.float()
    coefficients = track.coefficients
    return Expression(coefficients[driven], lips[driven], track.fps, coefficients[source], lips[source])


def _motion(track: ClipTrack, source: int, driven: Tensor) -> HeadMotion:
    """The head of the driven frames [T] as motion on top of the portrait's own pose."""
    motion = relative_to_frame(HeadPose(track.rotation, track.translation, track.fps), source)
    return HeadMotion(motion.rotation[driven], motion.translation[driven], track.fps)


def _with_mask(view: SourceView) -> Tensor:
    """[4, H, W] NCC and inner face of the portrait's own mesh."""
    render = render_ncc(view, view.mesh)
    return torch.cat((render.ncc, render.face_mask), 1)[0]


def _step(render: NccRender) -> tuple[Tensor, Tensor]:
    """Where the pixels of each second frame were in the first [N, 128, 128, 2] grid units, and where that is known.

    The mask is [N, 1, 128, 128] bool.
    """
    pixels = project(render.mesh.vertices)[..., :2].unflatten(0, (-1, RUN))[:, 0]  # [N, V, 2] in the first frames
    fragments = render.fragments.frames(slice(1, None, RUN))
    attributes = torch.cat((pixels, render.view.regions.inner_face[None, :, None].expand(len(pixels), -1, 1)), -1)
    maps = interpolate(attributes, render.mesh.triangles, fragments)  # [N, H, W, 3]
    known = (maps[..., 2:] > 0.99).movedim(-1, 1).float()
    step = (maps[..., :2] - pixel_centres(CROP, CROP)).movedim(-1, 1) * known * (2 / CROP)
    small = (STEP_SIZE, STEP_SIZE)
    every = F.interpolate(known, size=small, mode="area") == 1
    return F.interpolate(step, size=small, mode="area").movedim(1, -1), every.float()
