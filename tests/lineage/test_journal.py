"""History on disk: it says what the ledger says, whatever happened, and nothing can be changed."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fm_platform.errors import FencedError, HomeError, LedgerError
from fm_platform.lineage import schema
from fm_platform.lineage.database import now
from fm_platform.lineage.journal import Journal, Line
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.rebuild import compare, restore
from fm_platform.lineage.records import RunContext
from fm_platform.lineage.reviews import Action
from tests.lineage.factory import EARLY, make_produced, make_recipe, record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "history"


@pytest.fixture
def ledger(ledger_url: str, folder: Path) -> Ledger:
    return Ledger.open(ledger_url, folder)


def rebuilt(folder: Path) -> Ledger:
    ledger = Ledger.open("sqlite://")
    restore(Journal(folder), ledger)
    return ledger


def a_history(ledger: Ledger) -> None:
    """Write rows of every table, and change some."""
    first = record(ledger, make_recipe())
    second = record(
        ledger,
        make_recipe(kind="cleaned", name="cleaned", inputs=(first.as_input("raw"),)),
        make_produced("cleaned", metrics={"f1": 0.1 + 0.2, "name": "é\u2028"}),
    )
    record(ledger, make_recipe(code="d" * 64), make_produced("edited"))
    ledger.use(make_recipe(), first)
    ledger.note_mlflow_run(second.id, "run-1")
    with pytest.raises(LedgerError):
        record(ledger, make_recipe(), make_produced("another content"))
    ledger.set_alias("shop", "champion", second.id, expected=None, reason="ü", actor="me")
    ledger.record_decision("shop", "promotion", second.id, {"f1": 0.5}, "better")
    ledger.record_reviews("shop", [Action("2026-01-01", "r1", "pii", "-")], "reject", "", "me")
    ledger.record_alert_event("shop", "a1", "opened", once="opened", body={"day": "2026-01-01"})
    ledger.remember("1" * 64, "function", {"source": "def f(): ..."})
    ledger.derive("2" * 64, lambda: "3" * 64)
    ledger.pin(second.id, reason="audit", actor="me")
    ledger.unpin(second.id, actor="me")
    ledger.record_removals({first.id: 10}, actor="me")
    lease = ledger.acquire_lease("shop/raw", "me")
    ledger.release_lease(lease)
    ledger.create_branch("try", {"shop": None}, now(), "me")


def test_the_ledger_comes_back_row_for_row(ledger: Ledger, folder: Path) -> None:
    a_history(ledger)

    again = rebuilt(folder)

    assert compare(ledger, again) == []
    assert again.get(1) == ledger.get(1)
    assert again.uses("shop", "raw", "raw", "2026-01-01") == ledger.uses(
        "shop", "raw", "raw", "2026-01-01"
    )


def test_every_table_of_history_is_in_it(ledger: Ledger, folder: Path) -> None:
    a_history(ledger)

    tables = {line.table for line in Journal(folder).lines()}

    bookkeeping = {"current", "identity", "inputs", "leases", "outbox", "schema_version"}
    assert tables == set(schema.metadata.tables) - bookkeeping


def test_a_rebuilt_ledger_goes_on(ledger: Ledger, folder: Path, tmp_path: Path) -> None:
    a_history(ledger)
    url = f"sqlite:///{tmp_path / 'again.db'}"
    restore(Journal(folder), Ledger.open(url))

    again = Ledger.open(url, folder)
    new = record(again, make_recipe(partition="2026-01-09"), make_produced("new"))

    assert new.id == ledger.versions("shop")[-1].id + 1
    assert compare(again, rebuilt(folder)) == []
    with pytest.raises(LedgerError, match="only an empty ledger"):
        restore(Journal(folder), again)


def test_what_a_kill_kept_from_disk_is_written_later(
    ledger: Ledger, ledger_url: str, folder: Path
) -> None:
    record(ledger, make_recipe())
    silent = Ledger.open(ledger_url)  # commits, and dies before it writes history
    record(silent, make_recipe(partition="2026-01-02"), make_produced("two"))
    assert compare(silent, rebuilt(folder)) != []

    again = Ledger.open(ledger_url, folder)

    assert compare(again, rebuilt(folder)) == []


def test_history_begins_with_what_an_older_ledger_holds(ledger_url: str, folder: Path) -> None:
    old = Ledger.open(ledger_url)
    a_history(old)

    ledger = Ledger.open(ledger_url, folder)

    assert compare(ledger, rebuilt(folder)) == []


def test_a_lost_history_is_begun_anew(ledger: Ledger, ledger_url: str, folder: Path) -> None:
    a_history(ledger)
    for path in folder.glob("*"):
        path.unlink()

    again = Ledger.open(ledger_url, folder)

    assert compare(again, rebuilt(folder)) == []


def test_a_new_ledger_does_not_write_over_an_older_history(
    ledger: Ledger, folder: Path, tmp_path: Path
) -> None:
    record(ledger, make_recipe())

    with pytest.raises(LedgerError, match="the history of an older one") as caught:
        Ledger.open(f"sqlite:///{tmp_path / 'new.db'}", folder)
    assert "fm ledger rebuild" in str(caught.value)
    other = Ledger.open(f"sqlite:///{tmp_path / 'other.db'}")
    record(other, make_recipe())
    with pytest.raises(LedgerError, match="another ledger"):
        other.keep_history(Journal(folder))


@pytest.mark.parametrize("what", ["flip", "drop", "swap"])
def test_an_altered_history_is_refused(ledger: Ledger, folder: Path, what: str) -> None:
    a_history(ledger)
    path = next(iter(folder.glob("*.log")))
    lines = path.read_bytes().splitlines(keepends=True)
    if what == "flip":
        lines[1] = lines[1].replace(b"2026-01-01", b"2026-01-02")
    elif what == "drop":
        del lines[1]
    else:
        lines[1], lines[2] = lines[2], lines[1]
    path.write_bytes(b"".join(lines))

    with pytest.raises(LedgerError, match="altered"):
        list(Journal(folder).lines())


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(cut=st.integers(1, 4000))
def test_a_torn_end_is_written_again(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    root = tmp_path_factory.mktemp("torn")
    url, folder = f"sqlite:///{root / 'ledger.db'}", root / "history"
    ledger = Ledger.open(url, folder)
    a_history(ledger)
    path = next(iter(folder.glob("*.log")))
    path.write_bytes(path.read_bytes()[:-cut] + b"\0" * (cut % 3))

    again = Ledger.open(url, folder)
    record(again, make_recipe(partition="2026-01-07"), make_produced("seven"))

    assert compare(again, rebuilt(folder)) == []


def test_segments_follow_one_another(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_platform.lineage.journal._SEGMENT_BYTES", 2_000)
    a_history(ledger)

    names = sorted(path.name for path in folder.glob("*.log"))
    assert len(names) > 2
    assert compare(ledger, rebuilt(folder)) == []
    (folder / names[1]).unlink()
    with pytest.raises(LedgerError, match="altered or is not whole"):
        rebuilt(folder)


@pytest.mark.parametrize("killed", [False, True])
def test_packed_history_says_the_same_and_goes_on(
    ledger_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr("fm_platform.lineage.journal._PACK_BYTES", 1)
    ledger = Ledger.open(ledger_url, folder)
    a_history(ledger)
    plain = (folder / "00000001.log").read_bytes()

    assert ledger.pack_history() > len(plain) // 2
    assert sorted(path.name for path in folder.glob("0*")) == ["00000001.log.gz"]
    if killed:  # after the packed file was there, before the plain one went
        (folder / "00000001.log").write_bytes(plain)
    assert compare(ledger, rebuilt(folder)) == []
    again = Ledger.open(ledger_url, folder)
    record(again, make_recipe(partition="2026-01-07"), make_produced("seven"))

    assert compare(again, rebuilt(folder)) == []
    again.pack_history()
    assert not list(folder.glob("*.log"))
    assert compare(again, rebuilt(folder)) == []


def test_packed_history_that_is_damaged_is_named(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_platform.lineage.journal._PACK_BYTES", 1)
    a_history(ledger)
    ledger.pack_history()
    path = folder / "00000001.log.gz"
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(LedgerError, match="altered or is not whole") as caught:
        rebuilt(folder)

    assert str(path) in str(caught.value)


def test_the_outbox_does_not_grow_for_ever(
    ledger: Ledger, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_platform.lineage.journaled._CLEAN_AFTER", 10)
    for n in range(30):
        ledger.derive(f"{n:064x}", lambda: "3" * 64)

    with ledger.reading() as connection:
        left = connection.scalar(sa.select(sa.func.count()).select_from(schema.outbox))
    assert left <= 11
    assert compare(ledger, rebuilt(folder)) == []


def test_a_failed_write_leaves_no_trace(ledger: Ledger, folder: Path) -> None:
    lease = ledger.acquire_lease("shop/raw", "one")
    ledger.acquire_lease("shop/raw", "two")

    with pytest.raises(FencedError):
        ledger.record(make_recipe(), make_produced(), RunContext(), EARLY, EARLY, lease)

    assert [line for line in Journal(folder).lines() if line.table == "versions"] == []


def test_a_folder_that_cannot_be_written(tmp_path: Path, ledger_url: str) -> None:
    (tmp_path / "history").write_text("a file")

    with pytest.raises(HomeError, match="history"):
        Ledger.open(ledger_url, tmp_path / "history")


def test_lines_are_chained(folder: Path) -> None:
    journal = Journal(folder)
    with journal.writing() as tail:
        tail = journal.append(tail, [Line(1, "l", "versions", "1", {"id": 1})])
        journal.append(tail, [Line(2, "l", "versions", "1", None)])

    assert [line.seq for line in journal.lines()] == [1, 2]
    with journal.writing() as tail:
        assert (tail.seq, tail.ledger) == (2, "l")
    assert not journal.is_empty()
