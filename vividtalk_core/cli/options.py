"""Settings dataclasses as options of a command."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any


def add_options(parser: argparse._ActionsContainer, settings: Any, known: Collection[str] = ()) -> list[str]:
    """One option for each field of a settings dataclass; the comment behind the field is its help.

    Args:
        parser: a parser or a group of it.
        settings: an instance, whose values are the defaults; a dataclass in it gives options with its name before.
        known: fields that have an option already, which now sets them here too.

    Returns:
        The names of the fields.
    """
    leaves = list(_leaves(settings))
    for name, kind, default, comment in leaves:
        if name in known:
            continue
        how: dict[str, Any] = {"type": _converter(kind), "metavar": _METAVARS.get(kind, "X")}
        if kind is bool:
            how = {"action": argparse.BooleanOptionalAction}
        shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
        text = f"{comment} (default: {shown})".strip().replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, default=argparse.SUPPRESS, help=text, **how)
    return [name for name, *_ in leaves]


_METAVARS = {int: "N", str: "WORD"}


def given(settings: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """The settings with the values that stand on the command line."""
    changes = {}
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            changes[field.name] = given(value, values, f"{name}_")
        elif name in values:
            changes[field.name] = values[name]
    return dataclasses.replace(settings, **changes)


def _leaves(settings: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, str]]:
    """Name, type, value and comment of every field, those of dataclasses within included."""
    kinds, comments = typing.get_type_hints(type(settings)), _comments(type(settings))
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), prefix + field.name
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{name}_")
        else:
            yield name, kinds[field.name], value, field.metadata.get("help") or comments.get(field.name, "")


def _comments(cls: type) -> dict[str, str]:
    """Field → the comment behind it."""
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):  # installed without sources: options work, their help is shorter
        return {}
    return dict(re.findall(r"^    (\w+): .*?  # (.+)$", source, re.MULTILINE))


def _converter(kind: Any) -> Callable[[str], Any]:
    """What makes a value of a word; "0.8,1.25" is a tuple."""
    if kind in (bool, int, float, str):
        return kind
    if typing.get_origin(kind) is not tuple:
        raise TypeError(f"a setting of type {kind} cannot be given on the command line")
    parts = typing.get_args(kind)

    def numbers(text: str) -> tuple[Any, ...]:
        words = text.split(",")
        if parts[-1] is not ... and len(words) != len(parts):
            raise argparse.ArgumentTypeError(f"'{text}' is not {len(parts)} values with commas between them")
        try:
            return tuple(parts[0](word) for word in words)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not made of {parts[0].__name__}s") from None

    return numbers
