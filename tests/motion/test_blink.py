import dataclasses

import pytest
import torch

from vividtalk_core.errors import SettingsError
from vividtalk_core.motion.blink import (
    BlinkSettings,
    add_blinks,
    blink_curve,
    blink_times,
    gaze_curve,
    near_moments,
)
from vividtalk_core.motion.gaze import hold_gaze
from vividtalk_core.structures import ARKIT_NAMES, Expression, HeadMotion

SETTINGS = BlinkSettings()


def still(frames, fps=25.0):
    return Expression.from_rest(torch.zeros(frames, 52), torch.zeros(frames, 2, 3), fps)


def column(expression, name):
    return expression.coefficients[:, ARKIT_NAMES.index(name)]


def test_statistics_of_talking_people():
    for seed in range(5):
        times = torch.tensor(blink_times(1800.0, seed, SETTINGS))
        pauses = times.diff()
        doubles = (pauses < 0.5).float().mean()
        assert 18 <= len(times) / 30 <= 27
        assert 0.01 < doubles < 0.12
        assert pauses[pauses >= 0.5].min() >= SETTINGS.shortest_pause_s - 1e-6
        assert times[0] >= SETTINGS.first_s + SETTINGS.closing_s


def test_lids_close_fully_for_a_moment_and_close_faster_than_they_open():
    settings = BlinkSettings(double_share=0.0)
    seconds = (torch.arange(60_000, dtype=torch.float64) + 0.5) / 1000
    lids = blink_curve(seconds, 3, 1000.0, settings)
    peak = round(blink_times(60.0, 3, settings)[0] * 1000)
    around = lids[peak - 300 : peak + 300]
    assert around.max() == 1
    rising, falling = (around[:300] > 0).sum(), (around[300:] > 0).sum()
    assert 80 <= rising <= 90 and 125 <= falling <= 135  # ms
    assert 100 <= (around > 0.5).sum() <= 160


@pytest.mark.parametrize("fps", [12.0, 25.0, 29.97, 60.0])
def test_every_blink_is_seen_at_every_frame_rate(fps):
    frames = round(60 * fps)
    lids = blink_curve((torch.arange(frames, dtype=torch.float64) + 0.5) / fps, 1, fps, SETTINGS)
    assert (lids == 1).sum() >= len(blink_times(59.0, 1, SETTINGS))


def test_a_longer_clip_begins_like_a_shorter_one():
    long = add_blinks(still(2000), 7).coefficients
    for frames in range(1, 200, 13):
        torch.testing.assert_close(add_blinks(still(frames), 7).coefficients, long[:frames])
    assert not torch.equal(add_blinks(still(2000), 8).coefficients, long)


def test_blinks_take_the_larger_value_and_bring_a_squint():
    squinting = still(500)
    squinting.coefficients[:, ARKIT_NAMES.index("eyeBlinkLeft")] = 0.3
    result = add_blinks(squinting, 0)
    assert column(result, "eyeBlinkLeft").min() == pytest.approx(0.3)
    assert column(result, "eyeBlinkLeft").max() == column(result, "eyeBlinkRight").max() == 1
    assert column(result, "browDownLeft").max() == pytest.approx(SETTINGS.squint)
    assert squinting.coefficients.max() == pytest.approx(0.3)  # the input is not edited
    assert column(result, "jawOpen").max() == 0


def test_eyes_move_together_a_little():
    gaze = gaze_curve(torch.arange(0, 600, 0.04, dtype=torch.float64), 2, SETTINGS)
    assert 0.03 < gaze.abs().max() <= SETTINGS.gaze_amplitude + 1e-9
    assert (gaze.abs().sum(1) < 1e-9).float().mean() > 0.3  # mostly on the viewer
    assert gaze[:12].abs().max() == 0
    result = add_blinks(still(5000), 2)
    torch.testing.assert_close(column(result, "eyeLookOutLeft"), column(result, "eyeLookInRight"))
    assert column(result, "eyeLookOutLeft").max() > 0
    assert (column(result, "eyeLookOutLeft") * column(result, "eyeLookOutRight")).max() == 0


def test_settings_switch_things_off():
    off = dataclasses.replace(SETTINGS, per_minute=0.0, gaze_amplitude=0.0)
    assert add_blinks(still(1000), 0, off).coefficients.max() == 0
    assert add_blinks(still(0), 0).coefficients.shape == (0, 52)
    with pytest.raises(SettingsError, match="0 to 60 per minute; got 90"):
        add_blinks(still(3), 0, BlinkSettings(per_minute=90))


def test_blinks_come_nearer_to_moments():
    moments = [10.0, 20.0]
    assert near_moments([9.5, 10.0, 15.0], moments, SETTINGS) == pytest.approx([9.75, 10.0, 15.0])
    times = blink_times(1800.0, 5, SETTINGS)
    moments = [float(second) for second in range(2, 1800, 3)]
    moved = near_moments(times, moments, SETTINGS)
    assert moved == sorted(moved)

    def near(blinks):
        """Share of the blinks within 0.3 s of a moment."""
        return sum(min(abs(moment - t) for moment in moments) < 0.3 for t in blinks) / len(blinks)

    # blinks are no more frequent there than elsewhere
    assert near(times) == pytest.approx(0.2, abs=0.04)
    assert near(moved) == pytest.approx(0.4, abs=0.05)


def test_blinks_come_nearer_to_the_ends_of_phrases_and_to_turns_of_the_head():
    early = column(add_blinks(still(500), 7), "eyeBlinkLeft")
    (first, *_) = (early == early.max()).nonzero()[:, 0].tolist()
    end = (first + 0.5) / 25 + 0.3
    angles = torch.zeros(500, 3)
    angles[:, 1] = 0.15 * torch.tanh((torch.arange(500) / 25 - end) * 6)  # 9 degrees to either side
    turning = hold_gaze(still(500), HeadMotion(angles, torch.zeros(500, 3), 25.0))
    by_phrase = add_blinks(still(500), 7, phrase_ends=[end + SETTINGS.phrase_lead_s])
    for moved in (by_phrase, add_blinks(turning, 7)):
        curve = column(moved, "eyeBlinkLeft")
        assert (curve[:100].argmax() - first) / 25 == pytest.approx(0.15, abs=0.05)


def test_blinks_depend_on_the_phrases_nearby_only():
    ends = [float(second) for second in range(2, 80, 3)]
    long = add_blinks(still(2000), 7, phrase_ends=ends).coefficients
    part = add_blinks(still(500), 7, phrase_ends=[end for end in ends if end < 20]).coefficients
    assert torch.equal(part, long[:500])
    assert not torch.equal(add_blinks(still(2000), 7).coefficients, long)
