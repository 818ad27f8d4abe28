"""ComfyUI's values to the core's, and back. The only place where the channel dimension is moved.

The core runs on the CPU: its networks are small, and there the same seed gives the same bits on every machine.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import secrets
from collections.abc import Iterable
from typing import Any

import folder_paths
import torch
from comfy.utils import ProgressBar
from comfy_api.latest import Input, InputImpl, Types, io
from PIL import Image
from torch import Tensor

from ..vividtalk_core.errors import MediaError, MismatchError
from ..vividtalk_core.face.marked import Box, marked_face
from ..vividtalk_core.options import options_of
from ..vividtalk_core.pipeline import Models
from ..vividtalk_core.progress import Progress
from ..vividtalk_core.structures import Audio, FaceFit, NccRender
from ..vividtalk_core.video.writer import SYNTHETIC, FrameStream, video_rate, write_video

PREVIEW_SIZE = 512  # px, the longer side of a preview frame
NETWORKS = {"motion": "motion-VAE", "generator": "generator"}

log = logging.getLogger("vividtalk")


def to_core(image: Tensor) -> Tensor:
    """IMAGE [B, H, W, C] to [B, 3, H, W], both RGB in 0..1; alpha is dropped, values beyond 0..1 are clipped."""
    return image[..., :3].movedim(-1, 1).float().cpu().clamp(0, 1)


def one_picture(image: Tensor) -> Tensor:
    """The first picture of an IMAGE [B, H, W, C] as [1, 3, H, W]; a warning says if there are more."""
    if len(image) > 1:
        log.warning("The portrait input has %d pictures; the first is used", len(image))
    return to_core(image[:1])


def to_comfy(image: Tensor) -> Tensor:
    """[B, 3, H, W] to IMAGE [B, H, W, 3], both RGB in 0..1."""
    return image.movedim(1, -1)


def to_mask(mask: Tensor) -> Tensor:
    """[B, 1, H, W] to MASK [B, H, W], both 0..1."""
    return mask.squeeze(1)


def mask_to_comfy(mask: Tensor) -> Tensor:
    """[B, 1, H, W] to a grey IMAGE [B, H, W, 3], both 0..1."""
    return to_comfy(mask.expand(-1, 3, -1, -1))


def sound(audio: Input.Audio) -> Audio:
    """AUDIO [B, C, N] to its first waveform [C, N] and the sample rate in Hz; a warning says if there are more."""
    waveform = audio["waveform"]
    if len(waveform) > 1:
        log.warning("The audio input is a batch of %d sounds; the first is used", len(waveform))
    return Audio(waveform[0].cpu(), audio["sample_rate"])


def face_choice(
    models: Models, portrait: Tensor, mask: Tensor | None, face_index: int, threshold: float, force: bool
) -> tuple[Box | None, int]:
    """The arguments `box` and `face_index` of `fit_face` for a portrait [1, 3, H, W] and a MASK [B, H, W]."""
    if mask is None or not bool((mask > 0.5).any()):
        # Load Image gives an empty mask of another size where the picture has none: that one is nobody's intention
        if mask is not None and mask.shape[1:] == portrait.shape[2:]:
            log.warning("The mask marks nothing: it is ignored")
        return None, face_index
    return marked_face(models.face, portrait, mask[0].cpu(), face_index, threshold, force)


def check_same_face(face: FaceFit, render: NccRender) -> None:
    """MismatchError unless the render is of this face."""
    own = render.view.face
    if face.crop != own.crop or not torch.equal(face.landmarks, own.landmarks):
        raise MismatchError(
            "'face' and 'ncc' are of two different portraits: link the face that is linked to Render NCC."
        )


def note_absent_networks(models: Models, strength: float, *names: str) -> None:
    """Warn, on every run, of networks of stage 2 that the weights lack; the core itself warns only once.

    Args:
        models: from Load Models.
        strength: of the networks; at 0 none is used.
        names: keys of `NETWORKS`; all if there are none.
    """
    for name in (names or NETWORKS) if strength > 0 else ():
        if getattr(models.mesh_to_video, name) is None:
            log.warning("The weights '%s' have no %s: only the closed form is used.", models.weights, NETWORKS[name])


def driving_frames(video: Input.Video | None, frames: Tensor | None, fps: float) -> tuple[Tensor, float]:
    """IMAGE [T, H, W, 3] and frames per second of a VIDEO, or else of the frames themselves."""
    if video is not None:
        components = video.get_components()
        return components.images, float(components.frame_rate)
    if frames is None:
        raise MediaError("There is nothing to track: link a video or frames.")
    return frames, fps


class MarkedFrames(InputImpl.VideoFromComponents):
    """A VIDEO of frames in memory whose file says in its metadata that it is generated, whichever node saves it."""

    def save_to(
        self,
        path: Any,
        format: Types.VideoContainer = Types.VideoContainer.AUTO,
        codec: Types.VideoCodec = Types.VideoCodec.AUTO,
        metadata: dict[str, Any] | None = None,
        **newer: Any,
    ) -> None:
        """ComfyUI's own, with the mark; `newer` is what later versions than 0.3.75 add."""
        super().save_to(path, format, codec, marked(metadata), **newer)


class MarkedFile(InputImpl.VideoFromFile):
    """A VIDEO of a file of this pack, which keeps the mark when ComfyUI encodes it again."""

    def save_to(
        self,
        path: Any,
        format: Types.VideoContainer = Types.VideoContainer.AUTO,
        codec: Types.VideoCodec = Types.VideoCodec.AUTO,
        metadata: dict[str, Any] | None = None,
        **newer: Any,
    ) -> None:
        """ComfyUI's own, with the mark; `newer` is what later versions than 0.3.75 add."""
        super().save_to(path, format, codec, marked(metadata), **newer)


