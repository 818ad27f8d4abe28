"""Phase 2 of the paper's pose codebook sampler: Φ_map(A, z_style, P⁰) → Ẑ → codes → D → head motion.

A frame depends on what is heard up to half a second after it (`ahead`), on z_style, P⁰ and the seed, and on nothing
else. A clip's motion is therefore the beginning of any longer clip's, to the last bit, but for that half second, and
it takes a fixed amount of memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio.encoder import mel_windows
from ..filters import smoothstep
from ..structures import MEL_RATE, AudioFeatures, HeadMotion
from ..time_grid import check_fps, sample_rows
from .pose_codebook import CHANNELS, CHUNK, PoseCodebook, PoseCodebookConfig
from .style import StyleEncoder

BANDS = 80  # of the log-mel
SUBFRAMES = 4  # mel frames in each row of `mel_windows`
FALL = 0.1  # nats per second by which the remembered loudness falls: a minute for a voice's whole range
EXPECTED = -4.5  # natural log of the power that a voice has after `encode_audio`, until one is heard
QUIET = 7.0  # nats below the loudest, where hearing ends: above the mel's own floor, so that no clip's gain matters
LEAST_AMPLITUDE = 0.1  # below which the start pose is not enlarged any more
WIDEST_START = 3.0  # standard deviations; a portrait turned farther counts as this far from rest


@dataclass(frozen=True, slots=True)
class PoseSamplerConfig(PoseCodebookConfig):
    """Sizes of Φ_map, after those of the codebook that it speaks."""

    bands: int = 0  # groups of mel bands that are heard besides the loudness
    ahead: int = 11  # frames heard after a code's beginning: heads move before and with what they stress
    audio: int = 24  # width of A
    audio_reach: int = 3  # codes that A looks back, besides what the memory keeps
    identity_components: int = 80  # I
    style: int = 8  # width of z_style
    memory: int = 64  # width of the recurrent state
    gain: float = 1.45  # of what is decoded: sampled motion wanders less widely than the clips it was learned from
    dropout: float = 0.45  # of what enters the memory, in training


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """What is the same in every performance."""

    guidance: float = 3.0  # see `PoseSampler.sample`; real heads go with the loudness more than sampled ones at 1
    ease_in_s: float = 1.2  # in which what the codes say of the first frame gives way to the start pose


class AudioEncoder(nn.Module):
    """A at code rate: the log-mel against the loudest that was heard so far, through causal convolutions."""

    def __init__(self, config: PoseSamplerConfig) -> None:
        super().__init__()
        self.stride, self.bands, self.fps, self.ahead = config.stride, config.bands, config.fps, config.ahead
        self.inward = nn.Conv1d(config.bands + 1, config.audio, 2 * config.stride, stride=config.stride)
        self.further = nn.Conv1d(config.audio, config.audio, config.audio_reach)
        self.reach = (config.audio_reach + 1) * config.stride  # frames that are heard for one code

    def hear(self, features: Tensor) -> Tensor:
        """Features [B, T, 4·80] → [B, T, bands + 1] in 0..1: bands and loudness below the loudest so far."""
        mel = features.unflatten(-1, (SUBFRAMES, BANDS)).logsumexp(2) - math.log(SUBFRAMES)  # [B, T, 80]
        loudness = mel.logsumexp(-1, keepdim=True)
        groups = mel.unflatten(-1, (self.bands, -1)).logsumexp(-1) if self.bands else mel[..., :0]
        fallen = FALL / self.fps * torch.arange(mel.shape[1], device=mel.device)[:, None]
        loudest = ((loudness + fallen).cummax(1).values - fallen).clamp(min=EXPECTED)  # [B, T, 1]
        heard = torch.cat((groups, loudness), -1) - loudest
        return 1 + heard.clamp(min=-QUIET) / QUIET

    def pad(self, heard: Tensor, codes: int) -> Tensor:
        """Silence around what is heard [B, T, C], so that `forward` gives the A of `codes` codes."""
        before = self.reach - self.ahead - 1
        length = self.reach + (codes - 1) * self.stride
        return F.pad(heard, (0, 0, before, max(0, length - before - heard.shape[1])))[:, :length]

    def forward(self, heard: Tensor) -> Tensor:
        """What is heard [B, reach + (N − 1)·stride, bands + 1] → A [B, N, D]."""
        x = F.silu(self.inward(heard.transpose(1, 2)))
        return F.silu(self.further(x)).transpose(1, 2)

    def silence(self) -> Tensor:
        """A [1, D] of a code around which nothing is heard."""
        return self(self.inward.weight.new_zeros(1, self.reach, self.inward.in_channels))[0]

    def encode(self, features: Tensor, codes: int, chunk: int = CHUNK) -> Tensor:
        """Features [T, 4·80] → A [N, D], `chunk` codes at a time; the same numbers for any T and N."""
        whole = -(-codes // chunk) * chunk
        padded = self.pad(self.hear(features[None]), whole)[0]
        windows = padded.unfold(0, self.reach + (chunk - 1) * self.stride, chunk * self.stride).transpose(1, 2)
        return torch.cat([self(window[None])[0] for window in windows])[:codes]


class PoseMap(nn.Module):
    """Φ_map: from the codes so far, A, z_style and P⁰ to the Ẑ of the next code."""

    def __init__(self, config: PoseSamplerConfig) -> None:
        super().__init__()
        width = config.memory
        self.levels = config.levels
        self.begin = nn.Linear(CHANNELS, width)
        self.drop = nn.Dropout(config.dropout)
        self.memory = nn.GRU(config.latent + config.audio + config.style, width, batch_first=True)
        self.heads = nn.ModuleList(nn.Linear(width + config.latent + config.audio, width) for _ in range(config.levels))
        self.out = nn.ModuleList(nn.Linear(width, config.latent) for _ in range(config.levels))
        self.log_spread = nn.Parameter(torch.zeros(config.levels))  # of the codes about Ẑ at temperature 1

    @torch.no_grad()
    def set_spread(self, vectors: Tensor) -> None:
        """Begin with a spread that tells the code vectors [G, K, D] apart: a tenth of their variance."""
        self.log_spread.copy_((vectors.var(1).sum(-1) / 10).log())

    def start(self, initial_pose: Tensor) -> Tensor:
        """P⁰ [B, 6], normalised → the memory before the first code [1, B, M]."""
        return torch.tanh(self.begin(initial_pose))[None]

    def forward(self, previous: Tensor, audio: Tensor, style: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Code vectors before [B, N, D], A [B, N, D'], z_style [B, S], memory [1, B, M] → states [B, N, M], memory."""
        style = style[:, None].expand(-1, previous.shape[1], -1)
        return self.memory(torch.cat((self.drop(previous), audio, self.drop(style)), -1), memory)

    def latents(self, states: Tensor, audio: Tensor, coarser: Tensor, level: int) -> Tensor:
        """Ẑ of a level [..., D] from the state [..., M], A [..., D'] and the sum of the coarser codes [..., D]."""
        hidden = self.heads[level](torch.cat((self.drop(states), audio, coarser), -1))
        return self.out[level](F.silu(hidden))

    def spread(self, level: int) -> Tensor:
        """Squared distance that stands for temperature 1."""
        return self.log_spread[level].exp()


