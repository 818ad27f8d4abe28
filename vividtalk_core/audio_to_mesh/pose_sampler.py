"""Phase 2 of the paper's pose codebook sampler: Φ_map(A, z_style, P⁰) → Ẑ → codes → D → head and upper face.

A frame depends on the sound up to half a second after it (`PoseSamplerConfig.ahead`), on z_style, P⁰ and the seed, and
on nothing else. The motion of a clip therefore has the same bits as the beginning of a longer clip's motion, except in
that last half second, and is computed in a fixed amount of memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from ..audio.encoder import mel_windows
from ..errors import MismatchError, SettingsError
from ..filters import smoothstep
from ..head.upper_face import upper_face_coefficients
from ..motion.gaze import hold_gaze
from ..structures import ARKIT_NAMES, MEL_RATE, AudioFeatures, Expression, HeadMotion
from ..time_grid import check_fps, sample_rows
from .pose_codebook import CHUNK, HEAD, HeadPoseVqVae, HeadPoseVqVaeConfig
from .style import StyleEncoder

BANDS = 80  # of the log-mel
SUBFRAMES = 4  # mel frames in each row of `mel_windows`
# The running maximum of the loudness falls by 6 nats in a minute, about the range of a voice: after a loud passage a
# quieter voice is compared with itself again.
FALL = 0.1  # nats per second
# Least running maximum, the natural logarithm of the power of a voice after `encode_audio`: the noise before the first
# word is not taken for speech.
EXPECTED = -4.5
# So far below the running maximum is silence. It lies above the mel's floor, so that no clip's gain matters.
QUIET = 7.0  # nats
# The start pose is divided by the amplitude, but not by less than this: amplitude 0 is allowed.
LEAST_AMPLITUDE = 0.1
# A start pose is clamped here: the codebook holds none farther from rest.
WIDEST_START = 3.0  # standard deviations


@dataclass(frozen=True, slots=True)
class PoseSamplerConfig(HeadPoseVqVaeConfig):
    """Sizes of Φ_map, after those of the codebook whose codes it predicts."""

    bands: int = 0  # groups of mel bands that are features besides the loudness
    ahead: int = 11  # frames of sound after a code's beginning: heads move before and with a stressed word
    audio: int = 24  # width of A
    audio_reach: int = 3  # codes of the past in the receptive field of A, besides the recurrent state
    identity_components: int = 80  # I
    lip_vertices: int = 426  # L, of the expression that holds the upper face; its lip offsets are zero
    style: int = 8  # width of z_style
    memory: int = 64  # width of the recurrent state
    gain: float = 1.45  # of the decoded motion: what is sampled has a smaller range than the clips of training
    face_gain: float = 1.7  # the same for the upper face
    dropout: float = 0.45  # of the inputs of the recurrent state, in training


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """How a clip begins, how closely it follows the sound and how far the head moves."""

    # Most of the training clips are read sentences, during which heads hardly move: people who speak freely move 1.6
    # times as far as what is sampled.
    liveliness: float = 1.6
    face_liveliness: float = 1.6  # the same for the upper face
    face_limit: float = 2.5  # standard deviations that brows and lids do not reach, at an amplitude of 1 or less
    limit_deg: float = 16.0  # angle that is not reached, pitch, yaw and roll together; at amplitude 1 or less
    guidance: float = 3.0  # see `PoseSampler.sample`; at 1 sampled heads follow the loudness less than real ones
    ease_in_s: float = 1.2  # over which the difference of start pose and first decoded frame fades out


class AudioEncoder(nn.Module):
    """A at code rate: the log-mel relative to its running maximum, through convolutions without padding."""

    def __init__(self, config: PoseSamplerConfig) -> None:
        super().__init__()
        self.stride, self.bands, self.fps, self.ahead = config.stride, config.bands, config.fps, config.ahead
        self.inward = nn.Conv1d(config.bands + 1, config.audio, 2 * config.stride, stride=config.stride)
        self.further = nn.Conv1d(config.audio, config.audio, config.audio_reach)
        self.reach = (config.audio_reach + 1) * config.stride  # frames in the receptive field of one code

    def loudness_features(self, features: Tensor) -> Tensor:
        """Features [B, T, 4·80] → [B, T, bands + 1] in 0..1: bands and loudness below the running maximum."""
        subframes = rearrange(features, "b t (s bands) -> b t s bands", s=SUBFRAMES)
        # the mean of the energies, not of their logarithms: a short burst must not vanish in it
        mel = subframes.logsumexp(2) - math.log(SUBFRAMES)  # [B, T, 80]
        loudness = mel.logsumexp(-1, keepdim=True)
        groups = mel[..., :0]
        if self.bands:
            groups = rearrange(mel, "b t (bands width) -> b t bands width", bands=self.bands).logsumexp(-1)
        # relative to a running maximum, because that of the whole clip would make a frame depend on all that follows;
        # the maximum so far of loudness + FALL · t, less FALL · t, is one that falls with time
        fallen = FALL / self.fps * torch.arange(mel.shape[1], device=mel.device)[:, None]
        loudest = ((loudness + fallen).cummax(1).values - fallen).clamp(min=EXPECTED)  # [B, T, 1]
        return 1 + (torch.cat((groups, loudness), -1) - loudest).clamp(min=-QUIET) / QUIET

    def pad(self, loudness: Tensor, codes: int) -> Tensor:
        """Silence around the loudness features [B, T, C], [B, reach + (codes − 1)·stride, C], for `forward`."""
        before = self.reach - self.ahead - 1
        length = self.reach + (codes - 1) * self.stride
        return F.pad(loudness, (0, 0, before, max(0, length - before - loudness.shape[1])))[:, :length]

    def forward(self, loudness: Tensor) -> Tensor:
        """Loudness features [B, reach + (N − 1)·stride, bands + 1] → A [B, N, D]."""
        x = F.silu(self.inward(rearrange(loudness, "b t c -> b c t")))
        return rearrange(F.silu(self.further(x)), "b d n -> b n d")

    def silence(self) -> Tensor:
        """A [1, D] of a code in silence."""
        audio: Tensor = self(self.inward.weight.new_zeros(1, self.reach, self.inward.in_channels))
        return audio[0]

    def encode(self, features: Tensor, codes: int, chunk: int = CHUNK) -> Tensor:
        """Features [T, 4·80] → A [N, D], `chunk` codes at a time; the same bits for any T and N."""
        # all chunks have one length, because a convolution may round differently for another one
        whole = -(-codes // chunk) * chunk
        padded = self.pad(self.loudness_features(features[None]), whole)[0]
        windows = padded.unfold(0, self.reach + (chunk - 1) * self.stride, chunk * self.stride)
        windows = rearrange(windows, "chunks c t -> chunks t c")
        return torch.cat([self(window[None])[0] for window in windows])[:codes]


class PoseMap(nn.Module):
    """Φ_map: from the codes so far, A, z_style and P⁰ to the Ẑ of the next code."""

    def __init__(self, config: PoseSamplerConfig) -> None:
        super().__init__()
        width = config.memory
        self.levels = config.all_levels
        self.begin = nn.Linear(len(config.scales), width)
        self.drop = nn.Dropout(config.dropout)
        self.memory = nn.GRU(config.all_latent + config.audio + config.style, width, batch_first=True)
        inputs = width + config.all_latent + config.audio
        self.heads = nn.ModuleList(nn.Linear(inputs, width) for _ in range(config.all_levels))
        self.out = nn.ModuleList(nn.Linear(width, config.all_latent) for _ in range(config.all_levels))
        self.log_spread = nn.Parameter(torch.zeros(config.all_levels))  # of the codes about Ẑ at temperature 1

    @torch.no_grad()
    def set_spread(self, vectors: Tensor) -> None:
        """Set the spread before training to a tenth of the variance of the code vectors [G, K, D]."""
        self.log_spread.copy_((vectors.var(1).sum(-1) / 10).log())

    def start(self, initial_pose: Tensor) -> Tensor:
        """P⁰ [B, C], normalised → the recurrent state before the first code [1, B, M]."""
        return torch.tanh(self.begin(initial_pose))[None]

    def forward(self, previous: Tensor, audio: Tensor, style: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the recurrent state for each of N codes.

        Args:
            previous: [B, N, D] vectors of the codes before.
            audio: [B, N, D'] A.
            style: [B, S] z_style.
            memory: [1, B, M] the state before the first of them.

        Returns:
            States [B, N, M], and the last one [1, B, M].
        """
        style = repeat(style, "b s -> b n s", n=previous.shape[1])
        states: Tensor
        states, memory = self.memory(torch.cat((self.drop(previous), audio, self.drop(style)), -1), memory)
        return states, memory

    def latents(self, states: Tensor, audio: Tensor, coarser: Tensor, level: int) -> Tensor:
        """Ẑ of a level [..., D] from the state [..., M], A [..., D'] and the sum of the coarser codes [..., D]."""
        hidden = self.heads[level](torch.cat((self.drop(states), audio, coarser), -1))
        latents: Tensor = self.out[level](F.silu(hidden))
        return latents

    def spread(self, level: int) -> Tensor:
        """Squared distance [] of vectors [K, D] that is one unit of the logits at temperature 1."""
        return self.log_spread[level].exp()


