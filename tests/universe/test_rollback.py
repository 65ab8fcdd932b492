from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from deltalake import DeltaTable

from fm_platform.errors import BranchError, ConcurrentWriteError, FMError, MissingArtifactError
from fm_platform.lineage import RunContext
from fm_platform.lineage.ledger import Ledger
from fm_platform.stages import tables
from fm_platform.tracking.records import DecisionRecord
from fm_platform.universe.rollback import RolledBack, make_plan, rollback
from fm_platform.workspace import Workspace
from tests.universe.worlds import DAYS, EDITED, SPEC, World, moment

History = tuple[World, datetime]


def back(world: World, to: datetime, **more: bool) -> RolledBack:
    return rollback(world.ws, "small", world.folder, to, RunContext(), **more)


def rows_of(world: World, table: str) -> list[str]:
    """Return what a reader of the lake sees, who knows no ledger."""
    seen = DeltaTable(str(world.home / "lake" / "small" / table)).to_pyarrow_table()
    return sorted(f"{row['day']} {row['row_id']}" for row in seen.to_pylist())


def test_everything_of_a_moment_comes_back_and_a_run_gives_its_hashes(history: History) -> None:
    world, then = history
    ledger = world.ws.ledger
    wanted = ledger.slots_in_use("small", at=then)
    done = back(world, then)

    assert ledger.slots_in_use("small") == wanted
    assert (world.folder / "defs.yaml").read_text() == SPEC
    assert done.stale == ()
    before = world.hashes()
    made = len(ledger.versions("small"))
    world.run(DAYS[:2])
    assert world.hashes() == before
    assert len(ledger.versions("small")) == made, "nothing was built"


def test_the_lake_holds_that_moment_for_readers_without_a_ledger(history: History) -> None:
    world, then = history
    done = back(world, then)
    ws = world.ws
    for table in ("raw", "weak_labels", "cleaned"):
        heads = ws.ledger.all_latest("small", table)
        expected = [
            f"{v.partition} {row}"
            for v in heads
            for row in tables.read(ws, v, table)["row_id"].to_pylist()
        ]
        assert rows_of(world, table) == sorted(expected)
        assert f"small/{table}" in done.commits
    assert {v.partition for v in heads} == set(DAYS[:2])


def test_history_is_not_rewritten(history: History) -> None:
    world, then = history
    ledger = world.ws.ledger
    just_before = moment()
    past = {at: ledger.slots_in_use("small", at=at) for at in (then, just_before)}
    uses = ledger.uses("small", "cleaned", "cleaned", DAYS[0])
    versions = DeltaTable(str(world.home / "lake/small/cleaned")).version()
    back(world, then)

    assert {at: ledger.slots_in_use("small", at=at) for at in past} == past
    again = ledger.uses("small", "cleaned", "cleaned", DAYS[0])
    assert len(again) == len(uses) + 1
    assert again[-1].version_id == uses[0].version_id
    assert DeltaTable(str(world.home / "lake/small/cleaned")).version() == versions + 1
    (told,) = [d for d in ledger.decisions("small") if d["kind"] == "rollback"]
    assert told["numbers"]["to"] == then.isoformat()
    assert told["numbers"]["files"] == ["defs.yaml"]


def test_a_rollback_can_be_rolled_back(history: History) -> None:
    world, then = history
    wanted = world.ws.ledger.slots_in_use("small")
    (world.folder / "notes.py").write_text("# written after the last run\n")
    done = back(world, then)
    assert not (world.folder / "notes.py").exists()
    back(world, done.before)
    now = world.ws.ledger.slots_in_use("small")
    assert (world.folder / "notes.py").read_text() == "# written after the last run\n"
    assert (world.folder / "defs.yaml").read_text() == EDITED
    spec = ("spec", "spec", None)
    assert now | {spec: 0} == wanted | {spec: 0}


def test_a_second_call_changes_nothing(history: History) -> None:
    world, then = history
    back(world, then)
    state = world.ws.ledger.slots_in_use("small")
    decisions = len(world.ws.ledger.decisions("small"))
    done = back(world, then)
    assert (done.decision, done.commits, bool(done.plan)) == (None, {}, False)
    assert world.ws.ledger.slots_in_use("small") == state
    assert len(world.ws.ledger.decisions("small")) == decisions


def test_an_interrupted_rollback_is_finished_by_the_next(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, then = history
    before = world.ws.ledger.slots_in_use("small")
    wanted = world.ws.ledger.slots_in_use("small", at=then)

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "arrange", killed)
        with pytest.raises(KeyboardInterrupt):
            back(world, then)
    assert world.ws.ledger.slots_in_use("small") == before, "all or nothing"
    with monkeypatch.context() as patch:
        patch.setattr("fm_platform.universe.rollback.carry_out", killed)
        with pytest.raises(KeyboardInterrupt):
            back(world, then)
    assert (world.folder / "defs.yaml").read_text() == EDITED
    back(world, then)
    assert world.ws.ledger.slots_in_use("small") == wanted
    assert (world.folder / "defs.yaml").read_text() == SPEC


