"""Many processes on one SQLite file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from fm_platform.errors import (
    HomeError,
    LedgerBusyError,
    LedgerError,
    NonReproducibleError,
    StorageFullError,
)
from fm_platform.lineage import database
from fm_platform.lineage.ledger import Ledger
from tests.lineage.factory import make_produced, make_recipe, record
from tests.support.disk import read_only
from tests.support.kill import Acks, Ready, race


def write_versions(ready: Ready, url: str, process: int, count: int) -> None:
    ready()  # the file does not exist yet: eight processes create it at once
    ledger = Ledger.open(url)
    for number in range(count):
        text = f"{process} {number}"
        record(ledger, make_recipe(code=text), make_produced(text))
        ledger.latest("shop", "raw", "raw", "2026-01-01")


def test_no_version_is_lost_and_numbers_have_no_gap(ledger_url: str) -> None:
    race(write_versions, [(ledger_url, process, 5) for process in range(8)])

    ledger = Ledger.open(ledger_url)
    made = ledger.versions("shop")
    uses = ledger.uses("shop", "raw", "raw", "2026-01-01")
    assert sorted(version.number for version in made) == list(range(1, 41))
    assert len({version.code for version in made}) == 40
    assert [use.until is None for use in uses] == [False] * 39 + [True]
    latest = ledger.latest("shop", "raw", "raw", "2026-01-01")
    assert latest is not None
    assert latest.id == uses[-1].version_id


def same_recipe(ready: Ready, url: str, out: Path, text: str) -> None:
    ledger = Ledger.open(url)
    ready()
    try:
        version = record(ledger, make_recipe(), make_produced(text))
    except NonReproducibleError:
        Acks(out).append("refused")
    else:
        Acks(out).append(str(version.id))


def test_same_recipe_from_many_processes_is_one_version(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    race(same_recipe, [(ledger_url, tmp_path / "out", "same") for _ in range(6)])

    assert Acks(tmp_path / "out").lines() == ["1"] * 6
    assert len(ledger.versions("shop")) == 1


def test_many_contents_of_one_recipe_are_all_reported(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    race(same_recipe, [(ledger_url, tmp_path / "out", f"content {n}") for n in range(6)])

    assert sorted(Acks(tmp_path / "out").lines()) == ["1"] + ["refused"] * 5
    assert len(ledger.conflicts("shop")) == 5


def take_leases(ready: Ready, url: str, out: Path, count: int) -> None:
    ledger = Ledger.open(url)
    ready()
    for _ in range(count):
        Acks(out).append(str(ledger.acquire_lease("one key", "somebody").epoch))


def test_no_epoch_is_given_twice(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    race(take_leases, [(ledger_url, tmp_path / "epochs", 10) for _ in range(6)])

    epochs = [int(line) for line in Acks(tmp_path / "epochs").lines()]
    assert len(set(epochs)) == 60


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    def work(name: str) -> None:
        for number in range(10):
            record(ledger, make_recipe(code=f"{name} {number}"), make_produced(name + str(number)))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ledger.versions("shop")) == 40


def test_forked_child_gets_its_own_connection(ledger: Ledger) -> None:
    record(ledger, make_recipe(), make_produced("parent"))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            record(ledger, make_recipe(code="child"), make_produced("child"))
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert [version.code for version in ledger.versions("shop")][1] == "child"
    record(ledger, make_recipe(code="after"), make_produced("after"))


def test_ledger_held_by_another_is_a_retryable_error(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Ledger.open(ledger_url)
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0)
    impatient = Ledger.open(ledger_url)

    with holder._write(), pytest.raises(LedgerBusyError) as caught:
        impatient.acquire_lease("k", "a")

    assert caught.value.retryable


def test_full_disk_is_named(ledger: Ledger) -> None:
    record(ledger, make_recipe())
    with ledger.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    with pytest.raises(StorageFullError, match="no space left for the ledger"):
        record(ledger, make_recipe(code="big", config={"x": "y" * 100_000}), make_produced("2"))

    assert len(ledger.versions("shop")) == 1


def test_time_travel_and_heads_use_their_indexes(ledger: Ledger) -> None:
    record(ledger, make_recipe())
    queries = {
        "select * from uses where project='p' and since <= '2026' and until > '2026'":
            "uses_by_time",
        "select * from inputs where from_version_id = 3": "inputs_by_origin",
        "select * from versions where content_hash between 'ab' and 'abg' "
        "or recipe_hash between 'ab' and 'abg'": "ix_versions_content_hash",
        "select * from current where project='p' and kind='k' and name='n'":
            "sqlite_autoindex_current_1",
    }  # fmt: skip

    with ledger.engine.connect() as connection:
        for query, index in queries.items():
            lines = connection.exec_driver_sql(f"explain query plan {query}").all()
            assert index in str(lines), query


def test_numbers_that_are_not_finite_are_kept_as_text(ledger_url: str) -> None:
    metrics = {"numbers": {"loss": float("nan"), "f1": 0.1 + 0.2, "curve": [1, float("-inf")]}}
    ledger = Ledger.open(ledger_url)

    made = record(ledger, make_recipe(), make_produced(metrics=metrics))

    assert made.metrics == {"numbers": {"loss": "NaN", "f1": 0.1 + 0.2, "curve": [1, "-Infinity"]}}


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "left_open"])
def test_a_ledger_in_a_read_only_folder_is_read_whole(tmp_path: Path, closed: bool) -> None:
    folder = tmp_path / "a ledger #1, 50%"  # not all of a path is plain in an address
    folder.mkdir()
    url = f"sqlite:///{folder}/ledger.db"
    ledger = Ledger.open(url)
    made = record(ledger, make_recipe(), make_produced())
    if closed:
        ledger.engine.dispose()
    assert (folder / "ledger.db-wal").exists() is not closed

    with read_only(folder):
        reader = Ledger(database.connect_to_read(url))
        reader.ensure_readable()
        assert reader.get(made.id).content_hash == made.content_hash
        with pytest.raises(HomeError, match="cannot be opened or written"):
            reader.pin(made.id, reason="", actor="me")
        reader.engine.dispose()


def test_a_ledger_of_another_schema_is_not_read_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    ledger = Ledger.open(url)
    with ledger._write() as connection:
        connection.exec_driver_sql("UPDATE schema_version SET version = 1")
    ledger.engine.dispose()

    with pytest.raises(LedgerError, match=r"(?s)brought up to date.*found: schema 1"):
        Ledger(database.connect_to_read(url)).ensure_readable()
