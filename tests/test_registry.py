from __future__ import annotations

import pytest

from fm_platform.errors import RegistryError
from fm_platform.registry import Registry


@pytest.fixture
def registry() -> Registry[int]:
    made: Registry[int] = Registry("number", "fm_platform.test_numbers")
    made.add("one", 1)
    return made


def test_get_unknown_name_lists_what_exists(registry: Registry[int]) -> None:
    with pytest.raises(RegistryError, match=r"(?s)there is no number 'two'.*expected: one"):
        registry.get("two")


def test_add_taken_name_is_refused(registry: Registry[int]) -> None:
    with pytest.raises(RegistryError, match="registered twice"):
        registry.add("one", 2)


@pytest.mark.parametrize("name", ["", "One", "1one", "a-b", "../x"])
def test_add_malformed_name_is_refused(registry: Registry[int], name: str) -> None:
    with pytest.raises(RegistryError, match="is no name for a number"):
        registry.add(name, 3)


def test_names_are_sorted(registry: Registry[int]) -> None:
    registry.add("a_first", 0)

    assert list(registry) == ["a_first", "one"]
