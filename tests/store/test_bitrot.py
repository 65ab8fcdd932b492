"""R6: every flipped bit is found before use, the evidence is kept, and older versions serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fm_platform.errors import CorruptArtifactError
from fm_platform.store.columns import ColumnStore
from fm_platform.store.manifest import MANIFEST
from fm_platform.store.models import ModelStore
from fm_platform.store.tables import TableStore
from tests.store.models import flip_bit, make_model, object_file
from tests.store.rows import make_table, write

SMALL_FILES = ("adapter_config.json", "tokenizer/tokenizer.json", MANIFEST)


def rot_tables(root: Path, flips: int, seed: int) -> None:
    store, rng = TableStore(str(root)), np.random.default_rng(seed)
    previous = write(store, "d1", 1, seed=1)
    current = write(store, "d1", 2, seed=2)
    for flip in range(flips):
        path = root / "t" / current.files[0].path
        flip_bit(path, rng)
        damaged = path.read_bytes()
        with pytest.raises(CorruptArtifactError):
            next(store.read(current))
        with pytest.raises(CorruptArtifactError):
            store.read_table(current)
        evidence = store.quarantine(current)
        assert (evidence / path.name).read_bytes() == damaged
        assert store.read_table(previous)["row_id"][0].as_py() == "00001-0000"
        rebuilt = write(store, "d1", 3 + flip, seed=2)
        assert rebuilt.content_hash == current.content_hash
        current = rebuilt


def rot_models(root: Path, names: tuple[str, ...], flips: int, seed: int) -> None:
    store, rng = (
        ModelStore(root / "models", root / "keys" / "manifest.key"),
        np.random.default_rng(seed),
    )
    previous = store.publish(make_model(root / "staged", seed=1), {})
    current = store.publish(make_model(root / "staged", seed=2), {})
    for flip in range(flips):
        name = names[flip % len(names)]
        store.checkouts.drop(current.content_hash)
        if name == MANIFEST:
            path, kept = store.path(current.content_hash) / MANIFEST, MANIFEST
        else:
            path = object_file(store, current.content_hash, name)
            kept = f"objects/{path.name}"
        flip_bit(path, rng)
        damaged = path.read_bytes()
        with pytest.raises(CorruptArtifactError, match="damaged"):
            store.verify(current.content_hash)
        evidence = store.quarantine(current.content_hash)
        assert (evidence / kept).read_bytes() == damaged
        assert (store.open(previous.content_hash) / "config.json").exists()
        assert store.publish(make_model(root / "staged", seed=2), {}) == current
        store.verify(current.content_hash)


def test_flips_in_tables_are_found(tmp_path: Path) -> None:
    rot_tables(tmp_path, flips=20, seed=1)


@pytest.mark.slow
def test_many_flips_in_tables_are_found(tmp_path: Path) -> None:
    rot_tables(tmp_path, flips=200, seed=2)


def test_flips_in_tensors_are_found(tmp_path: Path) -> None:
    rot_models(tmp_path, ("adapter_model.safetensors",), flips=10, seed=3)


@pytest.mark.slow
def test_many_flips_in_tensors_are_found(tmp_path: Path) -> None:
    rot_models(tmp_path, ("adapter_model.safetensors",), flips=100, seed=4)


def test_flips_in_configs_and_tokenizers_are_found(tmp_path: Path) -> None:
    rot_models(tmp_path, SMALL_FILES, flips=8, seed=5)


@pytest.mark.slow
def test_many_flips_in_configs_and_tokenizers_are_found(tmp_path: Path) -> None:
    rot_models(tmp_path, SMALL_FILES[:2], flips=50, seed=6)
    rot_models(tmp_path / "manifest", (MANIFEST,), flips=50, seed=7)


def test_flips_in_columns_are_found(tmp_path: Path) -> None:
    store, rng = ColumnStore(tmp_path), np.random.default_rng(8)
    table = make_table("d1", 1, 50)
    key = store.put(table)
    path = tmp_path / key[:2] / f"{key}.arrow"
    whole = path.read_bytes()
    for _ in range(20):
        flip_bit(path, rng)
        with pytest.raises(CorruptArtifactError):
            store.get(key)
        path.write_bytes(whole)

    assert store.get(key).num_rows == 50


@pytest.mark.parametrize("size", [0, 1, 100])
def test_cut_files_are_found(tmp_path: Path, size: int) -> None:
    tables, columns = TableStore(str(tmp_path / "lake")), ColumnStore(tmp_path / "columns")
    ref, key = write(tables, "d1", 1), columns.put(make_table("d1", 1, 50))
    data = tmp_path / "lake" / "t" / ref.files[0].path
    column = tmp_path / "columns" / key[:2] / f"{key}.arrow"
    for path in (data, column):
        path.write_bytes(path.read_bytes()[:size])

    with pytest.raises(CorruptArtifactError):
        tables.verify(ref)
    with pytest.raises(CorruptArtifactError):
        columns.get(key)