def marked(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Metadata with the mark of a synthetic video."""
    return {**(metadata or {}), "comment": SYNTHETIC}


def video(images: Tensor, fps: float, audio: Input.Audio | None = None) -> Input.Video:
    """IMAGE [T, H, W, 3], frames per second and AUDIO to VIDEO; an odd last row or column is left out (H.264)."""
    note_odd_size(*images.shape[1:3])
    even = images[:, : images.shape[1] // 2 * 2, : images.shape[2] // 2 * 2]
    parts = Types.VideoComponents(images=even, audio=audio, frame_rate=video_rate(fps))
    return MarkedFrames(parts)


def written(stream: FrameStream, audio: Input.Audio | None) -> Input.Video:
    """A stream and its sound as a VIDEO of a file in ComfyUI's temp folder, written chunk by chunk."""
    folder = folder_paths.get_temp_directory()
    os.makedirs(folder, exist_ok=True)
    # a random name, because all runs share the temp folder
    file = os.path.join(folder, f"VividTalk_{secrets.token_hex(8)}.mp4")
    note_odd_size(stream.height, stream.width)
    track = None if audio is None else sound(audio)
    if track is not None:
        note_other_length(track.duration_s, stream.frame_count / stream.fps)
    write_video(file, stream, track, progress())
    return MarkedFile(file)


def note_other_length(sound_s: float, video_s: float) -> None:
    """Warn if a sound is longer or shorter than its video by more than a tenth of a second."""
    if abs(sound_s - video_s) > 0.1:
        what = "the sound is cut" if sound_s > video_s else "the rest of the video is silent"
        log.warning("The sound takes %.2f s and the motion %.2f s: %s", sound_s, video_s, what)


def note_odd_size(height: int, width: int) -> None:
    """Warn if the height or the width is odd, which H.264 cannot store."""
    if height % 2 or width % 2:
        even = f"{width // 2 * 2} x {height // 2 * 2}"
        log.warning("The frames are %d x %d px; a video has even sides, so it is cut to %s px.", width, height, even)


def progress() -> Progress:
    """A plain callback for the core that moves ComfyUI's progress bar; it raises when the user cancels."""
    bar = ProgressBar(1)

    def report(done: int, total: int, preview: Tensor | None = None) -> None:
        # preview: [3, H, W] in 0..1; a total of 0 is not known yet, and the bar cannot go beyond its end
        bar.update_absolute(
            done, max(total, done), None if preview is None else ("JPEG", _picture(preview), PREVIEW_SIZE)
        )

    return report


def collect(chunks: Iterable[Tensor], frames: int, report: Progress) -> Tensor:
    """Chunks [t, 3, H, W] of a stream to one IMAGE [T, H, W, 3], written once into its final place."""
    images, done = torch.empty(0), 0
    for chunk in chunks:
        if done == 0:
            images = torch.empty(frames, *chunk.shape[2:], 3)
        images[done : done + len(chunk)] = chunk.movedim(1, -1)
        done += len(chunk)
        report(done, frames, chunk[-1])
    return images


def _picture(frame: Tensor) -> Image.Image:
    """A frame [3, H, W] in 0..1, reduced to preview size."""
    # every n-th pixel and no resampling, because each frame is shown for a moment only
    step = max(1, max(frame.shape[1:]) // PREVIEW_SIZE)
    pixels = frame[:, ::step, ::step].movedim(0, -1).mul(255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.numpy())


def widget(
    settings: type,
    field: str,
    *,
    name: str | None = None,
    tooltip: str | None = None,
    optional: bool = False,
    low: float | None = None,
    high: float | None = None,
) -> io.Input:
    """The widget of a declared setting (`options.option`), with its default, range, step and help.

    Args:
        settings: the dataclass that declares it.
        field: its name there.
        name: of the input, where it is another one.
        tooltip: instead of the declared help.
        optional: whether older graphs lack the input.
        low: smallest value of the slider, where the setting accepts smaller ones.
        high: largest value of the slider.
    """
    known = options_of(settings)[field]
    default = next(f.default for f in dataclasses.fields(settings) if f.name == field)
    common: dict[str, Any] = {
        "id": name or field,
        "tooltip": tooltip or f"{known.help[0].upper()}{known.help[1:]}.",
        "optional": optional,
        "default": default,
    }
    if known.choices:
        return io.Combo.Input(options=list(known.choices), **common)
    if isinstance(default, bool):
        return io.Boolean.Input(**common)
    if isinstance(default, str):
        return io.String.Input(**common)
    top = known.widest if known.widest is not None else known.high
    limits: dict[str, Any] = {
        "min": known.low if low is None else low,
        "max": top if high is None else high,
        "step": known.step,
    }
    kind = int if isinstance(default, int) else float
    # infinity is left out, because ComfyUI sends definitions as JSON, which has none
    limits = {key: kind(value) for key, value in limits.items() if value is not None and math.isfinite(value)}
    return (io.Int if kind is int else io.Float).Input(**common, **limits)


def preview_every() -> io.Input:
    """The widget that leaves frames out of previews; graphs of older versions lack it."""
    return io.Int.Input(
        "preview_every",
        default=1,
        min=1,
        max=1000,
        optional=True,
        tooltip="Show only every Nth frame in the pictures, to save memory; the value itself keeps all frames.",
    )


def search_words(*words: str) -> dict[str, Any]:
    """Words for node search, as an argument of `io.Schema`; nothing where ComfyUI lacks that argument (0.3.75)."""
    return (
        {"search_aliases": list(words)} if "search_aliases" in {f.name for f in dataclasses.fields(io.Schema)} else {}
    )
