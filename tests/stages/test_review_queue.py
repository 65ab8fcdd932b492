"""The queue of a project that is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.annotations import save
from fm_platform.stages.review_queue import Question, review_queue
from fm_platform.workspace import Workspace
from tests.stages.small import SPEC, build_days, write_rows
from tests.support.tiny_model import WORDS, build_tiny_base

World = tuple[Workspace, LoadedProject]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The small project, cleaned and not yet trained."""
    folder = tmp_path / "small"
    folder.mkdir()
    build_tiny_base(folder / "base")
    write_rows(folder)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    (folder / "defs.yaml").write_text(SPEC.format(**words))
    ws, project = Workspace.open(Home(tmp_path / "home")), load_spec(folder / "defs.yaml")
    build_days(ws, project)
    return ws, project


def ask(world: World, who: str, size: int) -> list[Question]:
    return review_queue(*world, who, size, RunContext(), SilentReporter())


def test_nobody_is_asked_twice_and_all_are_asked_in_the_end(
    world: World,
) -> None:
    ws, project = world
    asked: dict[str, list[str]] = {"ann": [], "bob": []}
    for who in ("ann", "bob", "ann", "ann"):
        rows = ask(world, who, 120)
        asked[who] += [row.text_key for row in rows]
        said = [{"text": row.text, "label": "neutral", "annotator": who} for row in rows]
        save(ws, project.spec, said, RunContext())

    assert ask(world, "ann", 5) == []
    assert len(asked["ann"]) == len(set(asked["ann"])) > 300
    assert set(asked["bob"]) < set(asked["ann"])


def test_only_rows_of_the_training_split_are_asked(
    world: World,
) -> None:
    ws, project = world
    rows = ask(world, "ann", 50)

    kept = {
        row["row_id"]: row["split"]
        for version in ws.ledger.all_latest(project.spec.name, "raw")
        for row in ws.tables.read_table(ws.table_ref(version, "raw")).to_pylist()
    }
    assert len(rows) == 50
    assert {kept[row.row_id] for row in rows} == {"train"}
    assert ask(world, "bob", 50) == rows  # the same question has the same answer
