import pytest
import torch

from vividtalk_core.mesh_to_video.rasterizer import interpolate, rasterize, rasterize_reference

# counter-clockwise with y up is clockwise in pixels, where y points down
SQUARE = torch.tensor([[1.0, 1.0, 5.0], [1.0, 7.0, 5.0], [7.0, 7.0, 5.0], [7.0, 1.0, 5.0]])
FRONT = torch.tensor([[0, 1, 2], [0, 2, 3]])


def soup(count=90, size=24, seed=0):
    """A random triangle soup [1, 3·count, 3] with its triangles, half of it back faces."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 1, 3, generator=generator) * torch.tensor([size, size, 4.0])
    corners = centres + (torch.rand(count, 3, 3, generator=generator) - 0.5) * torch.tensor([12.0, 12.0, 1.0])
    return corners.reshape(1, -1, 3), torch.arange(3 * count).view(-1, 3)


def test_a_square_covers_exactly_its_pixel_centres():
    fragments = rasterize(SQUARE[None], FRONT, 8, 8)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[1:7, 1:7] = True
    assert torch.equal(fragments.triangle_index[0] >= 0, expected)
    assert torch.isinf(fragments.depth[0][~expected]).all()


def test_back_faces_are_skipped():
    assert (rasterize(SQUARE[None], FRONT.flip(1), 8, 8).triangle_index == -1).all()


@pytest.mark.parametrize("seed", range(5))
def test_the_fast_path_gives_the_fragments_of_the_reference(seed):
    vertices, triangles = soup(seed=seed)
    vertices = torch.cat((vertices, vertices + torch.tensor([3.3, -2.1, 0.0])))  # partly outside the picture
    fast, plain = rasterize(vertices, triangles, 20, 24), rasterize_reference(vertices, triangles, 20, 24)
    assert torch.equal(fast.triangle_index, plain.triangle_index)
    assert torch.equal(fast.barycentric, plain.barycentric)
    assert torch.equal(fast.depth, plain.depth)
    assert (fast.triangle_index >= 0).float().mean() > 0.3


def test_the_nearer_triangle_hides_the_other():
    far = SQUARE + torch.tensor([0.0, 0.0, 1.0])
    fragments = rasterize(torch.cat((far, SQUARE))[None], torch.cat((FRONT, FRONT + 4)), 8, 8)
    assert (fragments.triangle_index[0, 1:7, 1:7] >= 2).all()


def test_barycentric_weights_interpolate_the_pixel_centre():
    vertices, triangles = soup()
    fragments = rasterize(vertices, triangles, 24, 24)
    position = interpolate(vertices, triangles, fragments)[0]
    row, column = torch.nonzero(fragments.triangle_index[0] >= 0).unbind(1)
    torch.testing.assert_close(position[row, column, 0], column + 0.5, atol=1e-3, rtol=0)
    torch.testing.assert_close(position[row, column, 1], row + 0.5, atol=1e-3, rtol=0)
    torch.testing.assert_close(position[row, column, 2], fragments.depth[0, row, column])


def test_interpolate_is_zero_where_there_is_nothing():
    fragments = rasterize(SQUARE[None], FRONT, 8, 8)
    assert (interpolate(torch.ones(4, 2), FRONT, fragments)[0, 0] == 0).all()


def test_barycentric_gradients_match_finite_differences():
    vertices = SQUARE[None].double() + torch.tensor([0.13, 0.21, 0.0])
    color = torch.rand(1, 4, 1, generator=torch.Generator().manual_seed(0)).double()

    def picture(corners):
        return interpolate(color, FRONT, rasterize(corners, FRONT, 8, 8)).sum()

    vertices.requires_grad_()
    (gradient,) = torch.autograd.grad(picture(vertices), vertices)
    step = torch.zeros_like(vertices)
    step[0, 2, 0] = 1e-5
    numeric = (picture(vertices + step) - picture(vertices - step)) / 2e-5
    torch.testing.assert_close(gradient[0, 2, 0], numeric.detach(), rtol=1e-4, atol=1e-6)


def test_an_empty_picture_is_all_misses():
    fragments = rasterize(SQUARE[None] + 100, FRONT, 8, 8)
    assert (fragments.triangle_index == -1).all()
    assert (fragments.barycentric == 0).all()
