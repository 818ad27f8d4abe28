"""Files that are written completely or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import MissingFileError, OutputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a full disk, which name no file


def existing_file(path: str | os.PathLike[str], kind: str) -> Path:
    """The path of a file that is to be read.

    Args:
        path: of the file.
        kind: of file, as the message names it, e.g. "picture".

    Raises:
        MissingFileError: there is no such file, or it is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise MissingFileError(f"'{path}' is a folder, the name of one {kind} is needed")
    if not path.is_file():
        raise MissingFileError(f"there is no {kind} '{path}'")
    return path


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name beside `path` to write to: renamed to `path` when the block ends, removed when it raises.

    Raises:
        OutputError: there is no such folder, or the file cannot be written, e.g. because the disk is full.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"cannot write '{path}': the folder '{path.parent}' does not exist")
    # beside the file, because renaming is atomic only within one file system; a random name, so that two programs
    # which write one file do not mix
    part = path.with_name(f"{path.name}.part-{secrets.token_hex(4)}")
    try:
        yield part
        os.replace(part, path)
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        with suppress(OSError):  # where it cannot be removed, the first error is the one to show
            part.unlink(missing_ok=True)
        # other errors of the block are not about this file: it may read some while it writes
        if isinstance(error, OSError) and (error.filename in (str(part), part) or error.errno in FULL):
            raise OutputError(f"cannot write '{path}': {error.strerror}") from error
        raise


def check_writable(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> Path:
    """Check that a file can be written, before the work starts whose result it will hold.

    Args:
        path: of the file.
        suffixes: endings that are allowed, lower case with the dot.

    Returns:
        The path.

    Raises:
        OutputError: another ending, a folder, no such folder, or no permission.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"cannot write '{path}': its ending must be {' or '.join(suffixes)}")
    if os.path.isdir(path):
        raise OutputError(f"cannot write '{path}': it is a folder")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write '{path}': the folder '{path.parent}' does not exist")
    probe = path.with_name(f"{path.name}.part-{secrets.token_hex(4)}")
    try:
        # a file is made, because permission bits do not show a file system that is read-only
        probe.touch(exist_ok=False)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror}") from error
    probe.unlink()
    return path
