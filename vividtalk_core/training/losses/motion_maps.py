"""Linear maps from standardised motion to lip vertices and to the mouth curves that losses and metrics use."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...audio_to_mesh.expression import ExpressionGenerator
from ...head.mouth_shape import mouth_curves
from ...structures import Expression, MorphableModel

# Of brows, cheeks and eyes in ‖β − β̂‖: they depend little on the sound, and would lead the gradient away from the
# lips.
OTHER_WEIGHT = 0.1


@dataclass(frozen=True, eq=False, slots=True)
class MotionMaps:
    """Matrices from standardised motion [..., M] to lips and curves of the mean head."""

    mesh: Tensor  # [M, 3L] model units
    mesh_variance: float  # of the training clips, mean over coordinates
    curve: Tensor  # [M, 3] IOD, aperture, width and height of the upper lip
    curve_mean: Tensor  # [3] IOD, at motion zero
    curve_std: Tensor  # [3] IOD, of the training clips
    rest_aperture: float  # IOD, of the mean head at rest
    weight: Tensor  # [M] of each dimension in ‖β − β̂‖

    def curves(self, motion: Tensor) -> Tensor:
        """Aperture, width and height of the upper lip [..., 3] in IOD."""
        return motion @ self.curve + self.curve_mean

    def to(self, device: torch.device) -> MotionMaps:
        """The same maps on a device."""
        moved = {
            name: getattr(self, name).to(device) for name in ("mesh", "curve", "curve_mean", "curve_std", "weight")
        }
        return replace(self, **moved)


def make_maps(generator: ExpressionGenerator, model: MorphableModel, motion: Tensor) -> MotionMaps:
    """The maps of a generator's motion, with their standard deviation over training motion [N, M]."""
    size = sum(generator.sizes)
    # the mean motion first, then one standard deviation of each dimension
    coefficients, lips = generator.to_curves(torch.cat((torch.zeros(1, size), torch.eye(size))))
    vertices = torch.tensordot(coefficients, model.exp_basis[:, model.lip_vertices], 1) + lips
    mesh = (vertices[1:] - vertices[0]).flatten(1)
    curves = mouth_curves(Expression.from_rest(coefficients, lips, generator.config.fps), model)
    still = Expression.from_rest(coefficients[:1] * 0, lips[:1] * 0, generator.config.fps)
    # They are lengths, which are not quite linear: this is their slope at the mean motion.
    curve = curves[1:] - curves[0]
    effect = mesh.norm(dim=1)
    # A dimension counts by how far one standard deviation of it moves the lips. The root keeps the small ones from
    # vanishing.
    weight = (effect / effect.max()).sqrt()
    weight[generator.sizes[0] : generator.sizes[0] + generator.sizes[1]] = OTHER_WEIGHT
    return MotionMaps(
        mesh=mesh,
        mesh_variance=float((motion @ mesh).var(0).mean()),
        curve=curve,
        curve_mean=curves[0],
        curve_std=(motion @ curve).std(0),
        rest_aperture=float(mouth_curves(still, model)[0, 0]),
        weight=weight,
    )
