"""`vividtalk evaluate`: figures of a generated video, or of a folder of them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..audio.phones import closures_of, read_phones
from ..critics.face_embedder import FaceEmbedder
from ..eval.footage import read_footage
from ..eval.protocols.folder import evaluate_folder, figures, flat, medians, to_markdown
from ..eval.protocols.video import Evaluation, Judges, evaluate
from ..eval.sync import load_sync_expert
from ..face.models import load_face_models
from ..files import check_writable
from ..hub import resolve_weights
from .progress import ProgressBar
from .report import write_json

STDOUT = "-"


def run(args: argparse.Namespace) -> None:
    """Print the figures as text or JSON, or write them to a file."""
    if args.json not in (None, STDOUT):
        check_writable(args.json, (".json",))
    weights = resolve_weights(args.weights)
    embedder = None if args.embedder is None else FaceEmbedder(args.embedder)
    judges = Judges(load_face_models(weights), load_sync_expert(weights), embedder)
    text, values = _table(judges, args) if args.table else _single(judges, args)
    if args.json == STDOUT:
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
        return
    if args.json is not None:
        write_json(args.json, values)
    sys.stdout.write(text)


def _single(judges: Judges, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """One video as text and as values."""
    generated = read_footage(args.generated, audio=args.audio)
    reference, wrong = (read_footage(p, generated.fps) if p else None for p in (args.reference, args.wrong))
    closures = closures_of(read_phones(Path(args.phones))) if args.phones else ()
    bar = ProgressBar("track", args.progress)
    evaluation = evaluate(judges, generated, reference, closures, wrong, bar)
    return _describe(evaluation), flat(evaluation)


def _describe(evaluation: Evaluation) -> str:
    """A line for each figure that could be measured."""
    measured = figures(evaluation)
    width = max(map(len, measured))
    lines = [f"{evaluation.frames} frames at {evaluation.fps:g} fps"]
    return "\n".join(lines + [f"{name:{width}}  {value:.4g}" for name, value in measured.items()]) + "\n"


def _table(judges: Judges, args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """A folder of rows as Markdown and as values."""
    bar = ProgressBar("evaluate", args.progress)
    table = evaluate_folder(judges, Path(args.table), lambda done, total, name: bar(done, total, None))
    values = {
        row: {
            "median": {name: {"value": value, "clips": count} for name, (value, count) in medians(clips).items()},
            "clips": {name: flat(evaluation) for name, evaluation in clips.items()},
        }
        for row, clips in table.items()
    }
    return to_markdown(table), values
