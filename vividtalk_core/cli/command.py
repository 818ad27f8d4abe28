"""`vividtalk talk | track | drive | evaluate | bench | train | build`: exit code 0, or 2 and one sentence on stderr."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from ..errors import ADVICE, VividTalkError, worded
from ..settings import POSE_SOURCES, TalkSettings
from .build import add_build_arguments
from .evaluate_arguments import EVALUATE, add_evaluate_arguments
from .options import add_options
from .parser import BAD_INPUT, INTERRUPTED, Parser, add_progress, add_weights
from .train import add_train_arguments

COMMANDS = ("talk", "track", "drive", "evaluate", "bench", "train", "build")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Errors that a user can correct (`errors.py`, the system's own) end with exit code 2 and one sentence. Any other
    exception is a bug and leaves with its traceback.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    args = build_parser(words).parse_args(words)
    # damaged pictures are reported by our own errors
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # warnings of the package are whole sentences, so that they are printed without a level or module name
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # schedulers end a job with SIGTERM, which by itself would leave temporary files behind
    signal.signal(signal.SIGTERM, _stop)
    try:
        # imported only now: torch takes seconds, which --help and a misspelt option need not wait for
        importlib.import_module(f".{args.command}", __package__).run(args)
    except (VividTalkError, OSError, MemoryError) as error:
        sys.stderr.write(f"vividtalk {args.command}: {' '.join(_text_of(error, args).split())}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        rest = "the same command continues from the last finished step" if args.command == "train" else _NOTHING
        sys.stderr.write(f"vividtalk {args.command}: interrupted, {rest}\n")
        return INTERRUPTED
    return 0


_NOTHING = "nothing was written"


# Remedy of an error → the option that it needs, and its words with it.
_REMEDIES = {
    "threshold": ("threshold", "lower --threshold below it"),
    "box": ("box", "give the face's box with --box"),
    "force": ("force", "use it anyway with --force"),
}


def _text_of(error: BaseException, args: argparse.Namespace) -> str:
    """The message, with those remedies for which the command has an option."""
    if isinstance(error, OSError) and not isinstance(error, VividTalkError) and error.filename:
        # without the number that the system gives the error
        return f"'{error.filename}': {error.strerror}"
    if not (isinstance(error, VividTalkError) and error.advice):
        return str(error)
    known = (*PORTRAIT_OPTIONS, "box") if args.command in ("talk", "drive") else ()
    words = {key: text for key, text in ADVICE.items() if key not in _REMEDIES}
    words |= {key: text for key, (option, text) in _REMEDIES.items() if option in known}
    return worded(error.found, error.advice, words)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """End as by Ctrl-C, so that nothing half-written stays behind."""
    raise KeyboardInterrupt


def build_parser(words: Sequence[str] = ()) -> Parser:
    """The arguments of all commands.

    Args:
        words: of the command line: `train` and its task are completed only where they are named, because their
            settings are declared in modules that import torch.
    """
    parser = Parser(prog="vividtalk", description="Turn a portrait and a voice into a talking-head video.")
    commands = parser.add_subparsers(dest="command", required=True, metavar=" | ".join(COMMANDS))
    talk = commands.add_parser("talk", help="portrait + audio → video", description=_TALK)
    _add_talk(talk)
    drive = commands.add_parser("drive", help="portrait + motion curves → video", description=_DRIVE)
    _add_portrait(drive)
    drive.add_argument("--motion", required=True, metavar="FILE", help="curves: .npz, .json, or Live Link Face .csv")
    drive.add_argument("--audio", metavar="FILE", help="sound of the video")
    track = commands.add_parser("track", help="video → motion curves", description=_TRACK)
    track.add_argument("--video", required=True, metavar="FILE", help="a video of one face")
    track.add_argument("--out", required=True, metavar="FILE", help="file for the curves: .npz, .json or .csv")
    evaluate = commands.add_parser("evaluate", help="video → metrics", description=EVALUATE)
    add_evaluate_arguments(evaluate)
    bench = commands.add_parser("bench", help="speed and memory on this machine", description=_BENCH)
    bench.add_argument("--repeats", type=int, default=3, help="runs per size; their median counts (default: 3)")
    bench.add_argument("--json", metavar="FILE", help="write the metrics to a file too")
    add_options(bench, TalkSettings(), only=("strength",))
    for command in (talk, drive, track, evaluate, bench):
        add_weights(command)
        add_progress(command)
    train = commands.add_parser("train", help="videos → weights", description=_TRAIN)
    add_train_arguments(train, words[1:] if words[:1] == ["train"] else ())
    build = commands.add_parser("build", help="packages → the files inside this package", description=_BUILD)
    add_build_arguments(build)
    return parser


_TALK = "Animate a portrait to speech. The video has the portrait's size and the length of the audio."
_DRIVE = "Apply tracked or edited motion to a portrait. Without motion the video shows the unchanged portrait."
_TRACK = "Track expression and head motion of the face in a video, relative to its first frame."
_BENCH = (
    "Milliseconds per frame of each stage at 256 and 512 px, cost of the networks of stage 2, memory for 10 s of "
    "video, seconds to load and fit."
)
_TRAIN = "Prepare training data and train the models; on N GPUs: torchrun --nproc-per-node N -m vividtalk_core train …"
_BUILD = "Rebuild the files inside this package from pinned packages and check that they have the listed sha256."

# Fields of TalkSettings that `drive` has too.
PORTRAIT_OPTIONS = ("strength", "face_index", "threshold", "force", "workers")


def _add_talk(talk: argparse.ArgumentParser) -> None:
    _add_portrait(talk)
    talk.add_argument("--audio", required=True, metavar="FILE", help="the speech: any sound or video file")
    talk.add_argument(
        "--pose",
        default=TalkSettings().pose,
        type=_pose,
        metavar="|".join((*POSE_SOURCES, *(f"{kind}:FILE" for kind in POSE_FILES))),
        help="where head motion comes from: codebook, learned from speakers; idle, a slight sway; still, none; a video "
        "that is tracked; a file of curves (default: codebook)",
    )
    add_options(talk, TalkSettings(), known=("pose", *PORTRAIT_OPTIONS))


POSE_FILES = ("video", "file")  # kinds of file that head motion can come from


def _add_portrait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--portrait", required=True, metavar="FILE", help="a picture with a face")
    parser.add_argument("--out", required=True, metavar="FILE.mp4", help="the video; it is written whole or not at all")
    parser.add_argument(
        "--size",
        default="native",
        choices=("native", "256", "512"),
        help="longer side of the video in px, the portrait is scaled to it (default: native, not scaled)",
    )
    parser.add_argument("--box", type=_box, metavar="L,T,R,B", help="px of the picture that hold the face")
    add_options(parser, TalkSettings(), only=PORTRAIT_OPTIONS)
    parser.add_argument("--report", metavar="FILE.json", help="write seconds per stage, memory, face box")


def _pose(text: str) -> str:
    """One of the pose sources; whether a file exists is checked later."""
    kind, colon, file = text.partition(":")
    if (kind in POSE_FILES and file) or (kind in POSE_SOURCES and not colon):
        return text
    known = ", ".join((*POSE_SOURCES, *(f"{kind}:FILE" for kind in POSE_FILES)))
    raise argparse.ArgumentTypeError(f"'{text}' is none of {known}")


def _box(text: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom in px."""
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not four numbers L,T,R,B") from None
    if not (left < right and top < bottom):
        raise argparse.ArgumentTypeError(f"'{text}' is empty: left must be below right and top below bottom")
    return left, top, right, bottom
