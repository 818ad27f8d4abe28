"""AudioFeatures at video rate: log-mel by default, or the hidden states of a speech model from the Hub.

Time: video frame t is centred at (t + 0.5)/fps seconds, mel frame i at (i + 0.5)/100. A sound at s seconds therefore
belongs to video frame floor(s · fps).
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import MissingFileError, WeightsError
from ..structures import MEL_RATE, SAMPLE_RATE, AudioFeatures
from ..time_grid import check_fps, frame_count, resampled_positions, sample_rows
from .mel import log_mel
from .waveform import analysis_gain, to_mono_16k

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Mel steps around a video frame's centre: at 25 fps exactly the four mel frames that it covers.
WINDOW = (-1.5, -0.5, 0.5, 1.5)
# Long audio goes through a speech model in pieces: the memory of its attention grows with the square of the length.
SEGMENT_S = 20.0
# Context on either side of a piece, whose states are not used: those next to a cut lack the sound beyond it.
MARGIN_S = 2.0

logger = logging.getLogger("vividtalk")


def encode_audio(waveform: Tensor, sample_rate: int, fps: float = 25.0, encoder: str = "mel") -> AudioFeatures:
    """The features of a sound, from which expression and head motion are generated.

    Args:
        waveform: [N], [C, N] or [1, C, N], any sample type.
        sample_rate: Hz.
        fps: video frames per second.
        encoder: "mel", or a folder or Hub id (`id` or `id@revision`) of a wav2vec2/HuBERT-like model.

    Returns:
        The log-mel [M, 80], and for a speech model its hidden states [T, D] at `fps`.

    Raises:
        MediaError: the sound cannot be used.
        SettingsError: the frame rate is out of range.
        WeightsError, MissingFileError, HubError: see `load_speech_model`.
    """
    fps = check_fps(fps)
    mono = to_mono_16k(waveform, sample_rate)
    duration_s = waveform.shape[-1] / sample_rate
    frames = frame_count(duration_s, fps)
    # the gain is for the log-mel alone: the signal for a speech model is normalised in `speech_states`
    mel = log_mel(mono * analysis_gain(mono))
    states = None if encoder == "mel" else speech_states(mono, frames, fps, encoder)
    return AudioFeatures(mel, frames, fps, duration_s, states, encoder)


def feature_rows(features: AudioFeatures, frames: int | None = None, fps: float | None = None) -> Tensor:
    """The input of the networks: a row of features for each video frame.

    Args:
        features: of `encode_audio`.
        frames: number of rows; None is the number of the features.
        fps: their rate; None is the rate of the features.

    Returns:
        [T, 4·80] for log-mel: four mel frames; row t depends only on 55 ms around its centre and on the clip's level.
        [T, D] for a speech model: its hidden states.
    """
    frames, fps = features.frame_count if frames is None else frames, features.fps if fps is None else fps
    if features.states is None:
        return mel_windows(features.mel, frames, fps)
    return sample_rows(features.states, resampled_positions(frames, features.fps, fps).to(features.states.device))


def mel_windows(mel: Tensor, frames: int, fps: float) -> Tensor:
    """[T, 4·80] the mel frames [M, 80] around each video frame's centre, linearly interpolated."""
    position = mel_position(frames, fps, mel.device)[:, None] + torch.tensor(WINDOW, device=mel.device)
    return sample_rows(mel, position).flatten(1)


def mel_position(frames: int, fps: float, device: torch.device | None = None) -> Tensor:
    """[T] float64, where the centre of each video frame falls among the mel frames [M, 80]."""
    return (torch.arange(frames, device=device, dtype=torch.float64) + 0.5) * (MEL_RATE / fps) - 0.5


