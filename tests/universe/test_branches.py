from __future__ import annotations

import hashlib
import os
from datetime import datetime, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable

from fm_platform.errors import BranchError, FMError, HomeError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.graph import graph_at
from fm_platform.lineage.keep import keep_set
from fm_platform.lineage.universes import Universes
from fm_platform.stages import tables
from fm_platform.universe.branches import create, delete, on_branch, uses
from fm_platform.universe.merge import Merged, compare, merge
from fm_platform.universe.rollback import rollback
from fm_platform.workspace import Workspace
from tests.histories.clock import clock
from tests.universe.worlds import DAYS, EDITED, SPEC, World, moment

History = tuple[World, datetime]
RUN = RunContext()
TAXONOMY = EDITED.replace("[negative, positive]", "[negative, neutral, positive]")
THREE = SPEC.replace(
    "      - {kind: keyword, name: good_words, words: [good], label: positive}\n",
    "      - {kind: keyword, name: good_words, words: [good, fine], label: positive}\n"
    "      - {kind: keyword, name: poor_words, words: [poor], label: negative}\n",
)


def begin(world: World, name: str = "try", at: datetime | None = None) -> World:
    """Create a branch and return its world."""
    create(world.ws, world.root, name, RUN, at)
    return World(Home(world.home, name).own, world.home, name)


def branch_ws(world: World, name: str = "try") -> Workspace:
    return on_branch(world.ws, name)


def files_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def main_state(world: World) -> tuple[object, ...]:
    """Return all of main: uses, aliases, decisions, project files, tables as a reader sees them."""
    ledger = world.ws.ledger
    return (
        ledger.slots_in_use("small"), ledger.aliases("small"), ledger.decisions("small"),
        files_below(world.folder), files_below(world.home / "lake" / "small"),
    )  # fmt: skip


def graph_states(world: World) -> set[str]:
    return {node.state for node in graph_at(world.ws.ledger, "small").nodes}


def merged(world: World, **more: object) -> Merged:
    (done,) = merge(world.ws, world.root, "try", RUN, **more)  # type: ignore[arg-type]
    return done


def test_a_branch_begins_from_what_is_in_use_though_the_clock_was_set_back(
    history: History,
) -> None:
    world, _ = history
    with clock(datetime(2025, 12, 1, tzinfo=timezone.utc)):
        begin(world)

    ledger = branch_ws(world).ledger
    assert ledger.slots_in_use("small") == world.ws.ledger.slots_in_use("small")


def test_a_branch_shares_everything_and_builds_nothing(history: History) -> None:
    world, _ = history
    before = main_state(world)
    made = len(world.ws.ledger.versions("small"))
    branch = begin(world)
    ws = branch_ws(world)
    assert world.hashes(ws) == world.hashes()
    branch.run(ws=ws)
    assert world.hashes(ws) == world.hashes()
    assert len(world.ws.ledger.versions("small")) == made
    assert main_state(world) == before
    (use,) = uses(world.ws)
    assert use.own == 0
    assert use.shared == len(before[0])  # type: ignore[arg-type]
    assert sum(use.bytes[kind] for kind in ("tables", "models", "columns")) == 0
    assert use.bytes["files"] < 20_000, "rows and base model are links"


def test_change_three_functions_run_compare_merge(history: History) -> None:
    world, _ = history
    branch = begin(world)
    before = main_state(world)
    branch.declare(THREE)
    ws = branch_ws(world)
    branch.run(ws=ws)
    assert main_state(world) == before, "main is untouched until the merge"
    (use,) = uses(world.ws)
    assert use.bytes["tables"] > 0
    assert use.bytes["columns"] > 0
    assert use.own > 0

    (found,) = [compare(world.ws, world.root, b) for b in world.ws.ledger.branches("try")]
    assert found.conflicts() == []
    assert {sides.changed_on for sides in found.files.values()} == {"branch"}
    assert {slot[0] for slot in found.slots} == {"votes", "label_model", "weak_labels", "cleaned"}
    assert main_state(world) == before

    wanted = world.hashes(ws)
    made = len(world.ws.ledger.versions("small"))
    done = merged(world)
    assert {slot[0] for slot in done.taken} == {"votes", "label_model", "weak_labels", "cleaned"}
    assert (world.folder / "defs.yaml").read_text() == THREE
    assert world.hashes() == wanted
    assert graph_states(world) == {"fresh"}, "each is judged by what was declared where it was made"
    world.run()
    assert world.hashes() == wanted
    assert len(world.ws.ledger.versions("small")) == made + 0, "the merge built nothing"
    assert {table.rpartition("/")[2] for table in done.commits} == {
        "cleaned", "quarantine", "weak_labels",
    }  # fmt: skip


