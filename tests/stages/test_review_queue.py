"""The queue of a project that is built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.labeling.annotations import parse, render
from fm_platform.lineage import RunContext
from fm_platform.sources.ingest import text_key
from fm_platform.spec.annotation import Annotation, Guideline
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.annotations import answers, save
from fm_platform.stages.review_queue import Question, review_queue
from fm_platform.workspace import Workspace
from tests.stages.small import SPEC, build_days, write_rows
from tests.support.tiny_model import WORDS, build_tiny_base

World = tuple[Workspace, LoadedProject]


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> World:
    """The small project, cleaned and not yet trained."""
    folder = tmp_path / "small"
    folder.mkdir()
    build_tiny_base(folder / "base")
    write_rows(folder)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    declared = SPEC.format(**words) + getattr(request, "param", "")
    (folder / "defs.yaml").write_text(declared)
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


def raw_rows(world: World) -> list[dict[str, str]]:
    ws, project = world
    versions = ws.ledger.all_latest(project.spec.name, "raw")
    return [row for v in versions for row in tables.read(ws, v, "raw").to_pylist()]


@pytest.mark.parametrize("world", ["  annotation: {use: gold}\n"], indirect=True)
def test_a_text_of_dev_and_of_train_is_asked_once(world: World) -> None:
    ws, project = world
    trained = next(row["text"] for row in raw_rows(world) if row["split"] == "train")
    for number in range(60):  # the same text again, until a dev row has it
        with (project.directory / "mail-2026-01-02.jsonl").open("a") as file:
            file.write(json.dumps({"text": trained + " " * number, "label": None}) + "\n")
    build_days(ws, project)
    texts = [(row["text_key"], row["split"]) for row in raw_rows(world)]
    assert {(text_key(trained), "dev"), (text_key(trained), "train")} <= set(texts)

    asked = [row.text_key for row in ask(world, "ann", 1000)]

    assert len(asked) == len(set(asked))


def test_a_question_in_a_file_says_under_which_versions_it_was_asked(world: World) -> None:
    ws, project = world
    spec = project.spec
    later = spec.model_copy(
        update={"annotation": Annotation(guideline=Guideline(version="2"))}, deep=True
    )
    (question,) = ask(world, "ann", 1)

    text = render([question.to_record(spec)], "csv", spec.taxonomy.classes)
    (record,) = parse(text.encode(), "csv", "file")
    save(ws, later, [{**record, "label": "neutral", "annotator": "ann"}], RunContext())

    (kept,) = answers(ws, later).to_pylist()
    assert (kept["guideline_version"], kept["taxonomy_version"]) == ("1", 1)
