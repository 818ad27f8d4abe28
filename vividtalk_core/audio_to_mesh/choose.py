"""Choice between the modes of stage 1: which generator makes the expression, and which source the head motion."""

from __future__ import annotations

from ..audio.speech import phrase_ends
from ..errors import SettingsError
from ..motion.blink import add_blinks
from ..motion.edit import smooth_all
from ..motion.head_pose import fit_to_length, idle_pose, still_pose
from ..settings import ACOUSTIC, POSE_SOURCES, ArticulationSettings
from ..structures import AudioFeatures, Expression, FaceFit, HeadMotion
from .acoustic import AcousticSettings, acoustic_expression
from .articulation import apply_gains, generate_expression
from .models import AudioToMeshModels
from .pose_sampler import sample_head_pose


def choose_expression(
    models: AudioToMeshModels,
    mode: str,
    features: AudioFeatures,
    face: FaceFit,
    gains: ArticulationSettings,
    seed: int = 0,
    blinks: bool = True,
) -> Expression:
    """Lips and face for a sound.

    Args:
        models: the networks; not used in the mode "acoustic".
        mode: one of `models.MODES`.
        features: of `encode_audio`, with the encoder that the networks were trained with.
        face: the portrait, for its identity and its number of lip vertices.
        gains: strengths and smoothing.
        seed: of blinks, gaze and the small asymmetry of the acoustic mode.
        blinks: add them.

    Returns:
        Coefficients [T, 52] and lip offsets [T, L, 3] from rest, T = features.frame_count.

    Raises:
        WeightsError: there are no weights for the mode.
        MismatchError: the features are of another encoder than the networks'.
    """
    if mode == ACOUSTIC:
        expression = acoustic_expression(features, len(face.model.lip_vertices), AcousticSettings(seed=seed))
        # the rules have no gains of their own, whereas `generate_expression` applies them block by block
        expression = smooth_all(apply_gains(expression, gains), gains.smoothing_s)
    else:
        expression = generate_expression(
            models.expression(mode, features.encoder), features, face.id_coefficients, gains
        )
    # after gains and smoothing, which are for speech: a smoothed blink would not close the eye
    return add_blinks(expression, seed, phrase_ends=phrase_ends(features.mel)) if blinks else expression


def choose_pose(
    source: str | HeadMotion,
    frames: int,
    fps: float,
    *,
    features: AudioFeatures | None = None,
    models: AudioToMeshModels | None = None,
    face: FaceFit | None = None,
    amplitude: float = 1.0,
    temperature: float = 1.0,
    seed: int = 0,
) -> HeadMotion:
    """The head motion of a clip.

    Args:
        source: motion of any length and rate, which is fitted to the clip, or one of `POSE_SOURCES`.
        frames: T.
        fps: frames per second.
        features: the sound: with it the idle head nods on stressed words; the codebook needs it.
        models: the codebook needs them.
        face: its identity gives the codebook a style; None is the average speaker.
        amplitude: factor on the motion of idle and codebook.
        temperature: of the samples of the codebook; 0 is the most probable motion.
        seed: of idle and codebook; each seed gives another motion.

    Returns:
        Rotation [T, 3] and translation [T, 3] on top of the portrait's pose.

    Raises:
        SettingsError: there is no such source, or what it needs is missing.
        WeightsError: the weight set has no pose sampler.
    """
    if isinstance(source, HeadMotion):
        return fit_to_length(source, frames, fps)
    if source == "still":
        return still_pose(frames, fps)
    if source == "idle":
        return idle_pose(frames, fps, seed, amplitude, features)
    if source == "codebook":
        if models is None or features is None:
            raise SettingsError("The head pose source 'codebook' needs the models and the audio features.")
        style = None if face is None else face.id_coefficients
        return sample_head_pose(models.pose, features, temperature, amplitude, seed, id_coefficients=style)
    raise SettingsError(
        f"There is no head pose source '{source}': choose {', '.join(POSE_SOURCES)}, or give a head motion."
    )
