"""`python -m vividtalk_core.training prepare | pairs | train`: exit code 0, or 2 and one sentence on stderr."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ..training.tasks.registry import TASKS
from .command import BAD_INPUT, INTERRUPTED, Parser
from .options import add_options, given

PROGRAM = "python -m vividtalk_core.training"
SETTINGS = "settings.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # torch takes seconds that --help and a misspelt command need not wait for: it is imported by the command
        args = build_parser(words).parse_args(words)
        args.run(args)
    except (ValueError, OSError, MemoryError, ImportError, ArithmeticError) as error:
        sys.stderr.write(f"{PROGRAM}: {' '.join(str(error).split())}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: interrupted; the same command goes on from where it was\n")
        return INTERRUPTED
    return 0


def build_parser(words: Sequence[str]) -> Parser:
    """The arguments of the command that the words name; only that command's modules are imported."""
    parser = Parser(prog=PROGRAM, description="From videos to the weights of the models that move the mesh.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="prepare | pairs | train")
    prepare = commands.add_parser(
        "prepare", help="videos → shards", description=_PREPARE, usage="%(prog)s [options] FOLDER OUT"
    )
    pairs = commands.add_parser(
        "pairs", help="prepared videos → picture pairs", description=_PAIRS, usage="%(prog)s [options] FOLDER DATA"
    )
    train = commands.add_parser("train", help="shards → weights", description=_TRAIN)
    named = words[0] if words else ""
    if named == "prepare":
        _add_prepare(prepare)
    if named == "pairs":
        _add_pairs(pairs)
    tasks = train.add_subparsers(dest="task", required=True, metavar=" | ".join(TASKS))
    for name, entry in TASKS.items():
        what = entry.help
        about = f"{what[0].upper()}{what[1:]}. {_OUT}"
        task = tasks.add_parser(name, help=what, description=about, usage="%(prog)s [options] DATA OUT")
        if named == "train" and name in words[1:2]:
            _add_train(task, name)
    return parser


_PREPARE = "Track every clip of a folder, leave out what cannot be learned from, and write shards and a report."
_PAIRS = "Render portraits and the frames that they should become, for motion and generator, from a prepared folder."
_TRAIN = "Train one model; with N GPUs: torchrun --nproc-per-node N -m vividtalk_core.training train ..."
_OUT = "OUT gets settings.json, log.csv, best.safetensors (the weights) and last.safetensors (to go on from)."


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    from ..training.prepare.prepare import PrepareSettings

    parser.add_argument("folder", type=Path, metavar="FOLDER", help="videos and curve sets, sorted by a manifest.csv")
    parser.add_argument("out", type=Path, metavar="OUT", help="gets clips/, tracks/, report.json and report.csv")
    parser.add_argument("--workers", type=int, default=1, help="processes that track (default: 1)")
    _add_progress(parser)
    add_options(parser.add_argument_group("settings"), PrepareSettings())
    parser.set_defaults(run=_run_prepare, settings=PrepareSettings())


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    from ..training.prepare.image_pairs import PairSettings

    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the videos that were prepared")
    parser.add_argument("data", type=Path, metavar="DATA", help="what `prepare` made of them; gets pairs/")
    parser.add_argument("--workers", type=int, default=1, help="processes that render (default: 1)")
    _add_progress(parser)
    add_options(parser.add_argument_group("settings"), PairSettings())
    parser.set_defaults(run=_run_pairs, settings=PairSettings())


def _add_train(parser: argparse.ArgumentParser, name: str) -> None:
    from ..training.loop.settings import TrainSettings

    module, model = TASKS[name].load()
    training = getattr(module, "TRAINING", TrainSettings())  # what a task knows to suit it better
    parser.add_argument("data", type=Path, metavar="DATA", help="a prepared folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder, made if it does not exist")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="go on from OUT/last.safetensors"
    )
    _add_progress(parser)
    known = add_options(parser.add_argument_group("training"), training)
    add_options(parser.add_argument_group(name), model, known)  # --seed is one for both
    parser.set_defaults(run=_run_train, module=module, training=training, settings=model)


def _add_progress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, default=True, help="progress on stderr")


def _run_prepare(args: argparse.Namespace) -> None:
    from ..training.prepare.prepare import prepare
    from .progress import ProgressBar
    from .report import write_json

    if args.workers < 1:
        raise ValueError(f"--workers must be at least 1; got {args.workers}")
    settings = given(args.settings, vars(args))
    report = prepare(args.folder, args.out, args.workers, ProgressBar("prepare", args.progress), settings)
    write_json(args.out / SETTINGS, {"settings": dataclasses.asdict(settings)})
    sys.stdout.write(report.describe() + "\n")


def _run_pairs(args: argparse.Namespace) -> None:
    from ..training.prepare.image_pairs import render_pairs
    from .progress import ProgressBar

    if args.workers < 1:
        raise ValueError(f"--workers must be at least 1; got {args.workers}")
    settings = given(args.settings, vars(args))
    count = render_pairs(args.folder, args.data, args.workers, ProgressBar("pairs", args.progress), settings)
    sys.stdout.write(f"{args.data / 'pairs'}: {count} portraits\n")


def _run_train(args: argparse.Namespace) -> None:
    from ..training.loop.trainer import LAST, Report, train
    from .report import write_json

    training, settings = given(args.training, vars(args)), given(args.settings, vars(args))
    path = args.out / SETTINGS
    record = {"task": args.task, "settings": dataclasses.asdict(settings), "training": dataclasses.asdict(training)}
    if args.resume and path.is_file() and (args.out / LAST).is_file():
        _compare(path, record)
    module: ModuleType = args.module
    task = module.task(args.data, settings)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(path, record)

    def show(report: Report) -> None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in report.values.items() if name in _SHOWN)
        sys.stderr.write(f"step {report.step}/{report.steps}, {report.seconds:.0f} s: {values}\n")

    best = train(task, training, args.out, args.resume, show if args.progress else None)
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(f"{args.out / 'best.safetensors'}: {json.dumps(best)}\n")


_SHOWN = ("loss", "validation_score")


def _compare(path: Path, record: Mapping[str, Any]) -> None:
    """ValueError if the training in a folder is not the one that is asked for, before its settings are overwritten."""
    from ..training.loop.checkpoint import FREE

    before = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(record))  # tuples are lists there
    if before["task"] != wanted["task"]:
        raise ValueError(f"'{path.parent}' holds a training of '{before['task']}': choose another folder")
    told = [
        f"{name} was {before[part].get(name)} and is {value}"
        for part in ("settings", "training")
        for name, value in wanted[part].items()
        if before[part].get(name) != value and not (part == "training" and name in FREE)
    ]
    if told:
        raise ValueError(f"'{path.parent}' holds a training with other settings ({', '.join(told)}): use --no-resume")


if __name__ == "__main__":
    sys.exit(main())
