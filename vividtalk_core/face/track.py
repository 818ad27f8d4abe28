"""Video to curves: one identity, one fixed crop, expression and head pose per frame."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sized
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import MediaError, NoFaceError, SettingsError
from ..geometry import project, rotation_angles, rotation_matrix
from ..head.morphable import landmark_positions, shape
from ..head.topology import LEFT_EYE_CORNERS, LEFT_LID_PAIRS, RIGHT_EYE_CORNERS, RIGHT_LID_PAIRS
from ..pixels import to_float
from ..progress import Progress
from ..structures import Crop, Expression, HeadPose, MorphableModel, check_shapes
from ..video.stream import frame_ranges
from .align import box_crop, from_crop, to_crop, to_pixel_centres
from .landmark_model import SolveSettings, landmark_model, observed_points
from .landmarks import region_of_detection, region_of_landmarks
from .models import FaceModels
from .offsets import lip_taper, offset_spread, vertex_offsets
from .solve import solve

log = logging.getLogger("vividtalk")

LIDS = (("eyeBlinkLeft", LEFT_LID_PAIRS, LEFT_EYE_CORNERS), ("eyeBlinkRight", RIGHT_LID_PAIRS, RIGHT_EYE_CORNERS))
CLOSED = 0.035  # gap over width of a closed eye in the landmark network's output
CHUNK = 32  # frames whose vertices are held at a time


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """Settings of `track_video`."""

    presence: float = 0.5  # of the landmark network, below which the face is detected again
    threshold: float = 0.5  # of the detector
    longest_gap_s: float = 0.5  # without a face, that is interpolated
    identity_frames: int = 40  # spread over the clip, from which the identity is estimated
    curve_window_s: float = 0.2  # of the quadratic that smooths expression and lips: a blink lasts 0.15 s
    pose_window_s: float = 0.36  # of the one that smooths the head, which is slower


@dataclass(frozen=True, eq=False, slots=True)
class Track:
    """The motion of one face through a clip of T frames."""

    expression: Expression  # neutral_* is the first frame; eyeBlink 1 is this person's own lids closed
    pose: HeadPose  # absolute
    vertices_2d: Tensor  # [T, V, 2] px of the video frame
    landmarks_2d: Tensor  # [T, 478, 2] px of the video frame, pixel centres at .5
    crop: Crop  # of the video frame, one for the whole clip
    id_coefficients: Tensor  # [I] α
    interpolated: tuple[int, ...]  # frames in which no face was found

    def __post_init__(self) -> None:
        check_shapes(
            coefficients=(self.expression.coefficients, "T E"),
            rotation=(self.pose.rotation, "T 3"),
            vertices_2d=(self.vertices_2d, "T V 2"),
            landmarks_2d=(self.landmarks_2d, "T 478 2"),
        )


def track_video(
    models: FaceModels,
    frames: Iterable[Tensor],
    fps: float,
    progress: Progress | None = None,
    settings: TrackSettings | None = None,
    total: int = 0,
) -> Track:
    """Track the largest face of a clip; landmarks and curves are kept, frames are not.

    Args:
        models: from `load_face_models`.
        frames: [3, H, W] each, uint8 or floating-point in 0..1, all of one size.
        fps: frames per second.
        progress: called after each frame.
        settings: thresholds and smoothing.
        total: number of frames for `progress`; 0 takes `len(frames)`, if they have one.

    Raises:
        MediaError: no frames, or frames of several sizes.
        NoFaceError: no face for longer than `longest_gap_s`.
        SettingsError: `fps` is not above 0.
    """
    settings = settings or TrackSettings()
    if not fps > 0:
        raise SettingsError(f"fps must be above 0; got {fps:g}")
    with torch.no_grad():
        landmarks, (height, width) = follow_landmarks(models, frames, progress, settings, total)
        landmarks, missing = fill_gaps(landmarks, fps, settings.longest_gap_s)
        crop = clip_crop(landmarks, height, width)
        points = to_crop(landmarks, crop)
        identity, expression, pose, vertices_2d = fit_clip(models.head, points, fps, settings)
    return Track(
        expression=expression,
        pose=pose,
        vertices_2d=from_crop(vertices_2d, crop),
        landmarks_2d=landmarks[..., :2],
        crop=crop,
        id_coefficients=identity,
        interpolated=missing,
    )


def follow_landmarks(
    models: FaceModels,
    frames: Iterable[Tensor],
    progress: Progress | None,
    settings: TrackSettings,
    total: int = 0,
) -> tuple[Tensor, tuple[int, int]]:
    """Landmarks [T, 478, 3] px of the frame, pixel centres, NaN where no face was found; and height, width."""
    found: list[Tensor] = []
    size: tuple[int, int] | None = None
    previous: Tensor | None = None
    total = total or (len(frames) if isinstance(frames, Sized) else 0)
    for done, frame in enumerate(frames, 1):
        image = _to_image(frame, done - 1)
        height, width = image.shape[2:]
        size = size or (height, width)
        if (height, width) != size:
            raise MediaError(f"frame {done - 1} is {[height, width]}, the clip began with {list(size)} (H, W)")
        previous = _landmarks_of(models, image, previous, settings)
        found.append(torch.full((478, 3), torch.nan) if previous is None else to_pixel_centres(previous)[0].cpu())
        if progress is not None:
            progress(done, total, None)
    if size is None:
        raise MediaError("the clip has no frames")
    return torch.stack(found), size


def _to_image(frame: Tensor, index: int) -> Tensor:
    """A frame [3, H, W], uint8 or in 0..1, as an image [1, 3, H, W] in 0..1."""
    if frame.ndim != 3 or frame.shape[0] != 3:
        raise MediaError(f"frame {index} must be [3, H, W] RGB; got {list(frame.shape)}")
    return to_float(frame[None])


def _landmarks_of(models: FaceModels, image: Tensor, previous: Tensor | None, settings: TrackSettings) -> Tensor | None:
    """Landmarks [1, 478, 3], MediaPipe's px, where they were in the last frame, else anywhere; None if not found."""
    if previous is not None:
        landmarks, presence = models.landmarker.landmarks(image, region_of_landmarks(previous))
        if presence[0] >= settings.presence:
            return landmarks
    # without a second network in the detector: the landmarks that follow give the same check
    for face in models.detector.detect(image, settings.threshold):
        landmarks, presence = models.landmarker.refine(image, region_of_detection(face))
        if presence[0] >= settings.presence:
            return landmarks
    return None


