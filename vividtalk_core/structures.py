"""The values that flow through the pipeline: frozen, with shapes and units checked when they are made.

Letters mean one thing everywhere: B batch, T frames, V vertices, F triangles, L lip vertices, E expressions,
I identity components, D feature width, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

CROP = 256  # side of the aligned crop in pixels; motion is estimated at this size, the paper's own
MEL_RATE = 100  # log-mel frames per second
SAMPLE_RATE = 16_000  # Hz, the paper's audio rate and wav2vec2's

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
            raise ValueError(f"{name} must be [{', '.join(dims)}]{known}; got {list(tensor.shape)}")


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
class HeadPose:
    """Rotation and translation of the head, one row per frame.

    From a fit or a tracker it is absolute in the camera; between nodes it is motion on top of the portrait's own pose
    (zero = the portrait). `geometry.rotation_matrix` states the order.
    """

    rotation: Tensor  # [T, 3] rad: pitch, yaw, roll
    translation: Tensor  # [T, 3] model units
    fps: float  # frames per second

    def __post_init__(self) -> None:
        check_shapes(rotation=(self.rotation, "T 3"), translation=(self.translation, "T 3"))


@dataclass(frozen=True, eq=False, slots=True)
class Crop:
    """The square of the portrait that is looked at: whole pixels, so that pasting back is exact. It may overhang."""

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
    vertex_offsets: Tensor  # [V, 3] model units: what the landmarks say beyond the 3DMM
    face_mask: Tensor  # [1, 1, 256, 256] M, 1 on the inner face
    person_mask: Tensor  # [1, 1, 256, 256] 1 on the person, 0 on the background
    crop: Crop
    model: MorphableModel

    def __post_init__(self) -> None:
        check_shapes(
            image=(self.image, "1 3 256 256"),
            landmarks=(self.landmarks, "478 3"),
            id_coefficients=(self.id_coefficients, "I"),
            id_basis=(self.model.id_basis, "I V 3"),
            exp_coefficients=(self.exp_coefficients, "E"),
            exp_basis=(self.model.exp_basis, "E V 3"),
            rotation=(self.pose.rotation, "1 3"),
            vertex_offsets=(self.vertex_offsets, "V 3"),
            face_mask=(self.face_mask, "1 1 256 256"),
            person_mask=(self.person_mask, "1 1 256 256"),
        )


@dataclass(frozen=True, eq=False, slots=True)
class AudioFeatures:
    """What the motion generators hear."""

    features: Tensor  # [T, D] at video rate
    mel: Tensor  # [M, 80] natural-log mel energies, 100 frames/s
    fps: float  # frames per second of `features`
    duration_s: float

    def __post_init__(self) -> None:
        check_shapes(features=(self.features, "T D"), mel=(self.mel, "M 80"))


@dataclass(frozen=True, eq=False, slots=True)
class Expression:
    """Facial motion as named curves, plus what the lips do beyond them (O_lip).

    `neutral_*` is what the portrait's own face stands for: the motion that is applied is the difference from it.
    None means a relaxed, closed mouth (all zeros): the portrait is first brought to rest.
    """

    coefficients: Tensor  # [T, E] β, 0..1, in the order of ARKIT_NAMES
    lip_offsets: Tensor  # [T, L, 3] model units
    fps: float  # frames per second
    neutral_coefficients: Tensor | None = None  # [E]
    neutral_lip_offsets: Tensor | None = None  # [L, 3]

    def __post_init__(self) -> None:
        fields = {"coefficients": (self.coefficients, "T E"), "lip_offsets": (self.lip_offsets, "T L 3")}
        if self.neutral_coefficients is not None:
            fields["neutral_coefficients"] = (self.neutral_coefficients, "E")
        if self.neutral_lip_offsets is not None:
            fields["neutral_lip_offsets"] = (self.neutral_lip_offsets, "L 3")
        check_shapes(**fields)


@dataclass(frozen=True, eq=False, slots=True)
class MeshSequence:
    """Driven 3DMM meshes, one per video frame (the paper's M_d)."""

    vertices: Tensor  # [T, V, 3] model units, camera space: +x right, +y up, +z towards the viewer
    triangles: Tensor  # [F, 3] int64, counter-clockwise seen from outside
    fps: float  # frames per second

    def __post_init__(self) -> None:
        check_shapes(vertices=(self.vertices, "T V 3"), triangles=(self.triangles, "F 3"))


@dataclass(frozen=True, eq=False, slots=True)
class Fragments:
    """What the z-buffer saw at each pixel centre."""

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
class NccRender:
    """The inputs of the paper's second stage, with the fragments they were rendered from."""

    ncc: Tensor  # [T, 3, H, W] 0..1, normalised coordinate code of the driven mesh, 0 where no mesh
    face_mask: Tensor  # [T, 1, H, W] 0..1, M: the inner face of the driven mesh
    projected_texture: Tensor  # [T, 3, H, W] 0..1, PT = PT_in·M + PT_out·(1−M)
    lip_maps: Tensor  # [T, K, h, w] Gaussian maps of lip landmarks, driven − reference
    fragments: Fragments
    mesh: MeshSequence

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
class DenseMotion:
    """Where each pixel of the driven crop comes from in the portrait's crop."""

    flow: Tensor  # [T, H, W, 2] x, y in units of half the crop (−1..1 spans it), added to the identity grid
    occlusion: Tensor  # [T, 1, H, W] 0..1, 1 = the portrait shows it, 0 = must be painted

    def __post_init__(self) -> None:
        check_shapes(flow=(self.flow, "T H W 2"), occlusion=(self.occlusion, "T 1 H W"))


@dataclass(frozen=True, eq=False, slots=True)
class Paint:
    """What is painted over the warped portrait, e.g. the mouth's inside: one layer with a resolution of its own."""

    color: Tensor  # [T, 3, h, w] RGB in 0..1
    alpha: Tensor  # [T, 1, h, w] 0..1
    box: Tensor  # [T, 4] left, top, right, bottom in px of the 256 crop
    # [T, 3, h, w] what the colour replaces, at the paint's own resolution: then only the difference is laid on, and
    # detail of the portrait that is finer than the paint stays
    beneath: Tensor | None = None

    def __post_init__(self) -> None:
        check_shapes(color=(self.color, "T 3 h w"), alpha=(self.alpha, "T 1 h w"), box=(self.box, "T 4"))
        if self.beneath is not None:
            check_shapes(color=(self.color, "T 3 h w"), beneath=(self.beneath, "T 3 h w"))


@dataclass(frozen=True, eq=False, slots=True)
class GeneratedFrames:
    """A talking crop in a form that can be applied to the portrait at its own resolution."""

    motion: DenseMotion
    paints: tuple[Paint, ...]  # laid over the warped portrait in this order
    fps: float  # frames per second
