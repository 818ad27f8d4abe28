"""Augmentation of image pairs: other faces, cameras and drawing styles, with all maps of a pair changed alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sampling import between, happens, ratio
from .appearance import ColorChange, compress, ink, posterise, shrink, smooth, soften, tone_matrix
from .geometry import FIELDS, LIP_POINTS, MAPS, MESH_POINTS, PICTURES, mirror, move_crop

KNOWN = (*PICTURES, *MAPS, *FIELDS, *MESH_POINTS, *LIP_POINTS)


@dataclass(frozen=True, slots=True)
class PictureAugmentation:
    """How strongly `augment_pictures` changes a sample; each change is made with its own probability."""

    mirror: float = 0.5  # faces have no preferred side
    crop: float = 0.8  # probability of another crop; the rest keeps the sharpness of untouched pixels
    scale: tuple[float, float] = (0.88, 1.15)  # factor; fitted crops of real portraits differ by about this
    rotation_deg: float = 6.0  # either way
    shift_px: float = 10.0  # px of the crop, either way and on both axes

    tone: float = 0.7  # probability of other light: brightness, contrast and saturation
    brightness: float = 0.1  # added, either way; more would clip skin
    contrast: tuple[float, float] = (0.75, 1.25)  # factor about the source's own mean
    saturation: tuple[float, float] = (0.5, 1.5)
    balance: float = 0.5  # probability of another white balance
    balance_gain: tuple[float, float] = (0.88, 1.13)  # of each channel: lamps to shade
    hue: float = 0.2  # probability of a turned hue: painted skin may be of any colour
    hue_deg: float = 30.0  # either way
    grey: float = 0.06  # probability of greyscale: old photographs and drawings
    curve: float = 0.5  # probability of a tone curve of its own for each channel, as films and filters have
    gamma: tuple[float, float] = (0.75, 1.35)  # of all channels
    channel_gamma: tuple[float, float] = (0.92, 1.09)  # of one beyond the others
    bend: float = 0.4  # S-curve, either way

    style: float = 0.3  # probability of a drawn style; then each of:
    smooth: float = 0.7  # skin without pores
    smooth_radius: tuple[int, int] = (2, 4)  # px; wider boxes blur what they should flatten
    smooth_edge: tuple[float, float] = (0.1, 0.3)  # share of the source's contrast; pores are fainter
    ink: float = 0.5  # outlines
    ink_strength: tuple[float, float] = (0.3, 0.9)
    ink_threshold: tuple[float, float] = (0.4, 0.7)  # share of the source's contrast; lower ones blacken the whole eye
    posterise: float = 0.4  # flat shades
    levels: tuple[int, int] = (6, 10)  # fewer cut cheeks into islands; more have no visible effect
    softness: tuple[float, float] = (0.2, 0.7)  # share of a level

    soften: float = 0.1  # probability of a lens out of focus
    sigma_px: tuple[float, float] = (0.4, 1.3)
    shrink: float = 0.1  # probability of an enlarged small picture
    share: tuple[float, float] = (0.4, 0.8)  # of the crop's size
    jpeg: float = 0.15  # probability of a lossy file
    quality: tuple[int, int] = (35, 90)


def augment_pictures(
    batch: dict[str, Tensor], generator: torch.Generator, settings: PictureAugmentation
) -> dict[str, Tensor]:
    """Change each source together with its driven frames, in the order view, style, colours, file.

    Style and file are not applied to `paint`: the renderer lays it over the portrait without knowing them, and a
    generator has to make it fit.

    Args:
        batch: "source" [B, 3, H, H] and "target" [B, R, 3, H, H], RGB in 0..1, and any of source_ncc, ncc, source_mask,
            mask, occlusion, scene (RGB and alpha), paint (premultiplied RGB and alpha), follow, step_mask
            [B, (R,) C, H, H], flow, step
            [B, (R,) H, H, 2] in grid units, source_points, points [B, (R,) 478, 2] and source_lips, lips
            [B, (R,) 20, 2] in px of the crop. Nothing is edited in place.
        generator: on the CPU; every random number comes from it.
        settings: see `PictureAugmentation`.

    Returns:
        The same names and shapes.

    Raises:
        ValueError: a name is missing, or unknown, so that it could not be changed along.
    """
    missing, unknown = [name for name in PICTURES if name not in batch], sorted(batch.keys() - set(KNOWN))
    if missing or unknown:
        raise ValueError(f"pairs to augment lack {missing} and hold {unknown}, which are not of {sorted(KNOWN)}")
    # Sample by sample: each needs its own random choices, but all frames of one source need the same ones.
    rows = [{name: value[index] for name, value in batch.items()} for index in range(len(batch["source"]))]
    samples = [_augment(row, generator, settings) for row in rows]
    return {name: torch.stack([sample[name] for sample in samples]) for name in batch}


def _augment(sample: dict[str, Tensor], generator: torch.Generator, settings: PictureAugmentation) -> dict[str, Tensor]:
    """One source [3, H, W] with its targets [R, 3, H, W] and all that belongs to them."""
    if happens(settings.mirror, generator):
        sample = mirror(sample)
    if happens(settings.crop, generator):
        angle = math.radians(_either(settings.rotation_deg, generator))
        shift = (_either(settings.shift_px, generator), _either(settings.shift_px, generator))
        sample = move_crop(sample, ratio(settings.scale, generator), angle, shift)
    # Portrait and frames together, so that they cannot differ in light or style: the network would learn to change
    # it.
    pictures = torch.cat((sample["source"][None], sample["target"]))  # [1 + R, 3, H, W]
    frames = len(sample["target"])
    if "scene" in sample:
        # made of the portrait, whose style and file it therefore shows
        pictures = torch.cat((pictures, sample["scene"][:, :3]))  # [1 + 2 · R, 3, H, W]
    if happens(settings.style, generator):
        pictures = _draw(pictures, generator, settings)
    change = _color_change(float(pictures[0].mean()), generator, settings)
    if change:
        pictures = change(pictures)
    pictures = _degrade(pictures, generator, settings).clamp(0, 1)
    changed = {"source": pictures[0], "target": pictures[1 : 1 + frames]}
    if "scene" in sample:
        changed["scene"] = torch.cat((pictures[1 + frames :], sample["scene"][:, 3:]), 1)
    if change and "paint" in sample:
        changed["paint"] = change.on_paint(sample["paint"])
    return sample | changed


def _color_change(mean: float, generator: torch.Generator, settings: PictureAugmentation) -> ColorChange | None:
    """Other light, white balance and curves for pictures of this mean brightness; None where nothing was drawn."""
    gains, gamma, bend = torch.ones(3), torch.ones(3), torch.zeros(3)
    brightness, contrast, saturation, hue = 0.0, 1.0, 1.0, 0.0
    # Every choice is made in a fixed order, from one generator: the same seed gives the same pictures on every
    # machine.
    if tone := happens(settings.tone, generator):
        brightness, contrast = _either(settings.brightness, generator), ratio(settings.contrast, generator)
        saturation = between(settings.saturation, generator)
    if balance := happens(settings.balance, generator):
        gains = torch.tensor([ratio(settings.balance_gain, generator) for _ in range(3)])
    if turn := happens(settings.hue, generator):
        hue = math.radians(_either(settings.hue_deg, generator))
    # After the saturation was drawn, which it replaces.
    if grey := happens(settings.grey, generator):
        saturation = 0.0
    if curve := happens(settings.curve, generator):
        gamma = torch.tensor([ratio(settings.channel_gamma, generator) for _ in range(3)])
        # A small difference between the channels, on top of a larger change of all: real films and filters tint
        # little.
        gamma = gamma * ratio(settings.gamma, generator)
        bend = torch.tensor([_either(settings.bend, generator) for _ in range(3)])
    if not (tone or balance or turn or grey or curve):
        return None
    # Contrast turns about the source's own mean, because about mid-grey it would also make a dark picture darker.
    matrix = contrast * tone_matrix(gains, saturation, hue)
    return ColorChange(matrix, torch.full((3,), mean * (1 - contrast) + brightness), gamma, bend)


def _draw(pictures: Tensor, generator: torch.Generator, settings: PictureAugmentation) -> Tensor:
    """Pictures [N, 3, H, W] in a drawn style."""
    # Of the source alone: thresholds follow it, because a dark or hazy picture has fainter edges.
    contrast = float(pictures[0].std())
    if happens(settings.smooth, generator):
        radius = round(between(settings.smooth_radius, generator))
        pictures = smooth(pictures, radius, contrast * between(settings.smooth_edge, generator))
    # before the flat shades, because each of their borders would become a line
    if happens(settings.ink, generator):
        strength, threshold = between(settings.ink_strength, generator), between(settings.ink_threshold, generator)
        pictures = ink(pictures, strength, contrast * threshold)
    if happens(settings.posterise, generator):
        levels = round(between(settings.levels, generator))
        pictures = posterise(pictures, levels, between(settings.softness, generator))
    return pictures


def _degrade(pictures: Tensor, generator: torch.Generator, settings: PictureAugmentation) -> Tensor:
    """Pictures [N, 3, H, W] after a blurred lens, a small file or lossy compression."""
    if happens(settings.soften, generator):
        pictures = soften(pictures, between(settings.sigma_px, generator))
    if happens(settings.shrink, generator):
        pictures = shrink(pictures, between(settings.share, generator))
    if happens(settings.jpeg, generator):
        pictures = compress(pictures, round(between(settings.quality, generator)))
    return pictures


def _either(size: float, generator: torch.Generator) -> float:
    """A number of −size..size."""
    return between((-size, size), generator)
