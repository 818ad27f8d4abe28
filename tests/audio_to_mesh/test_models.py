"""Which expression network is taken: by mode, by encoder, and by what a weight set holds."""

import pytest
import torch

from vividtalk_core.audio.encoder import MEL, WHISPER
from vividtalk_core.audio_to_mesh.expression import ExpressionConfig, ExpressionGenerator
from vividtalk_core.audio_to_mesh.models import MEL_FILE, AudioToMeshModels
from vividtalk_core.errors import WeightsError
from vividtalk_core.hub import resolve_weights, save_module


def own(folder, *names):
    """A weight set of a user, with tiny networks of these files."""
    config = ExpressionConfig(front_end="mel", width=16, heads=2, encoder_layers=1)
    torch.manual_seed(0)
    for name in names:
        save_module(folder / name, ExpressionGenerator(config), config)
    return AudioToMeshModels(resolve_weights(str(folder)))


def test_the_pack_has_a_network_for_each_encoder():
    models = AudioToMeshModels(resolve_weights("embedded"))
    assert models.expression("parallel").config.front_end == "states"
    assert models.expression("parallel", MEL).config.front_end == "mel"
    assert models.expression("causal").config.front_end == models.expression("causal", MEL).config.front_end == "mel"
    assert models.expression("parallel") is models.expression("parallel", WHISPER)


def test_own_weights_come_before_the_pack(tmp_path):
    models = own(tmp_path, "expression.safetensors")
    assert models.expression("parallel", MEL).config.width == 16
    assert models.expression("causal", MEL).config.width == 128
    models = own(tmp_path, MEL_FILE)
    assert models.expression("parallel", MEL).config.width == 16


def test_an_unknown_mode_is_named():
    with pytest.raises(WeightsError, match="no expression mode 'fast'"):
        AudioToMeshModels(resolve_weights("embedded")).expression("fast")
