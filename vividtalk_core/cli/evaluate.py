"""`vividtalk evaluate`: metrics of a generated video, of a folder of them, or of one part of this package."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..audio.phones import read_phones, spans_of
from ..audio.waveform import read_audio
from ..critics.face_embedder import FaceEmbedder
from ..critics.perceptual import load_perceptual
from ..errors import MediaError
from ..eval.evaluators import Evaluators
from ..eval.footage import read_footage
from ..eval.protocols import reenactment_table, style
from ..eval.protocols.fit_error import folder_errors, mean_error
from ..eval.protocols.folder import evaluate_folder, flat, medians, metrics, to_markdown
from ..eval.protocols.reenactment import ReenactmentSettings, find_perceptual, json_line, reenact_files
from ..eval.protocols.video import Evaluation, evaluate
from ..eval.sync import load_sync_expert
from ..face.models import load_face_models
from ..files import check_writable
from ..hub import resolve_weights
from ..pipeline import load_models
from ..training.reports.expression import expression_metrics
from ..training.reports.head_pose import head_pose_metrics
from ..training.reports.mouths import mouth_metrics
from ..video.reader import read_image
from .progress import ProgressBar
from .report import write_json

STDOUT = "-"
SETTINGS = ("frames", "pictures", "source", "turned")  # options that are fields of ReenactmentSettings


def run(args: argparse.Namespace) -> None:
    """Print the metrics that are asked for."""
    reports = {
        None: _videos,
        "fit": _fit,
        "reenactment": _reenactment,
        "style": _style,
        "expression": _expression,
        "head-pose": _head_pose,
        "mouths": _mouths,
    }
    reports[args.report](args)


def _videos(args: argparse.Namespace) -> None:
    """Metrics of `--generated` or `--table` as text or JSON, or in a file."""
    # checked before the work: tracking takes minutes, and its result would be lost
    if args.json not in (None, STDOUT):
        check_writable(args.json, (".json",))
    weights = resolve_weights(args.weights)
    embedder = _embedder(args)
    evaluators = Evaluators(load_face_models(weights), load_sync_expert(weights), embedder)
    text, values = _table(evaluators, args) if args.table else _single(evaluators, args)
    if args.json == STDOUT:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
        return
    if args.json is not None:
        write_json(args.json, values)
    sys.stdout.write(text)


def _embedder(args: argparse.Namespace) -> FaceEmbedder | None:
    return None if args.embedder is None else FaceEmbedder(args.embedder)


def _single(evaluators: Evaluators, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """One video as text and as values."""
    generated = read_footage(args.generated, audio=args.audio)
    # at the rate of the generated video, because frames are compared in pairs
    reference, wrong = (read_footage(p, generated.fps) if p else None for p in (args.reference, args.wrong))
    closures = spans_of(read_phones(Path(args.phones))) if args.phones else ()
    bar = ProgressBar("track", args.progress)
    evaluation = evaluate(evaluators, generated, reference, closures, wrong, bar)
    return _describe(evaluation), flat(evaluation)


def _describe(evaluation: Evaluation) -> str:
    """A line for each metric that could be measured."""
    measured = metrics(evaluation)
    width = max(map(len, measured))
    lines = [f"{evaluation.frames} frames at {evaluation.fps:g} fps"]
    return "\n".join(lines + [f"{name:{width}}  {value:.4g}" for name, value in measured.items()]) + "\n"


def _table(evaluators: Evaluators, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """A folder of rows as Markdown and as values."""
    bar = ProgressBar("evaluate", args.progress)
    table = evaluate_folder(evaluators, Path(args.table), lambda done, total, name: bar(done, total, None))
    values = {
        row: {
            "median": {name: {"value": value, "clips": count} for name, (value, count) in medians(clips).items()},
            "clips": {name: flat(evaluation) for name, evaluation in clips.items()},
        }
        for row, clips in table.items()
    }
    return to_markdown(table), values


def _fit(args: argparse.Namespace) -> None:
    """A JSON line for each file, and one with the mean of each folder."""
    models = load_face_models(resolve_weights(args.weights))
    for folder in args.folders:
        errors = folder_errors(models, Path(folder))
        for error in [*errors, mean_error(errors)]:
            sys.stdout.write(json.dumps(asdict(error)) + "\n")


def _reenactment(args: argparse.Namespace) -> None:
    """A JSON line for each clip as soon as it is measured, and a table if it is asked for."""
    settings = ReenactmentSettings(
        **{name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    )
    models = load_models(args.weights)
    evaluators = Evaluators(models.face, embedder=_embedder(args), perceptual=find_perceptual())
    rows = {}
    for name, clip in reenact_files(models, map(Path, args.videos), evaluators, settings):
        sys.stdout.write(json_line(name, clip))
        # standard output is buffered in a pipe: each clip is shown when it is measured
        sys.stdout.flush()
        rows[name] = clip.rows
    if not rows:
        # each was left out with a warning that says why
        raise MediaError(f"none of the {len(args.videos)} videos could be measured: name a video of one face")
    if args.markdown:
        sys.stdout.write(reenactment_table.to_markdown(rows))


def _style(args: argparse.Namespace) -> None:
    """A Markdown table of all portraits."""
    waveform, sample_rate = read_audio(Path(args.speech))
    portraits = {Path(path).stem: read_image(path) for path in args.portraits}
    models = load_models(args.weights)
    rows = {name: style.talking_style(models, image, waveform, sample_rate) for name, image in portraits.items()}
    sys.stdout.write(style.to_markdown(rows))


def _expression(args: argparse.Namespace) -> None:
    _print_json(expression_metrics(Path(args.data), args.split, load_models(args.weights)))


def _head_pose(args: argparse.Namespace) -> None:
    _print_json(head_pose_metrics(Path(args.data), Path(args.file)))


def _mouths(args: argparse.Namespace) -> None:
    models, network = load_models(args.weights).mesh_to_video, load_perceptual(args.perceptual_weights)
    _print_json(mouth_metrics(Path(args.data), models, args.split, network))


def _print_json(values: object) -> None:
    sys.stdout.write(json.dumps(values, indent=1) + "\n")
