"""The values that flow through the pipeline: frozen, with shapes that are checked when they are created.

Letters mean one thing everywhere: B batch, T frames, V vertices, F triangles, L lip vertices, E expressions,
I identity components, D feature width, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self

# Side of the aligned crop. Motion is estimated at this size, the paper's own.
CROP = 256  # px
# Closures of p and b last about 60 ms: slower features would miss some of them.
MEL_RATE = 100  # log-mel frames per second
STATE_RATE = 50  # hidden states of a speech encoder per second, Whisper's and wav2vec2's own rate
SAMPLE_RATE = 16_000  # Hz, the paper's audio rate and wav2vec2's

# The face to which an expression is added: the portrait's own as it is, or the same with its mouth closed.
Baseline = Literal["portrait", "rest"]

# Apple's ARKit names of the 52 blendshapes, in alphabetical order: the field's common language for expressions.
ARKIT_NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip


def check_shapes(**fields: tuple[Tensor, str]) -> None:
    """Raise ValueError unless every tensor has its shape: `v=(x, "T V 3")` is [T, V, 3]; a letter is one size."""
    sizes: dict[str, int] = {}
    for name, (tensor, spec) in fields.items():
        dims = spec.split()
        fits = len(dims) == tensor.ndim and all(
            size == (int(dim) if dim.isdigit() else sizes.setdefault(dim, size))
            for dim, size in zip(dims, tensor.shape, strict=True)
        )
        if not fits:
            known = "".join(f", {d} = {sizes[d]}" for d in dims if d in sizes)
            # a plain ValueError: a wrong shape is a bug of the caller, and nothing that a user can correct
            raise ValueError(f"{name} must be [{', '.join(dims)}]{known}; got {list(tensor.shape)}")


# eq=False, here and below: comparing tensors gives a tensor, of which no bool can be made
@dataclass(frozen=True, eq=False, slots=True)
class FrameValue:
    """A value that holds T frames: tensors [T, ...] and values of frames in the fields that `PER_FRAME` names."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ()

    @property
    def frame_count(self) -> int:
        """T."""
        first = getattr(self, self.PER_FRAME[0])
        return first.frame_count if isinstance(first, FrameValue) else len(first)

    def frames(self, part: slice) -> Self:
        """Some of the frames; what belongs to all of them is shared."""
        return replace(self, **{name: _cut(getattr(self, name), part) for name in self.PER_FRAME})

    @classmethod
    def joined(cls, parts: Iterable[Self], total: int) -> Self:
        """The frames of all parts in a row, the inverse of `frames`; what belongs to all is the first part's.

        Args:
            parts: read one at a time, so that no more than one is held beside the result.
            total: number of frames of all parts together.
        """
        whole: Self | None = None
        done = 0
        for part in parts:
            # written in place, which is allowed here alone: nobody else has the value yet
            whole = part if part.frame_count == total else whole or _room(part, total)
            if whole is not part:
                _put(whole, part, done)
            done += part.frame_count
        if whole is None or done != total:
            raise ValueError(f"{total} frames were announced and {done} came")
        return whole


def _cut(value: Any, part: slice) -> Any:
    """Some of the frames of a field: a tensor [T, ...], a value of frames, a tuple of them, or None."""
    if isinstance(value, FrameValue):
        return value.frames(part)
    if isinstance(value, tuple):
        return tuple(layer.frames(part) for layer in value)
    return None if value is None else value[part]


def _room(value: Any, total: int) -> Any:
    """A field of some frames as one of `total` frames, [t, ...] to [T, ...], not yet filled."""
    if isinstance(value, FrameValue):
        return replace(value, **{name: _room(getattr(value, name), total) for name in value.PER_FRAME})
    if isinstance(value, tuple):
        return tuple(_room(layer, total) for layer in value)
    return None if value is None else value.new_empty((total, *value.shape[1:]))


def _put(whole: Any, part: Any, start: int) -> None:
    """Write a field of some frames [t, ...] into its place in all of them [T, ...]."""
    if isinstance(part, FrameValue):
        for name in part.PER_FRAME:
            _put(getattr(whole, name), getattr(part, name), start)
    elif isinstance(part, tuple):
        for layer, own in zip(whole, part, strict=True):
            _put(layer, own, start)
    elif part is not None:
        whole[start : start + len(part)] = part


