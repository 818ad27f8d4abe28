"""Choice between the modes of stage 1: which generator makes the expression, and which source the head motion."""

from __future__ import annotations

from ..audio.speech import phrase_ends
from ..errors import MismatchError, SettingsError
from ..motion.blink import add_blinks
from ..motion.edit import smooth_all, with_upper_face
from ..motion.head_pose import fit_to_length, idle_pose, still_pose
from ..settings import ACOUSTIC, POSE_SOURCES, ArticulationSettings
from ..structures import AudioFeatures, Expression, FaceFit, HeadMotion
from .acoustic import AcousticSettings, acoustic_expression
from .articulation import apply_gains, generate_expression
from .models import AudioToMeshModels
from .pose_sampler import sample_head_and_face


def choose_expression(
    models: AudioToMeshModels,
    mode: str,
    features: AudioFeatures,
    face: FaceFit,
    gains: ArticulationSettings,
    seed: int = 0,
    blinks: bool = True,
    upper_face: Expression | None = None,
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
        upper_face: T frames whose brows, cheeks, lids and gaze are taken instead of the generator's, from
            `sample_head_and_face` or a track.

    Returns:
        Coefficients [T, 52] and lip offsets [T, L, 3] from rest, T = features.frame_count.

    Raises:
        WeightsError: there are no weights for the mode.
        MismatchError: the features are of another encoder than the networks', or the upper face is of another length
            or frame rate.
    """
    if mode == ACOUSTIC:
        expression = acoustic_expression(features, len(face.model.lip_vertices), AcousticSettings(seed=seed))
        # the rules have no gains of their own, whereas `generate_expression` applies them block by block
        expression = smooth_all(apply_gains(expression, gains), gains.smoothing_s)
    else:
        expression = generate_expression(
            models.expression(mode, features.encoder), features, face.id_coefficients, gains
        )
    if upper_face is not None:
        if upper_face.frame_count != features.frame_count or abs(upper_face.fps - features.fps) > 1e-3:
            raise MismatchError(
                f"The upper face has {upper_face.frame_count} frames at {upper_face.fps:g} fps, the speech "
                f"{features.frame_count} at {features.fps:g}: draw it for the same audio features, or leave it out."
            )
        expression = with_upper_face(expression, upper_face)
    # after gains and smoothing, which are for speech: a smoothed blink would not close the eye
    return add_blinks(expression, seed, phrase_ends=phrase_ends(features.mel)) if blinks else expression


def choose_head_and_face(
    source: str | HeadMotion,
    features: AudioFeatures,
    *,
    models: AudioToMeshModels | None = None,
    face: FaceFit | None = None,
    amplitude: float = 1.0,
    temperature: float = 1.0,
    seed: int = 0,
    face_amplitude: float = 1.0,
) -> tuple[HeadMotion, Expression | None]:
    """The head motion of a clip, and the upper face that goes with it.

    Args:
        source: motion of any length and rate, which is fitted to the clip, or one of `POSE_SOURCES`.
        features: the sound, with the number of frames T and their rate: with it the idle head nods on stressed words.
        models: the codebook needs them.
        face: its identity gives the codebook a style; None is the average speaker.
        amplitude: factor on the motion of idle and codebook.
        temperature: of the samples of the codebook; 0 is the most probable motion.
        seed: of idle and codebook; each seed gives another motion.
        face_amplitude: of brows, cheeks and lids, which the codebook gives for any source of head motion.

    Returns:
        Rotation [T, 3] and translation [T, 3] on top of the portrait's pose; coefficients [T, 52] of the upper face,
        None where there is no codebook, or the amplitude of the face is 0.

    Raises:
        SettingsError: there is no such source, or what it needs is missing.
        WeightsError: the source is the codebook, and the weight set has no pose sampler.
    """
    frames, fps = features.frame_count, features.fps
    pose: HeadMotion | None = None
    if isinstance(source, HeadMotion):
        pose = fit_to_length(source, frames, fps)
    elif source == "still":
        pose = still_pose(frames, fps)
    elif source == "idle":
        pose = idle_pose(frames, fps, seed, amplitude, features)
    elif source != "codebook":
        raise SettingsError(
            f"There is no head pose source '{source}': choose {', '.join(POSE_SOURCES)}, or give a head motion."
        )
    elif models is None:
        raise SettingsError("The head pose source 'codebook' needs the models.")
    if pose is not None and (models is None or not models.has_pose or face_amplitude == 0):
        return pose, None
    assert models is not None  # else the pose is known, or there was an error
    style = None if face is None else face.id_coefficients
    drawn = sample_head_and_face(
        models.pose,
        features,
        temperature,
        amplitude,
        seed,
        id_coefficients=style,
        face_amplitude=face_amplitude,
        pose=pose,
    )
    return drawn.pose, drawn.face if face_amplitude else None