def test_after_the_merge_main_needs_nothing_of_the_branch(history: History) -> None:
    world, _ = history
    branch = begin(world)
    branch.declare(THREE)
    branch.run(ws=branch_ws(world))
    merged(world)
    delete(world.ws, "try")
    ledger = world.ws.ledger
    for version in ledger.all_latest("small"):
        for told in version.location.get("tables", {}).values():
            assert told["table"].startswith("small/")
        world.ws.verify(version)
    head = DeltaTable(str(world.home / "lake/small/cleaned")).to_pyarrow_table()
    days = list(ledger.all_latest("small", "cleaned"))
    assert head.num_rows == sum(tables.read(world.ws, v, "cleaned").num_rows for v in days)
    assert not (world.home / "branches" / "try").exists()


def test_two_taxonomies_side_by_side_share_what_is_equal(history: History) -> None:
    world, _ = history
    one, two = begin(world, "one"), begin(world, "two")
    before = main_state(world)
    one.declare(TAXONOMY)
    two.declare(TAXONOMY.replace("poor", "dull"))
    one.run(ws=branch_ws(world, "one"))
    made = len(world.ws.ledger.versions("small"))
    two.run(ws=branch_ws(world, "two"))
    first, second = world.hashes(branch_ws(world, "one")), world.hashes(branch_ws(world, "two"))
    for day in DAYS:
        assert first[f"votes/good_words/{day}"] == second[f"votes/good_words/{day}"]
        assert first[f"votes/bad_words/{day}"] != second[f"votes/bad_words/{day}"]
    rebuilt = [v for v in world.ws.ledger.versions("small")[made:] if v.name == "good_words"]
    assert rebuilt == [], "an equal recipe is one version, whichever branch made it"
    assert main_state(world) == before


def test_a_branch_of_the_past_is_the_past(history: History) -> None:
    world, then = history
    branch = begin(world, at=then)
    assert (branch.folder / "defs.yaml").read_text() == SPEC
    ws = branch_ws(world)
    past = world.ws.ledger.slots_in_use("small", at=then)
    assert ws.ledger.slots_in_use("small") == past
    made = len(world.ws.ledger.versions("small"))
    branch.run(DAYS[:2], ws)
    assert len(world.ws.ledger.versions("small")) == made
    assert ws.ledger.slots_in_use("small") == past


def test_conflicts_refuse_the_merge_with_every_reason(history: History) -> None:
    world, _ = history
    branch = begin(world)
    branch.declare(THREE)
    branch_ledger = branch_ws(world).ledger
    world.declare(EDITED.replace("[good]", "[good, nice]"))
    first, second = world.ws.ledger.versions("small", "cleaned")[:2]
    for ledger, version in ((world.ws.ledger, first), (branch_ledger, second)):
        ledger.set_alias("small", "champion", version.id, expected=None, reason="", actor="gate")
    before = main_state(world)
    with pytest.raises(BranchError) as refusal:
        merged(world)
    said = str(refusal.value)
    assert "2 conflicts" in said
    assert "file defs.yaml: changed on main and on try" in said
    assert "alias champion: main names cleaned/2026-01-01#1" in said
    assert "--prefer main or branch" in said
    assert main_state(world) == before

    merged(world, prefer="branch")
    assert (world.folder / "defs.yaml").read_text() == THREE
    assert world.ws.ledger.aliases("small") == {"champion": second.id}
    assert merged(world).decision is None, "nothing is left to merge"


def test_other_source_rows_on_both_sides_are_a_conflict(history: History) -> None:
    world, _ = history
    branch = begin(world)
    mine = branch.folder / f"mail-{DAYS[0]}.jsonl"
    text = mine.read_text()
    mine.unlink()  # the link, not main's rows
    mine.write_text(text.replace("thing", "matter"))
    branch.run(DAYS[:1], branch_ws(world))
    (world.folder / f"mail-{DAYS[0]}.jsonl").write_text(text.replace("thing", "item"))
    world.run(DAYS[:1])
    with pytest.raises(BranchError, match=f"raw/{DAYS[0]}: other source rows"):
        merged(world)
    done = merged(world, prefer="main")
    assert ("raw", "raw", DAYS[0]) not in done.taken
    assert ("cleaned", "cleaned", DAYS[0]) in done.left