@torch.no_grad()
def speech_states(mono: Tensor, frames: int, fps: float, encoder: str) -> Tensor:
    """Last hidden states of a speech model at video rate: mono [N] at 16 kHz to [T, D]."""
    model = load_speech_model(encoder)
    # transformers wraps `to` in a decorator that hides its signature
    network: nn.Module = model
    network.to(mono.device)
    field, stride = _receptive_field(model)
    # zero mean and unit variance, as in the feature extractors of these models
    signal = (mono - mono.mean()) / (mono.std(correction=0) + 1e-7)
    states = torch.cat([_segment_states(model, signal, start, field, stride) for start in _starts(signal, stride)])
    seconds = (torch.arange(frames, device=mono.device, dtype=torch.float64) + 0.5) / fps
    # state k stands for the middle of its receptive field, k · stride + field / 2 samples
    return sample_rows(states, (seconds * SAMPLE_RATE - field / 2) / stride)


def _receptive_field(model: PreTrainedModel) -> tuple[int, int]:
    """Samples on which one hidden state depends through the convolutions, and samples from one state to the next."""
    field, stride = 1, 1
    for kernel, step in zip(model.config.conv_kernel, model.config.conv_stride, strict=True):
        field, stride = field + (kernel - 1) * stride, stride * step
    return field, stride


def _starts(signal: Tensor, stride: int) -> range:
    """Where the segments of a signal [N] begin, in whole strides, so that their states [K, D] lie on one grid."""
    return range(0, signal.shape[0], round(SEGMENT_S * SAMPLE_RATE / stride) * stride)


def _segment_states(model: PreTrainedModel, signal: Tensor, start: int, field: int, stride: int) -> Tensor:
    """States [K, D] whose receptive fields begin in the segment at `start`, computed with a margin on both sides."""
    step = round(SEGMENT_S * SAMPLE_RATE / stride) * stride
    margin = round(MARGIN_S * SAMPLE_RATE / stride) * stride
    before = min(margin, start)
    stop = min(signal.shape[0], start + step)
    piece = signal[start - before : min(signal.shape[0], stop + margin)]
    # less than one receptive field would give no state at all
    piece = F.pad(piece, (0, max(0, field - piece.shape[0])))
    states: Tensor = model(piece[None]).last_hidden_state[0]
    # states that begin in the next piece are computed there, with sound on both sides of them
    keep = max(1, math.ceil((stop - start) / stride)) if stop < signal.shape[0] else None
    first = before // stride
    return states[first : first + keep if keep else None]


def load_speech_model(encoder: str) -> PreTrainedModel:
    """A wav2vec2/HuBERT-like model: waveforms [1, N] to states [1, K, D]. It is downloaded only if it is not cached.

    Args:
        encoder: a folder with config.json and model.safetensors, a Hub `id`, or `id@revision`.

    Raises:
        MissingFileError: the folder lacks the files, or the model is neither cached nor on the Hub as safetensors.
        WeightsError: the model is not a speech model.
    """
    folder = Path(encoder).expanduser()
    if folder.is_dir():
        complete = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
        model = _from_pretrained(str(folder), "", local_files_only=True) if complete else None
    else:
        name, _, revision = encoder.partition("@")
        # the cache first: a model that was downloaded once works without a network
        model = _from_pretrained(name, revision, local_files_only=True) or _from_pretrained(name, revision)
    if model is None:
        raise MissingFileError(
            f"the speech model {encoder} is neither a folder with config.json and model.safetensors, nor in the local "
            "cache, nor reachable on the Hugging Face Hub as safetensors. Check the name and the revision, connect "
            'once to download it, or use the encoder "mel".'
        )
    if not hasattr(model.config, "conv_stride"):
        kind = model.config.model_type
        raise WeightsError(f"{encoder} is a {kind} model; a speech model like wav2vec2 or HuBERT is needed.")
    network: nn.Module = model
    network.eval()
    return model


def _from_pretrained(name: str, revision: str, local_files_only: bool = False) -> PreTrainedModel | None:
    """The model, or None if it is not found."""
    # only speech models need transformers, which takes seconds to import
    from transformers import AutoModel

    try:
        # safetensors only: a pickled checkpoint could execute code
        model: PreTrainedModel = AutoModel.from_pretrained(
            name, revision=revision or "main", use_safetensors=True, local_files_only=local_files_only
        )
    # transformers raises OSError for every cause: no such folder, file, model or connection
    except OSError as error:
        logger.info("%s: %s", name, error)
        return None
    return model
