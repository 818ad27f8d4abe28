"""Shared filters against plain loops."""

import math

import pytest
import torch

from vividtalk_core.errors import SettingsError
from vividtalk_core.filters import blur, blur_rows, gaussian, gaussian_kernel, ramp, smoothstep, upsample


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def plain_blur(values, sigma, sigma_past, reach):
    """A list of numbers, each replaced by the weighted mean of its neighbours; the ends are repeated."""
    out = []
    for centre in range(len(values)):
        total = weights = 0.0
        for lag in range(-reach, reach + 1):
            weight = math.exp(-((lag / (sigma if lag > 0 else sigma_past)) ** 2) / 2)
            total += weight * values[min(max(centre + lag, 0), len(values) - 1)]
            weights += weight
        out.append(total / weights)
    return out


def test_a_ramp_rises_or_falls_between_its_limits():
    value = torch.tensor([0.0, 2.0, 3.0, 4.0, 9.0])
    torch.testing.assert_close(ramp(value, 2, 4), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
    torch.testing.assert_close(ramp(value, 4, 2), torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]))


def test_smoothstep_is_flat_at_both_ends():
    value = torch.tensor([-1.0, 0.0, 0.25, 0.5, 1.0, 2.0], requires_grad=True)
    out = smoothstep(value)
    torch.testing.assert_close(out.detach(), torch.tensor([0.0, 0.0, 0.15625, 0.5, 1.0, 1.0]))
    out.sum().backward()
    torch.testing.assert_close(value.grad, torch.tensor([0.0, 0.0, 1.125, 1.5, 0.0, 0.0]))


def test_smoothstep_between_limits_is_that_of_the_ramp():
    value = noise(5, 7) * 10
    torch.testing.assert_close(smoothstep(value, 7, 3), smoothstep(ramp(value, 7, 3)))


def test_a_gaussian_is_one_at_its_centre_and_takes_widths_by_column():
    widths = torch.tensor([1.0, 2.0])
    found = gaussian(torch.tensor([[0.0, 0.0], [2.0, 2.0]]), widths)
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0], [math.exp(-2), math.exp(-0.5)]]))


def test_a_kernel_sums_to_one_and_is_wider_on_its_wider_side():
    kernel = gaussian_kernel(4, 1.0, 2.0, torch.float64)
    assert kernel.dtype == torch.float64 and len(kernel) == 9
    assert float(kernel.sum()) == pytest.approx(1.0)
    assert kernel[2] > kernel[6]
    torch.testing.assert_close(gaussian_kernel(4, 1.5), gaussian_kernel(4, 1.5).flip(0))


@pytest.mark.parametrize(("sigma", "past"), [(1.3, None), (0.7, 2.2), (2.2, 0.7)])
def test_rows_are_blurred_like_a_plain_loop(sigma, past):
    rows = noise(12, 3)
    widths = (sigma, sigma if past is None else past)
    reach = math.ceil(3 * max(widths))
    plain = torch.tensor([plain_blur(column, *widths, reach) for column in rows.T.tolist()]).T
    torch.testing.assert_close(blur_rows(rows, sigma, past), plain)


def test_a_blurred_impulse_has_its_width_and_keeps_the_sum():
    impulse = torch.zeros(41, 1)
    impulse[20] = 1
    smooth = blur_rows(impulse, 2.0)[:, 0]
    torch.testing.assert_close(smooth.sum(), torch.tensor(1.0))
    torch.testing.assert_close(smooth[22] / smooth[20], torch.tensor(math.exp(-0.5)))


def test_a_wide_future_makes_a_step_rise_early_and_a_wide_past_makes_it_late():
    step = torch.cat((torch.zeros(20), torch.ones(20)))[:, None]
    early, late = blur_rows(step, 4.0, 1.0), blur_rows(step, 1.0, 4.0)
    assert early[16] > 0.1 > late[16]
    assert early[23] > 0.9 > late[23]


def test_rows_of_width_zero_and_no_columns_are_returned():
    rows = noise(6, 2)
    assert blur_rows(rows, 0.0) is rows
    assert blur_rows(rows[:, :0], 3.0).shape == (6, 0)


@pytest.mark.parametrize("sigma", [-1.0, math.nan, math.inf, 1e9])
def test_a_width_that_is_none_is_refused(sigma):
    with pytest.raises(SettingsError, match="must be 0 to 10,000 frames"):
        blur_rows(noise(4, 1), sigma)


def test_an_image_is_blurred_along_rows_and_columns_like_a_plain_loop():
    image = noise(2, 1, 6, 9)
    reach = round(2.5 * 1.2)
    rows = [[plain_blur(row, 1.2, 1.2, reach) for row in plane] for plane in image[:, 0].tolist()]
    columns = [[plain_blur(column, 1.2, 1.2, reach) for column in torch.tensor(plane).T.tolist()] for plane in rows]
    plain = torch.tensor(columns).mT[:, None]
    torch.testing.assert_close(blur(image, 1.2), plain)


def test_a_blurred_image_has_the_same_bits_alone_and_among_others():
    image = noise(5, 3, 16, 16)
    assert torch.equal(blur(image, 2.0)[3], blur(image[3], 2.0))


def test_upsampling_keeps_pixel_centres():
    ramp_across = (torch.arange(4.0) + 0.5).expand(1, 1, 4, 4)
    inner = upsample(ramp_across, 16)[0, 0, 0, 2:-2]
    torch.testing.assert_close(inner, ((torch.arange(16.0) + 0.5) / 4)[2:-2])
    torch.testing.assert_close(upsample(torch.full((2, 3, 4, 4), 0.3), 16), torch.full((2, 3, 16, 16), 0.3))