class PoseSampler(nn.Module):
    """The whole sampler: the frozen codebook with its decoder, the encoders of audio and style, and Φ_map."""

    def __init__(self, config: PoseSamplerConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook = HeadPoseVqVae(config)
        self.audio = AudioEncoder(config)
        self.style = StyleEncoder(config.identity_components, config.style)
        self.map = PoseMap(config)

    def start_vector(self, initial_pose: Tensor) -> Tensor:
        """z_q [B, D] of a head that is held at P⁰ [B, C], normalised: the code before the first one."""
        held = repeat(initial_pose, "b c -> b t c", t=self.config.stride)
        return self.codebook.codebook.lookup(self.codebook.encode(held)[:, 0])

    def forward(
        self, loudness: Tensor, style: Tensor, initial_pose: Tensor, codes: Tensor, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Teacher-forced Φ_map: every code is predicted from those before it.

        Args:
            loudness: [B, T, bands + 1], of `AudioEncoder.loudness_features`.
            style: [B, S] z_style.
            initial_pose: [B, C] P⁰, normalised.
            codes: [B, N, G], input of the finer levels of the same code.
            past: [B, N, G], input of the codes that follow: the same, or disturbed for robustness.

        Returns:
            Ẑ [B, N, G, D] and −‖Ẑ − z_k‖² in units of the spread [B, N, G, K].
        """
        book = self.codebook.codebook
        before = torch.cat((self.start_vector(initial_pose)[:, None], book.lookup(past[:, :-1])), 1)
        audio = self.audio(self.audio.pad(loudness, codes.shape[1]))
        states, _ = self.map(before, audio, style, self.map.start(initial_pose))
        latents, logits = [], []
        for level in range(codes.shape[-1]):
            coarser = book.lookup(codes[..., :level]) if level else torch.zeros_like(before)
            latents.append(self.map.latents(states, audio, coarser, level))
            # −‖Ẑ − z_k‖² are the logits of a mixture of Gaussians around the codes: argmax is the paper's argmin
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
            initial_pose: [C] P⁰, normalised.
            temperature: 0 takes the code nearest to Ẑ (the paper's argmin), 1 samples from the trained distribution.
            generator: of the samples, on the CPU.
            guidance: weight of the sound: 0 is the distribution in silence, 1 that of the sound, above 1 extrapolates
                (classifier-free guidance, Ho and Salimans 2022).
        """
        book = self.codebook.codebook
        both = torch.stack((audio, self.audio.silence().expand_as(audio)), 1)  # [N, 2, D'], with sound and in silence
        memory = self.map.start(initial_pose.expand(2, -1))
        vector, style = self.start_vector(initial_pose[None]), style.expand(2, -1)
        codes = []
        # the two run as a batch of two: the recurrent states differ, the codes that were chosen are the same
        for now in both:
            states, memory = self.map(vector.expand(2, -1)[:, None], now[:, None], style, memory)
            vector, chosen = torch.zeros_like(vector), []
            for level in range(self.config.all_levels):
                latents = self.map.latents(states[:, 0], now, vector.expand(2, -1), level)
                with_sound, silent = book.distances(latents, level) / self.map.spread(level)
                chosen.append(draw_code(silent + guidance * (with_sound - silent), temperature, generator))
                vector = vector + book.vectors[level, chosen[-1]]
            codes.append(torch.stack(chosen))
        return torch.stack(codes)


def draw_code(distances: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One code [] int64 from softmax(−distances / temperature); the nearest at temperature 0.

    The distances [K] are those of a latent to the vectors [K, D] of a level.
    """
    # drawn at any temperature, so that later draws get the same random numbers
    uniform = torch.rand(distances.shape, generator=generator).clamp(min=1e-20)
    # the argmax of logits plus Gumbel noise is a sample from their softmax (Gumbel 1954)
    return (temperature * -torch.log(-torch.log(uniform)) - distances).argmax()


class HeadAndFace(NamedTuple):
    """What `sample_head_and_face` draws, T frames each."""

    pose: HeadMotion  # relative to the portrait's own pose
    face: Expression  # brows, cheeks, lids and gaze, relative to the portrait's own; the mouth is at rest


def sample_head_and_face(
    sampler: PoseSampler,
    features: AudioFeatures,
    temperature: float = 1.0,
    amplitude: float = 1.0,
    seed: int = 0,
    start: HeadMotion | None = None,
    id_coefficients: Tensor | None = None,
    settings: SampleSettings = SampleSettings(),
    face_amplitude: float = 1.0,
    pose: HeadMotion | None = None,
) -> HeadAndFace:
    """Head motion and the upper face for speech, relative to the portrait's own pose and expression.

    They are drawn together, because people raise brows and head together, and stress words with both. The eyes turn
    against the head, towards the viewer. The head begins exactly at `start`. A longer clip with the same seed begins
    with the same motion, except in the last half second of the shorter one. Computed on the CPU; except for the curves,
    memory does not grow with the clip.

    Args:
        sampler: on the CPU, from `hub.load_module`.
        features: of T frames; only their mel is used.
        temperature: 0 is the most probable motion, the same for any seed; 1 is as varied as real speakers.
        amplitude: of the head; 1 = a person who speaks freely, 0 = still; beyond 1 the limit of the angle grows too.
        seed: of the samples; each seed gives another motion.
        start: P⁰, the pose of the first frame relative to the portrait, T = 1 (the last one counts, so that a clip
            can go on where another ended); None is the portrait's own.
        id_coefficients: [I] α of the face, for z_style; None for no particular speaker.
        settings: how it begins, and how closely it follows the sound.
        face_amplitude: of brows, cheeks and lids; 1 = a person who speaks freely, 0 = still.
        pose: head motion of T frames from elsewhere, which is returned instead of the drawn one.

    Returns:
        Rotation [T, 3], translation [T, 3] and coefficients [T, 52] at the fps of the features.

    Raises:
        SettingsError: temperature or an amplitude is negative or not a number.
        MismatchError: the start pose has no frames, or the face is of another head model than the sampler's.
    """
    _check_controls(temperature, amplitude, face_amplitude, start, id_coefficients, sampler.config)
    fps, config = check_fps(features.fps), sampler.config
    position = torch.arange(features.frame_count, dtype=torch.float64) * (config.fps / fps)
    codes = int(position[-1]) // config.stride + 2  # one more than the last frame needs between two frames
    scales = torch.tensor(config.scales)
    scales[:HEAD] *= config.gain * settings.liveliness
    scales[HEAD:] *= config.face_gain * settings.face_liveliness
    first = torch.zeros(len(scales))
    if start is not None:
        first[:HEAD] = torch.cat((start.rotation[-1], start.translation[-1])).cpu()
    initial = (first / (scales * max(amplitude, LEAST_AMPLITUDE))).clamp(-WIDEST_START, WIDEST_START)
    with torch.no_grad():
        # the sampler runs at its own frame rate; only the decoded motion is sampled at that of the video
        rows = mel_windows(
            features.mel.float().cpu(), max(1, int(len(features.mel) * config.fps / MEL_RATE)), config.fps
        )
        audio = sampler.audio.encode(rows, codes)
        style = torch.zeros(config.style) if id_coefficients is None else sampler.style(id_coefficients[None].cpu())[0]
        generator = torch.Generator().manual_seed(seed)
        chosen = sampler.sample(audio, style, initial, temperature, generator, settings.guidance)
        motion = sampler.codebook.decode(chosen) * scales
    head = soft_limit(motion[:, :HEAD] * amplitude, settings.limit_deg * max(1.0, amplitude))
    limit = torch.tensor(config.scales[HEAD:]) * settings.face_limit * max(1.0, face_amplitude)
    # each curve by itself: an unusual height of the brows says nothing about the lids
    motion = torch.cat((head, limit * (motion[:, HEAD:] * face_amplitude / limit).tanh()), 1)
    # the decoded first frame is near P⁰, but not at it: what is missing fades out instead of jumping
    motion = sample_rows(motion, position) + _ease_in(first - motion[0], position / config.fps, settings.ease_in_s)
    # exactly, so that a clip continues another one without a jump
    motion[0] = first
    pose = HeadMotion(motion[:, :3], motion[:, 3:HEAD], fps) if pose is None else pose
    return HeadAndFace(pose, hold_gaze(_upper_face(motion[:, HEAD:], fps, config.lip_vertices), pose))


def _upper_face(curves: Tensor, fps: float, lip_vertices: int) -> Expression:
    """The expression of T frames of the curves of `head.upper_face`, [T, 3], or [T, 0] for a face that is still."""
    still = torch.zeros(len(curves), len(ARKIT_NAMES))
    coefficients = upper_face_coefficients(curves) if curves.shape[1] else still
    return Expression.from_rest(coefficients, torch.zeros(len(curves), lip_vertices, 3), fps)


def soft_limit(motion: Tensor, limit_deg: float) -> Tensor:
    """Head motion [T, 6] whose angle approaches a limit as tanh does: small motion stays, the largest is bent back.

    The three angles shrink by one factor, and so does the translation, so that the direction of a turn is kept.
    """
    share = motion[:, :3].norm(dim=1, keepdim=True) / math.radians(limit_deg)
    return motion * torch.where(share > 0, share.tanh() / share, 1.0)


def _ease_in(offset: Tensor, seconds: Tensor, duration: float) -> Tensor:
    """[T, C] an offset [C] that fades out smoothly from time 0."""
    return (1 - smoothstep(seconds / duration)).float()[:, None] * offset


def _check_controls(
    temperature: float,
    amplitude: float,
    face_amplitude: float,
    start: HeadMotion | None,
    id_coefficients: Tensor | None,
    config: PoseSamplerConfig,
) -> None:
    """Raise the errors of `sample_head_and_face`: id_coefficients is [I], start has rotations [T, 3]."""
    for name, value in (("temperature", temperature), ("amplitude", amplitude), ("face amplitude", face_amplitude)):
        if not (math.isfinite(value) and value >= 0):
            raise SettingsError(f"the {name} of the head pose must be 0 or more; got {value}.")
    if start is not None and not start.frame_count:
        raise MismatchError("the start pose has 0 frames; give one, or none for the portrait's own pose.")
    if id_coefficients is not None and len(id_coefficients) != config.identity_components:
        raise MismatchError(
            f"the pose sampler was trained for {config.identity_components} identity components, this face has "
            f"{len(id_coefficients)}. Leave the face out, or train a sampler for this head model."
        )
