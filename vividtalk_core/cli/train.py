"""`vividtalk train`: prepare a folder of videos, and train one model after the other from it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DatasetError, SettingsError
from ..training.tasks.registry import TASKS
from .options import add_options, given
from .parser import add_progress

SETTINGS = "settings.json"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the preparation."""

    help: str  # one line
    description: str
    usage: str  # the words after the command
    add: Callable[[argparse.ArgumentParser], None]  # adds its arguments; imports the modules that hold its settings


def add_train_arguments(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Add the preparation steps and the tasks; only those named by the first word get their options."""
    steps = parser.add_subparsers(dest="task", required=True, metavar=" | ".join((*STEPS, *TASKS)))
    for name, step in STEPS.items():
        usage = f"%(prog)s [options] {step.usage}"
        one = steps.add_parser(name, help=step.help, description=step.description, usage=usage)
        if name in words[:1]:
            step.add(one)
    for name, entry in TASKS.items():
        about = f"{entry.help[0].upper()}{entry.help[1:]}. {_OUT}"
        one = steps.add_parser(name, help=entry.help, description=about, usage="%(prog)s [options] DATA OUT")
        if name in words[:1]:
            _add_task(one, name)


def run(args: argparse.Namespace) -> None:
    """Run the step or the training that `args` names."""
    args.run(args)


_OUT = "OUT gets settings.json, log.csv, best.safetensors (the weights) and last.safetensors (to continue from)."


def _add_prepare(parser: argparse.ArgumentParser) -> None:
    # imported when the step is named, because its settings are declared in modules that import torch
    from ..training.prepare.prepare import PrepareSettings

    parser.add_argument("folder", type=Path, metavar="FOLDER", help="videos and curve sets; may have a manifest.csv")
    parser.add_argument("out", type=Path, metavar="DATA", help="gets clips/, tracks/, report.json and report.csv")
    _add_work(parser, PrepareSettings())
    parser.set_defaults(run=_run_prepare)


def _add_words(parser: argparse.ArgumentParser) -> None:
    from ..training.prepare.words import MODEL

    parser.add_argument("data", type=Path, metavar="DATA", help="a prepared folder; gets words/")
    parser.add_argument(
        "--model", default=MODEL, help="a Whisper that faster-whisper knows, or a folder (default: %(default)s)"
    )
    parser.set_defaults(run=_run_words)


def _add_phones(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, metavar="DATA", help="a prepared folder; gets phones/")
    parser.set_defaults(run=_run_phones)


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    from ..training.prepare.image_pairs import PairSettings

    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the videos that were prepared")
    parser.add_argument("out", type=Path, metavar="DATA", help="the folder that `prepare` made of them; gets pairs/")
    _add_work(parser, PairSettings())
    parser.set_defaults(run=_run_pairs)


def _add_work(parser: argparse.ArgumentParser, settings: Any) -> None:
    """Add what the steps that run in several processes share."""
    parser.add_argument("--workers", type=int, default=1, help="number of processes (default: 1)")
    add_progress(parser)
    add_options(parser.add_argument_group("settings"), settings)
    parser.set_defaults(settings=settings)


def _add_task(parser: argparse.ArgumentParser, name: str) -> None:
    task = TASKS[name].load()
    parser.add_argument("data", type=Path, metavar="DATA", help="a prepared folder")
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder, made if it does not exist")
    parser.add_argument(
        "--resume", action=argparse.BooleanOptionalAction, default=True, help="continue from OUT/last.safetensors"
    )
    add_progress(parser)
    known = add_options(parser.add_argument_group("training"), task.training)
    add_options(parser.add_argument_group(name), task.settings, known)  # --seed is one for both
    parser.set_defaults(run=_run_task, loaded=task)


STEPS = {
    "prepare": Step(
        "videos → motion shards",
        "Track every clip of a folder, leave out the clips that are not usable, and write shards and a report.",
        "FOLDER DATA",
        _add_prepare,
    ),
    "words": Step(
        "motion shards → words",
        "Hear the words of each clip, and in which language they are, with a whole Whisper. Existing files are kept.",
        "DATA",
        _add_words,
    ),
    "phones": Step(
        "motion shards → phones",
        "Find when each phone is spoken. Clips with words in DATA/transcripts, or English ones in DATA/words, are "
        "aligned to it; the phones of the others are recognised. Existing files are kept.",
        "DATA",
        _add_phones,
    ),
    "pairs": Step(
        "prepared videos → image pairs",
        "Render image pairs for the tasks motion and generator: a portrait, and frames that it is driven to.",
        "FOLDER DATA",
        _add_pairs,
    ),
}


def _run_prepare(args: argparse.Namespace) -> None:
    from ..training.prepare.prepare import prepare
    from .progress import ProgressBar
    from .report import write_json

    settings = given(args.settings, vars(args))
    report = prepare(args.folder, args.out, _workers(args), ProgressBar("prepare", args.progress), settings)
    write_json(args.out / SETTINGS, {"settings": dataclasses.asdict(settings)})
    sys.stdout.write(report.describe() + "\n")
    if not report.kept:
        raise DatasetError(
            f"no clip of '{args.folder}' can be trained on: the report in '{args.out}' gives the reasons"
        )


def _run_words(args: argparse.Namespace) -> None:
    from ..training.prepare.words import label_words, whisper_listener

    count = label_words(args.data, whisper_listener(args.model))
    sys.stdout.write(f"{count} clips got words in {args.data / 'words'}\n")


def _run_phones(args: argparse.Namespace) -> None:
    from ..training.prepare.phones import label_folder

    sys.stdout.write(label_folder(args.data).describe() + "\n")


def _run_pairs(args: argparse.Namespace) -> None:
    from ..training.prepare.image_pairs import render_pairs
    from .progress import ProgressBar

    settings = given(args.settings, vars(args))
    count = render_pairs(args.folder, args.out, _workers(args), ProgressBar("pairs", args.progress), settings)
    sys.stdout.write(f"{args.out / 'pairs'}: {count} portraits\n")


def _workers(args: argparse.Namespace) -> int:
    """The number of processes; SettingsError below 1."""
    count: int = args.workers
    if count < 1:
        raise SettingsError(f"--workers must be at least 1; got {count}")
    return count


def _run_task(args: argparse.Namespace) -> None:
    from ..training.loop.trainer import LAST, Report, train
    from .report import write_json

    training, settings = given(args.loaded.training, vars(args)), given(args.loaded.settings, vars(args))
    path = args.out / SETTINGS
    record = {"task": args.task, "settings": dataclasses.asdict(settings), "training": dataclasses.asdict(training)}
    if args.resume and path.is_file() and (args.out / LAST).is_file():
        _check_same(path, record)
    task = args.loaded.make(args.data, settings)
    # only now, so that data which cannot be used leave no empty folder
    args.out.mkdir(parents=True, exist_ok=True)
    # before the training, so that an interrupted one can be compared with what continues it
    write_json(path, record)

    def show(report: Report) -> None:
        values = ", ".join(f"{name} {value:.4g}" for name, value in report.values.items() if name in SHOWN)
        sys.stderr.write(f"step {report.step}/{report.steps}, {report.seconds:.0f} s: {values}\n")

    best = train(task, training, args.out, args.resume, show if args.progress else None)
    if os.environ.get("RANK", "0") == "0":  # torchrun's first process
        sys.stdout.write(f"{args.out / 'best.safetensors'}: {json.dumps(best)}\n")


SHOWN = ("loss", "validation_score")  # of a row of log.csv, on stderr


def _check_same(path: Path, record: Mapping[str, Any]) -> None:
    """SettingsError if a folder holds another training than the one asked for, before its settings are overwritten."""
    from ..training.loop.checkpoint import FREE

    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(before["task"], str):
            raise TypeError("the task is not a string")
        kept = {part: dict(before[part]) for part in ("settings", "training")}
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"'{path}' is damaged ({error}): use --no-resume, or another folder") from error
    asked = json.loads(json.dumps(record))  # JSON has no tuples: both sides hold lists
    if before["task"] != asked["task"]:
        raise SettingsError(f"'{path.parent}' holds a training of '{before['task']}': choose another folder")
    changed = [
        f"{name} was {kept[part].get(name)} and is {value}"
        for part in ("settings", "training")
        for name, value in asked[part].items()
        if kept[part].get(name) != value and not (part == "training" and name in FREE)
    ]
    if changed:
        listed = ", ".join(changed)
        raise SettingsError(f"'{path.parent}' holds a training with other settings ({listed}): use --no-resume")
