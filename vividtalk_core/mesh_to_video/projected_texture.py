"""PT = PT_in·M + PT_out·(1−M): the driven mesh where the inner face is, the portrait elsewhere (Eq. 6)."""

from __future__ import annotations

from torch import Tensor

from ..structures import FaceFit


def project_texture(face: FaceFit, ncc: Tensor, face_mask: Tensor) -> Tensor:
    """Compose the projected texture.

    Args:
        face: the fitted portrait, whose crop is the outer texture PT_out.
        ncc: [T, 3, H, W] rendered NCC, the inner texture PT_in.
        face_mask: [T, 1, H, W] M of the driven mesh.

    Returns:
        [T, 3, H, W] in 0..1.
    """
    return ncc * face_mask + face.image * (1 - face_mask)
