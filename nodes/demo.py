"""The demo portrait, speech and driving clip, placed where the shipped workflows look for them."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import folder_paths

from ..vividtalk_core.files import whole_file
from ..vividtalk_core.hub import EMBEDDED

DEMO = EMBEDDED / "demo"
FILES = ("portrait.jpg", "speech.flac", "driving.mp4")

logger = logging.getLogger("vividtalk")


def place_demo_files() -> None:
    """Copy each demo file that is missing into ComfyUI's input folder, as vividtalk_<name>.

    A file that exists is never replaced, whatever it holds. An input folder that cannot be written is a warning: only
    the shipped workflows need these files.
    """
    folder = Path(folder_paths.get_input_directory())
    for name in FILES:
        path = folder / f"vividtalk_{name}"
        if os.path.lexists(path):
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as part:
                shutil.copyfile(DEMO / name, part)
        except OSError as error:
            logger.warning("cannot place the demo files in '%s' (%s): the shipped workflows need them", folder, error)
            return