def fill_gaps(landmarks: Tensor, fps: float, longest_s: float) -> tuple[Tensor, tuple[int, ...]]:
    """Interpolate frames without a face.

    Args:
        landmarks: [T, 478, 3], NaN where no face was found.
        fps: frames per second.
        longest_s: of a gap.

    Returns:
        [T, 478, 3] without NaN, and the frames that were filled.

    Raises:
        NoFaceError: no face at all, or a gap longer than `longest_s`.
    """
    has_face = ~landmarks.isnan().flatten(1).any(1)
    missing = tuple((~has_face).nonzero()[:, 0].tolist())
    if not missing:
        return landmarks, missing
    if len(missing) == len(landmarks):
        raise NoFaceError(
            f"no face in any of the {len(landmarks)} frames: choose a clip that shows one, larger or lighter"
        )
    gaps = _runs(missing)
    too_long = [f"{first}–{last}" for first, last in gaps if (last - first + 1) / fps > longest_s]
    if too_long:
        raise NoFaceError(
            f"no face in frames {', '.join(too_long)} of {len(landmarks)} (gaps up to {longest_s:g} s are bridged): "
            "cut the clip there, or choose one in which the face stays in view"
        )
    log.warning("no face in %d of %d frames, interpolated: %s", len(missing), len(landmarks), missing)
    index = torch.arange(len(landmarks))
    known = index[has_face]
    after = torch.searchsorted(known, index).clamp(max=len(known) - 1)
    before = (torch.searchsorted(known, index, right=True) - 1).clamp(min=0)
    span = (known[after] - known[before]).clamp(min=1)
    share = ((index - known[before]) / span).clamp(0, 1)[:, None, None]
    return torch.lerp(landmarks[known[before]], landmarks[known[after]], share), missing


