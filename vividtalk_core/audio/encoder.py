"""AudioFeatures of a sound: its log-mel, and the hidden states of a speech encoder.

Time: video frame t is centred at (t + 0.5)/fps seconds, mel frame i at (i + 0.5)/100, state s at (s + 0.5)/50. A sound
at s seconds therefore belongs to video frame floor(s · fps).

The speech encoder is the one inside the pack ("whisper"), or a folder or Hub id of a Whisper, wav2vec2, HuBERT or WavLM
model; "mel" uses none.
"""

from __future__ import annotations

import logging
import math
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import MissingFileError, WeightsError
from ..hub import load_module, resolve_weights
from ..structures import MEL_RATE, SAMPLE_RATE, STATE_RATE, AudioFeatures
from ..time_grid import check_fps, frame_count, sample_rows
from .mel import log_mel
from .waveform import analysis_gain, to_mono_16k
from .whisper import WhisperConfig, WhisperEncoder, from_transformers, hear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WHISPER, MEL = "whisper", "mel"
FILE = "speech_encoder.safetensors"
# Mel steps around a video frame's centre: at 25 fps exactly the four mel frames that it covers; and its two states.
WINDOW = (-1.5, -0.5, 0.5, 1.5)
STATES = (-0.5, 0.5)
# Long audio goes through a speech model in pieces: the memory of its attention grows with the square of the length.
SEGMENT_S = 20.0
# Context on either side of a piece, whose states are not used: those next to a cut lack the sound beyond it.
MARGIN_S = 2.0

logger = logging.getLogger("vividtalk")


def encode_audio(
    waveform: Tensor, sample_rate: int, fps: float = 25.0, encoder: str = WHISPER, louder_db: float = 0.0
) -> AudioFeatures:
    """The features of a sound, from which expression and head motion are generated.

    Args:
        waveform: [N], [C, N] or [1, C, N], any sample type.
        sample_rate: Hz.
        fps: video frames per second.
        encoder: "whisper" for the encoder inside the pack, "mel" for none, or a folder or Hub id (`id` or
            `id@revision`) of a Whisper, wav2vec2, HuBERT or WavLM model.
        louder_db: dB above the level to which every sound is brought; training varies it, because the estimate of a
            sound's level is not exact.

    Returns:
        The log-mel [M, 80] and, unless the encoder is "mel", hidden states [S, D], 50 per second.

    Raises:
        MediaError: the sound cannot be used.
        SettingsError: the frame rate is out of range.
        WeightsError, MissingFileError, HubError: see `load_speech_model`.
    """
    fps = check_fps(fps)
    mono = to_mono_16k(waveform, sample_rate)
    duration_s = waveform.shape[-1] / sample_rate
    frames = frame_count(duration_s, fps)
    level = mono * (analysis_gain(mono) * 10 ** (louder_db / 20))
    states = None if encoder == MEL else speech_states(level, encoder)
    return AudioFeatures(log_mel(level), frames, fps, duration_s, states, encoder)


def mel_rows(features: AudioFeatures) -> Tensor:
    """[T, 4·80] `mel_windows` of the features' own frames."""
    return mel_windows(features.mel, features.frame_count, features.fps)


def mel_windows(mel: Tensor, frames: int, fps: float, first: int = 0) -> Tensor:
    """[T, 4·80] the mel frames [M, 80] around the centres of T video frames, linearly interpolated."""
    position = mel_position(frames, fps, mel.device, first)[:, None] + torch.tensor(WINDOW, device=mel.device)
    return sample_rows(mel, position).flatten(1)


def state_windows(states: Tensor, frames: int, fps: float, first: int = 0) -> Tensor:
    """[T, 2·D] the states [S, D] around the centres of T video frames, linearly interpolated, as float32."""
    position = _position(STATE_RATE, frames, fps, states.device, first)[:, None]
    return sample_rows(states, position + torch.tensor(STATES, device=states.device)).flatten(1).float()


def mel_position(frames: int, fps: float, device: torch.device | None = None, first: int = 0) -> Tensor:
    """[T] float64, where the centres of T video frames fall among the mel frames [M, 80]."""
    return _position(MEL_RATE, frames, fps, device, first)


def _position(rate: int, frames: int, fps: float, device: torch.device | None, first: int) -> Tensor:
    """[T] float64, where the centres of the video frames from the `first` on fall among `rate` rows a second."""
    return (torch.arange(first, first + frames, device=device, dtype=torch.float64) + 0.5) * (rate / fps) - 0.5


def speech_states(mono: Tensor, encoder: str) -> Tensor:
    """Hidden states of a speech encoder, 50 per second: mono [N] at 16 kHz to [S, D] in half precision.

    Half precision, because an hour of states would take 370 MB in float32; its rounding is 1/1000 of a state's spread.
    """
    model = embedded_encoder() if encoder == WHISPER else load_speech_model(encoder)
    # transformers wraps `to` in a decorator that hides its signature
    network: nn.Module = model
    network.to(mono.device)
    parts = hear(model, mono) if isinstance(model, WhisperEncoder) else (_transformers_states(model, mono),)
    return torch.cat([part.half() for part in parts])


@lru_cache(maxsize=1)
def embedded_encoder() -> WhisperEncoder:
    """The speech encoder inside the pack, loaded once."""
    return load_module(WhisperEncoder, WhisperConfig, resolve_weights("embedded").file(FILE))


@torch.no_grad()
def _transformers_states(model: PreTrainedModel, mono: Tensor) -> Tensor:
    """Last hidden states of a wav2vec2-like model at 50 per second: mono [N] at 16 kHz to [S, D]."""
    field, stride = _receptive_field(model)
    # zero mean and unit variance, as in the feature extractors of these models
    signal = (mono - mono.mean()) / (mono.std(correction=0) + 1e-7)
    states = torch.cat([_segment_states(model, signal, start, field, stride) for start in _starts(signal, stride)])
    count = max(1, math.ceil(len(mono) * STATE_RATE / SAMPLE_RATE))
    seconds = (torch.arange(count, device=mono.device, dtype=torch.float64) + 0.5) / STATE_RATE
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


def load_speech_model(encoder: str) -> WhisperEncoder | PreTrainedModel:
    """A speech encoder that is not inside the pack. It is downloaded only if it is not cached.

    Args:
        encoder: a folder with config.json and model.safetensors, a Hub `id`, or `id@revision`.

    Returns:
        A `WhisperEncoder` for Whisper of any size; for others the model of transformers, waveforms [1, N] to states
        [1, K, D].

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
            f'once to download it, or use the encoder "{WHISPER}".'
        )
    kind = model.config.model_type
    if kind == "whisper":
        return from_transformers(model)
    if not hasattr(model.config, "conv_stride"):
        raise WeightsError(
            f"{encoder} is a {kind} model; a speech model like Whisper, wav2vec2, HuBERT or WavLM is needed."
        )
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
