"""Pictures of a face with all their maps and points, mirrored or moved to another crop.

A sample is what belongs to one source: tensors by name, as `augment_pictures` lists them, without the batch dimension.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...geometry import identity_grid
from ...head.topology import LEFT_IRIS, RIGHT_IRIS
from ...mesh_to_video.lip_maps import LANDMARKS as LIPS

PICTURES = ("source", "target")
CODES = ("source_ncc", "ncc")
FIELDS = ("flow", "step")  # [..., H, W, 2] grid units
VISIBILITIES = ("occlusion",)  # 1 = nothing to paint
MAPS = (*CODES, *VISIBILITIES, "source_mask", "mask", "scene", "paint", "follow", "step_mask")
MESH_POINTS, LIP_POINTS = ("source_points", "points"), ("source_lips", "lips")

# MediaPipe's landmarks on the plane of symmetry. Those of the subject's left begin with 248, in the order of the right.
MIDLINE = (0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197, 199,
           200)  # fmt: skip
FIRST_LEFT, FIRST_IRIS = 248, 468
# Around an iris the landmarks are named from the viewer's right, in both eyes: a mirror swaps the left and right one.
IRIS_ORDER = (0, 3, 2, 1, 4)


def mirrored_landmarks() -> Tensor:
    """Numbers, of shape [478], of the landmark that a mirror moves to the place of each landmark."""
    order = torch.arange(FIRST_IRIS + 10)
    right = torch.tensor([index for index in range(FIRST_LEFT) if index not in MIDLINE])
    left = torch.arange(FIRST_LEFT, FIRST_IRIS)
    order[right], order[left] = left, right
    order[list(RIGHT_IRIS)] = torch.tensor([LEFT_IRIS[place] for place in IRIS_ORDER])
    order[list(LEFT_IRIS)] = torch.tensor([RIGHT_IRIS[place] for place in IRIS_ORDER])
    return order


def mirrored_lips() -> Tensor:
    """The same order for the lip landmarks of `lip_maps`, of shape [20]."""
    order = mirrored_landmarks()
    return torch.tensor([LIPS.index(int(order[landmark])) for landmark in LIPS])


def mirror(sample: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mirror a sample: the viewer's left becomes right, and index k stays the same landmark of the subject.

    Args:
        sample: pictures [..., 3, H, W] and their maps, fields and points (see the module).

    Returns:
        The same names and shapes; mirroring twice gives the sample back, landmark by landmark.
    """
    width = sample["source"].shape[-1]
    orders = dict.fromkeys(MESH_POINTS, mirrored_landmarks()) | dict.fromkeys(LIP_POINTS, mirrored_lips())
    return {name: _mirror(name, value, width, orders.get(name)) for name, value in sample.items()}


def _mirror(name: str, value: Tensor, width: int, order: Tensor | None) -> Tensor:
    """One tensor of a sample; points [..., K, 2] px come with the order [K] of their landmarks."""
    if order is not None:
        points = value[..., order, :]
        # px count from the corner of the first pixel, whose centre is at 0.5: the mirror image of x is width − x.
        return torch.stack((width - points[..., 0], points[..., 1]), -1)
    if name in FIELDS:
        # A displacement to the right becomes one to the left; its vertical part stays.
        return value.flip(-2) * value.new_tensor((-1.0, 1.0))
    value = value.flip(-1)
    # The mean face is symmetric: in a mirror its normalised x runs the other way. 0 is the background and stays 0.
    if name in CODES:
        drawn = (value > 0).any(-3, keepdim=True)
        x, rest = value[..., :1, :, :], value[..., 1:, :, :]
        value = torch.cat((torch.where(drawn, 1 - x, 0), rest), -3)
    return value


def move_crop(
    sample: dict[str, Tensor], scale: float, angle: float, shift_px: tuple[float, float]
) -> dict[str, Tensor]:
    """Move a sample to another crop: everything is rotated and scaled about the middle, then shifted.

    Beyond the old crop the pictures repeat their border, which the portrait shows and which does not move: flow, masks,
    scene and paint are 0 there and occlusion is 1.

    Args:
        sample: pictures [..., 3, H, W] and their maps, fields and points.
        scale: factor of all sizes; above 1 the face grows.
        angle: rad, clockwise as the viewer sees it.
        shift_px: px of the crop to the right and downwards.

    Returns:
        The same names and shapes; a point or vector of the picture is where and as the new crop shows it.
    """
    height, width = sample["source"].shape[-2:]
    turn = torch.tensor(angle)
    rotation = torch.stack((turn.cos(), -turn.sin(), turn.sin(), turn.cos())).view(2, 2)  # +y is down: clockwise
    linear, shift = scale * rotation, torch.tensor(shift_px)
    size = torch.tensor((width, height)).float()
    # Sampling asks where each new pixel was in the old crop, so this is the inverse of what points get below: the
    # transpose of a rotation is its inverse, and the shift is taken off first. The crop is square, so that grid units
    # turn like px.
    grid = (identity_grid(height, width) - shift * 2 / size) @ rotation / scale  # [H, W, 2] in the old crop
    moved = _resample(sample, grid)
    for name in (*MESH_POINTS, *LIP_POINTS):
        if name in sample:
            moved[name] = (sample[name] - size / 2) @ linear.T + size / 2 + shift
    for name in FIELDS:
        if name in sample:
            # A field of displacements is moved like a picture, and its vectors are turned and scaled besides; no
            # shift for them.
            moved[name] = moved[name].movedim(-3, -1) @ linear.T
    return {name: moved[name] for name in sample}


def _resample(sample: dict[str, Tensor], grid: Tensor) -> dict[str, Tensor]:
    """Every picture, map and field, all channels first, at the places [H, W, 2] in grid units."""
    layers = {name: value for name, value in sample.items() if name in (*PICTURES, *MAPS)}
    layers |= {name: value.movedim(-1, -3) for name, value in sample.items() if name in FIELDS}
    inside = (grid.abs().amax(-1) <= 1).float()  # [H, W]
    # bilinear sampling would blur every moved crop, and the generator would learn to blur
    moved = _sample({name: layers[name] for name in PICTURES}, grid, "bicubic")
    moved = {name: value.clamp(0, 1) for name, value in moved.items()}
    rest = _sample({name: value for name, value in layers.items() if name not in PICTURES}, grid, "bilinear")
    for name, value in rest.items():
        # Outside of the old crop nothing is known: nothing moves there, and nothing has to be painted.
        moved[name] = 1 - (1 - value) * inside if name in VISIBILITIES else value * inside
    return moved


def _sample(layers: dict[str, Tensor], grid: Tensor, mode: str) -> dict[str, Tensor]:
    """Layers [..., C, H, W] by name, all in one pass; borders repeated."""
    if not layers:
        return {}
    height, width = grid.shape[:2]
    flat = {name: value.reshape(-1, height, width) for name, value in layers.items()}
    # All layers in one call, so that the places between pixels are computed once.
    sampled = F.grid_sample(torch.cat(list(flat.values()))[None], grid[None], mode, "border", align_corners=False)[0]
    parts = torch.split(sampled, [len(value) for value in flat.values()])
    return {name: part.view(layers[name].shape) for name, part in zip(flat, parts, strict=True)}
