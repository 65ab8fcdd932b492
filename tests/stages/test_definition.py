from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.ledger import Ledger
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages.definition import (
    project_files,
    read_definition,
    record_definition,
    write_project,
)
from fm_platform.workspace import Workspace
from tests.store.models import object_file
from tests.support.tiny_model import build_tiny_base

SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-02}
  sources:
    - {name: mail, options: {path: "mail.jsonl"}}
  labeling:
    functions:
      - {kind: keyword, name: bad_words, words: [bad], label: bad}
      - {kind: lexicon, name: weights, file: weights.tsv, above: good, below: bad}
  base_model: {location: base}
  experts:
    - {name: mail, sources: [mail]}
"""
CODE = """\
from fm_platform.labeling import labeling_function

@labeling_function
def hedges(row):
    return "bad" if "perhaps" in row.text else None
"""
RUN = RunContext("person", "run-1", "c0ffee", False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "small"
    found.mkdir()
    (found / "defs.yaml").write_text(SPEC)
    (found / "labeling_functions.py").write_text(CODE)
    (found / "weights.tsv").write_text("good\t1\nbad\t-1\n")
    (found / "mail.jsonl").write_text('{"text": "private"}\n')
    (found / ".hidden").mkdir()
    (found / ".hidden" / "x.py").write_text("")
    return found


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


def loaded(folder: Path) -> LoadedProject:
    return load_spec(folder / "defs.yaml")


def test_files_are_those_that_declare_and_no_rows(folder: Path) -> None:
    files = project_files(loaded(folder))

    assert sorted(files) == ["defs.yaml", "labeling_functions.py", "weights.tsv"]
    assert files["labeling_functions.py"] == CODE


def test_everything_declared_is_recorded_by_content(ws: Workspace, folder: Path) -> None:
    build_tiny_base(folder / "base")
    version = record_definition(ws, loaded(folder), RUN)

    roles = {role: {i.name for i in version.inputs if i.role == role} for role in (
        "file", "function", "base_model", "taxonomy", "code", "environment"
    )}  # fmt: skip
    assert roles["function"] == {"bad_words", "hedges", "weights"}
    assert roles["file"] == {"defs.yaml", "labeling_functions.py", "weights.tsv"}
    assert roles["base_model"] == {"base_model"}
    assert {"raw", "adapter", "evaluation"} <= roles["code"]
    assert {"raw", "exemplar_votes", "adapter"} <= roles["environment"]
    assert (version.git_commit, version.dagster_run_id) == ("c0ffee", "run-1")
    for item in version.inputs:
        if item.role not in ("base_model",):
            assert ws.ledger.document(item.content_hash) is not None, item
    (hedges,) = [i for i in version.inputs if i.name == "hedges"]
    assert "perhaps" in ws.ledger.document(hedges.content_hash)["source"]
    assert version.config["taxonomy"]["classes"] == ["bad", "good"]


def test_same_definition_is_reused_and_an_edit_is_a_new_version(
    ws: Workspace, folder: Path
) -> None:
    first = record_definition(ws, loaded(folder), RUN)
    again = record_definition(ws, loaded(folder), RUN)
    (folder / "labeling_functions.py").write_text("# a comment\n" + CODE)
    other = record_definition(ws, loaded(folder), RUN)

    assert again.id == first.id
    assert (other.id, other.number) != (first.id, first.number)
    before = {i.name: i.content_hash for i in first.inputs if i.role == "function"}
    after = {i.name: i.content_hash for i in other.inputs if i.role == "function"}
    assert before == after  # a comment changes no vote


def test_damaged_definition_is_recorded_again(ws: Workspace, folder: Path) -> None:
    first = record_definition(ws, loaded(folder), RUN)
    object_file(ws.models, first.content_hash, "definition.json").write_text("{}")

    again = record_definition(ws, loaded(folder), RUN)

    assert (again.id, again.content_hash) == (first.id, first.content_hash)
    ws.verify(again)


def test_written_project_is_the_recorded_one(ws: Workspace, folder: Path, tmp_path: Path) -> None:
    version = record_definition(ws, loaded(folder), RUN)
    definition = read_definition(ws, version)

    again = write_project(definition, tmp_path / "again")

    assert again.spec == loaded(folder).spec == definition.spec
    assert project_files(again) == project_files(loaded(folder)) == definition.files
    assert [f["name"] for f in definition.functions] == ["bad_words", "hedges", "weights"]
    assert "fm_platform.training.train" in definition.code["adapter"]
    assert definition.base_model is None


def test_what_cannot_be_read_does_not_stop_a_run(ws: Workspace, folder: Path) -> None:
    (folder / "labeling_functions.py").write_text("import nothing_like_this\n")

    version = record_definition(ws, loaded(folder), RUN)

    assert {i.role for i in version.inputs} == {"file", "taxonomy", "code", "environment"}


def test_another_artifact_is_no_definition(ws: Workspace, folder: Path) -> None:
    from tests.lineage.factory import make_recipe, record

    made = record(ws.ledger, make_recipe())
    with pytest.raises(FMError, match="no recorded definition"):
        read_definition(ws, made)
    assert isinstance(ws.ledger, Ledger)
