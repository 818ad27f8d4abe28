"""Errors that a user can correct, by kind. Every other exception is a bug of this package.

Every message says what was found, with its number, and what to do; it makes sense in the command line and in a node.
All kinds are ValueErrors; those about files and connections are OSErrors too, and a missing package is an ImportError,
so that code which catches only Python's own exceptions works.

The command line, the nodes and the Python API give the same setting by different means. An error can therefore name
its remedies (`advice`) instead of spelling them out, and each caller words them for the inputs that its user has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# Remedy → its words where nothing is known of the caller.
ADVICE = {
    "threshold": "lower the threshold below it",
    "closer": "use a closer crop",
    "larger": "use a larger picture",
    "box": "give the face's box by hand",
    "force": "set 'force' to use it anyway",
    "invert": "invert the mask",
    "unlink": "use no mask",
    "length": "fit the pose to the length",
    "rate": "use one frame rate",
}


def worded(found: str, advice: Iterable[str], words: Mapping[str, str] = ADVICE) -> str:
    """What was found, and those remedies that the caller has words for: "found: do this, or do that"."""
    known = [words[remedy] for remedy in advice if remedy in words]
    if not known:
        return found
    # a sentence with two colons is hard to read
    join = ";" if ": " in found else ":"
    return f"{found}{join} {', '.join(known[:-1])}{', or ' if len(known) > 1 else ''}{known[-1]}"


class VividTalkError(ValueError):
    """A request cannot be carried out; the message says how to change it.

    Args:
        found: the message, or where there is advice its part before the colon.
        advice: remedies, as keys of `ADVICE`, the best first. Not for the kinds that are OSErrors too.
    """

    def __init__(self, found: str = "", *, advice: tuple[str, ...] = ()) -> None:
        super().__init__(worded(found, advice))
        # kept apart from the text, so that callers can word the remedies for the inputs of their users
        self.found, self.advice = found, advice


class SettingsError(VividTalkError):
    """A setting is out of its range, unknown, or does not go with another one.

    Args:
        found: the message.
        setting: the name that it begins with, where a caller may know the setting by another name.
    """

    def __init__(self, found: str = "", *, setting: str = "") -> None:
        super().__init__(found)
        self.setting = setting


class MismatchError(VividTalkError):
    """Two values do not belong together: they differ in length, frame rate, size or head model."""


class NoFaceError(VividTalkError):
    """No usable face was found where one is needed."""


class MediaError(VividTalkError):
    """A picture, video or sound cannot be used: it is damaged, empty, or not of the kind that is needed."""


class CurveFileError(VividTalkError):
    """A file of expression curves or head motion cannot be read."""


class WeightsError(VividTalkError):
    """A weight file is damaged, or does not fit the architecture for which it is loaded."""


class DatasetError(VividTalkError):
    """A folder of training data is incomplete, or does not fit the settings."""


class MissingFileError(VividTalkError, FileNotFoundError):
    """A file, folder or repository that was named does not exist."""


class OutputError(VividTalkError, OSError):
    """A file cannot be written at the given path."""


class HubError(VividTalkError, ConnectionError):
    """The Hugging Face Hub, or a package registry, cannot be reached, or refuses the request."""


class MissingPackageError(VividTalkError, ImportError):
    """An optional package is needed; the message says how to install it."""


class TrainingError(VividTalkError, ArithmeticError):
    """A training cannot continue, because a loss, a gradient or a score is no finite number."""
