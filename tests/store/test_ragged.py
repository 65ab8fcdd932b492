"""States of frozen layers by key: compact, checked where they are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.store.fsck import check_states, repair
from fm_platform.store.ragged import RaggedStore

WIDTH = 4
KEYS = [bytes([i]) * 16 for i in range(5)]


def matrix(i: int) -> np.ndarray:
    return np.full((i + 1, WIDTH), i, np.float16)


def put(store: RaggedStore, order: list[int]) -> str:
    with store.writer(WIDTH) as writer:
        for i in order:
            writer.add(KEYS[i], matrix(i))
        return writer.finish()


def read_all(store: RaggedStore, name: str) -> None:
    held = store.open(name)
    for key in KEYS:
        held.get(key)


def flip(store: RaggedStore, name: str, end: str, at: int) -> None:
    path = store.root / name[:2] / f"{name}{end}"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_what_is_written_is_read_and_its_order_is_no_matter(tmp_path: Path) -> None:
    store = RaggedStore(tmp_path / "a")
    name = put(store, [3, 0, 4, 2])

    held = store.open(name)
    assert [np.asarray(held.get(KEYS[i])).tolist() for i in (0, 4)] == [
        matrix(0).tolist(), matrix(4).tolist(),
    ]  # fmt: skip
    assert held.get(KEYS[1]) is None
    assert put(RaggedStore(tmp_path / "b"), [0, 2, 3, 4]) == name
    assert store.hashes() == [name]
    assert not list(store.root.glob(".new-*"))


def test_a_flipped_bit_is_found_where_it_is_read_and_nowhere_else(tmp_path: Path) -> None:
    store = RaggedStore(tmp_path)
    name = put(store, [0, 1, 2])
    flip(store, name, ".states", 3 * 2 * WIDTH)  # the first number of the third matrix

    held = store.open(name)

    assert held.damage() == [KEYS[2]]
    assert held.get(KEYS[1]) is not None
    with pytest.raises(CorruptArtifactError, match="damaged"):
        held.get(KEYS[2])
    findings = check_states(store)
    assert [finding.kind for finding in findings] == ["damaged_states"]
    assert len(repair(findings)) == 2
    with pytest.raises(MissingArtifactError):
        store.verify(name)


@pytest.mark.parametrize("at", [20, -5])
def test_a_damaged_index_is_refused(tmp_path: Path, at: int) -> None:
    store = RaggedStore(tmp_path)
    name = put(store, [0, 1, 2])
    flip(store, name, ".index.safetensors", at)

    with pytest.raises(CorruptArtifactError):
        read_all(store, name)
    assert store.remove(name) > 0
    assert store.remove(name) == 0
