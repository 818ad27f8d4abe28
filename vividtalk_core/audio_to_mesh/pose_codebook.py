"""VQ-VAE of head motion, phase 1 of the paper's pose codebook sampler: z_q = argmin_k ‖ẑ − z_k‖, P̂ = D(q(E(P))).

P is the head pose relative to where the head rests: the clip's median pose in training, the portrait's own in use.
Beyond the paper, P also holds the slow curves of the upper face (`head.upper_face`): like the head, they are not
determined by the sound. The first code describes both, because people raise brows and head together; the codes after
it belong to one of two parts of z, as training finds one for the head and one for the face.
Encoder and decoder are convolutions with a bounded receptive field, and before a clip begins its first pose is
repeated, so that clips of any length have no seams. The decoder uses no code that comes after the one it decodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

HEAD = 6  # channels of P that are the head: pitch, yaw, roll, and translation x, y, z
KERNEL = 3  # taps of the convolutions between codes
FINISH = 5  # taps of the ones between frames
CHUNK = 64  # codes decoded at once


@dataclass(frozen=True, slots=True)
class HeadPoseVqVaeConfig:
    """Sizes of the VQ-VAE."""

    fps: float = 25.0  # frames per second of the motion
    stride: int = 4  # frames per code: 0.16 s, half a period of 3 Hz, above which heads hardly move
    codes: int = 64  # K of each level
    common_levels: int = 1  # of all of z, before those of its parts; each level quantises what the ones before it leave
    levels: int = 2  # of the first part of z
    face_levels: int = 1  # of the second part
    latent: int = 16  # width of the first part of z
    face_latent: int = 8  # width of the second part
    width: int = 64  # of the hidden layers
    dilations: tuple[int, ...] = (1, 2, 4)  # of the residual blocks, in codes
    # standard deviation of each of the C channels of an average speaker: amplitude 1. Of the head in rad and model
    # units, and of the curves of the upper face in IOD
    scales: tuple[float, ...] = (0.037, 0.052, 0.032, 0.05, 0.03, 0.1, 0.019, 0.007, 0.004)
    decay: float = 0.98  # of the moving averages that the codes follow
    least_use: float = 0.02  # of the mean use of a code; one that is used less is moved to where the error is largest

    @property
    def all_levels(self) -> int:
        """G, common ones and those of both parts."""
        return self.common_levels + self.levels + self.face_levels

    @property
    def all_latent(self) -> int:
        """D, the width of z."""
        return self.latent + self.face_latent


class ResidualBlock(nn.Module):
    """Dilated convolution without padding and a 1 × 1 convolution, added to the input.

    Args:
        width: W, channels.
        dilation: codes between the three taps.
        ahead: codes of the receptive field that come after a row's own; 0 is the causal form.
    """

    def __init__(self, width: int, dilation: int, ahead: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, KERNEL, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)
        self.before, self.ahead = (KERNEL - 1) * dilation - ahead, ahead

    def forward(self, x: Tensor) -> Tensor:
        """[B, W, N] → [B, W, N − 2·dilation]; `ahead` of the rows that are lost are the last ones."""
        kept = x[..., self.before : x.shape[-1] - self.ahead]
        out: Tensor = kept + self.mix(F.silu(self.conv(F.silu(x))))
        return out


class PoseEncoder(nn.Module):
    """E: P → latents, from both sides of a code; before and after the clip its first and last pose are repeated."""

    def __init__(self, config: HeadPoseVqVaeConfig) -> None:
        super().__init__()
        self.stride, width = config.stride, config.width
        self.frames = nn.Conv1d(len(config.scales), width, FINISH)
        self.down = nn.Conv1d(width, width, 2 * config.stride, stride=config.stride)
        self.blocks = nn.Sequential(*(ResidualBlock(width, d, ahead=d) for d in config.dilations))
        self.out = nn.Conv1d(width, config.all_latent, 1)
        self.reach = sum(config.dilations)  # codes on either side

    def forward(self, pose: Tensor) -> Tensor:
        """P [B, T, C], normalised → latents [B, N, D], N = ceil(T / stride)."""
        stride, frames = self.stride, pose.shape[1]
        codes = -(-frames // stride)
        # the kernel of `down` reaches half a stride beyond the frames of a code, that of `frames` two frames
        before = self.reach * stride + stride // 2 + FINISH // 2
        after = codes * stride - frames + self.reach * stride + (stride - stride // 2) + FINISH // 2
        x = F.pad(rearrange(pose, "b t c -> b c t"), (before, after), mode="replicate")
        x = self.down(F.silu(self.frames(x)))  # [B, W, reach + N + reach]
        latents: Tensor = self.out(F.silu(self.blocks(x)))  # [B, D, N]
        return rearrange(latents, "b d n -> b n d")


class PoseDecoder(nn.Module):
    """D: latents → P̂. Causal: the frames of a code depend on it and on the `reach` codes before it."""

    def __init__(self, config: HeadPoseVqVaeConfig) -> None:
        super().__init__()
        self.stride, width = config.stride, config.width
        self.inward = nn.Conv1d(config.all_latent, width, KERNEL)
        self.blocks = nn.Sequential(*(ResidualBlock(width, d, ahead=0) for d in config.dilations))
        self.up = nn.Conv1d(width, width // 2 * config.stride, 1)
        self.finish = nn.Conv1d(width // 2, width // 2, FINISH)
        self.out = nn.Conv1d(width // 2, len(config.scales), FINISH)
        self.finish_codes = -(-2 * (FINISH - 1) // config.stride)  # codes whose frames the last two layers consume
        self.reach = (KERNEL - 1) * (1 + sum(config.dilations)) + self.finish_codes

    def forward(self, latents: Tensor) -> Tensor:
        """Latents [B, reach + N, D] → P̂ [B, N · stride, C], normalised."""
        x = self.blocks(self.inward(rearrange(latents, "b n d -> b d n")))  # [B, W, finish_codes + N]
        x = rearrange(self.up(F.silu(x)), "b (w stride) n -> b w (n stride)", stride=self.stride)  # [B, W/2, frames]
        # what the two layers below do not need of the codes before the first one
        x = x[..., self.finish_codes * self.stride - 2 * (FINISH - 1) :]
        pose: Tensor = self.out(F.silu(self.finish(F.silu(x))))  # [B, C, N · stride]
        return rearrange(pose, "b c t -> b t c")


class Codebook(nn.Module):
    """The vectors z_k [G, K, D] of a residual quantiser: each level quantises what the levels before it leave of ẑ.

    The vectors of a level are zero outside of its part of z.
    In training each vector follows the mean of the latents that it is nearest to (van den Oord et al. 2017, A.1).
    """

    vectors: Tensor  # [G, K, D] z_k
    parts: Tensor  # [G, D] 1 where a level's part of z is, 0 elsewhere
    counts: Tensor  # [G, K] moving average of how many latents of a batch choose each code
    sums: Tensor  # [G, K, D] moving average of the sums of those latents

    def __init__(self, config: HeadPoseVqVaeConfig) -> None:
        super().__init__()
        self.decay, self.least_use = config.decay, config.least_use
        shape = (config.all_levels, config.codes)
        head, face = config.common_levels, config.common_levels + config.levels  # the first level of each part
        parts = torch.ones(config.all_levels, config.all_latent)
        # uniform: on the "meta" device, on which weights are loaded, normal numbers cost a second of imports. A product
        # costs as much there, so that the zeros are written
        vectors = torch.empty(*shape, config.all_latent).uniform_(-0.17, 0.17)
        for outside in (parts, vectors):
            outside[head:face, ..., config.latent :] = 0
            outside[face:, ..., : config.latent] = 0
        self.register_buffer("parts", parts)
        self.register_buffer("vectors", vectors)
        self.register_buffer("counts", torch.zeros(shape))
        self.register_buffer("sums", torch.zeros(*shape, config.all_latent))

    def distances(self, latents: Tensor, level: int) -> Tensor:
        """‖ẑ − z_k‖² of latents [..., D] to every code of a level: [..., K]."""
        vectors = self.vectors[level]
        # the square is multiplied out: one matrix product, and no differences [..., K, D] in memory
        cross = latents @ vectors.T
        return latents.square().sum(-1, keepdim=True) - 2 * cross + vectors.square().sum(-1)

    def lookup(self, codes: Tensor) -> Tensor:
        """z_q [..., D] of codes [..., G]."""
        parts = [self.vectors[level][codes[..., level]] for level in range(codes.shape[-1])]
        return torch.stack(parts).sum(0)

    def nearest(self, latents: Tensor) -> Tensor:
        """Codes [..., G] int64 of latents [..., D]: argmin_k ‖ẑ − z_k‖, level by level."""
        rest, codes = latents, []
        for level in range(len(self.vectors)):
            codes.append(self.distances(rest, level).argmin(-1))
            if self.training:
                self._follow((rest * self.parts[level]).flatten(0, -2), codes[-1].flatten(), level)
            rest = rest - self.vectors[level][codes[-1]]
        return torch.stack(codes, -1)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [..., D] → (z_q [..., D] with the latents' gradient, codes [..., G])."""
        codes = self.nearest(latents.detach())
        # straight-through estimator: the value is z_q, the gradient that of the latents
        return latents + (self.lookup(codes) - latents).detach(), codes

    @torch.no_grad()
    def _follow(self, latents: Tensor, codes: Tensor, level: int) -> None:
        """One step of a level's moving averages with latents [M, D] and their codes [M]; K vectors are updated."""
        # in float32 under any autocast: the steps of a moving average are too small for half precision
        latents = latents.float()
        chosen = F.one_hot(codes, self.vectors.shape[1]).to(latents.dtype)
        counts, sums = chosen.sum(0), chosen.T @ latents
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # counts and sums are those of all processes, so that their codebooks stay equal
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(sums)
        counts = self.counts[level].lerp_(counts, 1 - self.decay)
        sums = self.sums[level].lerp_(sums, 1 - self.decay)
        used = counts > self.least_use * counts.mean()
        means = sums / counts.clamp(min=1e-6)[:, None]
        error = (latents - self.vectors[level][codes]).square().sum(-1)
        self.vectors[level].copy_(torch.where(used[:, None], means, self.vectors[level]))
        self._revive(~used, latents, error, level)

    def _revive(self, dead: Tensor, latents: Tensor, error: Tensor, level: int) -> None:
        """Move unused codes, `dead` [K] bool, of a level to the latents [M, D] whose error [M] is largest."""
        index = dead.nonzero()[: len(latents), 0]
        if not len(index):
            return
        # evenly spread over the quarter with the largest errors: the very largest often are one moment of one clip
        worst = error.argsort(descending=True)[: max(len(index), len(error) // 4)]
        places = latents[worst[:: len(worst) // len(index)][: len(index)]]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # all processes move the codes to the same places
            torch.distributed.broadcast(places, 0)
        # a moved code begins with the mean count: with less it would be moved again in the next step
        share = self.counts[level].mean()
        self.vectors[level, index], self.sums[level, index] = places, places * share
        self.counts[level, index] = share


class HeadPoseVqVae(nn.Module):
    """VQ-VAE of head motion and upper face: the encoder E, the codebook Z and the decoder D."""

    def __init__(self, config: HeadPoseVqVaeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = PoseEncoder(config)
        self.codebook = Codebook(config)
        self.decoder = PoseDecoder(config)

    def forward(self, pose: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Normalised P [B, T, C] → P̂ [B, T, C], E(P) [B, N, D], z_q [B, N, D], codes [B, N, G]."""
        latents = self.encoder(pose)
        quantised, codes = self.codebook(latents)
        return self.decode_latents(quantised)[:, : pose.shape[1]], latents, quantised, codes

    def encode(self, pose: Tensor) -> Tensor:
        """Normalised P [B, T, C] → codes [B, N, G]."""
        return self.codebook.nearest(self.encoder(pose))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents [B, N, D] → normalised P̂ [B, N · stride, C]; before the clip its first latent is repeated."""
        held = latents[:, :1].expand(-1, self.decoder.reach, -1)
        pose: Tensor = self.decoder(torch.cat((held, latents), 1))
        return pose

    def decode(self, codes: Tensor, chunk: int = CHUNK) -> Tensor:
        """Codes [N, G] → normalised P̂ [N · stride, C], `chunk` codes at a time in constant memory.

        All chunks have one length: a code's frames then have the same bits in every clip that begins with the same
        codes, however long it is.
        """
        reach = self.decoder.reach
        before, after = codes[:1].expand(reach, -1), codes[-1:].expand(-len(codes) % chunk, -1)
        latents = self.codebook.lookup(torch.cat((before, codes, after)))
        windows = rearrange(latents.unfold(0, reach + chunk, chunk), "chunks d n -> chunks n d")  # views
        parts = [self.decoder(window[None])[0] for window in windows]
        return torch.cat(parts)[: len(codes) * self.config.stride]