@dataclass(frozen=True, eq=False, slots=True)
class MorphableModel:
    """A 3-D morphable head: S = S̄ + α·U_id + β·U_exp (Eq. 1 of the paper).

    Model units are decimetres in the head frame: +x the viewer's right, +y up, +z out of the face; the origin lies
    inside the head between the ears.
    """

    mean_shape: Tensor  # [V, 3] S̄, model units
    id_basis: Tensor  # [I, V, 3] U_id, model units per standard deviation
    exp_basis: Tensor  # [E, V, 3] U_exp, model units at full activation
    triangles: Tensor  # [F, 3] int64, counter-clockwise seen from outside
    triangle_parts: Tensor  # [F] int64 into part_names
    part_names: tuple[str, ...]
    exp_names: tuple[str, ...]
    landmark_vertices: Tensor  # [468, 3] int64, the triangle that carries each MediaPipe landmark
    landmark_weights: Tensor  # [468, 3] barycentric
    lip_vertices: Tensor  # [L] int64, the vertices that lip offsets move
    pose_weight: Tensor  # [V] 0..1, how far a vertex follows the head: 1 on the skull, 0 at the collar

    def __post_init__(self) -> None:
        check_shapes(
            mean_shape=(self.mean_shape, "V 3"),
            id_basis=(self.id_basis, "I V 3"),
            exp_basis=(self.exp_basis, "E V 3"),
            triangles=(self.triangles, "F 3"),
            triangle_parts=(self.triangle_parts, "F"),
            landmark_vertices=(self.landmark_vertices, "468 3"),
            landmark_weights=(self.landmark_weights, "468 3"),
            lip_vertices=(self.lip_vertices, "L"),
            pose_weight=(self.pose_weight, "V"),
        )


@dataclass(frozen=True, eq=False, slots=True)
class HeadTrajectory(FrameValue):
    """Rotation and translation of a head over time, one row per frame: what `HeadPose` and `HeadMotion` have in common.

    `geometry.rotation_matrix` states the order of the angles.
    """

    PER_FRAME: ClassVar[tuple[str, ...]] = ("rotation", "translation")

    rotation: Tensor  # [T, 3] rad: pitch, yaw, roll
    translation: Tensor  # [T, 3] model units
    fps: float  # frames per second

    def __post_init__(self) -> None:
        check_shapes(rotation=(self.rotation, "T 3"), translation=(self.translation, "T 3"))


# Two types with the same fields: type checkers then report an absolute pose where relative motion is expected.
class HeadPose(HeadTrajectory):
    """Where a head is in the camera: absolute, from a fit or a tracker."""

    __slots__ = ()


class HeadMotion(HeadTrajectory):
    """How a head moves on top of the portrait's own pose: relative, zero is the portrait as it is.

    It is what flows between the nodes and what curve files hold.
    """

    __slots__ = ()


@dataclass(frozen=True, eq=False, slots=True)
class Crop:
    """The square of the portrait that is processed: whole pixels, so that pasting back is exact. It may overhang."""

    left: int  # px of the portrait, may be negative
    top: int  # px of the portrait, may be negative
    size: int  # px of the portrait
    height: int  # px, of the whole portrait
    width: int  # px, of the whole portrait


@dataclass(frozen=True, eq=False, slots=True)
class FaceFit:
    """The 3DMM fitted to one face of the portrait."""

    image: Tensor  # [1, 3, 256, 256] RGB in 0..1, the crop
    landmarks: Tensor  # [478, 3] px of the crop, pixel centres at .5; z in px, smaller is nearer
    id_coefficients: Tensor  # [I] α, standard deviations
    exp_coefficients: Tensor  # [E] β, 0..1
    pose: HeadPose  # T = 1, absolute
    vertex_offsets: Tensor  # [V, 3] model units: residuals of the landmarks that the 3DMM does not explain
    face_mask: Tensor  # [1, 1, 256, 256] M, 1 on the inner face
    person_mask: Tensor  # [1, 1, 256, 256] 1 on the person, 0 on the background
    crop: Crop
    model: MorphableModel

    def __post_init__(self) -> None:
        check_shapes(
            image=(self.image, "1 3 256 256"),
            landmarks=(self.landmarks, "478 3"),
            id_coefficients=(self.id_coefficients, "I"),
            # the letters join coefficients and bases: those of another head model are refused
            id_basis=(self.model.id_basis, "I V 3"),
            exp_coefficients=(self.exp_coefficients, "E"),
            exp_basis=(self.model.exp_basis, "E V 3"),
            rotation=(self.pose.rotation, "1 3"),
            vertex_offsets=(self.vertex_offsets, "V 3"),
            face_mask=(self.face_mask, "1 1 256 256"),
            person_mask=(self.person_mask, "1 1 256 256"),
        )


