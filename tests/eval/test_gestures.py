"""Gestures of the mouth: which phones count, and when a curve meets them."""

import pytest
import torch

from vividtalk_core.audio.phones import Phone
from vividtalk_core.eval.gestures import GESTURES, gesture_recall

FPS = 25.0


def curves(aperture, width, upper_lip=None):
    upper_lip = width if upper_lip is None else upper_lip
    return torch.stack([torch.tensor(curve) for curve in (aperture, width, upper_lip)], -1)


def test_only_certain_phones_of_the_gesture_count():
    phones = [Phone("F", 0.0, 0.1), Phone("V", 0.1, 0.2, 0.4), Phone("AA", 0.2, 0.3)]
    assert gesture_recall([(curves([0.0] * 5, [1.0] * 5), phones)], GESTURES["bite"], FPS) == (1.0, 1)


def test_lips_shut_and_spread_where_they_should():
    ramp = [i / 99 for i in range(100)]  # 4 s: the aperture grows, the width shrinks
    clip = curves(ramp, ramp[::-1])
    early, late = (Phone("B", 0.2, 0.3), Phone("IY", 0.2, 0.3)), (Phone("M", 3.5, 3.6), Phone("UW", 3.5, 3.6))
    phones = [*early, *late]
    assert gesture_recall([(clip, phones)], GESTURES["shut"], FPS) == (0.5, 2)
    assert gesture_recall([(clip, phones)], GESTURES["spread"], FPS) == (1.0, 1)
    assert gesture_recall([(clip, phones)], GESTURES["round"], FPS) == (1.0, 1)
    assert gesture_recall([(clip, phones)], GESTURES["bite"], FPS) == (None, 0)


def test_recall_is_over_all_phones_of_all_clips():
    ramp = [i / 99 for i in range(100)]
    clip, other = curves(ramp, ramp), curves(ramp[::-1], ramp)
    phones = [Phone("P", 0.1, 0.2), Phone("P", 0.4, 0.5), Phone("P", 9.0, 9.1)]  # the last one is behind the end
    recall, count = gesture_recall([(clip, phones), (other, phones[:1])], GESTURES["shut"], FPS)
    assert count == 3
    assert recall == pytest.approx(2 / 3)


def test_f_and_v_lift_the_upper_lip_and_p_does_not():
    ramp = [i / 99 for i in range(100)]
    lifted = curves([0.0] * 100, ramp, upper_lip=ramp)  # low at first
    early, late = [Phone("F", 0.4, 0.5), Phone("P", 0.4, 0.5)], [Phone("V", 3.4, 3.5)]
    assert gesture_recall([(lifted, early)], GESTURES["lift"], FPS) == (1.0, 1)
    assert gesture_recall([(lifted, early + late)], GESTURES["lift"], FPS) == (0.5, 2)
    assert gesture_recall([(lifted, early + late)], GESTURES["bite"], FPS) == (1.0, 2)
