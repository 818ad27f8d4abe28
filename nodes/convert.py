"""ComfyUI's values to the core's, and back. The only place where a channel moves.

The core runs on the CPU: its networks are small, and there the same seed gives the same bits on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from comfy.utils import ProgressBar
from comfy_api.latest import Input, InputImpl, Types
from PIL import Image
from torch import Tensor

from ..vividtalk_core.errors import MediaError, MismatchError
from ..vividtalk_core.settings import ArticulationSettings
from ..vividtalk_core.structures import Audio, FaceFit, NccRender
from ..vividtalk_core.video.writer import video_rate

PREVIEW_SIZE = 512  # px, the longer side of a preview frame
Progress = Callable[[int, int, Tensor | None], None]


def to_core(image: Tensor) -> Tensor:
    """IMAGE [B, H, W, C] to [B, 3, H, W], both RGB in 0..1; alpha is dropped, what a resizer overshot is clipped."""
    return image[..., :3].movedim(-1, 1).float().cpu().clamp(0, 1)


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
    """AUDIO [B, C, N] to its first waveform [C, N] and the sample rate in Hz."""
    return Audio(audio["waveform"][0].cpu(), audio["sample_rate"])


def mask_box(mask: Tensor | None, portrait: Tensor) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) in px around what a MASK [B, H, W] marks; None if it marks nothing."""
    if mask is None or not bool((mask > 0.5).any()):  # Load Image gives a small empty mask when there is none
        return None
    if mask.shape[1:] != portrait.shape[1:3]:
        (h, w), (height, width) = mask.shape[1:], portrait.shape[1:3]
        raise MismatchError(
            f"The mask is {w} x {h} px and the portrait {width} x {height} px: they must be the same size."
        )
    rows, columns = torch.nonzero(mask[0] > 0.5, as_tuple=True)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def check_same_face(face: FaceFit, render: NccRender) -> None:
    """MismatchError unless the render is of this face."""
    own = render.view.face
    if face.crop != own.crop or not torch.equal(face.landmarks, own.landmarks):
        raise MismatchError("'face' and 'ncc' are of two different portraits: link the face that Render NCC was given.")


def articulation(
    lip_strength: float, jaw_gain: float = 1.0, lip_gain: float = 1.0, smoothing_s: float = 0.0
) -> ArticulationSettings:
    """The strengths of the widgets; 1 is the usual one."""
    return ArticulationSettings(
        lip_strength=lip_strength, jaw_gain=jaw_gain, lip_gain=lip_gain, smoothing_s=smoothing_s
    )


def driving_frames(video: Input.Video | None, frames: Tensor | None, fps: float) -> tuple[Tensor, float]:
    """IMAGE [T, H, W, 3] and frames per second of a VIDEO, or else of the frames themselves."""
    if video is not None:
        components = video.get_components()
        return components.images, float(components.frame_rate)
    if frames is None:
        raise MediaError("There is nothing to track: link a video or frames.")
    return frames, fps


def video(images: Tensor, fps: float, audio: Input.Audio | None = None) -> Input.Video:
    """IMAGE [T, H, W, 3], frames per second and AUDIO to VIDEO; an odd last row or column is left out (H.264)."""
    even = images[:, : images.shape[1] // 2 * 2, : images.shape[2] // 2 * 2]
    parts = Types.VideoComponents(images=even, audio=audio, frame_rate=video_rate(fps))
    return InputImpl.VideoFromComponents(parts)


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
    """A frame [3, H, W] in 0..1, thinned to preview size."""
    step = max(1, max(frame.shape[1:]) // PREVIEW_SIZE)
    pixels = frame[:, ::step, ::step].movedim(0, -1).mul(255).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.numpy())
