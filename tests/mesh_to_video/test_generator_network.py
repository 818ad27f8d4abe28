"""The generator: its inputs, the limits of its output, and that an untrained one changes nothing."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vividtalk_core.hub import load_module, save_module
from vividtalk_core.mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig

TINY = {"source_widths": (4, 6), "widths": (4, 6, 8, 8, 8)}
MAPS = ("base", "painted", "ncc", "mask", "flow", "occlusion")


def maps(frames=1, seed=0):
    """All inputs of `forward` besides the features."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"base": (3,), "painted": (1,), "ncc": (3,), "mask": (1,), "occlusion": (1,)}
    found = {name: torch.rand(frames, *size, 256, 256, generator=generator) for name, size in shapes.items()}
    found["mask"] = (found["mask"] > 0.5).float()
    return found | {"flow": 0.02 * torch.randn(frames, 256, 256, 2, generator=generator)}


def portrait(frames=1, seed=5):
    return torch.rand(frames, 3, 256, 256, generator=torch.Generator().manual_seed(seed))


def test_untrained_it_returns_its_input():
    model, inputs = FrameGenerator(FrameGeneratorConfig()).eval(), maps(2)
    features = model.encode_source(portrait(2))
    assert features.shape == (2, 32, 64, 64)
    color, alpha = model(features, **inputs)
    assert torch.equal(color, inputs["base"])
    assert alpha.shape == (2, 1, 256, 256)
    middle = alpha[..., 100:156, 100:156]
    assert 0.5 < middle.amin() == middle.amax() < 0.7, "open enough to learn through"


@pytest.mark.parametrize("window", [256, 160, 64])
def test_it_reads_and_changes_the_middle_alone(wake, window):
    torch.manual_seed(0)
    model = wake(FrameGenerator(FrameGeneratorConfig(window=window, **TINY)))
    inputs, other, features = maps(), maps(seed=1), model.encode_source(portrait())
    first, last = 128 - window // 2, 128 + window // 2
    inside = torch.zeros(1, 1, 256, 256, dtype=torch.bool)
    inside[..., first:last, first:last] = True
    color, alpha = model(features, **inputs)
    assert (alpha[~inside] == 0).all() and torch.equal(color[:, :, ~inside[0, 0]], inputs["base"][:, :, ~inside[0, 0]])
    assert alpha[..., first, :].amax() < 0.01, "it dies out before the border"
    assert alpha[..., 128, 128] > 0.1
    around = {name: torch.where(inside, inputs[name], other[name]) for name in MAPS if name != "flow"}
    assert torch.equal(model(features, **(inputs | around))[1], alpha)


def test_its_cost_is_what_its_config_says():
    model = FrameGenerator(FrameGeneratorConfig()).eval()
    with FlopCounterMode(display=False) as count, torch.no_grad():
        features = model.encode_source(portrait())
        source = count.get_total_flops()
        model(features, **maps())
    assert (count.get_total_flops() - source) / 2e9 < 0.6, "GMAC per frame"


def test_colours_stay_colours_however_sure_it_is():
    model = FrameGenerator(FrameGeneratorConfig(largest_change=0.25, **TINY)).eval()
    with torch.no_grad():
        model.head.bias[:] = torch.tensor((50.0, -50.0, 50.0, 50.0))
    inputs = maps()
    color, alpha = model(model.encode_source(portrait()), **inputs)
    expected = (inputs["base"] + torch.tensor((0.25, -0.25, 0.25)).view(1, 3, 1, 1)).clamp(0, 1)
    middle = (..., slice(80, 176), slice(80, 176))
    torch.testing.assert_close(color[middle], expected[middle])
    assert alpha[middle].amin() == 1


def joined(model, features, inputs):
    """What comes together at 1/4: the portrait's features after the warp, and where they are shown."""
    caught = []
    hook = model.join.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    model(features, **inputs)
    hook.remove()
    width = features.shape[1]
    return caught[0][:, -width - 1 : -1], caught[0][:, -1:]


def test_the_portraits_features_move_with_the_picture(frame_generator):
    inputs, features = maps(), frame_generator.encode_source(portrait())
    step = torch.tensor((8 / 256, 0.0))  # four px of the crop, one of the features
    inputs |= {"flow": step.expand(1, 256, 256, 2), "occlusion": torch.ones(1, 1, 256, 256)}
    moved, shown = joined(frame_generator, features, inputs)
    side = moved.shape[-1]
    first = (64 - side) // 2
    expected = features[..., first : first + side, first + 1 : first + 1 + side]
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)
    assert (shown == 1).all()


def test_what_the_portrait_does_not_show_brings_no_features(frame_generator):
    inputs, features = maps(), frame_generator.encode_source(portrait())
    inputs["occlusion"] = torch.ones(1, 1, 256, 256)
    inputs["occlusion"][..., 128:] = 0
    moved, shown = joined(frame_generator, features, inputs)
    half = moved.shape[-1] // 2
    assert (moved[..., half:] == 0).all() and moved[..., :half].any()
    assert (shown[..., half:] == 0).all() and (shown[..., :half] == 1).all()


@pytest.mark.parametrize("name", MAPS)
def test_it_depends_on_every_input(frame_generator, name):
    inputs, features = maps(), frame_generator.encode_source(portrait())
    _, alpha = frame_generator(features, **inputs)
    other = frame_generator(features, **(inputs | {name: maps(seed=1)[name]}))
    assert not torch.equal(other[1], alpha)


def test_codes_outside_the_face_are_ignored(frame_generator):
    """Hair and ears have a place on the mean head too, but the mesh does not give their position."""
    inputs, features = maps(), frame_generator.encode_source(portrait())
    other = torch.where(inputs["mask"] > 0, inputs["ncc"], 1 - inputs["ncc"])
    pairs = (frame_generator(features, **(inputs | {"ncc": ncc})) for ncc in (inputs["ncc"], other))
    assert all(torch.equal(a, b) for a, b in zip(*pairs, strict=True))


def test_frames_of_a_batch_are_independent(frame_generator):
    both, features = maps(2), frame_generator.encode_source(portrait())
    together = frame_generator(features.expand(2, -1, -1, -1), **both)
    for index in range(2):
        alone = frame_generator(features, **{name: value[index : index + 1] for name, value in both.items()})
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(one, many[index : index + 1], atol=1e-5, rtol=1e-4)


def test_it_learns_a_tint_and_every_weight_takes_part():
    torch.manual_seed(0)
    model, inputs, source = FrameGenerator(FrameGeneratorConfig(**TINY)).train(), maps(), portrait()
    target = (inputs["base"] * 0.8).clamp(0, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        color, alpha = model(model.encode_source(source), **inputs)
        loss = (torch.lerp(inputs["base"], color, alpha) - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    idle = [name for name, weights in model.named_parameters() if weights.grad is None or not weights.grad.any()]
    assert idle == []


def test_it_is_written_and_read_back(tmp_path, frame_generator):
    file, features = tmp_path / "generator.safetensors", frame_generator.encode_source(portrait())
    save_module(file, frame_generator, frame_generator.config)
    again = load_module(FrameGenerator, FrameGeneratorConfig, file)
    assert again.config == frame_generator.config
    assert torch.equal(again(features, **maps())[0], frame_generator(features, **maps())[0])
