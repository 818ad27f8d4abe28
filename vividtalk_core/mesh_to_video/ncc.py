"""The mean face's normalised coordinate code as vertex colour: NCC = (S̄ − min S̄) / (max S̄ − min S̄) (Eq. 5)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from ..errors import MismatchError
from ..progress import Progress
from ..structures import Fragments, MeshSequence, MorphableModel, NccRender, SourceView
from .lip_maps import lip_maps
from .projected_texture import project_texture
from .rasterizer import interpolate
from .source_view import rasterize_mesh


def ncc_colors(model: MorphableModel) -> Tensor:
    """[V, 3] the colour of each vertex: its place on the mean face, 0..1 per axis."""
    low, high = model.mean_shape.amin(0), model.mean_shape.amax(0)
    return (model.mean_shape - low) / (high - low)


def render_ncc(view: SourceView, mesh: MeshSequence, progress: Progress | None = None) -> NccRender:
    """Render the driven meshes for stage 2.

    Args:
        view: the portrait, from `view_source`.
        mesh: T driven meshes of the same head.
        progress: called after each frame.

    Returns:
        NCC [T, 3, 256, 256], face mask [T, 1, 256, 256], projected texture [T, 3, 256, 256], lip maps
        [T, 20, 64, 64] and the fragments of T frames.

    Raises:
        MismatchError: the mesh is of another head model than the portrait's fit.
    """
    face = view.face
    if mesh.vertices.shape[1] != len(face.model.mean_shape):
        found, expected = mesh.vertices.shape[1], len(face.model.mean_shape)
        raise MismatchError(
            f"The mesh has {found} vertices and the head model of the face {expected}: drive the mesh with this face."
        )
    fragments = rasterize_mesh(mesh, view.regions, progress)
    ncc, mask, texture = _textures(view, fragments)
    return NccRender(ncc, mask, texture, lip_maps(face, view.mesh, mesh), fragments, mesh, view)


def reference_texture(view: SourceView) -> Tensor:
    """PT_ref [1, 3, 256, 256] of the portrait's own mesh, from the fragments that its view holds."""
    return _textures(view, view.fragments)[2]


def _textures(view: SourceView, fragments: Fragments) -> tuple[Tensor, Tensor, Tensor]:
    """NCC [T, 3, H, W], inner face [T, 1, H, W] and projected texture [T, 3, H, W] of T frames."""
    attributes = torch.cat((ncc_colors(view.face.model), view.regions.inner_face[:, None]), 1)  # [V, 4]
    maps = rearrange(interpolate(attributes, view.mesh.triangles, fragments), "t h w c -> t c h w")  # [T, 4, H, W]
    ncc, mask = maps[:, :3], maps[:, 3:]
    return ncc, mask, project_texture(view.face, ncc, mask)
