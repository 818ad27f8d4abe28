"""The arguments of `vividtalk evaluate`, apart from it so that its help needs no torch."""

from __future__ import annotations

import argparse

from .parser import Parser, add_weights

EVALUATE = (
    "Sync, lips, head motion and images of a generated video, compared with the real one if it is given. A word "
    "instead of --generated or --table measures one part of this package."
)


def add_evaluate_arguments(parser: Parser) -> None:
    """Add the arguments of `evaluate`."""
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
    # argparse would list the options of a video and the words as if they could be combined
    parser.usage = "%(prog)s (--generated VIDEO | --table FOLDER) [options]\n       %(prog)s WORD [-h] ..."
    # argparse cannot express that a word excludes some of the options
    parser.check = _check_evaluate
    reports = parser.add_subparsers(dest="report", metavar="WORD", title="one part of this package", prog=parser.prog)
    fit = reports.add_parser("fit", help="the 3DMM against detected landmarks", description=_FIT)
    fit.add_argument("folders", nargs="+", metavar="FOLDER", help="images and videos of faces")
    _reenactment(reports.add_parser("reenactment", help="the renderer without the audio", description=_REENACTMENT))
    style = reports.add_parser("style", help="whether portraits keep their style", description=_STYLE)
    style.add_argument("speech", metavar="SPEECH", help="a sound file with speech")
    style.add_argument("portraits", nargs="+", metavar="PORTRAIT", help="images with a face")
    expression = reports.add_parser("expression", help="lips from speech", description=_EXPRESSION)
    mouths = reports.add_parser("mouths", help="mouths beside real ones", description=_MOUTHS)
    for report in (expression, mouths):
        report.add_argument("data", metavar="DATA", help="a folder that was prepared for training")
        report.add_argument(
            "--split", default="validation", choices=("train", "validation", "test"), help="(default: validation)"
        )
    mouths.add_argument(
        "--perceptual-weights", metavar="FILE", help="VGG-19 for the distances (default: EfficientNet-lite0)"
    )
    head_pose = reports.add_parser("head-pose", help="head motion from speech", description=_HEAD_POSE)
    head_pose.add_argument("data", metavar="DATA", help="a folder that was prepared for training")
    head_pose.add_argument("file", metavar="FILE", help="weights of a pose sampler")
    for report in (fit, style, expression, mouths):
        add_weights(report, argparse.SUPPRESS)


REPORTS = ("fit", "reenactment", "style", "expression", "head-pose", "mouths")
_EMBEDDER = "a face embedder of your own, for CSIM"
_FIT = "Distance in px of the 256 crop between the landmarks of the fitted 3DMM and the detected ones, as JSON lines."
_REENACTMENT = (
    "Each clip's own tracked motion on one of its frames, compared with the clip: a JSON line per clip. What is lost "
    "here is lost by the renderer, whatever the audio."
)
_STYLE = "Change of colours, lines and slopes in portraits that talk, as a Markdown table."
_EXPRESSION = "Generated lips beside the real ones on a prepared folder, as JSON."
_MOUTHS = "Rendered mouths beside the real ones on the pairs of a prepared folder (`train pairs`), as JSON."
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
    turned = "compare only frames turned 15 to 30 degrees from the portrait, which is chosen for them"
    parser.add_argument("--turned", action="store_const", const=True, help=turned)
    parser.add_argument("--embedder", default=argparse.SUPPRESS, metavar="FILE.onnx", help=_EMBEDDER)
    add_weights(parser, argparse.SUPPRESS)