class Audio(NamedTuple):
    """A decoded sound."""

    waveform: Tensor  # [C, N] float32 in −1..1
    sample_rate: int  # Hz

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return self.waveform.shape[-1] / self.sample_rate

    @classmethod
    def of(cls, audio: Audio | tuple[Tensor, int]) -> Audio:
        """A waveform [C, N] and its rate, of which the caller may have made a plain tuple; TypeError if it is not."""
        if not (isinstance(audio, tuple) and len(audio) == 2 and isinstance(audio[0], Tensor)):
            found = type(audio).__name__
            raise TypeError(f"audio must be (waveform [C, N], sample rate in Hz), as read_audio gives it; got {found}")
        return cls(*audio)


@dataclass(frozen=True, eq=False, slots=True)
class AudioFeatures:
    """The features of a sound, from which motion is generated; `audio.encoder` samples them for video frames."""

    mel: Tensor  # [M, 80] natural-log mel energies, 100 frames/s
    frame_count: int  # T, of the video that is generated
    fps: float  # frames per second of that video
    duration_s: float  # of the sound
    states: Tensor | None = None  # [S, D] float16 hidden states of a speech encoder, 50 per second; None: only the mel
    encoder: str = "mel"  # where the states come from: "whisper", a folder or a Hub id; "mel" where there are none

    def __post_init__(self) -> None:
        check_shapes(mel=(self.mel, "M 80"))
        if self.states is not None:
            check_shapes(states=(self.states, "S D"))


@dataclass(frozen=True, eq=False, slots=True)
class Expression(FrameValue):
    """Facial motion as named curves, plus what the lips do beyond them (O_lip).

    What is applied is the difference from `neutral_*`, and it is added to the `baseline`.
    """

    PER_FRAME: ClassVar[tuple[str, ...]] = ("coefficients", "lip_offsets")

    coefficients: Tensor  # [T, E] β, 0..1, in the order of ARKIT_NAMES
    lip_offsets: Tensor  # [T, L, 3] model units
    fps: float  # frames per second
    neutral_coefficients: Tensor  # [E] the values at which the face does not change
    neutral_lip_offsets: Tensor  # [L, 3]
    baseline: Baseline = "portrait"

    def __post_init__(self) -> None:
        check_shapes(
            coefficients=(self.coefficients, "T E"),
            lip_offsets=(self.lip_offsets, "T L 3"),
            neutral_coefficients=(self.neutral_coefficients, "E"),
            neutral_lip_offsets=(self.neutral_lip_offsets, "L 3"),
        )

    @classmethod
    def from_rest(cls, coefficients: Tensor, lip_offsets: Tensor, fps: float) -> Expression:
        """Curves [T, E] and lip offsets [T, L, 3] of speech, where zero is the portrait with its mouth closed."""
        still, lips = coefficients.new_zeros(coefficients.shape[1:]), lip_offsets.new_zeros(lip_offsets.shape[1:])
        return cls(coefficients, lip_offsets, fps, still, lips, "rest")


@dataclass(frozen=True, eq=False, slots=True)
class MeshSequence(FrameValue):
    """Driven 3DMM meshes, one per video frame (the paper's M_d)."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("vertices",)

    vertices: Tensor  # [T, V, 3] model units, camera space: +x right, +y up, +z towards the viewer
    triangles: Tensor  # [F, 3] int64, counter-clockwise seen from outside
    fps: float  # frames per second

    def __post_init__(self) -> None:
        check_shapes(vertices=(self.vertices, "T V 3"), triangles=(self.triangles, "F 3"))


@dataclass(frozen=True, eq=False, slots=True)
class Fragments(FrameValue):
    """The nearest triangle at each pixel centre, from the z-buffer."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("triangle_index", "barycentric", "depth")

    triangle_index: Tensor  # [T, H, W] int64, -1 = none
    barycentric: Tensor  # [T, H, W, 3] perspective of the screen (affine); 0 where none
    depth: Tensor  # [T, H, W] model units from the camera, +inf where none

    def __post_init__(self) -> None:
        check_shapes(
            triangle_index=(self.triangle_index, "T H W"),
            barycentric=(self.barycentric, "T H W 3"),
            depth=(self.depth, "T H W"),
        )


