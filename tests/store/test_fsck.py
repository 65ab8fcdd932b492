from __future__ import annotations

import json
from pathlib import Path

import pytest

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.store import delta
from fm_platform.store.columns import ColumnStore
from fm_platform.store.fsck import (
    bring_back,
    check_columns,
    check_models,
    check_tables,
    repair,
)
from fm_platform.store.models import ModelStore
from fm_platform.store.tables import TableStore
from tests.store.models import make_model, object_file
from tests.store.rows import make_table, write


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(str(tmp_path / "lake"))


def log_file(store: TableStore, name: str | int) -> Path:
    name = name if isinstance(name, str) else f"{name:020d}.json"
    return Path(store.storage.uri("t")) / "_delta_log" / name


def test_a_good_store_has_no_findings(store: TableStore) -> None:
    for number in range(1, 4):
        write(store, f"d{number % 2}", number)

    assert check_tables(store, deep=True, grace_s=0.0) == []


@pytest.mark.parametrize("damage", ["empty", "cut", "gone"])
@pytest.mark.parametrize("version", [2, 4])
def test_a_damaged_log_goes_back_to_its_last_good_version(
    store: TableStore, damage: str, version: int
) -> None:
    refs = [write(store, "d1", number, seed=number) for number in range(1, 5)]
    path = log_file(store, version)
    if damage == "gone":
        if version == 4:
            pytest.skip("a log that lost its end is a log that ends earlier")
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:40])

    findings = [f for f in check_tables(store, grace_s=0.0) if f.kind != "leftover_file"]
    moved = repair(findings)

    kind = {"empty": "empty_commit", "cut": "broken_commit", "gone": "missing_commit"}[damage]
    assert [(f.kind, f.where) for f in findings] == [(kind, f"t version {version}")]
    assert moved
    assert all(path.exists() for path in moved)
    assert store.refs("t") == refs[: version - 1]
    assert store.read_table(refs[3]).num_rows == 20  # the data is still there
    assert write(store, "d1", 9, seed=9).version == version
    assert repair(findings) == [] or damage != "gone"


@pytest.mark.parametrize("text", ["garbage", '{"version": 99, "size": 1}', ""])
def test_a_bad_last_checkpoint_is_moved_aside(store: TableStore, text: str) -> None:
    write(store, "d1", 1)
    log_file(store, "_last_checkpoint").write_text(text)

    findings = check_tables(store)
    repair(findings)

    assert [f.kind for f in findings] == ["bad_last_checkpoint"]
    assert check_tables(store) == []
    assert write(store, "d1", 2).version == 2


def test_a_log_that_cannot_be_read_is_named(store: TableStore) -> None:
    write(store, "d1", 1)
    log_file(store, "_last_checkpoint").write_text('{"version": 99, "size": 1}')

    with pytest.raises(CorruptArtifactError, match="fsck"):
        write(store, "d1", 2)


def test_damage_before_a_checkpoint_needs_no_repair(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "_CHECKPOINT_EVERY", 3)
    for number in range(1, 6):
        write(store, "d1", number)
    log_file(store, 1).write_bytes(b"")

    findings = [f for f in check_tables(store) if f.kind == "empty_commit"]

    assert [f.moves for f in findings] == [()]
    assert write(store, "d1", 6).version == 6


def test_damaged_missing_and_leftover_files_are_named(store: TableStore) -> None:
    one, two, three = (write(store, f"d{n}", 1, seed=n) for n in range(3))
    folder = Path(store.storage.uri("t"))
    path = folder / one.files[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (folder / two.files[0].path).unlink()
    (folder / "day=d2" / "stray.parquet").write_bytes(b"x")

    findings = check_tables(store, deep=True, grace_s=0.0)
    repair(findings)

    assert {f.kind for f in check_tables(store)} == {"missing_file"}
    assert sorted(f.kind for f in findings) == ["damaged_file", "leftover_file", "missing_file"]
    assert store.read_table(three).num_rows == 20
    assert len(list((folder.parent / "_damaged").rglob("*.parquet"))) == 2


def test_a_file_is_missed_where_somebody_counts_on_it(store: TableStore) -> None:
    old, live = write(store, "d1", 1), write(store, "d2", 1)
    write(store, "d1", 2, seed=1)  # the rows of d1 are kept elsewhere now
    folder = Path(store.storage.uri("t"))
    for ref in (old, live):
        (folder / ref.files[0].path).unlink()

    def missed(needed: set[str] | None) -> set[str]:
        found = check_tables(store, needed=needed)
        assert {finding.kind for finding in found} <= {"missing_file"}
        return {finding.detail.split()[0] for finding in found}

    one, two = (f"t/{ref.files[0].path}" for ref in (old, live))
    assert missed(None) == {one, two}
    assert missed({one}) == {one, two}
    assert missed(set()) == {two}


def test_a_young_file_is_not_a_leftover(store: TableStore) -> None:
    write(store, "d1", 1)
    (Path(store.storage.uri("t")) / "day=d1" / "in-progress.parquet").write_bytes(b"x")

    assert check_tables(store) == []


def test_damaged_models_and_columns_are_named_and_moved(tmp_path: Path) -> None:
    models = ModelStore(tmp_path / "models", tmp_path / "key")
    columns = ColumnStore(tmp_path / "columns")
    good, bad = (models.publish(make_model(tmp_path / f"s{n}", seed=n), {}) for n in range(2))
    object_file(models, bad.content_hash, "adapter_config.json").write_text("{}")
    (models.root / "00" / ("0" * 64)).mkdir(parents=True)
    key = columns.put(make_table("d1", 1, 5))
    (columns.root / key[:2] / f"{key}.arrow").write_bytes(b"x")

    findings = check_models(models) + check_columns(columns)
    repair(findings)

    assert sorted(f.kind for f in findings) == [
        "damaged_column", "damaged_model", "unfinished_model",
    ]  # fmt: skip
    assert models.hashes() == [good.content_hash]
    assert columns.hashes() == []
    assert check_models(models) + check_columns(columns) == []


def test_models_moved_aside_for_a_shared_tensor_come_back_once_it_is_stored_again(
    tmp_path: Path,
) -> None:
    models = ModelStore(tmp_path / "models", tmp_path / "key")

    def variant(name: str, rank: int, seed: int = 0) -> str:
        folder = make_model(tmp_path / f"{name}-{rank}-{seed}", seed)
        (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
        return models.publish(folder, {}).content_hash

    shared = [variant("first", rank) for rank in (1, 2)]
    alone = variant("first", 3, seed=1)
    for content_hash in (shared[0], alone):
        tensor = object_file(models, content_hash, "adapter_model")
        tensor.write_bytes(b"x" * tensor.stat().st_size)
    repair(check_models(models))
    assert models.hashes() == []
    assert bring_back(models) == [], "nothing is whole yet"
    with pytest.raises(MissingArtifactError, match="fm fsck --repair brings back"):
        models.open(shared[1])

    newer = variant("second", 9)  # stores the tensors that the first two need

    assert bring_back(models) == sorted(shared)
    assert models.hashes() == sorted([*shared, newer])
    assert check_models(models) == []
    assert bring_back(models) == []
