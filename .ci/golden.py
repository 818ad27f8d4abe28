"""Hashes of the demo's fit, curves, poses and frames: a change of the code's structure must not change one bit of them.

Hashes depend on the processor and the version of torch: write them on the same machine, before the change.

usage: python .ci/golden.py write FILE.json      with the tree as it was
       python .ci/golden.py compare FILE.json    with the changed tree: names what differs, exit code 1
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import vividtalk_core as vt
from vividtalk_core.face.track import track_video
from vividtalk_core.hub import EMBEDDED
from vividtalk_core.motion.head_pose import relative_to_frame
from vividtalk_core.pipeline import TalkStream, embedded_models
from vividtalk_core.threads import single_threaded

FITTED = ("image", "landmarks", "id_coefficients", "exp_coefficients", "vertex_offsets", "face_mask", "person_mask")
PART = slice(0, 10)  # of the tracked frames that are driven again


def digest(values: Tensor) -> str:
    """The first half of a sha256; −0 counts as 0."""
    return hashlib.sha256((values.detach().cpu().contiguous() + 0).numpy().tobytes()).hexdigest()[:32]


def of_stream(name: str, stream: TalkStream, with_frames: bool = True) -> tuple[dict[str, str], Tensor]:
    """Hashes of curves and frames, and the frames [T, 3, H, W]."""
    values = {
        "coefficients": stream.expression.coefficients,
        "lip_offsets": stream.expression.lip_offsets,
        "rotation": stream.pose.rotation,
        "translation": stream.pose.translation,
    }
    frames = torch.cat(list(stream)) if with_frames else torch.empty(0)
    values |= {"frames": frames} if with_frames else {}
    return {f"{name}.{key}": digest(value) for key, value in values.items()}, frames


def measure() -> dict[str, str]:
    """Every hash: three ways to speak, the whole clip's curves, and the first clip tracked and driven again."""
    portrait = vt.read_image(EMBEDDED / "demo/portrait.jpg")
    speech = vt.read_audio(EMBEDDED / "demo/speech.flac")
    # Two seconds and one, because frames take most of the time; curves are hashed over the whole clip below.
    two, one = (speech._replace(waveform=speech.waveform[:, : s * speech.sample_rate]) for s in (2, 1))
    stream = vt.talk(portrait, two, vt.TalkSettings(seed=3))
    hashes = {f"fit.{name}": digest(getattr(stream.face, name)) for name in FITTED}
    found, frames = of_stream("parallel.codebook", stream)
    hashes |= found
    idle = vt.TalkSettings(seed=4, mode="causal", pose="idle", fps=30.0)
    hashes |= of_stream("causal.idle", vt.talk(portrait, one, idle))[0]
    closed = vt.TalkSettings(seed=5, mode="acoustic", pose="still", strength=0.0)
    hashes |= of_stream("acoustic.still.closed", vt.talk(portrait, one, closed))[0]
    for mode in ("parallel", "causal", "acoustic"):
        whole = vt.talk(portrait, speech, vt.TalkSettings(seed=1, mode=mode))
        hashes |= of_stream(f"whole.{mode}", whole, with_frames=False)[0]
    # One thread, because the order in which several add up depends on their number.
    with single_threaded():
        track = track_video(embedded_models().face, list(frames), 25.0)
    hashes |= {"track.vertices_2d": digest(track.vertices_2d), "track.rotation": digest(track.pose.rotation)}
    # At half the size, so that a portrait of another resolution, with another crop, is covered too.
    small = F.interpolate(portrait, scale_factor=0.5, mode="bilinear", antialias=True).clamp(0, 1)
    motion = relative_to_frame(track.pose)
    return hashes | of_stream("drive", vt.drive(small, track.expression.frames(PART), motion.frames(PART)))[0]


def main() -> int:
    """Write or compare."""
    verb, path = sys.argv[1], Path(sys.argv[2])
    now = measure()
    if verb == "write":
        path.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        return 0
    before = json.loads(path.read_text(encoding="utf-8"))
    differ = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    sys.stdout.write("".join(f"{name} differs\n" for name in differ) or "every bit is the same\n")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
