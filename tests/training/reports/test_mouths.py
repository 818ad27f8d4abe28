"""The report of mouths on the pairs of two people."""

import pytest
import torch
from torch import nn

from vividtalk_core.errors import DatasetError
from vividtalk_core.hub import resolve_weights
from vividtalk_core.mesh_to_video.generator_network import FrameGenerator, FrameGeneratorConfig
from vividtalk_core.mesh_to_video.models import MeshToVideoModels
from vividtalk_core.training.reports.mouths import mouth_metrics


class Blurred(nn.Module):
    """Stands in for the perceptual backbone, which is another package."""

    name = "blurred"

    def features(self, images):
        return [nn.functional.avg_pool2d(images, 4) - 0.5]


def models(generator):
    return MeshToVideoModels(resolve_weights("embedded")).replaced(None, generator)


def test_an_untrained_generator_has_the_mouths_of_the_closed_form(pair_folder):
    torch.manual_seed(0)
    report = mouth_metrics(pair_folder, models(FrameGenerator(FrameGeneratorConfig()).eval()), "validation", Blurred())
    assert (report["backbone"], report["clips"], report["frames"]) == ("blurred", 1, 4)
    assert report["networks"] == pytest.approx(report["closed form"], abs=2e-3)
    assert report["closed form"]["perceptual"] > 0 and report["closed form"]["psnr"] > 5


def test_without_networks_there_is_the_closed_form_alone(pair_folder):
    report = mouth_metrics(pair_folder, models(None), "train", Blurred())
    assert "networks" not in report and "networks_better" not in report and "closed form" in report


def test_a_split_without_pairs_is_refused(pair_folder):
    with pytest.raises(DatasetError, match="no pairs of the split 'test'"):
        mouth_metrics(pair_folder, models(None), "test", Blurred())
