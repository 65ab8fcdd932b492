from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from fm_platform.errors import CorruptArtifactError, MissingArtifactError, UnsafePathError
from fm_platform.store.columns import ColumnStore
from fm_platform.store.content import content_hash
from tests.store.rows import make_rows


def test_a_column_comes_back_under_its_content_hash(tmp_path: Path) -> None:
    store = ColumnStore(tmp_path)
    table = pa.Table.from_batches([make_rows("d1", 1, 30)])

    key = store.put(table)

    assert key == content_hash(table.to_batches(), table.schema)
    assert store.put(table) == key
    assert store.has(key)
    assert store.get(key) == table
    assert store.hashes() == [key]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [
        tmp_path / key[:2] / f"{key}.arrow"
    ]


def test_a_column_under_another_name_is_refused(tmp_path: Path) -> None:
    store = ColumnStore(tmp_path)
    one, two = (store.put(pa.table({"x": [n]})) for n in (1, 2))
    (tmp_path / one[:2] / f"{one}.arrow").write_bytes(
        (tmp_path / two[:2] / f"{two}.arrow").read_bytes()
    )

    with pytest.raises(CorruptArtifactError, match="another column"):
        store.get(one)


def test_a_damaged_column_is_set_aside_and_made_again(tmp_path: Path) -> None:
    store = ColumnStore(tmp_path)
    table = pa.table({"x": [1, 2, 3]})
    key = store.put(table)
    path = tmp_path / key[:2] / f"{key}.arrow"
    path.write_bytes(b"damaged")

    assert store.put(table) == key
    assert store.get(key) == table
    assert (tmp_path / "_damaged" / path.name).read_bytes() == b"damaged"


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    store = ColumnStore(tmp_path)

    assert not store.has("0" * 64)
    with pytest.raises(MissingArtifactError):
        store.get("0" * 64)
    with pytest.raises(UnsafePathError):
        store.get("../../etc/passwd")


def test_reuse_sees_a_missing_file_and_a_flipped_bit(tmp_path: Path) -> None:
    store = ColumnStore(tmp_path)
    key = store.put(pa.table({"x": [1, 2]}))
    path = tmp_path / key[:2] / f"{key}.arrow"

    assert store.unharmed(key)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert not store.unharmed(key)
    path.unlink()
    assert not store.unharmed(key)
