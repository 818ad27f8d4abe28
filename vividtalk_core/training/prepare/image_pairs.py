"""Self-reenactment pairs: distant frames of one clip with their closed-form rendering, which stage 2 refines."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import DatasetError, MediaError, MissingFileError, NoFaceError, SettingsError
from ...face.align import cut_crop, to_crop
from ...face.fit import fit_face
from ...face.models import FaceModels, load_face_models
from ...geometry import pixel_centres, project
from ...head.drive import drive_mesh
from ...head.mouth_shape import aperture_of_landmarks
from ...mesh_to_video.backdrop import behind_person
from ...mesh_to_video.dense_motion import estimate_motion
from ...mesh_to_video.generator import paint_interior
from ...mesh_to_video.lip_maps import lip_points
from ...mesh_to_video.mirror import other_half
from ...mesh_to_video.ncc import render_ncc
from ...mesh_to_video.paint import paint_layer
from ...mesh_to_video.rasterizer import interpolate
from ...mesh_to_video.source_view import view_source
from ...motion.head_pose import relative_to_frame
from ...pixels import to_float
from ...progress import Progress
from ...structures import CROP, DenseMotion, Expression, FaceFit, HeadMotion, HeadPose, NccRender, SourceView
from ...video.reader import read_video
from ..dataset.image_shard import RUN, STEP_SIZE, is_current, make_pair_shard, write_pairs
from ..dataset.layout import PAIRS, pairs_path, shard_paths, track_path
from .clips import Clip, find_clips
from .frame_filter import FrameSettings, bad_frames
from .tracks import ClipTrack, read_track
from .workers import Cancelled, run_jobs

log = logging.getLogger("vividtalk")


@dataclass(frozen=True, slots=True)
class PairSettings:
    """Which frames of a clip become portraits, and which frames they are driven to."""

    sources: int = 4  # frames of a clip that serve as portrait
    runs: int = 6  # pairs of consecutive frames that each portrait is driven to
    nearest_s: float = 0.4  # least time between a portrait and a run: nearer frames are almost the same picture
    widest_deg: float = 35.0  # largest difference of the head angles of a pair; beyond it most of the face was hidden
    seed: int = 0  # of the choice of frames

    def __post_init__(self) -> None:
        if self.sources < 1 or self.runs < 1:
            raise SettingsError(f"sources and runs must be at least 1; got {self.sources} and {self.runs}")


def render_pairs(
    folder: str | Path,
    prepared: str | Path,
    workers: int = 1,
    progress: Progress | None = None,
    settings: PairSettings = PairSettings(),
) -> int:
    """Render the pairs of all tracked clips; those of an earlier run are kept, of an older format replaced.

    Args:
        folder: of the videos, as given to `prepare`.
        prepared: the folder that `prepare` made; gets pairs/.
        workers: processes, one thread each.
        progress: called after each clip.
        settings: which frames.

    Returns:
        The number of portraits that the folder holds now.

    Raises:
        MissingFileError: there is no such folder.
        DatasetError: the folder holds no clips, or none that `train prepare` has tracked.
    """
    prepared = Path(prepared)
    jobs = [
        (clip, prepared, settings)
        for clip in find_clips(folder)
        if clip.sound is None and track_path(prepared, clip.name).is_file()
    ]
    if not jobs:
        raise DatasetError(f"{prepared} holds no tracks of the videos in {folder}: run `train prepare` first.")
    (prepared / PAIRS).mkdir(exist_ok=True)
    with contextlib.closing(run_jobs(_render_clip, jobs, workers)) as rendering:
        for done, ((clip, _, _), reason) in enumerate(rendering, 1):
            if reason:
                log.warning("Pairs of %s are missing: %s", clip.file, reason)
            if progress is not None:
                progress(done, len(jobs), None)
    return len(shard_paths(prepared, PAIRS, "train pairs"))


Job = tuple[Clip, Path, PairSettings]


@functools.cache
def _models() -> FaceModels:
    """Loaded once in each process."""
    return load_face_models()


def _render_clip(job: Job, cancelled: Cancelled) -> str:
    """Write the missing pair shards of a clip; "" or the reason why some of them are missing."""
    clip, prepared, settings = job
    try:
        track = read_track(track_path(prepared, clip.name))
        chosen = choose_runs(track, settings, clip.name)
        names = {source: f"{clip.name}.{source:05d}" for source in chosen}
        missing = [source for source in chosen if not is_current(pairs_path(prepared, names[source]))]
        frames = list(read_video(clip.path, with_audio=False).frames) if missing else []
    except (DatasetError, MediaError, MissingFileError) as error:
        return str(error)
    # A video that was replaced after it was tracked would be paired with the wrong landmarks.
    if missing and len(frames) != len(track.coefficients):
        return f"the video has {len(frames)} frames and its track {len(track.coefficients)}: track it again"
    refused = ""
    for source in missing:
        if cancelled():
            break
        try:
            tensors = render_source(_models(), frames, track, source, chosen[source])
        except NoFaceError as error:
            refused = f"frame {source} cannot be a portrait: {error}"
            continue
        shard = make_pair_shard(names[source], clip.identity, clip.split, tensors)
        write_pairs(pairs_path(prepared, names[source]), shard)
    return refused


def choose_runs(track: ClipTrack, settings: PairSettings, name: str) -> dict[int, list[int]]:
    """First frames of the runs for each portrait; the same for the same seed and name.

    Raises:
        DatasetError: the clip has no two frames that are far enough apart.
    """
    bad = bad_frames(track, aperture_of_landmarks(track.landmarks), FrameSettings())
    good = ~torch.stack(list(bad.values())).any(0)
    begins = (good[:-1] & good[1:]).nonzero()[:, 0].tolist()
    # By the clip's name, so that adding or removing other clips does not change its pairs.
    rng = random.Random(f"{settings.seed}/{name}")
    portraits = _spread(begins, settings.sources, rng)
    nearest, widest = settings.nearest_s * track.fps, torch.pi / 180 * settings.widest_deg
    chosen = {}
    for source in portraits:
        turn = (track.rotation - track.rotation[source]).abs().amax(1)
        far = [frame for frame in begins if abs(frame - source) >= nearest and turn[frame] <= widest]
        if far:
            chosen[source] = _spread(far, settings.runs, rng)
    if not chosen:
        raise DatasetError(f"{len(begins)} good frames, none far enough from another")
    return chosen


def _spread(frames: list[int], count: int, rng: random.Random) -> list[int]:
    """A random frame of each of `count` equal parts of the list."""
    count = min(count, len(frames))
    edges = [len(frames) * part // max(1, count) for part in range(count + 1)]
    return [frames[rng.randrange(low, high)] for low, high in pairwise(edges)]


def render_source(
    models: FaceModels, frames: Sequence[Tensor], track: ClipTrack, source: int, runs: Sequence[int]
) -> dict[str, Tensor]:
    """The tensors of one `PairShard` by name, in the shapes that it states.

    Args:
        models: for the fit.
        frames: [3, H, W] uint8 each, all frames of the clip.
        track: of the clip.
        source: frame that is the portrait.
        runs: first frame of each run.

    Raises:
        NoFaceError: no face can be fitted in the portrait.
    """
    # Fitted as any portrait is at inference, instead of taking the track: the networks must meet the same errors.
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
        # Premultiplied colours: the upper layer over the lower one (Porter and Duff 1984).
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
        "scene": _in_runs(scene_layer(face, motion)),
        "paint": _in_runs(layer),
        "points": _in_runs(to_crop(F.pad(track.landmarks[driven], (0, 1)), face.crop)[..., :2]),
        "lips": _in_runs(lip_points(face.model, mesh.vertices)),
        "step": step,
        "step_mask": step_mask,
    }
    return {name: _compact(name, value) for name, value in tensors.items()}


def scene_layer(face: FaceFit, motion: DenseMotion) -> Tensor:
    """What lies over the warped portrait of T frames before anything is painted: mirrored cheek and backdrop.

    Returns:
        [T, 4, 256, 256] RGB in 0..1, not premultiplied, and alpha; the portrait's own colours where alpha is 0, so that
        augmentations of pictures can be applied to them.
    """
    layer = face.image.new_zeros(len(motion.flow), 4, CROP, CROP)  # premultiplied
    parts = []
    if motion.fill is not None:
        parts.append((other_half(face.image, motion.fill).clamp(0, 1), motion.fill.alpha))
    if motion.backdrop is not None:
        parts.append((behind_person(face.image, motion.backdrop), motion.backdrop.uncovered))
    for color, alpha in parts:
        layer = layer * (1 - alpha) + torch.cat((color * alpha, alpha), 1)
    color, alpha = layer[:, :3], layer[:, 3:]
    # an alpha that 8 bits round to 0 has no colour
    return torch.cat((torch.where(alpha > 0.5 / 255, color / alpha.clamp(min=0.5 / 255), face.image), alpha), 1)


def _compact(name: str, value: Tensor) -> Tensor:
    """A tensor of any shape [...]: motion as float16, points as float32, pictures and masks in 0..1 as uint8."""
    # Grid units are −2..2: half precision rounds small motion by far less than a pixel.
    if name in ("flow", "step"):
        return value.half()
    return value.float() if name.endswith(("points", "lips")) else (value.clamp(0, 1) * 255).round().to(torch.uint8)


def _in_runs(values: Tensor) -> Tensor:
    """[N·R, ...] to [N, R, ...]."""
    return values.reshape(-1, RUN, *values.shape[1:])


def _expression(track: ClipTrack, source: int, driven: Tensor) -> Expression:
    """The curves [T, E] of the driven frames, relative to those of the portrait."""
    lips = track.lip_offsets.float()
    coefficients = track.coefficients
    return Expression(coefficients[driven], lips[driven], track.fps, coefficients[source], lips[source])


def _motion(track: ClipTrack, source: int, driven: Tensor) -> HeadMotion:
    """The head of the driven frames as motion [T, 3] on top of the portrait's own pose."""
    motion = relative_to_frame(HeadPose(track.rotation, track.translation, track.fps), source)
    return HeadMotion(motion.rotation[driven], motion.translation[driven], track.fps)