def test_aliases_come_back_and_the_champion_has_the_rival_it_had(history: History) -> None:
    world, _ = history
    ledger = world.ws.ledger
    first, second = ledger.versions("small", "cleaned")[:2]
    ledger.set_alias("small", "champion", first.id, expected=None, reason="good", actor="gate")
    early = moment()
    ledger.set_alias("small", "champion", second.id, expected=first.id, reason="", actor="gate")
    ledger.set_alias("small", "challenger", second.id, expected=None, reason="", actor="gate")

    tracker = Tracker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "tracker", tracker)
        back(world, early)
    assert tracker.told == [("small", first.recipe_hash)]
    (decision,) = tracker.decisions
    assert (decision.decision, decision.recipe_hash) == ("rollback", first.recipe_hash)
    assert decision.numbers == {"to": early.isoformat()}
    assert ledger.aliases("small") == {"champion": first.id}
    assert ledger.rival("small", "champion", first) is None, "second was promoted later"
    assert [m.version_id for m in ledger.alias_history("small", "champion")] == [
        first.id, second.id, first.id,
    ]  # fmt: skip


def test_the_canary_of_that_moment_is_named_in_mlflow_too_and_a_later_one_no_longer(
    history: History,
) -> None:
    world, _ = history
    ledger = world.ws.ledger
    first, second = ledger.versions("small", "cleaned")[:2]
    none = moment()
    ledger.set_alias("small", "canary", first.id, expected=None, reason="", actor="gate")
    one = moment()
    ledger.set_alias("small", "canary", second.id, expected=first.id, reason="", actor="gate")

    tracker = Tracker()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workspace, "tracker", tracker)
        back(world, one)
        back(world, none)

    assert [(d.decision, d.recipe_hash, d.sets, d.drops) for d in tracker.decisions] == [
        ("rollback", first.recipe_hash, "canary", ""),
        ("taken_back", first.recipe_hash, "", "canary"),
    ]
    assert ledger.aliases("small") == {}


class Tracker:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.decisions: list[DecisionRecord] = []

    def set_champion(self, project: str, recipe: str, reason: str) -> None:
        self.told.append((project, recipe))

    def log_decision(self, decision: DecisionRecord) -> None:
        self.decisions.append(decision)


def test_a_project_file_with_mistakes_can_be_rolled_back_and_is_kept(history: History) -> None:
    world, then = history
    world.declare("attributes: [")
    back(world, then)
    assert (world.folder / "defs.yaml").read_text() == SPEC
    texts = [
        (world.ws.ledger.document(hash_) or {}).get("text") for hash_ in _hashes("attributes: [")
    ]
    assert texts == ["attributes: ["]


def _hashes(text: str) -> list[str]:
    from fm_platform.hashing import sha256_hex

    return [sha256_hex(text.encode())]


def test_files_can_be_left_alone(history: History) -> None:
    world, then = history
    done = back(world, then, keep_files=True)
    assert (world.folder / "defs.yaml").read_text() == EDITED
    assert done.stale, "what is declared is newer: a run would build again, and it says so"
    assert any("bad_words" in row.why for row in done.stale)


def test_times_without_history_are_refused(history: History) -> None:
    world, then = history
    with pytest.raises(FMError, match="nothing of small was in use at 2020"):
        back(world, then.replace(year=2020))
    with pytest.raises(FMError, match="goes back in time"):
        back(world, moment() + timedelta(days=1))


def test_a_running_build_is_not_disturbed(history: History) -> None:
    world, then = history
    lease = world.ws.ledger.acquire_lease(f"small/raw/raw/{DAYS[0]}", "a run")
    with pytest.raises(BranchError, match="being built"):
        back(world, then)
    world.ws.ledger.release_lease(lease)
    assert back(world, then).decision is not None


def test_what_changes_while_it_is_prepared_stops_it(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, then = history
    plan = make_plan(world.ws, "small", world.folder, then)
    wrong = {**plan.expected, ("raw", "raw", "2026-02-01"): 1}
    real = make_plan

    def stale_plan(*args: object, **more: object) -> object:
        from dataclasses import replace

        return replace(real(*args, **more), expected=wrong)  # type: ignore[arg-type]

    monkeypatch.setattr("fm_platform.universe.rollback.make_plan", stale_plan)
    with pytest.raises(ConcurrentWriteError):
        back(world, then)


def test_lost_bytes_are_made_again_and_lost_source_rows_refuse(history: History) -> None:
    world, then = history
    ws = world.ws
    old = ws.ledger.latest("small", "cleaned", "cleaned", DAYS[0], at=then)
    assert old is not None
    (file,) = ws.table_ref(old, "cleaned").files
    (world.home / "lake/small/cleaned" / file.path).unlink()
    done = back(world, then)
    assert [version.id for version in done.plan.gone] == [old.id]
    assert ws.ledger.latest("small", "cleaned", "cleaned", DAYS[0]) == old
    world.run(DAYS[:2])
    mended = ws.ledger.latest("small", "cleaned", "cleaned", DAYS[0])
    assert mended is not None
    assert mended.id == old.id
    assert tables.read(ws, mended, "cleaned").num_rows == old.rows

    back(world, done.before)
    raw = ws.ledger.latest("small", "raw", "raw", DAYS[2])
    assert raw is not None
    late = moment()
    back(world, then)
    (file,) = ws.table_ref(raw, "raw").files
    (world.home / "lake/small/raw" / file.path).unlink()
    with pytest.raises(MissingArtifactError, match="nothing can make them again"):
        back(world, late)
