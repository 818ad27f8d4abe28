"""Crops, regions and the metrics of one row."""

from types import SimpleNamespace

import pytest
import torch

from vividtalk_core.eval.evaluators import Evaluators
from vividtalk_core.eval.protocols.reenactment_score import (
    BORDER_PX,
    FrameSample,
    RowMeter,
    face_cpbd,
    oval_border,
    sample_frame,
    small_crop,
    to_native,
)
from vividtalk_core.eval.sharpness import cpbd
from vividtalk_core.structures import Crop


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def points_in(left, top, right, bottom):
    """[478, 2] px spread over a box; the irises, which do not count, lie in its corner."""
    share = torch.cat((torch.linspace(0, 1, 468), torch.ones(10)))[:, None]
    return torch.cat((left + share * (right - left), top + share * (bottom - top)), 1)


@pytest.fixture
def meter():
    crop = Crop(0, 0, 256, 256, 256)
    frame = noise(3, 256, 256)
    return RowMeter(Evaluators(None), FrameSample(frame, frame[None], points_in(64, 64, 192, 192)), crop)


def test_a_crop_is_shown_at_256():
    image = torch.rand(3, 300, 280)
    same = small_crop(image, Crop(10, 20, 256, 300, 280))
    torch.testing.assert_close(same[0], image[:, 20:276, 10:266])
    small = small_crop(torch.full((3, 600, 600), 0.3), Crop(0, 0, 512, 600, 600))
    torch.testing.assert_close(small, torch.full((1, 3, 256, 256), 0.3))


def test_landmarks_are_looked_for_where_they_are_expected():
    asked = []

    def landmarks(image, region):
        asked.append((image.shape, region.centre[0].tolist()))
        return torch.full((1, 478, 3), 100.0), None

    models = SimpleNamespace(landmarker=SimpleNamespace(landmarks=landmarks))
    sample = sample_frame(models, torch.rand(3, 256, 256), Crop(0, 0, 256, 256, 256), points_in(50, 60, 150, 160))
    assert asked[0][0] == (1, 3, 256, 256) and asked[0][1] == pytest.approx([100, 110], abs=0.01)
    torch.testing.assert_close(sample.points, torch.full((478, 2), 100.0), atol=0.51, rtol=0)


@pytest.mark.parametrize(
    "crop", [Crop(-40, 10, 200, 150, 180), Crop(30, 20, 100, 150, 180)], ids=["overhangs", "inside"]
)
def test_masks_come_back_to_the_portrait(crop):
    mask = torch.zeros(256, 256, dtype=torch.bool)
    mask[:128] = True
    for outside in (False, True):
        whole = to_native(mask, crop, outside)
        for y in range(0, crop.height, 7):
            for x in range(0, crop.width, 7):
                row, column = y - crop.top, x - crop.left
                within = 0 <= row < crop.size and 0 <= column < crop.size
                assert bool(whole[y, x]) == (row < crop.size / 2 if within else outside)


def test_the_border_lies_on_both_sides():
    disc = torch.zeros(64, 64, dtype=torch.bool)
    disc[16:48, 16:48] = True
    border = oval_border(disc)
    middle = border[32].nonzero()[:, 0].tolist()
    assert middle == [*range(16 - BORDER_PX, 16 + BORDER_PX), *range(48 - BORDER_PX, 48 + BORDER_PX)]


def test_sharpness_is_that_of_whole_blocks_around_the_face():
    frame, crop = noise(3, 300, 300), Crop(20, 10, 256, 300, 300)
    sample = FrameSample(frame, frame[None, :, 10:266, 20:276], points_in(70, 60, 170, 180))  # 100 × 120 px: 128 × 128
    like = sample.points + 5.0
    assert face_cpbd(sample, crop, like) == cpbd(frame[:, 10 + 56 : 10 + 184, 20 + 56 : 20 + 184])


def test_the_largest_change_of_what_should_stand_still(meter):
    still, background = torch.zeros(2, 256, 256, dtype=torch.bool).unbind()
    frame = meter.source.frame.clone()
    frame[:, 100, 100] = (frame[:, 100, 100] + 0.5) % 1
    meter.compare_background(frame, still, background)
    assert meter.still_change is None, "there was nothing to look at"
    still[:50] = background[:10, :10] = True
    meter.compare_background(frame, still, background)
    assert meter.still_change == 0 and meter.values["background_change"] == [0]
    frame[0, 0, 0] = meter.source.frame[0, 0, 0] + 0.2
    meter.compare_background(frame, still, background)
    meter.compare_background(meter.source.frame, still, background)
    assert meter.still_change == pytest.approx(51, abs=0.01), "the worst frame counts"
    assert meter.values["background_change"][1] == pytest.approx(51 / 300, abs=0.01)


def test_metrics_are_means_over_the_images(meter):
    for error in (0.01, 0.1):
        sample = FrameSample(meter.source.frame, (meter.source.small + error), meter.source.points + 2.0)
        meter.measure(sample, meter.source.points)
        points = points_in(64, 64, 192, 192)
        points[:, 0] = points[torch.randperm(478, generator=torch.Generator().manual_seed(1)), 0]  # not on one line
        meter.compare(sample, meter.source.small, points)
    score = meter.score(meter)
    assert score.mouth_psnr == pytest.approx((40 + 20) / 2, abs=0.01)
    assert score.misregistration_px == pytest.approx(8**0.5, abs=1e-3)
    assert score.mouth_distance == pytest.approx(0, abs=1e-5), "a shift of the whole face is no other mouth"
    assert (score.csim, score.perceptual, score.face_jitter, score.still_change) == (None, None, None, None)


def test_jitter_is_a_ratio_to_the_real_one(meter):
    real = RowMeter(meter.evaluators, meter.source, meter.crop)
    everywhere = (torch.ones(256, 256, dtype=torch.bool),) * 3
    for value in (0.0, 0.2, 0.0, 0.2):
        meter.jitter.add(torch.full((3, 256, 256), value), everywhere)
        real.jitter.add(torch.full((3, 256, 256), value / 2), everywhere)
    score = meter.score(real)
    assert (score.face_jitter, score.border_jitter, score.edge_jitter) == pytest.approx((2, 2, 2))