def _runs(numbers: tuple[int, ...]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    starts = [n for n in numbers if n - 1 not in set(numbers)]
    ends = [n for n in numbers if n + 1 not in set(numbers)]
    return list(zip(starts, ends, strict=True))


def clip_crop(landmarks: Tensor, height: int, width: int) -> Crop:
    """One crop for a clip: the median face's size, around the middle of where the face is in frames [T, 478, 3]."""
    low, high = landmarks[:, :468, :2].amin(1), landmarks[:, :468, :2].amax(1)
    # medians: a few frames with an open mouth or a wrong detection do not change the crop
    middle = (low + high).median(0).values / 2
    half = (high - low).median(0).values / 2
    return box_crop(middle - half, middle + half, height, width)


def fit_clip(
    model: MorphableModel, points: Tensor, fps: float, settings: TrackSettings
) -> tuple[Tensor, Expression, HeadPose, Tensor]:
    """Curves of a clip from its landmarks.

    Args:
        model: the 3DMM.
        points: [T, 478, 3] px of the crop.
        fps: frames per second.
        settings: windows of smoothing.

    Returns:
        α [I], expression, absolute pose, and the vertices [T, V, 2] in px of the crop.
    """
    weights = SolveSettings()
    small = landmark_model(model, weights)
    observed = observed_points(points.to(model.mean_shape.device))
    # the identity is the same in all frames: some of them, spread over the clip, are enough to determine it
    chosen = torch.linspace(0, len(observed) - 1, min(len(observed), settings.identity_frames)).round().long()
    identity = solve(small, observed[chosen], weights).id_coefficients
    solution = solve(small, observed, weights, identity)
    fast, slow = (odd_frames(s, fps) for s in (settings.curve_window_s, settings.pose_window_s))
    # clamped, because a quadratic may overshoot the bounds
    coefficients = smooth(solution.exp_coefficients, fast).clamp(0, 1)
    # unwrapped first: the mean of π and −π is 0, which faces the other way
    rotation = smooth(unwrapped(rotation_angles(solution.rotation)), slow)
    pose = HeadPose(rotation, smooth(solution.translation, slow), fps)
    # lip offsets are residuals of the smoothed landmarks against the smoothed mesh: noise would come back through them
    steady = smooth(observed[:, :468, :2], fast)
    lips, pixels = _lips_and_pixels(model, identity, coefficients, pose, steady)
    # after the mesh, which needs blinks in the scale of the model
    coefficients = relative_blinks(model, identity, coefficients)
    expression = Expression(coefficients, lips, fps, coefficients[0], lips[0])
    return identity, expression, pose, pixels


def relative_blinks(model: MorphableModel, identity: Tensor, coefficients: Tensor) -> Tensor:
    """β [T, E] with eyeBlink = 1 where this person's own lids meet: narrow eyes close at less than the model's 1."""
    scaled = coefficients.clone()
    points = landmark_positions(model, shape(model, identity, torch.zeros_like(coefficients[0])))
    for name, pairs, corners in LIDS:
        index = model.exp_names.index(name)
        closing = landmark_positions(model, model.exp_basis[index])
        upper, lower = (list(side) for side in zip(*pairs, strict=True))
        gap, drop = ((p[upper, 1] - p[lower, 1]).mean() for p in (points, closing))
        width = (points[corners[0]] - points[corners[1]]).norm()
        # the blink that leaves a gap of `CLOSED` widths of the eye, for gaps that shrink linearly with it
        closed = (gap - CLOSED * width) / -drop
        scaled[:, index] = (coefficients[:, index] / closed.clamp(min=0.2)).clamp(0, 1)
    return scaled


def unwrapped(angles: Tensor) -> Tensor:
    """Angles [T, 3] without jumps of 2π."""
    turns = ((angles[1:] - angles[:-1]) / (2 * torch.pi)).round().cumsum(0)
    return torch.cat((angles[:1], angles[1:] - 2 * torch.pi * turns))


def _lips_and_pixels(
    model: MorphableModel, identity: Tensor, coefficients: Tensor, pose: HeadPose, observed: Tensor
) -> tuple[Tensor, Tensor]:
    """Lip offsets [T, L, 3] and projected vertices [T, V, 2], a few frames at a time, because V is large."""
    spread, taper = offset_spread(model), lip_taper(model)
    lips, pixels = [], []
    for frames in frame_ranges(len(coefficients), CHUNK):
        part = pose.frames(frames)
        head = shape(model, identity, coefficients[frames])
        offsets = vertex_offsets(model, head, part, observed[frames], spread)
        camera = (head + offsets) @ rotation_matrix(part.rotation).mT + part.translation[:, None]
        lips.append(offsets[:, model.lip_vertices] * taper[:, None])
        pixels.append(project(camera)[..., :2])
    return torch.cat(lips), torch.cat(pixels)


def odd_frames(seconds: float, fps: float) -> int:
    """The odd number of frames nearest to a time."""
    return 2 * round((seconds * fps - 1) / 2) + 1


def smooth(curves: Tensor, window: int) -> Tensor:
    """Fit a quadratic to each window of frames and take its middle (Savitzky and Golay 1964): less noise, no delay.

    Args:
        curves: [T, ...].
        window: odd number of frames; shorter clips are not changed.

    Returns:
        [T, ...].
    """
    if window < 2 or len(curves) < window:
        return curves
    reach = window // 2
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    design = torch.stack((torch.ones_like(offsets), offsets, offsets**2), 1)
    # the first row gives the constant term, which is the quadratic's value in the middle
    taps = torch.linalg.pinv(design)[0].to(curves)
    # mirrored through the end points, so that the first and last frames keep their place
    head = 2 * curves[:1] - curves[1 : reach + 1].flip(0)
    tail = 2 * curves[-1:] - curves[-reach - 1 : -1].flip(0)
    padded = torch.cat((head, curves, tail))
    return torch.einsum("k,t...k->t...", taps, padded.unfold(0, window, 1))
