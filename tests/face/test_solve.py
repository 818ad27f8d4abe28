"""The solver: analytic derivatives, the box, and that it finds what was projected."""

from dataclasses import replace

import pytest
import torch

from vividtalk_core.face import solve as module
from vividtalk_core.face.landmark_model import (
    SolveSettings,
    eye_opening,
    landmark_model,
    observed_points,
    point_weights,
)
from vividtalk_core.face.priors import COUPLED, OPPOSITES, expression_prior
from vividtalk_core.face.solve import Solution, box_quadratic, initial_solution, solve
from vividtalk_core.geometry import FOCAL_LENGTH, project, rotation_angles, rotation_matrix
from vividtalk_core.head.topology import LEFT_EYE_CORNERS, LEFT_IRIS, LEFT_LID_PAIRS, RIGHT_IRIS
from vividtalk_core.structures import ARKIT_NAMES

FAINT = SolveSettings(identity=0.01, expression=0.01, sparsity=0.001, exclusion=0.01, iterations=15)


@pytest.fixture(scope="module")
def small(head_model):
    return landmark_model(head_model, FAINT)


def coefficients(frames, **values):
    beta = torch.zeros(frames, len(ARKIT_NAMES))
    for name, value in values.items():
        beta[:, ARKIT_NAMES.index(name)] = torch.as_tensor(value)
    return beta


def observe(small, solution):
    """Landmarks [T, 470, 3] as MediaPipe would give them: z in px without an origin."""
    points = small.shape(solution.id_coefficients, solution.exp_coefficients)
    camera = points @ solution.rotation.mT + solution.translation[:, None]
    pixels = project(camera)
    scale = FOCAL_LENGTH / pixels[..., 2].mean(1, keepdim=True)
    return torch.cat((pixels[..., :2], (-camera[..., 2] * scale)[..., None] + 7), -1)


