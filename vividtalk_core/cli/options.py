"""Settings dataclasses as options of a command.

A field declared with `options.option(...)` has its help, choices and name there. The fields of a dataclass that
declares none, as training settings do, are all options; the comment behind a field is its help.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import SettingsError
from ..options import options_of

Settings = TypeVar("Settings")


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One field that can be set on the command line."""

    name: str  # attribute of the parsed arguments
    field: str  # of its dataclass
    kind: Any  # its type
    default: Any
    help: str
    choices: tuple[str, ...]

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"


def add_options(
    parser: argparse._ActionsContainer,
    settings: Any,
    known: Collection[str] = (),
    only: Collection[str] | None = None,
) -> list[str]:
    """Add one option for each field of a settings dataclass.

    Args:
        parser: a parser or a group of it.
        settings: an instance, whose values are the defaults. The fields of a dataclass within it are options too:
            under their own name where they are declared, else with the outer field's name in front.
        known: names that have an option already, which then sets these fields too.
        only: names to be added; None adds all.

    Returns:
        The names of all fields.
    """
    leaves = [leaf for leaf in _leaves(settings) if only is None or leaf.name in only]
    for leaf in leaves:
        # one option may set a field of several dataclasses, e.g. --seed
        if leaf.name in known:
            continue
        # argparse formats help texts with %, so that a plain one must be doubled
        text = f"{leaf.help} (default: {_text_of(leaf.default)})".strip().replace("%", "%%")
        # no default: only what a user has written is in the arguments, and `given` changes nothing else
        common: dict[str, Any] = {"dest": leaf.name, "default": argparse.SUPPRESS, "help": text}
        if leaf.kind is bool:
            parser.add_argument(leaf.flag, action=argparse.BooleanOptionalAction, **common)
        elif leaf.choices:
            parser.add_argument(leaf.flag, choices=leaf.choices, **common)
        else:
            parser.add_argument(leaf.flag, type=_converter(leaf.kind), metavar=_METAVARS.get(leaf.kind, "X"), **common)
    return [leaf.name for leaf in leaves]


_METAVARS = {int: "N", str: "WORD"}


def given(settings: Settings, values: Mapping[str, Any], prefix: str = "") -> Settings:
    """The settings with the values that are in the parsed arguments.

    Raises:
        SettingsError: a value is out of its range.
    """
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]  # a TypeVar cannot be bound to dataclasses
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            changes[field.name] = given(value, values, f"{prefix}{field.name}_")
    for leaf in _own_leaves(settings, prefix):
        if leaf.name in values:
            changes[leaf.field] = values[leaf.name]
    try:
        return dataclasses.replace(settings, **changes)  # type: ignore[type-var]  # as above
    except SettingsError as error:
        flags = {leaf.field: leaf.flag for leaf in _own_leaves(settings, prefix)}
        if error.setting not in flags:
            raise
        # a user knows the option, not the field that it sets
        raise SettingsError(flags[error.setting] + str(error).removeprefix(error.setting)) from error


def _leaves(settings: Any, prefix: str = "") -> Iterator[_Leaf]:
    """The options of a settings dataclass and of the dataclasses within it, in the order of their fields."""
    own = {leaf.field: leaf for leaf in _own_leaves(settings, prefix)}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}_")
        elif field.name in own:
            yield own[field.name]


def _own_leaves(settings: Any, prefix: str) -> Iterator[_Leaf]:
    """The options of a dataclass, without those of dataclasses within it."""
    # annotations are text under `from __future__ import annotations`; this makes types of them
    kinds, declared = typing.get_type_hints(type(settings)), options_of(settings)
    comments = {} if declared else _comments(type(settings))
    for field in dataclasses.fields(settings):
        name, value = field.name, getattr(settings, field.name)
        if name in declared:
            option = declared[name]
            yield _Leaf(option.name or name, name, kinds[name], value, option.help, option.choices)
        elif not declared and not dataclasses.is_dataclass(value):
            yield _Leaf(prefix + name, name, kinds[name], value, comments.get(name, ""), ())


def _text_of(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _comments(cls: type) -> dict[str, str]:
    """Field → the comment behind it; a field that a subclass declares again has the comment of the subclass."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        # of built-in classes, or where the package is installed without sources: options work, their help is shorter
        with contextlib.suppress(OSError, TypeError):
            found |= re.findall(r"^    (\w+): .*?  # (.+)$", inspect.getsource(one), re.MULTILINE)
    return found


def _converter(kind: Any) -> Callable[[str], Any]:
    """A function that makes a value of a word; "0.8,1.25" becomes a tuple."""
    if kind in (int, float, str):
        convert: Callable[[str], Any] = kind
        return convert
    if typing.get_origin(kind) is not tuple:
        raise TypeError(f"a setting of type {kind} cannot be given on the command line")
    parts = typing.get_args(kind)

    def numbers(text: str) -> tuple[Any, ...]:
        words = text.split(",")
        # tuple[float, ...] takes any number of values
        if parts[-1] is not ... and len(words) != len(parts):
            raise argparse.ArgumentTypeError(f"'{text}' is not {len(parts)} values with commas between them")
        try:
            return tuple(parts[0](word) for word in words)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not made of {parts[0].__name__}s") from None

    return numbers
