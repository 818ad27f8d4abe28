"""Where phrases end."""

import torch

from vividtalk_core.audio.mel import log_mel
from vividtalk_core.audio.speech import phrase_ends

RATE = 16_000


def voice(*spans, seconds=4.0):
    """Noise that is loud in some spans, in seconds, over a quiet background."""
    generator = torch.Generator().manual_seed(0)
    sound = 1e-4 * torch.randn(round(seconds * RATE), generator=generator)
    for start, end in spans:
        part = slice(round(start * RATE), round(end * RATE))
        sound[part] += 0.1 * torch.randn(part.stop - part.start, generator=generator)
    return log_mel(sound)


def test_a_phrase_ends_where_a_pause_begins():
    (first, second) = phrase_ends(voice((0.5, 1.5), (2.0, 3.0)))
    assert abs(first - 1.5) < 0.06 and abs(second - 3.0) < 0.06


def test_a_short_gap_is_no_pause_and_a_click_no_phrase():
    assert len(phrase_ends(voice((0.5, 1.5), (1.6, 2.6)))) == 1
    assert phrase_ends(voice((0.5, 1.5), (3.0, 3.03))) == phrase_ends(voice((0.5, 1.5)))


def test_silence_and_speech_without_an_end_have_none():
    assert phrase_ends(torch.full((300, 80), -16.0)) == []
    assert phrase_ends(voice((0.5, 4.0))) == []
