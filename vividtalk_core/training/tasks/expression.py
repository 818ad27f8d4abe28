"""Training of the expression generator (paper, stage 1): audio and α → β_lip, β_other, O_lip."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Generator, Tensor

from ...audio.encoder import MEL, WHISPER, encode_audio, speech_states
from ...audio_to_mesh.articulation import feature_rows, generate_expression
from ...audio_to_mesh.expression import (
    LABIALS,
    MEL_BANDS,
    MEL_WIDTH,
    STATE_STEPS,
    ExpressionConfig,
    ExpressionGenerator,
    RollState,
    StateEncoder,
)
from ...critics.sync_expert import sync_loss
from ...errors import DatasetError, SettingsError, WeightsError
from ...eval.lips import amplitude_ratio, pearson, velocity_ratio
from ...eval.sync import load_sync_expert
from ...head.morphable import load_morphable
from ...head.mouth_shape import lip_curves
from ...hub import load_module, resolve_weights, save_module
from ...structures import SAMPLE_RATE, MorphableModel
from ..augment.mel import MelAugmentation, augment_mel
from ..dataset.motion_shard import Shard, encode_shard, load_shards
from ..dataset.speech_clips import (
    MotionStatistics,
    SoundtrackSettings,
    SpeechClip,
    by_identity,
    make_clip,
    measure_motion,
    phone_labels,
    standardise,
)
from ..dataset.voices import Teacher, load_voices, no_speech
from ..loop.settings import TrainSettings, check_counts, check_shares, check_weights
from ..losses.motion import (
    closure_loss,
    coefficient_loss,
    masked_mean,
    mesh_loss,
    phone_loss,
    shape_loss,
    velocity_loss,
)
from ..losses.motion_maps import make_maps
from ..prepare.av_offset import estimate_lags, shift_sound
from ..sampling import speaker_weights

log = logging.getLogger("vividtalk")

# What the embedded weights were trained with, in two minutes on one core after the sounds are encoded.
TRAINING = TrainSettings(
    steps=300,
    batch=24,
    learning_rate=1e-3,
    warmup=100,
    weight_decay=0.05,
    ema=0.99,
    evaluate_every=50,
    patience=0,
)

# IOD, of the aperture above rest: below it lips are closed.
SHUT = 0.02
# Passes that approximate the past of the causal form. Exact generation takes one pass for each frame, a whole window
# of them.
ROLL_PASSES = 2
# Of the losses.
WEIGHTS = ("coefficient", "mesh", "curve", "upper_lip", "shape", "velocity", "closure", "phone", "sync")
CONFIG_FIELDS = (
    "causal", "width", "components", "encoder_layers", "branch_layers", "after", "dropout", "state_dropout",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ExpressionSettings:
    """Size and losses of an expression generator; `train expression` makes an option of every field."""

    causal: bool = False  # the paper's autoregression; otherwise all frames of a window at once
    encoder: str = WHISPER  # or "mel", or a folder or Hub id of a speech model: `audio.encoder.encode_audio`
    mel: bool = False  # the log-mel beside the states of the speech encoder
    width: int = 128  # features per frame
    components: int = 16  # of the basis of O_lip
    encoder_layers: int = 2  # transformer layers that all branches share
    branch_layers: int = 1  # of each of the three branches
    after: int = 8  # frames of the future in the band of each layer
    dropout: float = 0.3  # of attention and feed-forward outputs
    state_dropout: float = 0.7  # of whole dimensions of the states
    window: int = 75  # frames of a training example
    variants: int = 3  # augmented soundtracks of every clip
    range_share: float = 1.0  # exponent with which a speaker's mouth range is divided out of the targets
    balance: float = 0.3  # exponent of a speaker's frames in its sampling probability; 0 = all speakers alike
    emphasis: str = ""  # NAME=FACTOR,…: speakers that are drawn so many times as often, e.g. the best recorded ones
    style_drop: float = 0.5  # share of examples without a style
    style_noise: float = 0.3  # standard deviation of noise added to α, because the speakers are few
    coefficient: float = 3.0  # weight of ‖β − β̂‖
    mesh: float = 1.0  # weight of ‖M − M̂_nr‖
    curve: float = 1.0  # weight of aperture, width and height of the upper lip, the most visible errors
    upper_lip: float = 1.0  # weight of the height of the upper lip once more: f and v are few, and differ in it from p
    shape: float = 1.0  # weight of 1 − r of the same curves: amplitudes differ between speakers, timing does not
    velocity: float = 2.0  # weight of their change per frame
    closure: float = 1.0  # weight of lips that stay open where the speaker's are closed
    phone: float = 0.3  # weight of the auxiliary phone classifier; 0 = off
    sync: float = 0.0  # weight of the sync expert's distance between lips and sound; 0 = off
    gain: float = (
        1.75  # of lips and jaw in the weights file: curves of least error have a smaller amplitude than real ones
    )
    voices: str = ""  # folder of speech without pictures, see `voices.load_voices`
    voice_share: float = 0.25  # share of the examples that come from it
    teacher: str = ""  # weights of a parallel network trained on the same clips, whose motion the voices get
    no_speech: int = 60  # sounds of 6 s that are no speech: noise, hum, music, with the mouth at rest
    no_speech_share: float = 0.05  # share of the examples that come from them
    start: str = ""  # weights to begin with, of an earlier training on the same clips
    only: str = ""  # train only weights whose names begin with this, e.g. phones; empty = all
    align_with: str = (
        ""  # weights of an earlier training, which estimate and remove the remaining delay of each clip's sound
    )
    seed: int = 0  # of initial weights and augmented soundtracks

    def __post_init__(self) -> None:
        check_counts(self, "width", "components", "encoder_layers", "branch_layers", "window")
        check_shares(self, "dropout", "state_dropout", "voice_share", "no_speech_share", below=True)
        check_shares(self, "style_drop")
        check_weights(self, "after", "variants", "no_speech", "style_noise", "gain", *WEIGHTS)
        parse_emphasis(self.emphasis)
        if self.sync and self.encoder != MEL and not self.mel:
            raise SettingsError("the sync expert hears the log-mel: --sync needs --mel, or the encoder mel")
        # each head attends with an equal part of the features
        heads = ExpressionConfig().heads
        if self.width % heads:
            raise SettingsError(f"width must be a multiple of the {heads} attention heads; got {self.width}")


def parse_emphasis(text: str) -> dict[str, float]:
    """Identity → factor, of "NAME=FACTOR,…"; SettingsError for anything else."""
    factors = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.strip().rpartition("=")
        try:
            factors[name] = float(value)
        except ValueError:
            factors[name] = math.nan
        if not (name and 0 < factors[name] < math.inf):
            raise SettingsError(f"emphasis must be NAME=FACTOR,… with factors above 0; got '{text}'")
    return factors


class ExpressionTask:
    """Windows of clips, the losses of L_bsvo, and metrics on held-out speakers."""

    def __init__(
        self,
        train: list[Shard],
        validation: list[Shard],
        phones: Path,
        model: MorphableModel,
        settings: ExpressionSettings,
    ) -> None:
        if not train or not validation:
            raise DatasetError(
                f"{len(train)} clips to train on and {len(validation)} to validate with: both are needed"
            )
        self.settings, self.model = settings, model
        whole = [shard for shard in train if shard.has_offsets and bool(shard.known_mask.all())]
        speech = [shard for shard in train if len(shard.waveform) and shard.frames >= settings.window]
        self.validation = [clip for clip in validation if len(clip.waveform)]
        if not whole:
            raise DatasetError("no clip to train on has lip offsets and all coefficients: add tracked videos")
        if not any(shard in whole for shard in speech) or not self.validation:
            raise DatasetError(
                f"an expression generator needs tracked speech of {settings.window} frames or more to train on, and "
                f"any speech to validate with; got {len(speech)} and {len(self.validation)} clips with sound: add "
                "clips, or lower the window"
            )
        lip_numbers = 3 * len(model.lip_vertices)
        if settings.components > lip_numbers:
            raise SettingsError(f"components must be at most {lip_numbers}; got {settings.components}")
        states = None if settings.encoder == MEL else speech_states(torch.zeros(SAMPLE_RATE), settings.encoder)
        state_width = 0 if states is None else states.shape[1]
        config = ExpressionConfig(
            **{name: getattr(settings, name) for name in CONFIG_FIELDS},
            front_end=_front_end(settings),
            state_width=state_width,
            identity_components=len(model.id_basis),
            lip_vertices=len(model.lip_vertices),
        )
        # Directly before the module, so that its initial weights depend on nothing but the seed.
        torch.manual_seed(settings.seed)
        self.module = ExpressionGenerator(config)
        # Of complete clips only: zeros that stand for unknown coefficients would shrink mean and deviation.
        statistics = measure_motion(whole, settings.components, settings.range_share)
        generator = self.module
        generator.motion_mean.copy_(statistics.mean)
        generator.motion_std.copy_(statistics.std)
        generator.lip_basis.copy_(statistics.lip_basis)
        self.soundtracks = SoundtrackSettings(config, settings.encoder, settings.variants)
        self.clips, self.sampling_weights = self._prepare(train, phones, statistics)
        self.heard = [
            feature_rows(encode_shard(clip, settings.encoder), config, clip.frames) for clip in self.validation
        ]
        if generator.audio_encoder.states is not None and states is not None:
            # the middle of a second of silence
            _set_statistics(generator.audio_encoder.states, self.clips, states[len(states) // 2])
        _begin(generator, settings)
        self._add_sounds()
        # Frozen: an expert that is trained along would learn to accept what the generator makes.
        self.expert = load_sync_expert().requires_grad_(False) if settings.sync else None
        self.maps = make_maps(
            generator, model, torch.cat([c.motion[0][c.valid[0]] for c in self.clips if c.known.all()])
        )

    def _prepare(
        self, shards: list[Shard], phones: Path, statistics: MotionStatistics
    ) -> tuple[list[SpeechClip], Tensor]:
        """Clips with their augmented soundtracks, and their sampling weights, of shape [C]."""
        settings, clips, lengths = self.settings, [], []
        random = Generator().manual_seed(settings.seed)
        for identity, group in by_identity([s for s in shards if len(s.waveform)]).items():
            for shard in group:
                if shard.frames < settings.window:
                    continue
                motion = standardise(shard, statistics, statistics.ranges.get(identity, 1.0))
                labels = phone_labels(phones / f"{shard.name}.json", shard.frames, self.soundtracks.config.fps)
                clips.append(make_clip(shard, motion, labels, self.soundtracks, random))
                lengths.append((identity, shard.frames))
        factors = parse_emphasis(settings.emphasis)
        unknown = sorted(factors.keys() - {identity for identity, _ in lengths})
        if unknown:
            raise SettingsError(f"emphasis names {', '.join(unknown)}, of whom there is no clip to train on")
        emphasis = torch.tensor([factors.get(identity, 1.0) for identity, _ in lengths])
        return clips, speaker_weights(lengths, settings.balance) * emphasis

    def _add_sounds(self) -> None:
        """Add speech without video, and sounds that are no speech."""
        module, settings = self.module, self.settings
        size, id_size = sum(module.sizes), module.config.identity_components
        if settings.voices:
            random = Generator().manual_seed(settings.seed + 1)
            teacher = make_teacher(settings, module) if settings.teacher else None
            voices = load_voices(Path(settings.voices), size, id_size, self.soundtracks, random, teacher)
            self._add(voices, settings.voice_share)
        if settings.no_speech and settings.no_speech_share:
            random = Generator().manual_seed(settings.seed + 2)
            rest = -module.motion_mean / module.motion_std  # of zero coefficients and offsets
            self._add(no_speech(settings.no_speech, rest, id_size, self.soundtracks, random), settings.no_speech_share)

    def _add(self, clips: list[SpeechClip], share: float) -> None:
        """Add clips, each weighted by its length, that together get a share of the examples."""
        weights = torch.tensor([float(len(clip.phones[0])) for clip in clips])
        weights = weights * (share / (1 - share) * self.sampling_weights.sum() / weights.sum())
        self.sampling_weights = torch.cat((self.sampling_weights, weights))
        self.clips += clips

    def batch(self, generator: Generator, size: int) -> dict[str, Tensor]:
        """`size` windows: features [B, T, D], motion [B, T, M], phones and valid [B, T], α [B, I]."""
        chosen = torch.multinomial(self.sampling_weights, size, replacement=True, generator=generator).tolist()
        rows = [self._window(self.clips[index], generator) for index in chosen]
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        # Without a style the generator learns the average speaker, which is what z_style = 0 stands for.
        kept = (torch.rand(size, 1, generator=generator) >= self.settings.style_drop).float()
        # The few identities are single points in α; noise makes a neighbourhood of each, or the style would overfit
        # to them.
        noise = torch.randn(batch["identity"].shape, generator=generator) * self.settings.style_noise
        return batch | {"identity": batch["identity"] + noise, "style_kept": kept}

    def _window(self, clip: SpeechClip, generator: Generator) -> dict[str, Tensor]:
        """One window of one soundtrack of a clip: features [T, D], motion [T, M], phones and valid of shape [T]."""
        variant = int(torch.randint(len(clip.features), (), generator=generator))
        features, motion = clip.features[variant], clip.motion[variant]
        window = self.settings.window
        frames = len(features)
        start = int(torch.randint(max(1, frames - window + 1), (), generator=generator))
        # a faster variant of a short clip may be shorter than the window: its last frame is repeated and not valid
        index = (start + torch.arange(window)).clamp(max=frames - 1)
        inside = start + torch.arange(window) < frames
        return {
            "features": augment_features(features[index].float(), self.module.config, generator),
            "motion": motion[index],
            "phones": clip.phones[variant][index].masked_fill(~inside, -1),
            "valid": clip.valid[variant][index] & inside,
            "known": clip.known,
            "identity": clip.id_coefficients,
        }

    def losses(self, module: ExpressionGenerator, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """L_bsvo of the motion [B, T, M] and the auxiliary terms, weighted."""
        settings, generator = self.settings, module
        style = generator.style(batch["identity"]) * batch["style_kept"]
        audio = generator.encode(batch["features"], style)
        target, valid, known = batch["motion"], batch["valid"], batch["known"]
        # the lips are known only where all their coefficients and offsets are: a set of curves may lack some of them
        lip, other, _ = generator.sizes
        observed = valid & known[:, None, :lip].all(-1) & known[:, None, lip + other :].all(-1)
        predicted = self._decode(generator, audio, batch)
        maps = self.maps.to(predicted.device)
        # Lips are compared as a mesh too, because coefficients can differ and move the lips alike.
        predicted_mesh, target_mesh = predicted @ maps.mesh, target @ maps.mesh
        lips = maps.curves(predicted)
        predicted_curves, target_curves = lips / maps.curve_std, maps.curves(target) / maps.curve_std
        closed = (maps.rest_aperture + SHUT) / maps.curve_std[0]
        # Speech without video has no motion, but p, b and m need closed lips whoever speaks: there the target is an
        # aperture at rest.
        labial = torch.isin(batch["phones"], torch.tensor(LABIALS, device=predicted.device)) & ~valid
        target_aperture = target_curves[..., 0].masked_fill(labial, maps.rest_aperture / maps.curve_std[0])
        terms = {
            "coefficient": settings.coefficient
            * coefficient_loss(predicted, target, maps.weight * known[:, None], valid),
            "mesh": settings.mesh * mesh_loss(predicted_mesh, target_mesh, observed) / maps.mesh_variance,
            "curve": settings.curve * masked_mean((predicted_curves - target_curves).square(), observed),
            "upper_lip": settings.upper_lip
            * masked_mean((predicted_curves[..., 2:] - target_curves[..., 2:]).square(), observed),
            "shape": settings.shape * shape_loss(predicted_curves, target_curves, observed),
            "velocity": settings.velocity * velocity_loss(predicted_curves, target_curves, observed),
            "closure": settings.closure
            * closure_loss(predicted_curves[..., 0], target_aperture, closed, observed | labial),
            "phone": settings.phone * phone_loss(generator.phones(audio), batch["phones"]),
        }
        if self.expert is not None:
            terms["sync"] = settings.sync * sync_loss(
                self.expert.to(predicted.device), batch["features"][..., -MEL_WIDTH:], lips[..., :2]
            )
        return terms

    def _decode(self, generator: ExpressionGenerator, audio: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Motion [B, T, M].

        The causal form gets its own motion as the past, as in inference: with the true past it would ignore the sound,
        because the past determines all but the change of the last frame. A few passes over all frames at once
        approximate frame-by-frame generation.
        """
        if not self.settings.causal:
            return generator.decode(audio)
        past = torch.zeros_like(batch["motion"])
        for _ in range(ROLL_PASSES):
            with torch.no_grad():
                guess = generator.decode(audio, past)
            past = torch.cat((torch.zeros_like(guess[:, :1]), guess[:, :-1]), 1)
        return generator.decode(audio, past)

    @torch.no_grad()
    def evaluate(self, module: ExpressionGenerator) -> dict[str, float]:
        """Means over the validation clips; the score is 1 minus the weighted correlations of aperture and width."""
        rows = [self._compare(module, clip, heard) for clip, heard in zip(self.validation, self.heard, strict=True)]
        metrics = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        # The aperture counts three times as much, because closing lips are what people notice first.
        return metrics | {"score": 1 - 0.75 * metrics["aperture"] - 0.25 * metrics["width"]}

    def _compare(self, generator: ExpressionGenerator, clip: Shard, heard: Tensor) -> dict[str, float]:
        """Metrics of one clip, whose rows of features are `heard` [T, D], against its landmarks."""
        weight = generator.motion_std
        style = generator.style(clip.id_coefficients[None].to(weight))
        audio = generator.encode(heard[None].to(weight), style)
        # As at inference: the causal form on its own past, frame by frame.
        motion = generator.roll(audio, RollState())[0] if generator.config.causal else generator.decode(audio)
        valid = clip.valid.bool()
        aperture, width = self.maps.curves(motion[0].cpu())[valid, :2].unbind(-1)
        return {
            "aperture": pearson(aperture, clip.aperture[valid]),
            "width": pearson(width, clip.width[valid]),
            "amplitude": amplitude_ratio(aperture, clip.aperture[valid]),
            "speed": velocity_ratio(aperture, clip.aperture[valid]),
        }

    def save(self, path: Path, module: ExpressionGenerator) -> None:
        """Write the generator, with the gain applied to its lips and jaw."""
        # A copy, because training goes on with the module, whose standard deviation must stay that of the data.
        generator = copy.deepcopy(module)
        lip, other, _ = generator.sizes
        factor = torch.full_like(generator.motion_std, self.settings.gain)
        # Brows, cheeks and eyes keep their amplitude: the sound explains little of them, and a gain would enlarge
        # noise.
        factor[lip : lip + other] = 1
        generator.motion_std *= factor
        save_module(path, generator, generator.config, torch.float16)


