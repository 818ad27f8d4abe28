"""Speech without a picture: read with its phones."""

import json
import wave

import pytest
import torch

from vividtalk_core.audio.encoder import MEL
from vividtalk_core.audio_to_mesh.expression import PHONES, ExpressionConfig
from vividtalk_core.errors import DatasetError
from vividtalk_core.training.dataset.speech_clips import SoundtrackSettings
from vividtalk_core.training.dataset.voices import load_voices

MEL_ALONE = ExpressionConfig(front_end="mel")


@pytest.fixture
def folder(tmp_path):
    sound = 3000 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    with wave.open(str(tmp_path / "ann_one.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sound.to(torch.int16).numpy().tobytes())
    (tmp_path / "ann_one.json").write_text(json.dumps([["B", 0.0, 0.4], ["AA", 0.4, 1.0]]))
    (tmp_path / "without_phones.wav").write_bytes(b"")
    return tmp_path


def test_a_recording_is_a_clip_without_motion(folder):
    (clip,) = load_voices(
        folder, 7, 5, SoundtrackSettings(MEL_ALONE, MEL, variants=1), torch.Generator().manual_seed(0)
    )
    assert (clip.name, clip.identity) == ("ann_one", "ann")
    assert clip.features[0].shape == (25, 320)
    assert clip.motion[0].shape == (25, 7)
    assert not clip.valid[0].any()
    assert [PHONES[i] for i in clip.phones[0][[0, 9, 10, 24]].tolist()] == ["B", "B", "AA", "AA"]
    assert len(clip.features) == 2


def test_a_folder_without_phones_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="has no speech with phones"):
        load_voices(tmp_path, 7, 5, SoundtrackSettings(MEL_ALONE, MEL), torch.Generator())