def someone(frames=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    angles = (torch.rand(frames, 3, generator=generator) - 0.5) * 0.4
    translation = (torch.rand(frames, 3, generator=generator) - 0.5) * torch.tensor([0.3, 0.3, 1.0])
    beta = coefficients(frames, jawOpen=torch.linspace(0.1, 0.6, frames), mouthSmileLeft=0.4, mouthSmileRight=0.4)
    return Solution(torch.randn(80, generator=generator) * 0.5, beta, rotation_matrix(angles), translation)


def test_initial_pose_of_a_rigid_head(small):
    truth = replace(someone(3), id_coefficients=torch.zeros(80), exp_coefficients=torch.zeros(3, 52))
    found = initial_solution(small, observe(small, truth), torch.zeros(80))
    assert (rotation_angles(found.rotation) - rotation_angles(truth.rotation)).abs().max() < 0.06
    assert (found.translation - truth.translation).abs().max() < 0.3


@pytest.mark.parametrize("frames", [1, 6])
def test_finds_what_was_projected(small, frames):
    truth = someone(frames)
    observed = observe(small, truth)
    found = solve(small, observed, FAINT)
    assert (observe(small, found)[..., :2] - observed[..., :2]).norm(dim=-1).mean() < 0.08
    assert (found.exp_coefficients[:, ARKIT_NAMES.index("jawOpen")] - truth.exp_coefficients[:, 24]).abs().max() < 0.12
    assert (rotation_angles(found.rotation) - rotation_angles(truth.rotation)).abs().max() < 0.03


def test_known_identity_gives_expression_and_pose(small):
    truth = someone(70)  # more than one chunk
    found = solve(small, observe(small, truth), FAINT, truth.id_coefficients)
    assert found.id_coefficients is truth.id_coefficients
    used = [ARKIT_NAMES.index(name) for name in ("jawOpen", "mouthSmileLeft", "mouthSmileRight")]
    assert (found.exp_coefficients - truth.exp_coefficients)[:, used].abs().max() < 0.08
    assert (found.exp_coefficients - truth.exp_coefficients).abs().mean() < 0.02
    assert (found.translation - truth.translation).abs().max() < 0.05


def test_coefficients_stay_in_the_box(small, head_model):
    truth = someone(4)
    beyond = replace(truth, exp_coefficients=truth.exp_coefficients * 3 - 0.5)
    found = solve(landmark_model(head_model, SolveSettings()), observe(small, beyond), SolveSettings())
    assert found.exp_coefficients.min() >= 0
    assert found.exp_coefficients.max() <= 1
    assert (found.exp_coefficients[:, ARKIT_NAMES.index("tongueOut")] == 0).all()


def test_opposites_are_not_used_together(head_model, small):
    settings = SolveSettings()
    noise = torch.randn(4, 470, 3, generator=torch.Generator().manual_seed(1)) * 0.7
    found = solve(landmark_model(head_model, settings), observe(small, someone(4)) + noise, settings)
    for names in (("mouthLeft", "mouthRight"), ("jawLeft", "jawRight")):
        both = found.exp_coefficients[:, [ARKIT_NAMES.index(name) for name in names]]
        assert both.amin(1).max() < 0.02


def test_a_frame_does_not_depend_on_the_others(small):
    truth = someone(5)
    observed = observe(small, truth)
    together = solve(small, observed, FAINT, truth.id_coefficients)
    alone = solve(small, observed[2:3], FAINT, truth.id_coefficients)
    assert torch.allclose(together.exp_coefficients[2], alone.exp_coefficients[0], atol=1e-3)


def test_jacobian_is_the_derivative(small):
    """By finite differences of the residuals, in double precision."""
    fields = {name: getattr(small, name) for name in ("mean", "identity", "expression", "normals", "weight")}
    exact = replace(small, **{name: tensor.double() for name, tensor in fields.items()})
    exact = replace(exact, pair_weight=small.pair_weight.double())
    at = someone(2)
    at = Solution(
        *(getattr(at, n).double() for n in ("id_coefficients", "exp_coefficients", "rotation", "translation"))
    )
    observed = observe(exact, at) + torch.randn(2, 470, 3, generator=torch.Generator().manual_seed(2)).double()
    residual, jacobian = module._linearize(exact, observed, FAINT, at, True)
    step = 1e-6
    for column, moved in {
        4: replace(at, translation=at.translation + torch.tensor([0.0, step, 0.0]).double()),
        6 + 24: replace(at, exp_coefficients=at.exp_coefficients + step * torch.eye(52)[24].double()),
        6 + 52 + 3: replace(at, id_coefficients=at.id_coefficients + step * torch.eye(80)[3].double()),
    }.items():
        change = (module._linearize(exact, observed, FAINT, moved, True)[0] - residual) / step
        assert torch.allclose(change, jacobian[..., column], atol=5e-2, rtol=1e-3)
    turn = torch.linalg.matrix_exp(module._cross_matrix(torch.tensor([0.0, step, 0.0]).double()))
    turned = module._linearize(exact, observed, FAINT, replace(at, rotation=turn @ at.rotation), True)[0]
    frontal = small.normals[:, 2] > 0.5  # whose weight does not change with the turn
    rows = torch.cat((frontal.repeat_interleave(3), torch.ones(len(residual[0]) - 1410, dtype=torch.bool)))
    assert torch.allclose(((turned - residual) / step)[:, rows], jacobian[:, rows, 1], atol=0.5, rtol=1e-2)


def test_box_quadratic_against_projected_gradient():
    generator = torch.Generator().manual_seed(3)
    factor = torch.randn(2, 12, 6, generator=generator)
    curvature = factor.mT @ factor + 0.1 * torch.eye(6)
    gradient, start = torch.randn(2, 6, generator=generator) * 5, torch.rand(2, 6, generator=generator)
    limit = torch.tensor([1.0, 1, 1, 1, 1, 0])
    start[:, 5] = 0
    reference = start.clone()
    for _ in range(5000):
        slope = (curvature @ (reference - start)[..., None])[..., 0] - gradient
        reference = torch.minimum((reference - 0.01 * slope).clamp(min=0), limit)
    found = box_quadratic(curvature, gradient, start, limit, 100)
    assert torch.allclose(found, reference, atol=1e-4)


def test_prior_names_its_coefficients():
    prior = expression_prior(ARKIT_NAMES, 2.0, 3.0, 5.0)
    index = {name: k for k, name in enumerate(ARKIT_NAMES)}
    assert torch.equal(prior.matrix, prior.matrix.T)
    assert all(prior.matrix[index[a], index[b]] == 5 for a, b in OPPOSITES)
    assert all(prior.matrix[index[a], index[b]] == -2 * tie for a, b, tie in COUPLED)
    assert prior.linear[index["jawOpen"]] == pytest.approx(0.6)
    assert prior.linear[index["browInnerUp"]] > prior.linear[index["jawOpen"]]
    assert prior.limit[index["tongueOut"]] == 0
    assert prior.limit.sum() == 51


def test_observed_points_take_the_irises_of_the_right_eyes():
    landmarks = torch.arange(478.0)[None, :, None].expand(1, 478, 3)
    points = observed_points(landmarks)
    assert points.shape == (1, 470, 3)
    assert points[0, 468:, 0].tolist() == [LEFT_IRIS[0], RIGHT_IRIS[0]]


def test_hidden_irises_do_not_count(small):
    observed = observe(small, someone(1))
    open_weight = point_weights(small, FAINT, torch.eye(3)[None], observed)
    upper, lower = (list(side) for side in zip(*LEFT_LID_PAIRS, strict=True))
    closed = observed.clone()
    closed[:, upper] = closed[:, lower]
    weight = point_weights(small, FAINT, torch.eye(3)[None], closed)
    assert eye_opening(closed, LEFT_LID_PAIRS, LEFT_EYE_CORNERS) == 0
    assert open_weight[0, 468, 0] > 1
    assert weight[0, 468, 0] == 0
    assert weight[0, 469, 0] == open_weight[0, 469, 0]


def test_what_turns_away_counts_less(small):
    observed = observe(small, someone(1))
    turned = rotation_matrix(torch.tensor([[0.0, 0.7, 0.0]]))  # nose to the viewer's right
    weight = point_weights(small, FAINT, turned, observed)[0, :, 0]
    frontal = point_weights(small, FAINT, torch.eye(3)[None], observed)[0, :, 0]
    near, far = 234, 454  # oval at the subject's right and left ear
    assert weight[far] < 0.7 * frontal[far]
    assert weight[near] >= frontal[near]
