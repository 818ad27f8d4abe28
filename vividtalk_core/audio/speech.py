"""Curves of speech from a log-mel: loudness, opening, lip shape, hiss and closures, 100 times a second.

No weights: eight bands, each compared with the clip's own loud parts and background, so that the curves do not depend
on volume, microphone and background noise. These levels are of the whole clip; everything else has a bounded window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..filters import blur_rows
from ..structures import MEL_RATE
from .mel import band_centres

# Hz. Voicing bar · first formant of closed, of open vowels · second of back, of front vowels · third · friction.
BANDS = (40, 270, 480, 850, 1350, 2000, 2900, 4300, 8000)
DECIBEL = math.log(10) / 10  # nats of log-energy
RANGE = 26 * DECIBEL  # from the loud parts of a band down to a closed mouth
LOUD_SHARE = 15 * DECIBEL  # below the clip's peak: still speech at full voice
NOISE_MARGIN = 4 * DECIBEL  # above the quiet parts of the clip: still background
# A band that varies less than this holds no speech: steady noise, or cut off by a codec.
LEAST_RANGE = 8 * DECIBEL
# Weight of each band as evidence of an open mouth. Open vowels are strong at 0.5–0.85 kHz (F1) and at 1.3–2.9 kHz; a
# strong 0.27–0.48 kHz is the F1 of a nearly closed mouth and of nasals; friction keeps the lips apart. Set by hand
# after the correlation of each band with the measured lip aperture of 26 speakers.
OPENING = (0.3, -0.9, 0.7, -0.3, 0.6, 0.9, -0.1, 0.3)
# Spread lips (a high F2) against round ones (a low F2, energy at 0.27–0.48 kHz only).
SPREAD = (0.0, -1.0, 0.0, -0.5, 0.7, 0.4, 0.5, 0.1)
# Below 1, because half-loud syllables still open the mouth.
FLATTENING = 0.8  # exponent
# Shorter dips are tongue consonants, for which the lips do not close.
DIP = 3  # frames on either side
# Lower limit where the F1 of open vowels is strong: o and aw are open, but have little energy above 1 kHz.
DARK_OPENING = 0.5
SPOKEN = 0.3  # of the loudness
PAUSE = 20  # frames of silence that end a phrase
PHRASE = 40  # frames before it, most of which are speech
# A labial closure is held this long, so that a video frame, which covers four of these frames, shows it.
HOLD = 3  # frames on either side


@dataclass(frozen=True, eq=False, slots=True)
class Speech:
    """Curves of speech at 100 values per second, all [M]."""

    level: Tensor  # 0..1 loudness between the clip's background and its loud parts
    opening: Tensor  # 0 closed … 1 the clip's wide vowels, up to 1.3
    spread: Tensor  # −1 round … +1 spread
    hiss: Tensor  # 0..1 friction without voice: teeth close together
    closure: Tensor  # 0..1 lips pressed together: p, b, m


def analyse(mel: Tensor) -> Speech:
    """Curves of a log-mel [M, 80] at 100 frames per second."""
    energy = band_energy(mel)
    # without the voicing bar, where mains hum lies, and without the hiss
    loudness = energy[:, 1:7].logsumexp(-1)
    share = blur_rows(_above_background(energy, loudness), 1.5, 1.5)  # [M, 8]
    level = blur_rows(_above_background(loudness[:, None], loudness), 1.5, 1.5)[:, 0]
    loud = level > 0.6
    # silence has no loud parts to compare with
    if not loud.any():
        zero = torch.zeros(len(mel), device=mel.device)
        return Speech(level=zero, opening=zero, spread=zero, hiss=zero, closure=zero)
    opening = _fill_dips((share @ share.new_tensor(OPENING)).clamp(min=0))
    # the clip's own wide vowels become 1: the 90th percentile, because one very loud frame must not set the scale
    opening = (opening / _quantile(opening[loud], 0.9).clamp(min=0.1)) ** FLATTENING
    opening = torch.maximum(opening, DARK_OPENING * share[:, 2])
    tilt = share @ share.new_tensor(SPREAD)
    # relative to the clip's median, because voice and microphone tilt the spectrum too; quiet frames count less,
    # because their tilt is that of the noise
    spread = torch.tanh(1.5 * (tilt - _quantile(tilt[loud], 0.5))) * (2 * level).clamp(max=1)
    hiss = (share[:, 7] - share[:, 1:4].amax(-1)).clamp(0, 1)
    return Speech(level.clamp(max=1), opening.clamp(max=1.3), spread, hiss, _labial_closure(share))


def phrase_ends(mel: Tensor) -> list[float]:
    """When phrases end, in seconds, ascending: after speech comes a pause of 0.2 s or more.

    Args:
        mel: [M, 80] of `mel.log_mel`.
    """
    spoken = (analyse(mel).level > SPOKEN).cpu()
    # the ends of runs of speech: the first frame of each run of silence
    ends = (spoken[:-1] & ~spoken[1:]).nonzero()[:, 0] + 1
    pauses = [int(end) for end in ends if end + PAUSE <= len(spoken) and not spoken[end : end + PAUSE].any()]
    # a single click is no phrase
    return [end / MEL_RATE for end in pauses if spoken[max(0, end - PHRASE) : end].float().mean() > 0.5]


def band_energy(mel: Tensor) -> Tensor:
    """[M, 8] mean log-energy between the edges of `BANDS`."""
    edges = torch.bucketize(torch.tensor(BANDS[1:-1], dtype=torch.float32), band_centres()).tolist()
    return torch.stack([part.mean(-1) for part in mel.tensor_split(edges, -1)], -1)


def _above_background(energy: Tensor, loudness: Tensor) -> Tensor:
    """Log-energies [M, K] as 0 (the clip's background, or `RANGE` under its loud parts) … 1 (its loud parts)."""
    loud = _quantile(energy[loudness > _quantile(loudness, 0.98) - LOUD_SHARE], 0.9)
    low = torch.maximum(loud - RANGE, _quantile(energy, 0.1) + NOISE_MARGIN)
    return ((energy - low) / (loud - low).clamp(min=LEAST_RANGE)).clamp(0, 1.2)


def _quantile(curves: Tensor, share: float) -> Tensor:
    """Quantile along time of curves [M, ...]; by sorting, because `torch.quantile` is limited to 16 million values."""
    return curves.sort(0).values[round(share * (len(curves) - 1))]


def _fill_dips(curve: Tensor) -> Tensor:
    """Fill dips [M] of up to 2 · `DIP` frames: the largest nearby, then the smallest of that (grey closing)."""
    # a minimum is the maximum of the curve [M, 1] with its sign changed
    return -_largest_nearby(-_largest_nearby(curve, -DIP, DIP), -DIP, DIP)


def _labial_closure(share: Tensor) -> Tensor:
    """[M] 0..1 from band shares [M, 8]: all bands fall, then vowels rise without the burst of hiss of t or k.

    The first formant counts less, because m has energy there. After a pause the evidence is weaker: lips are closed at
    rest too.
    """
    vowel = share[:, 2:6].mean(-1)
    loudest = torch.maximum(0.7 * share[:, 1], share[:, 2:].amax(-1))
    quiet = (1 - 2 * loudest).clamp(0, 1)
    rise = (_largest_nearby(vowel, 2, 10) - vowel).clamp(0, 1)
    burst = _largest_nearby(share[:, 7], -3, 5)
    spoken_before = (2 * _largest_nearby(vowel, -20, -2)).clamp(0, 1)
    evidence = quiet * rise * (1 - burst / 0.9).clamp(0, 1) * (0.5 + 0.5 * spoken_before)
    return blur_rows(_largest_nearby((6 * evidence - 0.9).clamp(0, 1), -HOLD, HOLD)[:, None], 1, 1)[:, 0]


def _largest_nearby(curve: Tensor, first: int, last: int) -> Tensor:
    """[M] the largest of `curve` [M] from `first` to `last` frames later, the ends repeated."""
    reach = max(abs(first), abs(last))
    # pooling wants [1, 1, M] and pads evenly, but this window may lie all before or all after its frame
    padded = F.pad(curve[None, None], (reach, reach), mode="replicate")
    return F.max_pool1d(padded[..., reach + first : padded.shape[-1] - reach + last], last - first + 1, 1)[0, 0]


def speaking_and_stress(level: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the time around is speech, and accents, from the loudness [M]; both smooth, 0..1, [M]."""
    speaking = blur_rows(_largest_nearby(level, -15, 15)[:, None], 15, 25)[:, 0]
    # an accent is louder than its phrase (σ 0.6 s), not just loud; `blur_rows` takes columns [M, 1]
    phrase = blur_rows(level[:, None], 60, 60)[:, 0]
    stress = (blur_rows(level[:, None], 12, 12)[:, 0] - phrase).clamp(min=0)
    return speaking.clamp(0, 1), blur_rows((4 * stress - 0.3).clamp(0, 1)[:, None], 8, 14)[:, 0]
