"""Z-buffer: projected triangles → Fragments. `rasterize` is the fast path, `rasterize_reference` its definition.

Convention: pixel (i, j) is covered by a triangle that contains its centre (j + .5, i + .5); triangles that turn
clockwise as the viewer sees them (y up) are back faces and are skipped; among equal depths the lowest index wins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..progress import Progress
from ..structures import Fragments

# Least weight inside: a centre on an edge belongs to both triangles, and the depth then decides.
INSIDE = -1e-6
# A triangle with less area is seen edge-on and covers nothing.
FLAT = 1e-9  # px²


def rasterize(
    vertices: Tensor, triangles: Tensor, height: int, width: int, progress: Progress | None = None
) -> Fragments:
    """Find the nearest triangle at each pixel centre.

    Args:
        vertices: [T, V, 3]: x, y in px, depth in model units (smaller is nearer).
        triangles: [F, 3] int64, counter-clockwise seen from outside.
        height: rows of the result.
        width: columns of the result.
        progress: called after each frame.

    Returns:
        Triangle index and depth [T, H, W], barycentric weights [T, H, W, 3]; the gradients of the last two flow to
        the vertices.
    """
    index: list[Tensor] = []
    # which triangle is nearest has no gradient: `_fragments` computes depth and weights again, with one
    for frame in vertices.detach():
        index.append(_nearest_triangle(frame, triangles, height, width))
        if progress:
            progress(len(index), len(vertices), None)
    return _fragments(vertices, triangles, torch.stack(index))


def rasterize_reference(vertices: Tensor, triangles: Tensor, height: int, width: int) -> Fragments:
    """`rasterize` of [T, V, 3] and [F, 3] as a plain loop: the definition that the fast path is tested against."""
    index = torch.full((len(vertices), height, width), -1, dtype=torch.int64, device=vertices.device)
    y, x = torch.meshgrid(
        torch.arange(height, device=vertices.device) + 0.5,
        torch.arange(width, device=vertices.device) + 0.5,
        indexing="ij",
    )
    for frame, best in zip(vertices.detach(), index, strict=True):
        nearest = torch.full((height, width), float("inf"), device=vertices.device)
        for number, corners in enumerate(frame[triangles]):
            if _signed_area(corners) > -FLAT:
                continue
            weights = _weights(corners.expand(height, width, 3, 3), x, y)
            depth = (weights * corners[:, 2]).sum(-1)
            wins = (weights >= INSIDE).all(-1) & (depth < nearest)
            nearest[wins] = depth[wins]
            best[wins] = number
    return _fragments(vertices, triangles, index)


def interpolate(attributes: Tensor, triangles: Tensor, fragments: Fragments) -> Tensor:
    """Vertex attributes [V, C] or [T, V, C] at each pixel, [T, H, W, C]; 0 where there is no triangle."""
    if attributes.ndim == 2:
        attributes = attributes.expand(len(fragments.triangle_index), -1, -1)
    rows = [
        (frame[triangles[index.clamp(min=0)]] * weights[..., None]).sum(-2)
        for frame, index, weights in zip(attributes, fragments.triangle_index, fragments.barycentric, strict=True)
    ]
    return torch.stack(rows)


def _nearest_triangle(vertices: Tensor, triangles: Tensor, height: int, width: int) -> Tensor:
    """[H, W] int64 index of the nearest triangle, −1 = none, for vertices [V, 3] and triangles [F, 3].

    All pixel centres in the bounding box of each triangle are tested at once; two scatters then choose among them.
    """
    corners = vertices[triangles]  # [F, 3, 3]
    # a pixel counts by its centre at .5: the box of indices is half a pixel off the box in px
    low = torch.ceil(corners[..., :2].amin(1) - 0.5).clamp(min=0)
    high = torch.floor(corners[..., :2].amax(1) - 0.5)
    spans = torch.stack((high[:, 0].clamp(max=width - 1), high[:, 1].clamp(max=height - 1)), -1) - low + 1
    spans = torch.where((_signed_area(corners) < -FLAT)[:, None], spans, 0).clamp(min=0).long()  # [F, 2]
    counts = spans.prod(-1)
    owner = torch.repeat_interleave(counts)  # [N], the triangle of each candidate
    place = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
    # candidates are numbered row by row in the box of their triangle, so that few large triangles cost no more memory
    # than many small ones
    columns, first = spans[:, 0][owner], low.long()[owner]
    x, y = first[:, 0] + place % columns, first[:, 1] + place // columns
    corners = corners[owner]
    weights = _weights(corners, x + 0.5, y + 0.5)
    depth = (weights * corners[..., 2]).sum(-1)
    inside = (weights >= INSIDE).all(-1)
    pixel, depth, owner = (y * width + x)[inside], depth[inside], owner[inside]
    # first the least depth of each pixel, then the lowest index at it: no result depends on the order of scattering
    nearest = depth.new_full((height * width,), float("inf")).scatter_reduce(0, pixel, depth, "amin")
    wins = depth == nearest[pixel]
    index = owner.new_full((height * width,), len(triangles)).scatter_reduce(0, pixel[wins], owner[wins], "amin")
    return torch.where(index == len(triangles), -1, index).view(height, width)


def _fragments(vertices: Tensor, triangles: Tensor, index: Tensor) -> Fragments:
    """Barycentric weights and depth of the chosen triangles, differentiable in the vertices; index is [T, H, W]."""
    height, width = index.shape[1:]
    y, x = torch.meshgrid(
        torch.arange(height, device=index.device) + 0.5, torch.arange(width, device=index.device) + 0.5, indexing="ij"
    )
    covered = index >= 0
    # only covered pixels are computed, then scattered: gradients of empty ones would be 0 · ∞
    weights, depths = [], []
    for frame, chosen, here in zip(vertices, index, covered, strict=True):
        corners = frame[triangles[chosen[here]]]  # [N, 3, 3]
        inside = _weights(corners, x[here], y[here])
        weights.append(inside.new_zeros(height, width, 3).masked_scatter(here[..., None], inside))
        depth = (inside * corners[..., 2]).sum(-1)
        depths.append(depth.new_full((height, width), float("inf")).masked_scatter(here, depth))
    return Fragments(index, torch.stack(weights), torch.stack(depths))


def _signed_area(corners: Tensor) -> Tensor:
    """Twice the area [...] of px triangles [..., 3, 3]; negative for front faces, because y points down."""
    (ax, ay), (bx, by), (cx, cy) = (corners[..., i, :2].unbind(-1) for i in range(3))
    return (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)


def _weights(corners: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Barycentric weights [..., 3] of the points x, y [...] in px triangles [..., 3, 3]."""
    (ax, ay), (bx, by), (cx, cy) = (corners[..., i, :2].unbind(-1) for i in range(3))
    area = _signed_area(corners)
    second = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
    third = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
    return torch.stack((1 - second - third, second, third), -1)