def _begin(generator: ExpressionGenerator, settings: ExpressionSettings) -> None:
    """Copy earlier weights, and freeze those that are not trained."""
    if settings.start:
        earlier = load_module(ExpressionGenerator, ExpressionConfig, settings.start)
        # Dropout has no weights, so it may differ; every other number is part of their shapes or their meaning.
        if replace(earlier.config, dropout=settings.dropout) != generator.config:
            raise WeightsError(
                f"'{settings.start}' was made for {earlier.config}, the settings are for {generator.config}"
            )
        # Not the buffers of the file, which include the gain of `save`.
        statistics = dict(generator.named_buffers())
        generator.load_state_dict(earlier.state_dict() | {name: value.clone() for name, value in statistics.items()})
    for name, weight in generator.named_parameters():
        weight.requires_grad_(name.startswith(settings.only))


def make_teacher(settings: ExpressionSettings, student: ExpressionGenerator) -> Teacher:
    """The answers of earlier weights, for the average speaker, in the standardised motion of a student.

    Raises:
        WeightsError: the weights are of the causal form, or were trained on other clips, so that their motion is
            standardised in another way.
    """
    net = load_module(ExpressionGenerator, ExpressionConfig, settings.teacher)
    same = net.lip_basis.shape == student.lip_basis.shape
    if net.config.causal or not same or not torch.allclose(net.lip_basis, student.lip_basis, atol=2e-3):
        raise WeightsError(
            f"the teacher '{settings.teacher}' must be of the parallel form and trained on the same clips"
        )
    encoder = _encoder_of(net, settings)

    @torch.no_grad()
    def teach(sound: Tensor) -> tuple[Tensor, Tensor]:
        heard = encode_audio(sound[None], SAMPLE_RATE, net.config.fps, encoder)
        rows = feature_rows(heard, net.config, heard.frame_count)[None]
        audio = net.encode(rows, rows.new_zeros(1, net.config.style_width))
        return net.decode(audio)[0], net.phones(audio)[0].argmax(-1)

    return teach


