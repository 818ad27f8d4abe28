"""Files that are written completely or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import OutputError


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name beside `path` to write to: renamed to `path` when the block ends, removed when it raises."""
    path = Path(path)
    part = path.with_name(f"{path.name}.part-{secrets.token_hex(4)}")
    try:
        yield part
        os.replace(part, path)
    except BaseException:  # Ctrl-C too must leave nothing behind
        part.unlink(missing_ok=True)
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
        probe.touch(exist_ok=False)
    except OSError as error:
        raise OutputError(f"cannot write '{path}': {error.strerror}") from error
    probe.unlink()
    return path
