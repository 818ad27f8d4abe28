"""The kinds of errors: each is a VividTalkError, and the built-in kind that its documentation promises."""

import inspect

import pytest

from vividtalk_core import errors
from vividtalk_core.errors import VividTalkError

BUILT_IN = {
    "MissingFileError": FileNotFoundError,
    "OutputError": OSError,
    "HubError": ConnectionError,
    "MissingPackageError": ImportError,
}
KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind is not VividTalkError]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_can_be_caught_by_its_family(kind):
    error = kind("the file 'a' has 0 frames; give another one")
    assert isinstance(error, VividTalkError) and isinstance(error, ValueError)
    assert isinstance(error, BUILT_IN.get(kind.__name__, ValueError))
    assert str(error) == "the file 'a' has 0 frames; give another one"
    assert kind.__doc__


def test_the_kinds_with_a_built_in_one_are_all_known():
    foreign = {kind.__name__ for kind in KINDS if issubclass(kind, (OSError, ImportError))}
    assert foreign == BUILT_IN.keys()
