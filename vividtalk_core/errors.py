"""Errors that a user can correct, by kind. Every other exception is a bug of this package.

Every message says what was found, with its number, and what to do; it makes sense in the command line and in a node.
All kinds are ValueErrors; those about files and connections are OSErrors too, and a missing package is an ImportError,
so that code which catches only Python's own exceptions works.
"""

from __future__ import annotations


class VividTalkError(ValueError):
    """A request cannot be carried out; the message says how to change it."""


class SettingsError(VividTalkError):
    """A setting is out of its range, unknown, or does not go with another one."""


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
