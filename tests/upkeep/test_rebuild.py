"""The ledger comes back from what lies beside it, and is held against the stores."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from fm_platform.errors import LedgerError
from fm_platform.lineage.ledger import Ledger
from fm_platform.upkeep.gc import collect
from fm_platform.upkeep.rebuild import check, rebuild
from fm_platform.workspace import Workspace
from tests.upkeep.worlds import add, open_world


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    world = open_world(tmp_path)
    raw = add(world, "raw", "raw", "2026-01-01")
    votes = add(world, "votes", "words", "2026-01-01", [raw])
    model = add(world, "merged_model", "merged_model", None, [raw, votes])
    world.ledger.set_alias("shop", "champion", model.id, expected=None, reason="", actor="me")
    return world


def dump(ledger: Ledger) -> list[tuple[str, str, str]]:
    from fm_platform.lineage.outbox import dump as rows

    with ledger.reading() as connection:
        return list(rows(connection))


def lose(ws: Workspace) -> Workspace:
    ws.ledger.engine.dispose()
    for path in ws.home.root.glob("ledger.db*"):
        path.unlink()
    return Workspace(ws.home)


def test_ledger_and_history_agree(ws: Workspace) -> None:
    done = check(ws)

    assert (done.versions, done.differences, done.missing, done.unrecorded) == (3, (), (), ())


def test_a_lost_ledger_comes_back(ws: Workspace) -> None:
    before = dump(ws.ledger)
    with pytest.raises(LedgerError, match="the history of an older one"):
        assert lose(ws).ledger
    again = Workspace(ws.home)

    done = rebuild(again)

    assert dump(again.ledger) == before
    assert (done.versions, done.missing, done.unrecorded) == (3, (), ())
    add(again, "raw", "raw", "2026-01-02")
    assert check(again).differences == ()


def test_a_damaged_ledger_is_kept_and_replaced(ws: Workspace) -> None:
    before = dump(ws.ledger)
    ws.ledger.engine.dispose()
    file = ws.home.root / "ledger.db"
    file.write_bytes(b"garbage" * 1000)
    again = Workspace(ws.home)

    done = rebuild(again)

    assert done.kept is not None
    assert done.kept.read_bytes().startswith(b"garbage")
    assert dump(again.ledger) == before
    assert rebuild(Workspace(ws.home)).kept != done.kept


def test_a_row_that_was_altered_is_named(ws: Workspace) -> None:
    with ws.ledger.engine.connect() as connection:
        connection.exec_driver_sql("DROP TRIGGER history_versions_update")
        connection.exec_driver_sql("UPDATE versions SET rows = 7 WHERE id = 1")

    (difference,) = check(ws).differences

    assert (difference.table, difference.key) == ("versions", "[1]")


def test_lost_bytes_and_unknown_models_are_named(ws: Workspace, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    (staged / "config.json").write_text(json.dumps({"by": "a run that was killed"}))
    ws.models.publish(staged, {"recipe_hash": "9" * 64, "name": "nyt"})
    votes = ws.ledger.latest("shop", "votes", "words", "2026-01-01")
    assert votes is not None
    ws.columns.remove(votes.content_hash)

    done = check(ws)

    assert len(done.missing) == 1
    assert done.missing[0].startswith("shop: votes/words/2026-01-01#1")
    assert len(done.unrecorded) == 1
    assert "nyt" in done.unrecorded[0]


def test_what_retention_removed_is_not_missing(ws: Workspace) -> None:
    add(ws, "merged_model", "merged_model", None, [], 2)
    add(ws, "merged_model", "merged_model", None, [], 3)
    assert len(collect(ws, actor="me").plan.remove) == 1

    assert check(ws).missing == ()
    assert check(ws).differences == ()


def test_without_history_there_is_nothing_to_rebuild_from(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no history"):
        rebuild(open_world(tmp_path))


# --- history is lost as well -------------------------------------------------------------------


def lose_both(ws: Workspace) -> Workspace:
    lose(ws)
    shutil.rmtree(ws.home.history)
    return Workspace(ws.home)


def test_ledger_and_history_come_back_from_what_lies_beside_the_tables(ws: Workspace) -> None:
    ws.ledger.pin(1, reason="audit", actor="me")
    before = dump(ws.ledger)
    again = lose_both(ws)
    with pytest.raises(LedgerError, match="tell of an older one"):
        assert again.ledger

    done = rebuild(Workspace(ws.home), from_stores=True)

    assert (done.versions, done.missing, done.unrecorded) == (3, (), ())
    again = Workspace(ws.home)
    assert dump(again.ledger) == before
    assert again.ledger.aliases("shop").keys() == {"champion"}
    add(again, "raw", "raw", "2026-01-02")
    assert check(again).differences == ()  # a new history was begun
    assert check(again, from_stores=True).differences == ()


def test_the_next_run_finds_everything_fresh(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = lose_both(ws)
    rebuild(again, from_stores=True)
    again = Workspace(ws.home)
    monkeypatch.setattr("tests.upkeep.worlds.save_file", None)  # nothing can be made

    raw = add(again, "raw", "raw", "2026-01-01")
    votes = add(again, "votes", "words", "2026-01-01", [raw])
    model = add(again, "merged_model", "merged_model", None, [raw, votes])

    assert [version.id for version in (raw, votes, model)] == [1, 2, 3]


def test_a_home_from_before_has_its_history_put_beside_the_tables(ws: Workspace) -> None:
    shutil.rmtree(ws.home.lake / "_ledger")

    add(Workspace(ws.home), "raw", "raw", "2026-01-02")

    assert check(Workspace(ws.home), from_stores=True).differences == ()


def test_many_manifests_are_merged(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fm_platform.lineage.manifests._MANY", 5)
    again = Workspace(ws.home)
    for number in range(1, 9):
        add(again, "raw", "raw", f"2026-02-0{number}")

    assert len(list((ws.home.lake / "_ledger").rglob("*.gz"))) <= 6
    assert check(again, from_stores=True).differences == ()


@pytest.mark.parametrize("damage", ["altered", "lost"])
def test_a_damaged_manifest_is_named_and_nothing_is_changed(ws: Workspace, damage: str) -> None:
    file = sorted((ws.home.lake / "_ledger").rglob("*.gz"))[1]
    if damage == "lost":
        file.unlink()
    else:
        file.write_bytes(gzip.compress(b"[1]"))
    before = dump(ws.ledger)

    with pytest.raises(LedgerError, match="manifest of the ledger"):
        rebuild(Workspace(ws.home), from_stores=True)

    assert dump(Workspace(ws.home).ledger) == before
    assert check(Workspace(ws.home)).differences == ()


def test_without_manifests_there_is_nothing_to_rebuild_from(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no manifests"):
        rebuild(open_world(tmp_path), from_stores=True)
