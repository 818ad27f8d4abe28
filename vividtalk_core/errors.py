"""What a user can mend, by kind. Anything else that is raised is a bug of this package and should look like one.

Every message says what was found, with its number, and what to do. All kinds are ValueErrors, and those about files
and connections are OSErrors too, so that callers who know only Python's own names can catch them.
"""

from __future__ import annotations


class VividTalkError(ValueError):
    """The request cannot be carried out as it stands; the message says how to change it."""


class SettingsError(VividTalkError):
    """A setting is out of its range, unknown, or contradicts another one."""


class MismatchError(VividTalkError):
    """Two values do not belong together: other length, frame rate, size or head model."""


class NoFaceError(VividTalkError):
    """No usable face was found where one is needed."""


class MediaError(VividTalkError):
    """A picture, video or sound cannot be used: it is damaged, empty, or of another kind than is needed."""


class CurveFileError(VividTalkError):
    """A file of expression curves or head poses cannot be read."""


class WeightsError(VividTalkError):
    """A weight file is damaged, belongs to another architecture, or lacks a part that is asked for."""


class DatasetError(VividTalkError):
    """A folder of training data is incomplete or does not fit what is asked of it."""


class MissingFileError(VividTalkError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class OutputError(VividTalkError, OSError):
    """A file cannot be written where it was asked for."""


class HubError(VividTalkError, ConnectionError):
    """The Hugging Face Hub cannot be reached, or refuses."""


class MissingPackageError(VividTalkError, ImportError):
    """An optional package is needed; the message says how to install it."""
