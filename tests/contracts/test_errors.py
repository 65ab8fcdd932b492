"""Every deliberate error prints what, where, expected, found, next, and survives a process."""

from __future__ import annotations

import inspect
import pickle

import pytest

from fm_platform import errors

ERRORS = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.FMError) and cls is not errors.SpecError
]


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_error_carries_its_data(cls: type[errors.FMError]) -> None:
    error = cls("it broke", expected="a", found="b", where="c", next_step="d")

    assert str(error).splitlines() == [
        "it broke", "  where: c", "  expected: a", "  found: b", "  next: d",
    ]  # fmt: skip
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert str(again) == str(error)


def test_every_error_stands_in_the_tree_of_the_docstring() -> None:
    missing = [cls.__name__ for cls in ERRORS if cls.__name__ not in (errors.__doc__ or "")]

    assert missing == []
