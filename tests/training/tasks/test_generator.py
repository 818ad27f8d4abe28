"""Training of motion-VAE and generator: losses fall, files load, the parts that must not be trained are not."""

import pytest
import torch
from torch import nn

from vividtalk_core.hub import load_module, save_module
from vividtalk_core.mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig
from vividtalk_core.mesh_to_video.motion_vae import MotionVae, MotionVaeConfig
from vividtalk_core.training.dataset.image_pairs import PairData, by_frame
from vividtalk_core.training.loop.settings import TrainSettings
from vividtalk_core.training.loop.trainer import train
from vividtalk_core.training.tasks import image_task
from vividtalk_core.training.tasks.generator import GeneratorSettings, GeneratorTask, generate
from vividtalk_core.training.tasks.motion_vae import MotionSettings, MotionTask, predict, slope

TRAINING = TrainSettings(steps=10, batch=1, learning_rate=5e-4, warmup=4, evaluate_every=5, log_every=3, cpu=True)


class Blurred(nn.Module):
    """Stands in for the perceptual backbone, which is another package."""

    def features(self, images):
        return [nn.functional.avg_pool2d(images, 4) - 0.5]


@pytest.fixture(autouse=True)
def backbone(monkeypatch):
    monkeypatch.setattr(image_task, "load_perceptual", lambda path, stages: Blurred())


@pytest.fixture
def data(pair_folder):
    return PairData(pair_folder, 0.5, None)


def batch(data):
    return data.batch(torch.Generator().manual_seed(0), 1)


def test_before_training_the_closed_form_comes_out(data):
    frames = by_frame(batch(data))
    motion = MotionTask(data, MotionSettings()).module.eval()
    output, flow, _ = predict(motion, frames)
    assert torch.equal(flow, frames["flow"])
    assert not output.flow.any()
    generator = GeneratorTask(data, GeneratorSettings(), motion).module.generator
    generated, _, base = generate(generator, motion, frames)
    torch.testing.assert_close(generated, base)


def test_the_unanchored_form_starts_from_nothing(data):
    task = MotionTask(data, MotionSettings(anchored=False))
    assert not task.config.anchored
    assert not predict(task.module.eval(), by_frame(batch(data)))[1].any()


def test_motion_learns_where_the_picture_went(data, tmp_path):
    task = MotionTask(data, MotionSettings(portraits=2))
    before = task.losses(task.module.train(), batch(data))["l1"].item()
    best = train(task, TRAINING, tmp_path / "run")
    assert task.losses(task.module.train(), batch(data))["l1"].item() < before
    assert best["l1"] < best["closed_l1"]
    assert len(list((tmp_path / "run" / "pictures").glob("*.png"))) == 2
    again = load_module(MotionVae, MotionVaeConfig, tmp_path / "run" / "best.safetensors")
    assert again.config == task.config


def test_generator_learns_and_leaves_the_motion_alone(data, tmp_path):
    motion = MotionVae(MotionVaeConfig())
    kept = {name: value.clone() for name, value in motion.state_dict().items()}
    task = GeneratorTask(data, GeneratorSettings(portraits=2), motion)
    best = train(task, TRAINING, tmp_path / "run")
    assert best["l1"] < best["base_l1"]
    assert all(torch.equal(value, kept[name]) for name, value in task.module.motion.state_dict().items())
    load_module(FrameGenerator, FrameGeneratorConfig, tmp_path / "run" / "best.safetensors")


def test_generator_and_discriminator_do_not_train_each_other(data):
    task = GeneratorTask(data, GeneratorSettings(), None)
    module = task.module.train()
    nn.init.normal_(module.generator.head.weight, std=0.1)
    terms = task.losses(module, batch(data))
    of = {name: dict(getattr(module, name).named_parameters()) for name in ("generator", "discriminator")}

    def touched(term, part):
        grads = torch.autograd.grad(terms[term], list(of[part].values()), retain_graph=True, allow_unused=True)
        return any(grad is not None and grad.any() for grad in grads)

    assert touched("discriminator", "discriminator")
    assert not touched("discriminator", "generator")
    for term in ("adversarial", "feature_matching", "l1", "perceptual", "temporal", "alpha"):
        assert touched(term, "generator")
        assert not touched(term, "discriminator")


def test_training_can_begin_with_known_weights(data, tmp_path):
    first, second = MotionVae(MotionVaeConfig()), FrameGenerator(FrameGeneratorConfig())
    for module, name in ((first, "m"), (second, "g")):
        nn.init.normal_(module.head.weight)
        save_module(tmp_path / f"{name}.safetensors", module, module.config)
    motion = MotionTask(data, MotionSettings(start=str(tmp_path / "m.safetensors"))).module
    generator = GeneratorTask(data, GeneratorSettings(start=str(tmp_path / "g.safetensors")), None).module.generator
    assert torch.equal(motion.head.weight, first.head.weight)
    assert torch.equal(generator.head.weight, second.head.weight)


def test_slope_of_a_flow():
    flow = torch.zeros(1, 4, 4, 2)
    flow[..., 0] = torch.arange(4.0)
    assert slope(flow) == pytest.approx(0.25)  # one per px along x for one of two components, none along y
