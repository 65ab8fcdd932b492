"""A model that retention removed is built again and put back, and a rollback does so by itself."""

from __future__ import annotations

import shutil
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fm_platform.errors import MissingArtifactError
from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.definition import record_definition
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.reproduce import bring_back
from fm_platform.universe.rollback import make_plan, rollback
from fm_platform.workspace import Workspace
from tests.stages.small import Built

World = tuple[Workspace, LoadedProject, datetime]


@pytest.fixture
def world(built: Built, tmp_path: Path) -> World:
    """Another model is champion, and the first was removed; the moment when that was in use."""
    made, loaded, _ = built
    shutil.copytree(made.home.root, tmp_path / "home")
    shutil.copytree(loaded.directory, tmp_path / "small")
    ws, then = Workspace.open(Home(tmp_path / "home")), datetime.now(timezone.utc)
    first = first_champion(ws, then)
    file = tmp_path / "small" / "defs.yaml"
    file.write_text(file.read_text().replace("search_evaluations: 4", "search_evaluations: 5"))
    project = load_spec(file)
    record_definition(ws, project, RunContext())
    build_merged_model(ws, project, RunContext(), SilentReporter())
    second = ws.ledger.latest("small", "merged_model", "merged_model")
    assert second is not None
    ws.ledger.set_alias("small", "champion", second.id, expected=first.id, reason="", actor="gate")
    ws.ledger.record_removals({first.id: 1}, actor="test")
    ws.models.remove(first.content_hash)
    ws.models.checkouts.clear()
    with pytest.raises(MissingArtifactError, match="removed by fm gc"):
        ws.model_path(first)
    return ws, project, then


def first_champion(ws: Workspace, then: datetime) -> ArtifactVersion:
    found = ws.ledger.aliases("small", at=then)["champion"]
    return ws.ledger.get(found)


def test_a_rollback_builds_a_removed_champion_again(world: World) -> None:
    ws, project, then = world
    first = first_champion(ws, then)
    plan = make_plan(ws, "small", project.directory, then)
    assert [version.id for version in plan.first] == [first.id]
    said: list[str] = []

    rollback(ws, "small", project.directory, then, RunContext(), say=said.append)

    now = ws.ledger.alias("small", "champion")
    assert now is not None
    assert now.id == first.id
    assert (ws.model_path(first) / "config.json").is_file()
    assert ws.ledger.removal(first.id) is None
    assert "merged_model#1 was removed by fm gc: it is built again first" in said
    assert list(ws.home.work.glob("bring-back-*")) == []


def test_a_model_that_comes_out_otherwise_is_not_put_back(world: World) -> None:
    ws, project, then = world
    first = first_champion(ws, then)
    (project.directory / "mail-2026-01-01.jsonl").write_text('{"text": "another", "label": ""}\n')
    for file in (ws.home.lake / "small" / "raw" / "day=2026-01-01").glob("*.parquet"):
        file.unlink()

    with pytest.raises(MissingArtifactError, match="does not come out as it was") as refusal:
        bring_back(ws, first, project, SilentReporter())

    assert "raw/2026-01-01#1 not built: source mail changed since" in str(refusal.value)
    with pytest.raises(MissingArtifactError):
        ws.model_path(first)
