"""The argument parser that all commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

# The one with which argparse itself refuses arguments.
BAD_INPUT = 2  # exit code
# 128 + SIGINT, as a shell gives for Ctrl-C.
INTERRUPTED = 130  # exit code


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and that can check how its options go together."""

    check: Callable[[argparse.Namespace], str | None] | None = None  # of parsed arguments: what is wrong with them

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parse as argparse does, and then call `check`."""
        parsed, rest = super().parse_known_args(args, namespace)
        message = None if self.check is None else self.check(parsed)
        if message:
            self.error(message)
        return parsed, rest

    def error(self, message: str) -> NoReturn:
        """Write one line to stderr and exit with code 2."""
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """Add `--progress` and `--no-progress`."""
    parser.add_argument(
        "--progress", action=argparse.BooleanOptionalAction, default=True, help="show progress on stderr (default: yes)"
    )


def add_weights(parser: argparse.ArgumentParser, default: str = "embedded") -> None:
    """Add `--weights`; SUPPRESS as the default keeps the value that was given before the name of a report."""
    parser.add_argument(
        "--weights",
        default=default,
        metavar="embedded|DIR|hub:ID@REVISION",
        help="the weight set (default: the one in the package)",
    )
