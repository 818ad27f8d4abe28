"""Wraps the `execute` of every node: threads, notes on the node, errors that use the names of its inputs."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

from comfy_api.latest import io

from ..vividtalk_core.errors import SettingsError, VividTalkError, worded
from ..vividtalk_core.threads import single_threaded

Execute = TypeVar("Execute", bound=Callable[..., io.NodeOutput])
log = logging.getLogger("vividtalk")  # the core's logger: its warnings are shown on the node

# Remedy of an error → the input that a node must have for it ("" for none), and its words in a graph.
REMEDIES = {
    "threshold": ("threshold", "lower 'threshold' below it"),
    "closer": ("", "use a closer crop"),
    "larger": ("", "use a larger picture"),
    "box": ("mask", "link a 'mask' that marks the face"),
    "force": ("force", "turn on 'force' to use it anyway"),
    "invert": ("mask", "invert the mask"),
    "unlink": ("mask", "unlink it"),
    "length": ("", "fit the head pose to the length with Video Pose"),
    "rate": ("", "retime the head pose with Video Pose"),
}
# Setting of the core → the input of that meaning, where their names differ.
INPUTS = {
    "pose": "motion",
    "pose_amplitude": "amplitude",
    "pose_temperature": "temperature",
    "smoothing_s": "smoothing",
}


class Notes(logging.Handler):
    """Collects the warnings that are logged in the thread of one run, each text once."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread = threading.get_ident()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text of a record as a sentence."""
        text = sentence(record.getMessage())
        if record.thread == self.thread and text not in self.texts:
            self.texts.append(text)


def node(execute: Execute) -> Execute:
    """Decorator of every `execute`, below `@classmethod`.

    Warnings become the node's text output, which web/js/notes.js shows on it; the server's log has them too.
    """

    @functools.wraps(execute)
    def run(cls: type[io.ComfyNode], *args: Any, **kwargs: Any) -> io.NodeOutput:
        notes = Notes()
        log.addHandler(notes)
        try:
            with single_threaded():
                output = execute(cls, *args, **kwargs)
        except VividTalkError as error:
            raise in_words_of(error, {entry.id for entry in cls.define_schema().inputs}) from error
        finally:
            log.removeHandler(notes)
        return with_notes(output, notes.texts)

    return cast(Execute, run)  # `run` has the signature of `execute`


def with_notes(output: io.NodeOutput, texts: list[str]) -> io.NodeOutput:
    """The same output, whose text on the node ends with the notes."""
    if texts:
        shown: dict[str, Any] = {} if output.ui is None else dict(as_dict(output.ui))
        output.ui = shown | {"text": (*shown.get("text", ()), *texts)}
    return output


def as_dict(shown: Any) -> dict[str, Any]:
    """What a node shows, as ComfyUI sends it."""
    return shown if isinstance(shown, dict) else shown.as_dict()


def in_words_of(error: VividTalkError, inputs: set[str]) -> VividTalkError:
    """The same kind of error, worded for a node with these inputs."""
    text = str(error)
    if error.advice:
        words = {remedy: text for remedy, (needed, text) in REMEDIES.items() if not needed or needed in inputs}
        text = worded(error.found, error.advice, words)
    elif isinstance(error, SettingsError) and error.setting:
        text = INPUTS.get(error.setting, error.setting) + text.removeprefix(error.setting)
    return type(error)(text if text.split(" ")[0] in inputs else sentence(text))


def sentence(text: str) -> str:
    """A message of the core, which may be part of a sentence there, with a capital letter and a full stop."""
    return text[:1].upper() + text[1:].rstrip(".") + "."