@dataclass(frozen=True, eq=False, slots=True)
class Regions:
    """Parts of a head model that the renderer treats differently: masks over vertices [V] and triangles [F]."""

    inner_face: Tensor  # [V] 0..1, 1 inside the face oval
    rigid: Tensor  # [V] bool, moved by the head pose only
    setback: Tensor  # [V] model units added to the depth when visibility is decided
    drawn: Tensor  # [F] bool: all but the lashes, which are flat ribbons
    teeth_and_tongue: Tensor  # [F] bool
    interior: Tensor  # [F] bool: inside of the mouth
    eyes: Tensor  # [F] bool

    def __post_init__(self) -> None:
        check_shapes(
            inner_face=(self.inner_face, "V"),
            rigid=(self.rigid, "V"),
            setback=(self.setback, "V"),
            drawn=(self.drawn, "F"),
            teeth_and_tongue=(self.teeth_and_tongue, "F"),
            interior=(self.interior, "F"),
            eyes=(self.eyes, "F"),
        )


@dataclass(frozen=True, eq=False, slots=True)
class MirrorView:
    """What the other half of the portrait's face shows of each vertex."""

    pixels: Tensor  # [V, 2] px of the crop, of the mirrored vertex
    trust: Tensor  # [V] 0..1, 1 where the portrait hides the vertex and shows the mirrored one
    facing: Tensor  # [V] cosine between the vertex's normal and the direction to the viewer, in the portrait
    log_gain: Tensor  # [V, 3] logarithm of the vertex's colour over that of the mirrored one

    def __post_init__(self) -> None:
        check_shapes(
            pixels=(self.pixels, "V 2"),
            trust=(self.trust, "V"),
            facing=(self.facing, "V"),
            log_gain=(self.log_gain, "V 3"),
        )


@dataclass(frozen=True, eq=False, slots=True)
class SourceView:
    """The portrait's own mesh, rendered: computed once, used for every frame."""

    face: FaceFit
    mesh: MeshSequence  # T = 1
    pixels: Tensor  # [V, 3] x, y px of the crop, depth
    fragments: Fragments  # T = 1, at 256
    confidence: Tensor  # [V] 0..1, how well the portrait shows the vertex
    mirror: MirrorView
    follow: Tensor  # [256, 256] 0..1, how much a pixel follows the head: 1 on it, 0 on background and shoulders
    carry: Tensor  # [256, 256] 0..1, the same without an end beside the head: 0 on shoulders
    matte: Tensor  # [256, 256] 0..1, the person with a rim of background
    hole: Tensor  # [256, 256] 0..1, where the person hides the background
    plate: Tensor  # [1, 3, 256, 256] RGB in 0..1, the crop without the person
    border: Tensor  # [256, 256] 0..1, 0 at the border of the crop, where nothing may move
    eyes: Tensor  # [1, 1, 256, 256] 1 where the portrait shows an eyeball
    light: Tensor  # [9] of the portrait, spherical harmonics as in `light.brightness`
    regions: Regions

    def __post_init__(self) -> None:
        check_shapes(
            vertices=(self.mesh.vertices, "1 V 3"),
            pixels=(self.pixels, "V 3"),
            triangle_index=(self.fragments.triangle_index, "1 256 256"),
            confidence=(self.confidence, "V"),
            follow=(self.follow, "256 256"),
            carry=(self.carry, "256 256"),
            matte=(self.matte, "256 256"),
            hole=(self.hole, "256 256"),
            plate=(self.plate, "1 3 256 256"),
            border=(self.border, "256 256"),
            eyes=(self.eyes, "1 1 256 256"),
            light=(self.light, "9"),
        )


