"""Retention after sixty days: most bytes go; what is named, pinned or on a branch comes back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fm_platform.errors import MissingArtifactError
from fm_platform.lineage.graph import upstream
from fm_platform.lineage.keep import CACHES, COMPARED
from fm_platform.lineage.records import ArtifactVersion, RunContext
from fm_platform.lineage.refs import resolve
from fm_platform.stages import SilentReporter
from fm_platform.stages.reproduce import make_plan, reproduce
from fm_platform.store.fsck import check_columns, check_models, check_tables
from fm_platform.universe.branches import create, on_branch
from fm_platform.upkeep.gc import collect
from fm_platform.upkeep.plan import needed_files
from fm_platform.upkeep.rebuild import check
from fm_platform.workspace import Workspace
from tests.histories import History, scripted
from tests.histories.world import PROJECT
from tests.upkeep.worlds import disk_bytes, is_there

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]  # sixty days take minutes

RECORDS = ("ledger.db*", "history/*", "lake/_ledger/*/*", "mlflow/mlflow.db*")
"""What tells the story; all else in FM_HOME is stores: tables, models, columns, reports."""


@pytest.fixture
def history(pytestconfig: pytest.Config, tmp_path: Path) -> History:
    return scripted(Path(pytestconfig.cache.mkdir("histories")), tmp_path / "sixty")


def sizes(home: Path) -> tuple[int, int]:
    """Return the bytes of the stores, and of everything."""
    whole = disk_bytes(home)
    records = sum(path.stat().st_size for name in RECORDS for path in home.glob(name))
    return whole - records, whole


def comes_back(ws: Workspace, history: History, version: ArtifactVersion, scratch: Path) -> None:
    plan = make_plan(ws, version)
    scratch.mkdir()
    done = reproduce(ws, plan, scratch, history.project(), SilentReporter())
    assert done.equal, done.first_difference
    assert len(done.compared) == len(plan.versions)


def test_most_bytes_go_and_what_is_kept_is_reproduced(
    history: History, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = history.workspace()
    ledger = ws.ledger
    pinned = resolve(ledger, PROJECT, "evaluation", history.evening(25))
    ledger.pin(pinned.id, reason="audit", actor="me")
    create(ws, history.projects, "try", RunContext(), history.evening(59))
    on_try = on_branch(ws, "try")
    branched = on_try.ledger.latest(PROJECT, "evaluation", "evaluation")
    champion = ledger.alias(PROJECT, "champion")
    gone = resolve(ledger, PROJECT, "merged_model", history.evening(15))
    assert branched is not None
    assert champion is not None
    assert len({pinned.id, branched.id, champion.id, gone.id}) == 4
    named = {*ledger.aliases(PROJECT).values(), pinned.id, branched.id}
    named |= set(on_try.ledger.aliases(PROJECT).values())
    before = sizes(history.home)

    done = collect(ws, actor="me")

    after = sizes(history.home)
    told = " -> ".join(
        f"stores {a / 1e6:.2f} MB, FM_HOME {b / 1e6:.2f} MB" for a, b in (before, after)
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")
    assert after[0] < before[0] / 2
    assert not done.waiting
    assert make_plan(ws, ledger.get(gone.id)).removed
    for number, version_id in enumerate(sorted(named)):
        below = ledger.get_many(upstream(ledger, [version_id], without=COMPARED))
        assert all(is_there(ws, version) for version in below if version.kind not in CACHES)
        comes_back(ws, history, ledger.get(version_id), tmp_path / f"again{number}")
    assert check_tables(ws.tables, deep=True, grace_s=0, needed=needed_files(ws)) == []
    assert check_models(ws.models) + check_columns(ws.columns) == []
    found = check(ws)
    assert (found.differences, found.missing, found.unrecorded) == ((), (), ())

    # what went says so, and its recipe gives the same bits
    with pytest.raises(MissingArtifactError, match="were removed by fm gc"):
        ws.model_path(ledger.get(gone.id))
    comes_back(ws, history, ledger.get(gone.id), tmp_path / "gone")
