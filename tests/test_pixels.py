import pytest
import torch

from vividtalk_core.pixels import luma, to_float


def test_bytes_become_0_to_1_with_the_bits_of_a_division():
    values = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(to_float(values), values.float() / 255)
    assert (to_float(values).min(), to_float(values).max()) == (0, 1)


def test_other_types_keep_their_values():
    for dtype in (torch.float16, torch.float32, torch.float64, torch.int64):
        values = torch.tensor([[0, 1, 2]], dtype=dtype)
        assert to_float(values).dtype == torch.float32
        assert to_float(values).tolist() == [[0.0, 1.0, 2.0]]


def test_luma_is_that_of_rec_601():
    assert luma(torch.tensor([1.0, 0, 0]).view(3, 1, 1)).item() == pytest.approx(0.299)
    assert luma(torch.full((2, 3, 4, 5), 0.5)).shape == (2, 4, 5)
    torch.testing.assert_close(luma(torch.full((3, 2, 2), 0.5)), torch.full((2, 2), 0.5))
