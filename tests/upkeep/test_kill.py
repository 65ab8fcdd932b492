"""A build killed anywhere and run again: nothing torn, nothing lost, and the ledger rebuildable."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage.keep import keep_set
from fm_platform.store.fsck import check_columns, check_models, check_tables
from fm_platform.upkeep.gc import collect
from fm_platform.upkeep.rebuild import check
from fm_platform.workspace import Workspace
from tests.support.kill import forkserver
from tests.upkeep.kills import build_all, collect_for_ever, write_project
from tests.upkeep.worlds import is_there

MANY = int(os.environ.get("FM_KILLS", "100"))


def run(file: Path, home: Path, delay_s: float | None) -> tuple[bool, float]:
    """Build in a child; kill it after a while, if one is given.

    Returns:
        Whether it came to its end by itself, and how long it worked.
    """
    context = forkserver()
    ready = context.Event()
    child = context.Process(target=build_all, args=(ready.set, str(file), str(home)), daemon=True)
    child.start()
    while not ready.is_set():
        child.join(0.002)
        assert child.exitcode is None, "the child did not begin"
    begun = time.monotonic()
    child.join(delay_s)
    finished = child.exitcode is not None
    child.kill()
    child.join()
    assert child.exitcode == (0 if finished else -9)
    return finished, time.monotonic() - begun


def look(home: Path) -> dict[tuple[str, str, str | None], str]:
    """Check all that a kill may have left; return the content in use by slot."""
    ws = Workspace.open(Home(home))
    versions = ws.ledger.versions("shop")
    for version in versions:
        ws.verify(version)  # nothing that was recorded is torn or lost
    assert ws.ledger.conflicts("shop") == []
    told = check(ws)
    assert told.differences == (), "a rebuilt ledger is another one"
    assert told.missing == ()
    assert check(ws, from_stores=True).differences == (), "beside the tables lies another one"
    found = check_tables(ws.tables, deep=True, grace_s=0.0) + check_models(ws.models, grace_s=0.0)
    allowed = {"leftover_file", "unfinished_model"}  # of the writer that was killed
    assert {finding.kind for finding in found + check_columns(ws.columns)} <= allowed
    ws.ledger.engine.dispose()
    return {(v.kind, v.name, v.partition): v.content_hash for v in ws.ledger.all_latest("shop")}


def kill_often(root: Path, kills: int, seed: int) -> None:
    """Kill builds at `kills` random moments, finishing each history before the next begins."""
    rng = random.Random(seed)
    file = write_project(root / "shop")
    finished, whole_s = run(file, root / "whole", None)
    assert finished
    expected = look(root / "whole")
    done = rounds = 0
    while done < kills:
        home = root / f"home-{rounds}"
        finished, seen = False, {}
        while not finished and done < kills:
            finished, _ = run(file, home, rng.uniform(0.0, whole_s / 3))
            done += not finished
            now = look(home)
            assert seen.items() <= now.items(), f"lost after kill {done} of seed {seed}"
            seen = now
        assert run(file, home, None)[0]
        assert look(home) == expected, f"another content after kill {done} of seed {seed}"
        ledger = Workspace.open(Home(home)).ledger
        assert all(lease.is_stale for lease in ledger.held_leases())
        assert len(ledger.versions("shop")) == len(expected), "a recipe was recorded twice"
        rounds += 1


@pytest.mark.timeout(300)
def test_a_build_killed_a_few_times(tmp_path: Path) -> None:
    kill_often(tmp_path, kills=3, seed=1)


def kill_collections(root: Path, kills: int, seed: int) -> None:
    """Kill retention at `kills` random moments; what is kept must always verify."""
    home = root / "home"
    rng = random.Random(seed)
    pinned: list[int] = []
    for kill in range(kills):
        ws = Workspace.open(Home(home))
        first = 1 + len(ws.ledger.versions("shop"))
        context = forkserver()
        ready = context.Event()
        child = context.Process(
            target=collect_for_ever, args=(ready.set, str(home), first), daemon=True
        )
        child.start()
        assert ready.wait(60)
        child.join(rng.uniform(0.05, 1.0))
        child.kill()
        child.join()
        assert child.exitcode == -9, "the child was to be killed"
        kept = keep_set(ws.ledger).reasons
        for version in ws.ledger.get_many(sorted(kept)):
            ws.verify(version)
        assert check(ws).differences == ()
        model = ws.ledger.latest("shop", "merged_model", "merged_model")
        if model is not None and kill % 3 == 0:
            ws.ledger.pin(model.id, reason="", actor="test")
            pinned.append(model.id)
        ws.ledger.engine.dispose()
    ws = Workspace.open(Home(home))
    collect(ws, actor="test")
    assert all(is_there(ws, ws.ledger.get(version_id)) for version_id in pinned)
    left = [v.id for v in ws.ledger.versions("shop") if is_there(ws, v)]
    assert set(left) == set(keep_set(ws.ledger).reasons)


@pytest.mark.timeout(300)
def test_retention_killed_a_few_times(tmp_path: Path) -> None:
    kill_collections(tmp_path, kills=2, seed=3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_retention_killed_at_many_random_points(tmp_path: Path) -> None:
    kill_collections(tmp_path, kills=MANY, seed=4)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_build_killed_at_many_random_points(tmp_path: Path) -> None:
    kill_often(tmp_path, kills=MANY, seed=2)
