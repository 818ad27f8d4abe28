"""The settings of `talk` and `drive`, each declared once: the command line, the nodes and the help read them from here.

Nothing here imports torch, so that `--help` and a misspelt option answer at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .errors import SettingsError
from .options import check_options, option

# Faces come apart long before; beyond it a number is a mistake.
LARGEST_GAIN = 10.0
FPS = (1.0, 120.0)  # lowest and highest frames per second that are accepted
ACOUSTIC = "acoustic"  # the rule-based baseline, which needs no weights
MODES = ("parallel", "causal", ACOUSTIC)  # how `audio_to_mesh` makes lip motion
POSE_SOURCES = ("codebook", "idle", "still")  # where head motion comes from if none is given


@dataclass(frozen=True, slots=True)
class ArticulationSettings:
    """Gains: 1 is the strength of the speakers in the training data."""

    lip_strength: float = option(
        1.0, "gain of all mouth motion, jaw and lips", low=0, high=LARGEST_GAIN, widest=3, step=0.05
    )
    jaw_gain: float = option(1.0, "gain of the jaw alone", low=0, high=LARGEST_GAIN, widest=3, step=0.05)
    lip_gain: float = option(
        1.0, "gain of the lips alone, lip offsets included", low=0, high=LARGEST_GAIN, widest=3, step=0.05
    )
    face_gain: float = 1.0  # gain of brows and cheeks
    smoothing_s: float = option(
        0.0,
        "width in seconds of a Gaussian over time; above 0.05 lip closures are lost",
        low=0,
        widest=0.5,
        step=0.01,
        name="smoothing",
    )
    closure: float = 1.0  # factor on the probability of p, b or m, by which lips are closed; 0 = not at all
    tongue: float = 1.0  # factor on how far the tongue comes forward for th and l; 0 = not at all
    style: float = 1.0  # factor on z_style, which comes from α; 0 is the average speaker

    def __post_init__(self) -> None:
        check_options(self)
        # `check_options` does not know these, because they are no options
        for name in ("face_gain", "closure", "tongue", "style"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingsError(f"{name} must be 0 or more; got {getattr(self, name)}.")


# Frozen, so that it can be the default of an argument.
DEFAULT_ARTICULATION = ArticulationSettings()


@dataclass(frozen=True, slots=True)
class TalkSettings:
    """The settings of `talk`; `drive` uses those of face, strength and chunk."""

    fps: float = option(25.0, "frames per second of the video", low=FPS[0], high=FPS[1], step=0.001)
    seed: int = option(0, "seed of blinks, gaze and head motion; equal seeds give equal videos", low=0, high=2**63 - 1)
    pose: str = option(
        "codebook",
        "motion of the head: from the learned codebook, a slight idle sway, or none",
        choices=POSE_SOURCES,
    )
    pose_amplitude: float = option(1.0, "how far the head moves", low=0, high=LARGEST_GAIN, widest=3, step=0.05)
    pose_temperature: float = option(
        1.0, "variety of the codebook's motion: 0 the most likely, 1 as in people", low=0, widest=2, step=0.05
    )
    face_amplitude: float = option(
        1.0,
        "how far brows, cheeks and lids move, drawn with the head from the codebook; 0: as the lips' network has them",
        low=0,
        high=LARGEST_GAIN,
        widest=3,
        step=0.05,
    )
    blinks: bool = option(True, "add blinks and small movements of the eyes")
    mode: str = option(
        "parallel",
        "how lips are computed: all frames at once, frame after frame as in the paper (causal), or by rules (acoustic)",
        choices=MODES,
    )
    encoder: str = option(
        "whisper",
        "speech encoder: whisper is inside the pack, mel is none, a folder or Hub id is for weights trained with it",
    )
    articulation: ArticulationSettings = field(default_factory=ArticulationSettings)
    strength: float = option(
        1.0, "strength of motion-VAE and generator: 0 the closed form alone, 1 as trained", low=0, high=1, step=0.05
    )
    face_index: int = option(0, "which face, counted from the largest (0)", low=0, widest=99)
    box: tuple[float, float, float, float] | None = None  # left, top, right, bottom px, instead of detection
    threshold: float = option(0.5, "lowest score of the face detector", low=0, high=1, step=0.05)
    force: bool = option(False, "use the face even if the landmark network gives it a low presence score")
    chunk: int = 4  # frames that a worker holds at a time at most; the result does not depend on it
    workers: int = option(
        0,
        "threads that compute frames at the same time; 0 takes all cores, at most 4; the result does not depend on it",
        low=0,
        widest=64,
    )

    def __post_init__(self) -> None:
        check_options(self)
