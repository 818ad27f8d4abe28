"""Portrait to `FaceFit`: landmarks, α, β and pose, and the residuals that the 3DMM does not explain."""

from __future__ import annotations

import torch
from kornia.filters import filter2d_separable
from torch import Tensor

from ..filters import gaussian_kernel
from ..geometry import inside_polygon, pixel_centres, rotation_angles
from ..head.morphable import shape
from ..head.topology import FACE_OVAL
from ..structures import CROP, FaceFit, HeadPose
from .align import cut_crop, face_crop, to_crop
from .find import check_portrait, find_landmarks
from .landmark_model import SolveSettings, landmark_model, observed_points
from .models import FaceModels
from .offsets import offset_spread, vertex_offsets
from .solve import solve

STILL_FPS = 25.0  # frames per second in the pose of a portrait, which has a single frame
MASK_EDGE = 3.0  # px of the 256 crop, standard deviation of the inner-face mask's edge
MASK_REACH = 9  # px, three standard deviations


def fit_face(
    models: FaceModels,
    portrait: Tensor,
    face_index: int = 0,
    box: tuple[float, float, float, float] | None = None,
    threshold: float = 0.5,
    force: bool = False,
) -> FaceFit:
    """Fit the 3DMM to one face of a portrait.

    Args:
        models: from `load_face_models`.
        portrait: [B, 3, H, W] RGB in 0..1; the first picture is used.
        face_index: which face, counted from the largest (0).
        box: left, top, right, bottom in px around the face, for pictures in which none is detected.
        threshold: of the face detector, 0..1.
        force: use the face even if the landmark network's presence score is too low.

    Raises:
        MediaError: the portrait cannot be used.
        NoFaceError: it holds no such face; the message says what was found.
        SettingsError: the box is not inside the portrait.
    """
    check_portrait(portrait)
    with torch.no_grad():
        image = portrait[:1].to(models.head.mean_shape.device).float().clamp(0, 1)
        landmarks = find_landmarks(models, image, face_index, box, threshold, force)
        crop = face_crop(landmarks, image.shape[2], image.shape[3])
        points = to_crop(landmarks, crop)
        identity, expression, pose = fit_points(models, points[None])
        vertices = shape(models.head, identity, expression)
        spread = offset_spread(models.head)
        # cut from the clamped portrait itself: the fit needs landmarks only, the networks of stage 2 these pixels
        square = cut_crop(image, crop)
        return FaceFit(
            image=square,
            landmarks=points,
            id_coefficients=identity,
            exp_coefficients=expression[0],
            pose=pose,
            vertex_offsets=vertex_offsets(models.head, vertices, pose, points[None, :468, :2], spread)[0],
            face_mask=face_mask(points),
            person_mask=models.segmenter.segment(square).clamp(0, 1),
            crop=crop,
            model=models.head,
        )


def fit_points(
    models: FaceModels, landmarks: Tensor, settings: SolveSettings | None = None
) -> tuple[Tensor, Tensor, HeadPose]:
    """α [I], β [T, E] and the absolute pose of T views of one person.

    Args:
        models: for the head.
        landmarks: [T, 478, 3] px of the 256 crop, pixel centres at .5.
        settings: weights of the fit.
    """
    settings = settings or SolveSettings()
    observed = observed_points(landmarks.to(models.head.mean_shape.device))
    solution = solve(landmark_model(models.head, settings), observed, settings)
    pose = HeadPose(rotation_angles(solution.rotation), solution.translation, STILL_FPS)
    return solution.id_coefficients, solution.exp_coefficients, pose


def face_mask(landmarks: Tensor) -> Tensor:
    """The inner face M [1, 1, 256, 256], 0..1 with a soft edge: the oval of landmarks [478, 2 or 3] px of the crop."""
    # a soft edge, because the mask blends two textures: a hard one would show as a line
    inside = inside_polygon(pixel_centres(CROP, CROP, landmarks.device), landmarks[list(FACE_OVAL), :2])
    kernel = gaussian_kernel(MASK_REACH, MASK_EDGE, dtype=landmarks.dtype, device=landmarks.device)[None]
    return filter2d_separable(inside.to(landmarks.dtype)[None, None], kernel, kernel, "replicate")
