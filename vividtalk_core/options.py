"""Settings that a user may choose: declared once, read by the command line, the nodes and the help.

A settings dataclass declares a field with `option(...)`. Its range is checked when the settings are made
(`check_options` in `__post_init__`), and the command's `--help` and the node's widget show the same range and
help.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import SettingsError

KEY = "option"  # in the metadata of a field


@dataclass(frozen=True, slots=True)
class Option:
    """Help and range of one setting; its type and default are the field's own."""

    help: str  # one line, without a full stop
    low: float = -math.inf  # smallest value that is accepted
    high: float = math.inf  # largest
    widest: float | None = None  # end of a slider; larger values up to `high` are accepted, but seldom useful
    step: float | None = None  # of a slider
    choices: tuple[str, ...] = ()  # the words that are accepted; empty: any
    name: str | None = None  # on the command line; None is the field's own name

    def holds(self, value: Any) -> bool:
        """Whether a number lies in the range; infinity lies in none, even where an end is open."""
        # an integer is always finite, but one with 400 digits cannot be made a float
        return self.low <= value <= self.high and (isinstance(value, numbers.Integral) or math.isfinite(value))


def option(
    default: Any,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    widest: float | None = None,
    step: float | None = None,
    choices: tuple[str, ...] = (),
    name: str | None = None,
) -> Any:
    """A dataclass field with its `Option`.

    Example: `strength: float = option(1.0, "strength of the networks", low=0, high=1)`.

    Args:
        default: value of the field.
        help: see `Option`, as all that follow.
        low: smallest value that is accepted.
        high: largest value that is accepted.
        widest: end of a slider.
        step: of a slider.
        choices: the words that are accepted.
        name: on the command line.
    """
    known = Option(help, low=low, high=high, widest=widest, step=step, choices=choices, name=name)
    return field(default=default, metadata={KEY: known})


def options_of(settings: Any) -> Mapping[str, Option]:
    """Field name → its option, of a settings dataclass or an instance of one; other fields are left out."""
    return {f.name: f.metadata[KEY] for f in fields(settings) if KEY in f.metadata}


def check_options(settings: Any) -> None:
    """Check every field that has an option.

    Raises:
        SettingsError: a value is of another type than the default, or lies outside of its option's range or choices;
            the message names the first one.
    """
    defaults = {field.name: field.default for field in fields(settings)}
    for name, known in options_of(settings).items():
        value = getattr(settings, name)
        kind, words = _kind(defaults[name])
        # a bool is an int in Python, and True as a seed or a rate is a mistake
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise SettingsError(f"{name} must be {words}; got {value!r}.", setting=name)
        if known.choices and value not in known.choices:
            raise SettingsError(f"{name} must be one of {', '.join(known.choices)}; got '{value}'.", setting=name)
        if kind not in (str, bool) and not known.holds(value):
            # whole, because `:g` shortens large integers
            found = value if kind is numbers.Integral else f"{value:g}"
            raise SettingsError(f"{name} must be {_range(known)}; got {found}.", setting=name)


def _kind(default: Any) -> tuple[type, str]:
    """The type that a setting with this default must have, and its name in words."""
    if isinstance(default, bool):
        return bool, "True or False"
    # the abstract types, because numbers of numpy are as good
    if isinstance(default, int):
        return numbers.Integral, "a whole number"
    return (numbers.Real, "a number") if isinstance(default, float) else (str, "a word")


def _range(known: Option) -> str:
    """The accepted values in words."""
    if math.inf not in (known.high, -known.low):
        return f"between {known.low:g} and {known.high:g}"
    if known.low > -math.inf:
        return f"{known.low:g} or more"
    return f"{known.high:g} or less" if known.high < math.inf else "a finite number"