def _encoder_of(earlier: ExpressionGenerator, settings: ExpressionSettings) -> str:
    """The encoder that earlier weights were trained with: the same as now, unless one of the two had none."""
    if not earlier.config.hears_states:
        return MEL
    return WHISPER if settings.encoder == MEL else settings.encoder


def _front_end(settings: ExpressionSettings) -> str:
    if settings.encoder == MEL:
        return "mel"
    return "both" if settings.mel else "states"


def _set_statistics(encoder: StateEncoder, clips: Sequence[SpeechClip], quiet: Tensor) -> None:
    """Mean and standard deviation of the states of all clips, and the state of silence, of shape [D]."""
    width = STATE_STEPS * len(encoder.mean)
    # every tenth frame is enough: neighbouring states are alike
    rows = torch.cat([clip.features[0][::10, :width] for clip in clips]).float().reshape(-1, len(encoder.mean))
    encoder.mean.copy_(rows.mean(0))
    encoder.std.copy_(rows.std(0).clamp(min=1e-3))
    encoder.quiet.copy_(quiet)


def augment_features(features: Tensor, config: ExpressionConfig, generator: Generator) -> Tensor:
    """Rows of features [T, D] whose mel is that of another voice and microphone; states are not changed."""
    if not config.hears_mel:
        return features
    states, windows = torch.split(features, list(config.feature_widths), -1)
    # At 25 fps the windows do not overlap: they are the mel frames themselves.
    mel = augment_mel(windows.reshape(-1, MEL_BANDS), MelAugmentation(), generator)
    return torch.cat((states, mel.reshape(windows.shape)), -1)