def _with_mask(view: SourceView) -> Tensor:
    """[4, H, W] NCC and inner face of the portrait's own mesh."""
    render = render_ncc(view, view.mesh)
    return torch.cat((render.ncc, render.face_mask), 1)[0]


def _step(render: NccRender) -> tuple[Tensor, Tensor]:
    """The positions of each second frame's pixels in the first frame, [N, 128, 128, 2] grid units, and their mask.

    The mask [N, 1, 128, 128] is 1 where the position is known.
    """
    pixels = _in_runs(project(render.mesh.vertices)[..., :2])[:, 0]  # [N, V, 2] in the first frames
    fragments = render.fragments.frames(slice(1, None, RUN))
    attributes = torch.cat((pixels, render.view.regions.inner_face[None, :, None].expand(len(pixels), -1, 1)), -1)
    maps = interpolate(attributes, render.mesh.triangles, fragments)  # [N, H, W, 3]
    # The share of inner face is interpolated too: below 1 a pixel lies on its border, or outside.
    known = (maps[..., 2:] > 0.99).movedim(-1, 1).float()
    step = (maps[..., :2] - pixel_centres(CROP, CROP)).movedim(-1, 1) * known * (2 / CROP)
    small = (STEP_SIZE, STEP_SIZE)
    # A mean over known and unknown pixels is no position: known only where all four are.
    every = F.interpolate(known, size=small, mode="area") == 1
    return F.interpolate(step, size=small, mode="area").movedim(1, -1), every.float()
