import cv2
import numpy as np
import pytest
import torch

from vividtalk_core.training.loop.image_grid import GAP_PX, picture_grid, write_grid


def test_pictures_stand_where_they_belong():
    red = torch.zeros(3, 4, 5)
    red[0] = 1
    grid = picture_grid([[red, red * 0.5], [torch.zeros(1, 6, 3)]])
    assert grid.shape == (3, 4 + GAP_PX + 6, 5 + GAP_PX + 5) and grid.dtype == torch.float32
    assert torch.equal(grid[:, :4, :5], red) and torch.equal(grid[:, :4, 5 + GAP_PX :], red * 0.5)
    assert not grid[:, 4 + GAP_PX :, :3].any(), "a map is grey"
    rest = torch.ones_like(grid, dtype=torch.bool)
    rest[:, :4, :5] = rest[:, :4, 5 + GAP_PX :] = rest[:, 4 + GAP_PX :, :3] = False
    assert (grid[rest] == 1).all()


def test_pictures_of_several_heights():
    grid = picture_grid([[torch.zeros(3, 2, 4), torch.zeros(3, 5, 4)], []])
    assert grid.shape == (3, 5, 8 + GAP_PX)
    assert not grid[:, :2, :4].any() and (grid[:, 2:, :4] == 1).all() and not grid[:, :, 4 + GAP_PX :].any()


def test_one_picture_is_itself_within_0_and_1():
    picture = torch.tensor([-1.0, 0.25, 2.0, float("nan")], dtype=torch.float64).requires_grad_()
    assert torch.equal(picture_grid([[picture.view(1, 1, 4)]])[0, 0], torch.tensor([0, 0.25, 1, 0]))


def test_file_holds_the_pictures(tmp_path):
    pictures = torch.rand(3, 7, 9, generator=torch.Generator().manual_seed(0))
    write_grid(tmp_path / "a.png", torch.zeros(3, 1, 1))
    write_grid(tmp_path / "a.png", pictures)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    read = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    np.testing.assert_array_equal(read, (pictures.permute(1, 2, 0) * 255).round().numpy())


@pytest.mark.parametrize("rows", [[], [[]]])
def test_no_pictures(rows):
    with pytest.raises(ValueError, match="a grid needs at least one picture; got none"):
        picture_grid(rows)


@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 3, 4, 4), (3, 0, 4)])
def test_no_picture(shape, tmp_path):
    message = r"a picture must be \[3, H, W\] or \[1, H, W\] with pixels; got \[" + ", ".join(map(str, shape))
    with pytest.raises(ValueError, match=message):
        picture_grid([[torch.zeros(shape)]])
    with pytest.raises(ValueError, match=message):
        write_grid(tmp_path / "a.png", torch.zeros(shape))
    assert not list(tmp_path.iterdir())