class PoseSampler(nn.Module):
    """The whole sampler: the frozen codebook with its decoder, the encoders of audio and style, and Φ_map."""

    def __init__(self, config: PoseSamplerConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = PoseCodebook(config)
        self.audio = AudioEncoder(config)
        self.style = StyleEncoder(config.identity_components, config.style)
        self.map = PoseMap(config)

    def start_vector(self, initial_pose: Tensor) -> Tensor:
        """z_q [B, D] of a head that is held at P⁰ [B, 6], normalised: what was played before the first code."""
        held = initial_pose[:, None].expand(-1, self.config.stride, -1)
        return self.codebook.codebook.lookup(self.codebook.encode(held)[:, 0])

    def forward(
        self, heard: Tensor, style: Tensor, initial_pose: Tensor, codes: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Teacher-forced Φ_map: every code is predicted from those before it.

        Args:
            heard: [B, T, bands + 1], of `AudioEncoder.hear`.
            style: [B, S] z_style.
            initial_pose: [B, 6] P⁰, normalised.
            codes: [B, N, G], which the finer levels of the same code see.
            past: [B, N, G], which the codes after them see: the same, or disturbed for robustness.

        Returns:
            Ẑ [B, N, G, D] and −‖Ẑ − z_k‖² in units of the spread [B, N, G, K].
        """
        book = self.codebook.codebook
        before = torch.cat((self.start_vector(initial_pose)[:, None], book.lookup(past[:, :-1])), 1)
        audio = self.audio(self.audio.pad(heard, codes.shape[1]))
        states, _ = self.map(before, audio, style, self.map.start(initial_pose))
        latents, logits = [], []
        for level in range(codes.shape[-1]):
            coarser = book.lookup(codes[..., :level]) if level else torch.zeros_like(before)
            latents.append(self.map.latents(states, audio, coarser, level))
            logits.append(-book.distances(latents[-1], level) / self.map.spread(level))
        return torch.stack(latents, 2), torch.stack(logits, 2)

    @torch.no_grad()
    def sample(
        self,
        audio: Tensor,
        style: Tensor,
        initial_pose: Tensor,
        temperature: float,
        generator: torch.Generator,
        guidance: float = 1.0,
    ) -> Tensor:
        """Codes [N, G], one after the other.

        Args:
            audio: [N, D'] A.
            style: [S] z_style.
            initial_pose: [6] P⁰, normalised.
            temperature: 0 takes the code nearest to Ẑ (the paper's argmin), 1 draws them as often as they were seen.
            generator: of the draws, on the CPU.
            guidance: how far to go from what silence makes likely to what is heard; 1 stops there, more exaggerates.
        """
        book = self.codebook.codebook
        both = torch.stack((audio, self.audio.silence().expand_as(audio)), 1)  # [N, 2, D'], heard and silent
        memory = self.map.start(initial_pose.expand(2, -1))
        vector, style = self.start_vector(initial_pose[None]), style.expand(2, -1)
        codes = []
        for now in both:
            states, memory = self.map(vector.expand(2, -1)[:, None], now[:, None], style, memory)
            vector, chosen = torch.zeros_like(vector), []
            for level in range(self.config.levels):
                latents = self.map.latents(states[:, 0], now, vector.expand(2, -1), level)
                heard, silent = book.distances(latents, level) / self.map.spread(level)
                chosen.append(draw_code(silent + guidance * (heard - silent), temperature, generator))
                vector = vector + book.vectors[level, chosen[-1]]
            codes.append(torch.stack(chosen))
        return torch.stack(codes)


def draw_code(distances: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One code of softmax(−distances / temperature), distances [K]; the nearest at temperature 0."""
    # always drawn, so that the temperature does not change what later draws see
    uniform = torch.rand(distances.shape, generator=generator).clamp(min=1e-20)
    # the largest of logits plus Gumbel noise is a draw from their softmax
    return (temperature * -torch.log(-torch.log(uniform)) - distances).argmax()


def sample_head_pose(
    sampler: PoseSampler,
    features: AudioFeatures,
    temperature: float = 1.0,
    amplitude: float = 1.0,
    seed: int = 0,
    start: HeadMotion | None = None,
    id_coefficients: Tensor | None = None,
    settings: SampleSettings = SampleSettings(),
) -> HeadMotion:
    """Head motion for speech, on top of the portrait's own pose, where the head rests and comes back to.

    It begins exactly at `start`. The beginning of a longer clip is the same motion but for its last half second, and so
    is any other run with the same seed. Computed on the CPU, in memory that does not grow but for the curves.

    Args:
        sampler: on the CPU, from `hub.load_module`.
        features: of T frames; their mel is what is heard.
        temperature: 0 takes the likeliest motion, whatever the seed; 1 is as varied as real speakers.
        amplitude: 1 = an average speaker's, 0 = still.
        seed: another seed, another performance.
        start: P⁰, the pose of the first frame relative to the portrait, T = 1 (the last one counts, so that a clip
            can go on where another ended); None is the portrait's own.
        id_coefficients: [I] α of the face, for z_style; None for no particular speaker.
        settings: how it begins, and how closely it follows what is heard.

    Returns:
        T frames at the fps of the features.
    """
    _check_controls(temperature, amplitude, start, id_coefficients, sampler.config)
    fps, config = check_fps(features.fps), sampler.config
    position = torch.arange(features.frame_count, dtype=torch.float64) * (config.fps / fps)
    codes = int(position[-1]) // config.stride + 2  # one more than the last frame needs between two frames
    scales = torch.tensor(config.scales) * config.gain
    first = torch.zeros(CHANNELS) if start is None else torch.cat((start.rotation[-1], start.translation[-1])).cpu()
    initial = (first / (scales * max(amplitude, LEAST_AMPLITUDE))).clamp(-WIDEST_START, WIDEST_START)
    with torch.no_grad():
        rows = mel_windows(
            features.mel.float().cpu(), max(1, int(len(features.mel) * config.fps / MEL_RATE)), config.fps
        )
        audio = sampler.audio.encode(rows, codes)
        style = torch.zeros(config.style) if id_coefficients is None else sampler.style(id_coefficients[None].cpu())[0]
        generator = torch.Generator().manual_seed(seed)
        chosen = sampler.sample(audio, style, initial, temperature, generator, settings.guidance)
        motion = sampler.codebook.decode(chosen) * (scales * amplitude)
    motion = sample_rows(motion, position) + _ease_in(first - motion[0], position / config.fps, settings.ease_in_s)
    motion[0] = first
    return HeadMotion(motion[:, :3], motion[:, 3:], fps)


def _ease_in(offset: Tensor, seconds: Tensor, duration: float) -> Tensor:
    """[T, 6] an offset [6] that fades out smoothly from time 0."""
    return (1 - smoothstep(seconds / duration)).float()[:, None] * offset


def _check_controls(
    temperature: float,
    amplitude: float,
    start: HeadMotion | None,
    id_coefficients: Tensor | None,
    config: PoseSamplerConfig,
) -> None:
    for name, value in (("temperature", temperature), ("amplitude", amplitude)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"the {name} of the head pose must be 0 or more; got {value}.")
    if start is not None and not len(start.rotation):
        raise ValueError("the start pose has 0 frames; give one, or none for the portrait's own pose.")
    if id_coefficients is not None and len(id_coefficients) != config.identity_components:
        raise ValueError(
            f"the pose sampler knows faces of {config.identity_components} identity components; "
            f"this one has {len(id_coefficients)}. Leave the face out, or train a sampler for this head."
        )
