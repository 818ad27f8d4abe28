"""`vividtalk talk | track | drive | evaluate | bench`: exit code 0, or 2 and one sentence on stderr."""

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

BAD_INPUT = 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

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
    judge = commands.add_parser("evaluate", help="video → figures", description=_EVALUATE)
    _evaluate(judge)
    bench = commands.add_parser("bench", help="speed and memory on this machine", description=_BENCH)
    bench.add_argument("--repeats", type=int, default=3, help="runs per size; their median counts (default: 3)")
    bench.add_argument("--json", metavar="FILE", help="write the figures to a file too")
    _strength(bench)
    for command in (talk, drive, track, judge, bench):
        _common(command)
    return parser


_TALK = "Make a portrait say what is heard. The video has the portrait's size and the length of the audio."
_DRIVE = "Put tracked or edited motion on a portrait. No motion gives the portrait back."
_TRACK = "Read expression and head motion of the face in a video, relative to its first frame."
_EVALUATE = "Sync, lips, head motion and pictures of a generated video, compared with the real one if it is given."
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


def _evaluate(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--generated", metavar="VIDEO", help="the video to judge, with its sound")
    what.add_argument("--table", metavar="FOLDER", help="many: FOLDER/real/CLIP.mp4 and FOLDER/ROW/CLIP.mp4 → a table")
    parser.add_argument("--reference", metavar="VIDEO", help="the real video of the same speech")
    parser.add_argument("--audio", metavar="FILE", help="the sound, in place of the generated video's own")
    parser.add_argument("--wrong", metavar="VIDEO", help="the same portrait with another's audio, for audio_gain")
    parser.add_argument("--phones", metavar="FILE.json", help="[[phone, start_s, end_s], …], for the closures of p b m")
    parser.add_argument("--embedder", metavar="FILE.onnx", help="a face embedder of your own, for CSIM")
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE.json", help="figures as JSON, to a file or to the terminal"
    )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        default="embedded",
        metavar="embedded|DIR|hub:ID@REVISION",
        help="the weight set (default: the one in the package)",
    )
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
