"""`vividtalk talk | track | drive | evaluate | bench`: exit code 0, or 2 and one sentence on stderr."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

BAD_INPUT = 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and that can check how its options go together."""

    check: Callable[[argparse.Namespace], str | None] | None = None  # of parsed arguments: what is wrong with them

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse as argparse does, and then ask `check`."""
        parsed, rest = super().parse_known_args(args, namespace)
        message = None if self.check is None else self.check(parsed)
        if message:
            self.error(message)
        return parsed, rest

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = build_parser().parse_args(argv)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what it has to say about bad pictures is said once, by us
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, _stop)
    try:
        # imported only now: torch takes seconds that --help and a misspelt option need not wait for
        importlib.import_module(f".{args.command}", __package__).run(args)
    except (ValueError, OSError, MemoryError) as error:
        sys.stderr.write(f"vividtalk {args.command}: {' '.join(str(error).split())}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"vividtalk {args.command}: interrupted, nothing was written\n")
        return INTERRUPTED
    return 0


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """End as by Ctrl-C, so that nothing half-written stays behind."""
    raise KeyboardInterrupt


def build_parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    parser = Parser(prog="vividtalk", description="A portrait and a voice become a talking-head video.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="talk | track | drive | evaluate | bench")
    talk = commands.add_parser("talk", help="portrait + audio → video", description=_TALK)
    _portrait(talk)
    talk.add_argument("--audio", required=True, metavar="FILE", help="what is said: any sound or video file")
    talk.add_argument(
        "--pose",
        default="codebook",
        type=_pose,
        metavar="codebook|idle|still|video:FILE|file:FILE",
        help="where head motion comes from (default: codebook, as learned from people who talk)",
    )
    talk.add_argument("--pose-amplitude", type=float, default=1.0, metavar="X", help="of idle, codebook (default: 1)")
    talk.add_argument(
        "--pose-temperature", type=float, default=1.0, metavar="X", help="of codebook: 0 calm, 1 as people (default: 1)"
    )
    _articulation(talk)
    talk.add_argument("--seed", type=int, default=0, help="of blinks and head motion (default: 0)")
    talk.add_argument("--fps", type=float, default=25.0, help="frames per second of the video (default: 25)")
    drive = commands.add_parser("drive", help="portrait + motion curves → video", description=_DRIVE)
    _portrait(drive)
    drive.add_argument("--motion", required=True, metavar="FILE", help="curves: .npz, .json, or Live Link Face .csv")
    drive.add_argument("--audio", metavar="FILE", help="sound to put under the video")
    track = commands.add_parser("track", help="video → motion curves", description=_TRACK)
    track.add_argument("--video", required=True, metavar="FILE", help="one face, at its full frame rate")
    track.add_argument("--out", required=True, metavar="FILE", help="where the curves go: .npz, .json or .csv")
    evaluate = commands.add_parser("evaluate", help="video → metrics", description=_EVALUATE)
    _evaluate(evaluate)
    bench = commands.add_parser("bench", help="speed and memory on this machine", description=_BENCH)
    bench.add_argument("--repeats", type=int, default=3, help="runs per size; their median counts (default: 3)")
    bench.add_argument("--json", metavar="FILE", help="write the figures to a file too")
    _strength(bench)
    for command in (talk, drive, track, evaluate, bench):
        _common(command)
    return parser


_TALK = "Make a portrait say what is heard. The video has the portrait's size and the length of the audio."
_DRIVE = "Put tracked or edited motion on a portrait. No motion gives the portrait back."
_TRACK = "Read expression and head motion of the face in a video, relative to its first frame."
_EVALUATE = (
    "Sync, lips, head motion and images of a generated video, compared with the real one if it is given. A word "
    "instead of --generated or --table measures one part of this package."
)
_BENCH = (
    "Milliseconds per frame of each stage at 256 and 512 px, cost of the networks of stage 2, memory for 10 s of "
    "video, seconds to load and fit."
)


def _articulation(talk: argparse.ArgumentParser) -> None:
    talk.add_argument(
        "--mode",
        default="parallel",
        choices=("parallel", "causal", "acoustic"),
        help="how lips are made: at once, frame after frame as in the paper, or by rules (default: parallel)",
    )
    gains = {"lip-strength": "how much the mouth moves", "jaw-gain": "the jaw alone", "lip-gain": "the lips alone"}
    for name, what in gains.items():
        talk.add_argument(f"--{name}", type=float, default=1.0, metavar="X", help=f"{what} (default: 1)")
    talk.add_argument("--smoothing", type=float, default=0.0, metavar="S", help="of the curves, seconds (default: 0)")


def _evaluate(parser: Parser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--generated", metavar="VIDEO", help="the video to evaluate, with its sound")
    what.add_argument("--table", metavar="FOLDER", help="many: FOLDER/real/CLIP.mp4 and FOLDER/ROW/CLIP.mp4 → a table")
    parser.add_argument("--reference", metavar="VIDEO", help="the real video of the same speech")
    parser.add_argument("--audio", metavar="FILE", help="the sound, in place of the generated video's own")
    parser.add_argument("--wrong", metavar="VIDEO", help="the same portrait with another's audio, for audio_gain")
    parser.add_argument("--phones", metavar="FILE.json", help="[[phone, start_s, end_s], …], for the closures of p b m")
    parser.add_argument("--embedder", metavar="FILE.onnx", help=_EMBEDDER)
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE.json", help="metrics as JSON, to a file or to the terminal"
    )
    parser.usage = "%(prog)s (--generated VIDEO | --table FOLDER) [options]\n       %(prog)s WORD [-h] ..."
    parser.check = _check_evaluate
    reports = parser.add_subparsers(dest="report", metavar="WORD", title="one part of this package", prog=parser.prog)
    fit = reports.add_parser("fit", help="the 3DMM against detected landmarks", description=_FIT)
    fit.add_argument("folders", nargs="+", metavar="FOLDER", help="images and videos of faces")
    _reenactment(reports.add_parser("reenactment", help="the renderer without the audio", description=_REENACTMENT))
    style = reports.add_parser("style", help="whether portraits keep their style", description=_STYLE)
    style.add_argument("speech", metavar="SPEECH", help="a sound file with speech")
    style.add_argument("portraits", nargs="+", metavar="PORTRAIT", help="images with a face")
    expression = reports.add_parser("expression", help="lips from speech", description=_EXPRESSION)
    expression.add_argument("data", metavar="DATA", help="a folder that was prepared for training")
    expression.add_argument(
        "--split", default="validation", choices=("train", "validation", "test"), help="(default: validation)"
    )
    head_pose = reports.add_parser("head-pose", help="head motion from speech", description=_HEAD_POSE)
    head_pose.add_argument("data", metavar="DATA", help="a folder that was prepared for training")
    head_pose.add_argument("file", metavar="FILE", help="weights of a pose sampler")
    for report in (fit, style, expression):
        _weights(report, argparse.SUPPRESS)


REPORTS = ("fit", "reenactment", "style", "expression", "head-pose")
_EMBEDDER = "a face embedder of your own, for CSIM"
_FIT = "Distance in px of the 256 crop between the landmarks of the fitted 3DMM and the detected ones, as JSON lines."
_REENACTMENT = (
    "Each clip's own tracked motion on one of its frames, compared with the clip: a JSON line per clip. What is lost "
    "here is lost by the renderer, whatever the audio."
)
_STYLE = "Change of colours, lines and slopes in portraits that talk, as a Markdown table."
_EXPRESSION = "Generated lips beside the real ones on a prepared folder, as JSON."
_HEAD_POSE = "Generated head motion beside the real one on the validation clips of a prepared folder, as JSON."


def _check_evaluate(args: argparse.Namespace) -> str | None:
    """What does not go together: options of a video beside a report, or neither of them."""
    if args.report is None:
        if args.generated or args.table:
            return None
        return f"one of the arguments --generated --table is required, or one of {', '.join(REPORTS)}"
    names = ["generated", "table", "reference", "audio", "wrong", "phones", "json"]
    names += [] if args.report == "reenactment" else ["embedder"]
    given = [name for name in names if getattr(args, name) is not None]
    return f"--{given[0]} is not an option of '{args.report}'" if given else None


def _reenactment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="one face each")
    # the destination is not `table`: that is the folder of `evaluate --table`
    parser.add_argument("--table", dest="markdown", action="store_true", help="print a Markdown table of all clips too")
    # None is the default of ReenactmentSettings, which cannot be imported without torch
    parser.add_argument("--frames", type=int, metavar="N", help="at most, from the first (default: 200)")
    parser.add_argument("--pictures", type=int, metavar="N", help="of them, compared one by one (default: 30)")
    parser.add_argument("--source", type=int, metavar="N", help="number of the frame that is the portrait (default: 0)")
    parser.add_argument("--embedder", default=argparse.SUPPRESS, metavar="FILE.onnx", help=_EMBEDDER)
    _weights(parser, argparse.SUPPRESS)


def _weights(parser: argparse.ArgumentParser, default: str = "embedded") -> None:
    """The option --weights; SUPPRESS as the default keeps what stands before the name of a report."""
    parser.add_argument(
        "--weights",
        default=default,
        metavar="embedded|DIR|hub:ID@REVISION",
        help="the weight set (default: the one in the package)",
    )


def _common(parser: argparse.ArgumentParser) -> None:
    _weights(parser)
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=True, help="progress bars on stderr"
    )


def _portrait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--portrait", required=True, metavar="FILE", help="a picture with a face")
    parser.add_argument("--out", required=True, metavar="FILE.mp4", help="the video; it appears whole or not at all")
    parser.add_argument(
        "--size",
        default="native",
        choices=("native", "256", "512"),
        help="longer side of the video in px, the portrait is scaled to it (default: native, not scaled)",
    )
    parser.add_argument("--face-index", type=int, default=0, metavar="N", help="which face, 0 = the largest")
    parser.add_argument("--box", type=_box, metavar="L,T,R,B", help="where the face is, px of the picture")
    parser.add_argument("--threshold", type=float, default=0.5, help="of the face detector, 0..1 (default: 0.5)")
    _strength(parser)
    parser.add_argument("--report", metavar="FILE.json", help="write seconds per stage, memory, face box")


def _strength(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--strength",
        type=_share,
        default=1.0,
        metavar="X",
        help="of the networks that refine motion and frames, 0..1: 0 the closed form, 1 as trained (default: 1)",
    )


def _pose(text: str) -> str:
    """One of the pose sources; a file is looked up later."""
    kind, colon, file = text.partition(":")
    if (kind in ("video", "file") and file) or (kind in ("still", "idle", "codebook") and not colon):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is none of still, idle, codebook, video:FILE, file:FILE")


def _share(text: str) -> float:
    """A number in 0..1."""
    try:
        share = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number in 0..1") from None
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return share


def _box(text: str) -> tuple[float, ...]:
    """Left, top, right, bottom in px."""
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not four numbers L,T,R,B") from None
    if not (left < right and top < bottom):
        raise argparse.ArgumentTypeError(f"'{text}' is empty: left must be below right and top below bottom")
    return left, top, right, bottom
