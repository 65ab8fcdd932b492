from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.lineage.cards import card, readings

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
VERSION: dict[str, Any] = {
    "id": 7, "kind": "votes", "name": "vader", "partition": "2026-01-01", "number": 2,
    "recipe_hash": "a" * 64, "content_hash": "b" * 64, "rows": 10, "bytes": None,
    "created_at": AT, "inputs_hash": "c" * 64, "metrics": {"not": "of a node"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "items", "plain"),
    [
        ([(3, "raw", None), (None, "x", None), (4, "raw", ""), (3, "y", None)], [3, 4], True),
        ([(3, "cleaned", "mail"), (4, "cleaned", None)], [[3, "mail"], 4], False),
        ([(5, "champion", None)], [[5, None, "champion"]], False),
        ([], [], True),
    ],
)  # fmt: skip
def test_a_card_tells_the_version_and_what_it_reads(
    inputs: list[tuple[int | None, str, str | None]], items: list[Any], plain: bool
) -> None:
    (found,) = readings(card(VERSION, inputs))

    assert found.node._asdict() == {
        **{name: VERSION[name] for name in found.node._fields[:10]},
        "state": "fresh", "why": "", "path": (), "aliases": (),
    }  # fmt: skip
    assert (found.items, found.plain) == (items, plain)


def test_an_unpartitioned_one_has_no_partition() -> None:
    (found,) = readings(card({**VERSION, "partition": ""}, []))
    assert found.node.partition is None


@given(st.lists(st.text(max_size=20), max_size=5))
def test_many_cards_are_one_text_whatever_the_names(names: list[str]) -> None:
    told = ",".join(card({**VERSION, "name": name}, [(1, "raw", name)]) for name in names)
    assert [found.node.name for found in readings(told)] == names
