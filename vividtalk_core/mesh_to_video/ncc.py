"""The mean face's normalised coordinate code as vertex colour: NCC = (S̄ − min S̄) / (max S̄ − min S̄) (Eq. 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..structures import FaceFit, Fragments, MeshSequence, MorphableModel, NccRender
from .lip_maps import lip_maps
from .projected_texture import project_texture
from .rasterizer import Progress, interpolate
from .source_view import SourceView, rasterize_mesh, view_source


def ncc_colors(model: MorphableModel) -> Tensor:
    """[V, 3] the colour of each vertex: its place on the mean face, 0..1 per axis."""
    low, high = model.mean_shape.amin(0), model.mean_shape.amax(0)
    return (model.mean_shape - low) / (high - low)


def render_ncc(
    face: FaceFit, mesh: MeshSequence, view: SourceView | None = None, progress: Progress | None = None
) -> NccRender:
    """Render the driven meshes for stage 2.

    Args:
        face: the fitted portrait.
        mesh: T driven meshes of the same head.
        view: `view_source(face)` when it is already there.
        progress: called as (done, total, None) after each frame; it may raise to cancel.

    Returns:
        NCC, projected texture (256²), lip maps and the fragments of T frames.
    """
    view = view or view_source(face)
    if mesh.vertices.shape[1] != len(face.model.mean_shape):
        found, wanted = mesh.vertices.shape[1], len(face.model.mean_shape)
        raise ValueError(f"The mesh has {found} vertices and the face model {wanted}: drive the mesh with this face.")
    fragments = rasterize_mesh(mesh, view.regions, progress)
    ncc, mask, texture = _textures(face, view, fragments)
    return NccRender(ncc, mask, texture, lip_maps(face, view.mesh, mesh), fragments, mesh)


def reference_texture(face: FaceFit, view: SourceView) -> Tensor:
    """PT_ref [1, 3, 256, 256] of the portrait's own mesh, from the fragments that its view holds already."""
    return _textures(face, view, view.fragments)[2]


def _textures(face: FaceFit, view: SourceView, fragments: Fragments) -> tuple[Tensor, Tensor, Tensor]:
    """NCC [T, 3, H, W], inner face [T, 1, H, W] and projected texture [T, 3, H, W] of T frames."""
    attributes = torch.cat((ncc_colors(face.model), view.regions.inner_face[:, None]), 1)  # [V, 4]
    maps = interpolate(attributes, view.mesh.triangles, fragments).movedim(-1, 1)  # [T, 4, H, W]
    ncc, mask = maps[:, :3], maps[:, 3:]
    return ncc, mask, project_texture(face, ncc, mask)