@dataclass(frozen=True, eq=False, slots=True)
class NccRender(FrameValue):
    """The inputs of the paper's second stage, with the portrait's view and the fragments they were rendered from."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("ncc", "face_mask", "projected_texture", "lip_maps", "fragments", "mesh")

    ncc: Tensor  # [T, 3, H, W] 0..1, normalised coordinate code of the driven mesh, 0 where no mesh
    face_mask: Tensor  # [T, 1, H, W] 0..1, M: the inner face of the driven mesh
    projected_texture: Tensor  # [T, 3, H, W] 0..1, PT = PT_in·M + PT_out·(1−M)
    lip_maps: Tensor  # [T, K, h, w] Gaussian maps of lip landmarks, driven − reference
    fragments: Fragments
    mesh: MeshSequence
    view: SourceView  # of the portrait that is driven

    def __post_init__(self) -> None:
        check_shapes(
            ncc=(self.ncc, "T 3 H W"),
            face_mask=(self.face_mask, "T 1 H W"),
            projected_texture=(self.projected_texture, "T 3 H W"),
            lip_maps=(self.lip_maps, "T K h w"),
            triangle_index=(self.fragments.triangle_index, "T H W"),
            vertices=(self.mesh.vertices, "T V 3"),
        )


@dataclass(frozen=True, eq=False, slots=True)
class MirrorFill(FrameValue):
    """Skin that the portrait hides, taken from the same place of the other half of the face."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("flow", "alpha", "gain")

    flow: Tensor  # [T, H, W, 2] to the other half, in the units of `DenseMotion.flow`
    alpha: Tensor  # [T, 1, H, W] 0..1, how much of it is shown
    gain: Tensor  # [T, 3, H, W] factor of its colour: the two halves are lit differently

    def __post_init__(self) -> None:
        check_shapes(flow=(self.flow, "T H W 2"), alpha=(self.alpha, "T 1 H W"), gain=(self.gain, "T 3 H W"))


@dataclass(frozen=True, eq=False, slots=True)
class Backdrop(FrameValue):
    """What lies behind the person: still, and seen wherever the moved person does not cover it."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("uncovered",)

    plate: Tensor  # [1, 3, H, W] RGB in 0..1, the crop without the person
    hole: Tensor  # [1, 1, H, W] 0..1, where the plate is shown and not the portrait's own background
    uncovered: Tensor  # [T, 1, H, W] 0..1, 1 = the backdrop is seen, 0 = the person

    def __post_init__(self) -> None:
        check_shapes(plate=(self.plate, "1 3 H W"), hole=(self.hole, "1 1 H W"), uncovered=(self.uncovered, "T 1 H W"))


@dataclass(frozen=True, eq=False, slots=True)
class DenseMotion(FrameValue):
    """Where each pixel of the driven crop comes from in the portrait's crop."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("flow", "occlusion", "fill", "backdrop")

    flow: Tensor  # [T, H, W, 2] x, y in units of half the crop (−1..1 spans it), added to the identity grid
    occlusion: Tensor  # [T, 1, H, W] 0..1, 1 = visible in the portrait, 0 = must be painted
    fill: MirrorFill | None = None  # None where the portrait hides nothing that its other half shows
    backdrop: Backdrop | None = None  # None: the background is bent beside the head

    def __post_init__(self) -> None:
        check_shapes(flow=(self.flow, "T H W 2"), occlusion=(self.occlusion, "T 1 H W"))


@dataclass(frozen=True, eq=False, slots=True)
class Paint(FrameValue):
    """A layer that is painted over the warped portrait, e.g. the inside of the mouth; it has its own resolution."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("color", "alpha", "box", "beneath")

    color: Tensor  # [T, 3, h, w] RGB in 0..1
    alpha: Tensor  # [T, 1, h, w] 0..1
    box: Tensor  # [T, 4] left, top, right, bottom in px of the 256 crop
    # [T, 3, h, w] what the colour replaces, at the paint's own resolution: then only the difference is added, so that
    # detail of the portrait that is finer than the paint stays
    beneath: Tensor | None = None

    def __post_init__(self) -> None:
        check_shapes(color=(self.color, "T 3 h w"), alpha=(self.alpha, "T 1 h w"), box=(self.box, "T 4"))
        if self.beneath is not None:
            check_shapes(color=(self.color, "T 3 h w"), beneath=(self.beneath, "T 3 h w"))


@dataclass(frozen=True, eq=False, slots=True)
class GeneratedFrames(FrameValue):
    """A talking crop in a form that can be applied to the portrait at its own resolution."""

    PER_FRAME: ClassVar[tuple[str, ...]] = ("motion", "paints")

    motion: DenseMotion
    paints: tuple[Paint, ...]  # laid over the warped portrait in this order
    fps: float  # frames per second