def test_days_that_came_to_main_meanwhile_stay(history: History) -> None:
    world, then = history
    rollback(world.ws, "small", world.folder, then, RUN)
    branch = begin(world)
    branch.declare(THREE)
    branch.run(DAYS[:2], branch_ws(world))
    world.run()
    third = world.ws.ledger.latest("small", "raw", "raw", DAYS[2])
    done = merged(world)
    assert third is not None
    assert world.ws.ledger.latest("small", "raw", "raw", DAYS[2]) == third
    assert not [slot for slot in done.taken if slot[2] == DAYS[2]]
    world.run()
    assert "votes/poor_words/2026-01-03" in world.hashes()


def test_an_interrupted_merge_is_finished_by_the_next(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = history
    branch = begin(world)
    branch.declare(THREE)
    branch.run(ws=branch_ws(world))
    wanted = world.hashes(branch_ws(world))
    before = world.ws.ledger.slots_in_use("small")

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Universes, "arrange", killed)
        with pytest.raises(KeyboardInterrupt):
            merged(world)
    assert world.ws.ledger.slots_in_use("small") == before
    with monkeypatch.context() as patch:
        patch.setattr("fm_platform.universe.merge.carry_out", killed)
        with pytest.raises(KeyboardInterrupt):
            merged(world)
    assert (world.folder / "defs.yaml").read_text() == EDITED
    merged(world)
    assert (world.folder / "defs.yaml").read_text() == THREE
    assert world.hashes() == wanted


def test_a_merged_project_file_with_mistakes_is_refused(history: History) -> None:
    world, _ = history
    branch = begin(world)
    branch.declare(EDITED.replace("label: positive", "label: lovely"))
    before = main_state(world)
    with pytest.raises(FMError, match="lovely"):
        merged(world)
    assert main_state(world) == before


def test_deleting_keeps_the_history_and_frees_what_it_alone_kept(history: History) -> None:
    world, _ = history
    branch = begin(world)
    branch.declare(THREE)
    branch.run(ws=branch_ws(world))
    own = set(branch_ws(world).ledger.slots_in_use("small").values())
    own -= world.ws.ledger.ever_used("small")
    assert own <= keep_set(world.ws.ledger).reasons.keys()
    rows = world.folder / f"mail-{DAYS[0]}.jsonl"
    delete(world.ws, "try")
    kept = keep_set(world.ws.ledger).reasons
    assert not [i for i in own if i in kept and world.ws.ledger.get(i).kind != "spec"]
    assert rows.is_file(), "links go, what they name stays"
    assert (world.ws.ledger.branches(), uses(world.ws)) == ([], [])
    with pytest.raises(BranchError, match="there is no branch 'try'"):
        delete(world.ws, "try")
    again = begin(world)
    assert branch_ws(world).ledger.scope("small") == "small@try+2"
    assert (again.folder / "defs.yaml").read_text() == EDITED


def test_names_and_places_are_checked(history: History) -> None:
    world, then = history
    for name in ("main", "../up", "Try", "", "a" * 41, "x."):
        with pytest.raises(HomeError):
            create(world.ws, world.root, name, RUN)
    begin(world)
    with pytest.raises(BranchError, match="there is a branch 'try' already"):
        begin(world)
    with pytest.raises(BranchError, match="this is branch 'try'"):
        create(branch_ws(world), world.root, "other", RUN)
    with pytest.raises(BranchError, match="nothing to begin"):
        create(world.ws, world.root, "early", RUN, then.replace(year=2020))
    with pytest.raises(BranchError, match="no branch 'none'"):
        branch_ws(world, "none").ledger.slots_in_use("small")


def test_what_an_interrupted_creation_left_is_replaced(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = history

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Universes, "create_branch", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(world)
    assert world.ws.ledger.branches() == []
    begin(world)
    assert len(world.ws.ledger.branches()) == 1
    assert os.listdir(world.home / "branches") == ["try"]


def test_a_branch_can_be_rolled_back_alone(history: History) -> None:
    world, then = history
    branch = begin(world)
    before = main_state(world)
    ws = branch_ws(world)
    rollback(ws, "small", branch.folder, then, RUN)
    past = world.ws.ledger.slots_in_use("small", at=then)
    assert ws.ledger.slots_in_use("small") == past
    assert main_state(world) == before
    late = moment()
    assert ws.ledger.slots_in_use("small", at=late) == past
