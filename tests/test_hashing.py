from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.hashing import canonical_json, fingerprint, sha256_file, sha256_hex

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_fingerprint_does_not_depend_on_key_order(value: dict[str, object]) -> None:
    shuffled = dict(reversed(list(value.items())))

    assert fingerprint(value) == fingerprint(shuffled)


def test_canonical_json_takes_dataclasses_sets_and_tuples() -> None:
    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int
        tags: frozenset[str]

    assert canonical_json(Point(1, frozenset({"b", "a"}))) == '{"tags":["a","b"],"x":1}'


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_cannot_say(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"loss": value})


def test_canonical_json_refuses_paths_which_differ_between_machines() -> None:
    with pytest.raises(TypeError, match="no canonical form"):
        canonical_json(Path("somewhere"))


def test_sha256_file_equals_sha256_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "f").write_bytes(data)

    assert sha256_file(tmp_path / "f") == sha256_hex(data)