def task(data: Path, settings: ExpressionSettings) -> ExpressionTask:
    """The task of `train expression`: a prepared folder, with phones as DATA/phones/CLIP.json where they are known."""
    model = load_morphable(resolve_weights("embedded").file("head.safetensors"))
    train, validation = (load_shards(data, split) for split in ("train", "validation"))
    if settings.align_with:
        generator = load_module(ExpressionGenerator, ExpressionConfig, settings.align_with)
        encoder = _encoder_of(generator, settings)
        train, validation = (align_sound(shards, generator, model, encoder) for shards in (train, validation))
    return ExpressionTask(train, validation, data / "phones", model, settings)


@torch.no_grad()
def align_sound(
    shards: Sequence[Shard], generator: ExpressionGenerator, model: MorphableModel, encoder: str
) -> list[Shard]:
    """The clips with sound, each corrected by the delay that a generator, trained with an encoder, estimates."""
    aligned = []
    # Speaker by speaker, because clips of one recording share a delay.
    for group in by_identity([shard for shard in shards if len(shard.waveform)]).values():
        expected = []
        for shard in group:
            curves = generate_expression(generator, encode_shard(shard, encoder), shard.id_coefficients)
            expected.append(lip_curves(curves, model)[0][: shard.frames])
        for shard, lag in zip(group, estimate_lags(expected, group), strict=True):
            log.info("%s: the sound is %+.2f frames late", shard.name, lag)
            aligned.append(shift_sound(shard, lag))
    return aligned
