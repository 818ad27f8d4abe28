"""Errors carry their remedies, and each caller words them."""

import copy

import pytest

from vividtalk_core.errors import ADVICE, MissingFileError, NoFaceError, OutputError, SettingsError, worded
from vividtalk_core.options import check_options
from vividtalk_core.pipeline import TalkSettings


def test_advice_stands_behind_what_was_found():
    error = NoFaceError("no face found", advice=("closer", "box"))
    assert str(error) == "no face found: use a closer crop, or give the face's box by hand"
    assert (error.found, error.advice) == ("no face found", ("closer", "box"))


def test_a_colon_is_not_set_twice():
    assert worded("no face: none", ["force"]) == f"no face: none; {ADVICE['force']}"


def test_a_caller_words_what_its_user_has():
    assert worded("found", ("threshold", "box", "force"), {"box": "link a mask"}) == "found: link a mask"
    assert worded("found", ("threshold",), {}) == "found"


def test_copies_as_between_processes_keep_the_advice():
    error = copy.copy(NoFaceError("none", advice=("larger",)))  # by the protocol that pickle uses
    assert str(error) == "none: use a larger picture" and error.advice == ("larger",)


@pytest.mark.parametrize("kind", [MissingFileError, OutputError])
def test_kinds_that_are_oserrors_keep_their_message(kind):
    assert str(kind("there is no such file")) == "there is no such file"


def test_a_setting_out_of_range_is_named():
    with pytest.raises(SettingsError, match=r"pose_amplitude must be .*; got -1") as refused:
        check_options(TalkSettings(pose_amplitude=-1))
    assert refused.value.setting == "pose_amplitude"
