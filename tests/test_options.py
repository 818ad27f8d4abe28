"""Settings with ranges: declared once, checked when they are made."""

from dataclasses import dataclass

import pytest

from vividtalk_core.errors import SettingsError
from vividtalk_core.options import Option, check_options, option, options_of
from vividtalk_core.pipeline import TalkSettings


@dataclass(frozen=True)
class Settings:
    share: float = option(0.5, "share of it", low=0, high=1, step=0.1)
    count: int = option(1, "number of them", low=0, widest=9, name="number")
    any_number: float = option(0.0, "any number")
    at_most: float = option(0.0, "at most 3", high=3)
    mode: str = option("fast", "way of doing it", choices=("fast", "slow"))
    switch: bool = option(False, "switch it on")
    plain: int = 7  # no option: not checked, not shown

    def __post_init__(self):
        check_options(self)


def test_options_are_known_by_their_fields():
    known = options_of(Settings)
    assert list(known) == ["share", "count", "any_number", "at_most", "mode", "switch"]
    assert known["share"] == Option("share of it", low=0, high=1, step=0.1)
    assert (known["count"].name, known["count"].widest) == ("number", 9)
    assert options_of(Settings()) == known


def test_defaults_are_plain_values():
    assert Settings() == Settings(share=0.5, count=1, any_number=0.0, at_most=0.0, mode="fast", switch=False, plain=7)


@pytest.mark.parametrize(
    "values",
    [
        {"share": 0},
        {"share": 1.0},
        {"count": 99},
        {"any_number": -1e9},
        {"at_most": -7},
        {"mode": "slow"},
        {"plain": -1},
    ],
)
def test_what_lies_in_the_range_is_accepted(values):
    (name, value), *_ = values.items()
    assert getattr(Settings(**values), name) == value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 1.5}, "share must be between 0 and 1; got 1.5."),
        ({"share": -0.1}, "share must be between 0 and 1; got -0.1."),
        ({"count": -1}, "count must be 0 or more; got -1."),
        ({"count": -(10**400)}, f"count must be 0 or more; got -1{'0' * 400}."),
        ({"count": 1.5}, "count must be a whole number; got 1.5."),
        ({"count": True}, "count must be a whole number; got True."),
        ({"share": "0.5"}, "share must be a number; got '0.5'."),
        ({"share": None}, "share must be a number; got None."),
        ({"mode": None}, "mode must be a word; got None."),
        ({"switch": "no"}, "switch must be True or False; got 'no'."),
        ({"any_number": float("nan")}, "any_number must be a finite number; got nan."),
        ({"any_number": float("inf")}, "any_number must be a finite number; got inf."),
        ({"at_most": 4}, "at_most must be 3 or less; got 4."),
        ({"mode": "soon"}, "mode must be one of fast, slow; got 'soon'."),
    ],
)
def test_what_lies_outside_is_named_with_its_range(values, message):
    with pytest.raises(SettingsError) as caught:
        Settings(**values)
    assert str(caught.value) == message


def test_every_default_of_talk_is_in_its_own_range():
    known = options_of(TalkSettings)
    assert {"fps", "seed", "pose", "mode", "strength"} <= known.keys()
    TalkSettings()
    assert all(one.help and not one.help.endswith(".") for one in known.values())
