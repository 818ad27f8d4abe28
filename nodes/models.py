"""Where weights come from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..vividtalk_core.audio.encoder import MEL, WHISPER
from ..vividtalk_core.errors import SettingsError
from ..vividtalk_core.hub import FILE_NAMES
from ..vividtalk_core.pipeline import load_models
from . import running, sockets

FOLDER = "vividtalk"
EMBEDDED = "embedded"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?")  # never a path: it may not begin with a dot or slash


def register_folder() -> None:
    """Make ComfyUI look for weight sets in models/vividtalk (and where extra_model_paths.yaml says)."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))


def weight_sets() -> dict[str, Path]:
    """The folders of models/vividtalk that hold weights of this pack, by name."""
    return _folders_with(FILE_NAMES)


def encoder_folders() -> dict[str, Path]:
    """The folders of models/vividtalk that transformers can load, by name."""
    return _folders_with(["config.json"])


def _folders_with(names: Iterable[str]) -> dict[str, Path]:
    """Subfolders of models/vividtalk that hold at least one of the files."""
    roots = [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]
    found = sorted(file.parent for root in roots for name in names for file in root.glob(f"*/{name}"))
    return {folder.name: folder for folder in found}


def encoder_inputs(hub_id: str, optional: bool = False) -> list[io.Input]:
    """The widgets that choose a speech encoder.

    Args:
        hub_id: name of the second one.
        optional: whether older graphs lack the first one; they may all lack the second.
    """
    return [
        io.Combo.Input(
            "encoder",
            options=[WHISPER, MEL, *encoder_folders()],
            default=WHISPER,
            optional=optional,
            tooltip="What hears the speech. 'whisper' is inside the pack and moves the lips best; 'mel' uses no "
            "network; others are transformers folders in models/vividtalk, for weights that were trained with them.",
        ),
        io.String.Input(
            hub_id,
            default="",
            optional=True,
            placeholder="OWNER/NAME@REVISION",
            tooltip="A Whisper, wav2vec2, HuBERT or WavLM model of the Hugging Face Hub to use instead.",
        ),
    ]


def encoder_source(encoder: str, hub_id: str) -> str:
    """What the core calls an encoder: "whisper", "mel", a folder or a Hub id; the Hub id wins if there is one."""
    if hub_id.strip():
        return checked_hub_id(hub_id)
    return encoder if encoder in (WHISPER, MEL) else str(_folder(encoder_folders(), encoder))


def _folder(known: dict[str, Path], name: str) -> Path:
    """One of the folders of models/vividtalk."""
    if name not in known:
        raise SettingsError(f"There is no '{name}' in models/vividtalk; found: {', '.join(known) or 'nothing'}.")
    return known[name]


def checked_hub_id(text: str) -> str:
    """The text without spaces around it, if it is OWNER/NAME or OWNER/NAME@REVISION."""
    hub_id = text.strip()
    if not HUB_ID.fullmatch(hub_id):
        raise SettingsError(f"'{hub_id}' is not a Hugging Face id: it must look like OWNER/NAME@REVISION.")
    return hub_id


class LoadModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="VividTalk_LoadModels",
            display_name="Load Models (VividTalk)",
            category="VividTalk",
            description="Loads the weights: those inside the pack, a folder of models/vividtalk, or a Hugging Face "
            "repository at a fixed revision.",
            inputs=[
                io.Combo.Input(
                    "weights",
                    options=[EMBEDDED, *weight_sets()],
                    default=EMBEDDED,
                    tooltip="'embedded' ships inside the pack; others are the folders of models/vividtalk.",
                ),
                io.String.Input(
                    "hub_id",
                    default="",
                    optional=True,
                    placeholder="OWNER/NAME@REVISION",
                    tooltip="A Hugging Face repository and revision to use instead, e.g. owner/name@1a2b3c4. "
                    "Files that it lacks are taken from the pack. Downloaded once.",
                ),
            ],
            outputs=[sockets.Models.Output(display_name="model")],
        )

    @classmethod
    @running.node
    def execute(cls, weights: str, hub_id: str = "") -> io.NodeOutput:
        if hub_id.strip():
            name = checked_hub_id(hub_id)
            if "@" not in name:
                raise SettingsError(
                    f"'hub_id' is '{name}': add the revision, {name}@REVISION, so that it cannot change."
                )
            return io.NodeOutput(load_models(f"hub:{name}"))
        return io.NodeOutput(load_models(weights if weights == EMBEDDED else str(_folder(weight_sets(), weights))))
