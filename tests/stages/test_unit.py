"""A few rows written by hand go through the whole chain, and what does not hold is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.cli.plan import unit_fails
from fm_platform.errors import SpecError, UnitSetError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import plan, status
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.check.unit import unit_findings
from fm_platform.stages.common import StageResult
from fm_platform.stages.definition import project_files
from fm_platform.stages.probe import probe
from fm_platform.stages.unit import build_unit, require_unit
from fm_platform.workspace import Workspace
from tests.stages.unit_world import NEAREST, ROWS, SPEC, write_project


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shop"


def tried(ws: Workspace, project: LoadedProject) -> StageResult:
    result = build_unit(ws, project, RunContext(), SilentReporter())
    assert result is not None
    return result


def wrong(result: StageResult) -> dict[str, str]:
    return {check.name: check.description for check in result.checks if not check.passed}


def test_rows_that_hold_go_from_votes_to_a_merged_model(ws: Workspace, folder: Path) -> None:
    result = tried(ws, write_project(folder))

    assert [check.name for check in result.checks] == [
        "votes", "classes", "labels", "cleaned", "loss", "learned", "probabilities",
    ]  # fmt: skip
    assert wrong(result) == {}
    assert (result.metrics["rows"], result.metrics["share_labels"]) == (9, 1.0)
    first = result.tables["unit set"][0]
    assert (first["expected"], first["labeled"], first["answered"]) == ("negative",) * 3
    assert {row["source"] for row in result.tables["unit set"]} == {"mail", "chat"}  # in turn
    assert not list(ws.home.work.glob("unit-*"))  # what trainings wrote is gone


def test_it_runs_on_a_change_and_at_no_other_time(ws: Workspace, folder: Path) -> None:
    first = tried(ws, write_project(folder))

    again = tried(ws, load_spec(folder / "defs.yaml"))
    gate = tried(ws, write_project(folder, SPEC.replace("0.01}\n  unit", "0.02}\n  unit")))
    assert (again.reused, gate.reused) == (True, True)
    assert again.version.id == gate.version.id == first.version.id
    require_unit(ws, load_spec(folder / "defs.yaml"), RunContext(), SilentReporter())

    words = tried(ws, write_project(folder, SPEC.replace("lovely, fine]", "lovely]")))
    assert not words.reused
    assert words.reason == "function good_words changed"
    rows = tried(ws, write_project(folder, rows=ROWS[:-1]))
    assert "unit_rows unit.csv changed" in rows.reason


def test_a_row_that_comes_out_otherwise_is_named(ws: Workspace, folder: Path) -> None:
    rows = [ROWS[0].replace("negative", "positive"), *ROWS[1:]]
    project = write_project(folder, SPEC.replace(NEAREST, ""), rows)

    result = tried(ws, project)

    assert wrong(result) == {
        "labels": "8 of 9 rows are labeled as expected (89%, at least 100%): "
        "row 1 'the bad bad was': expected positive, found negative"
    }
    with pytest.raises(UnitSetError, match=r"row 1 .*expected positive, found negative") as refused:
        require_unit(ws, project, RunContext(), SilentReporter())
    assert refused.value.next_step is not None
    assert "fm check shop" in refused.value.next_step
    assert [(f.state, f.part) for f in unit_findings(ws, project)] == [("wrong", "unit set")]
    planned = plan(ws.ledger, project.spec, probe(ws, project))
    assert unit_fails(ws, project.spec, planned) == ["labels"]
    write_project(folder)
    assert unit_fails(ws, project.spec, plan(ws.ledger, project.spec, probe(ws, project))) == []


def test_a_class_that_no_function_reaches_is_named(ws: Workspace, folder: Path) -> None:
    spec = SPEC.replace("label: neutral", "label: negative").replace(NEAREST, "")

    told = wrong(tried(ws, write_project(folder, spec)))

    assert told["classes"] == "no function votes for neutral"
    assert "no row is left that teaches neutral" in told["cleaned"]


def test_a_class_that_no_row_expects_is_named(ws: Workspace, folder: Path) -> None:
    rows = [row for row in ROWS if ",neutral," not in row]

    assert "no row expects neutral" in wrong(tried(ws, write_project(folder, rows=rows)))["classes"]


def test_a_function_that_raises_or_says_nothing_is_named(ws: Workspace, folder: Path) -> None:
    project = write_project(folder)
    (folder / "labeling_functions.py").write_text(
        "from fm_platform.labeling import labeling_function\n\n\n"
        "@labeling_function\ndef first_word(row):\n"
        "    return {'the': 'negative'}[row.text.split()[1]] if 'great' in row.text else None\n\n\n"
        "@labeling_function\ndef silent(row):\n    return None\n"
    )

    result = tried(ws, project)

    assert wrong(result)["votes"].startswith("first_word fails on 1 rows (row 8: KeyError); ")
    assert result.checks[0].metadata["silent"] == "first_word, nearest, silent"


def test_a_function_with_an_unknown_class_ends_the_chain(ws: Workspace, folder: Path) -> None:
    project = write_project(folder)
    (folder / "labeling_functions.py").write_text(
        "from fm_platform.labeling import labeling_function\n\n\n"
        "@labeling_function\ndef angry(row):\n    return 'angry'\n"
    )

    result = tried(ws, project)

    assert list(wrong(result)) == ["votes"]
    assert "votes failed" in wrong(result)["votes"]
    assert "angry" in wrong(result)["votes"]


def test_what_is_not_learned_is_named(ws: Workspace, folder: Path) -> None:
    spec = SPEC.replace("0.02", "0.0000001").replace(
        "expert_learning_rate: 0.01", "expert_learning_rate: 0.0000001, probe_epochs: 0"
    )

    told = wrong(tried(ws, write_project(folder, spec)))

    assert "of 9 rows are answered by the merged model as it was taught" in told["learned"]
    assert "expected" in told["learned"]
    assert "found" in told["learned"]


def test_an_expert_without_a_row_cannot_be_tried(ws: Workspace, folder: Path) -> None:
    told = wrong(tried(ws, write_project(folder, rows=[f"{row}mail" for row in ROWS])))

    assert "expert chat has no row of the unit set" in told["training"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (ROWS * 6, "1 to 50 rows"),
        ([], "1 to 50 rows"),
        (["the good,splendid,"], "row 1 of the unit set names a class"),
        (["the good,positive,fax"], "row 1 of the unit set names a source"),
        ([",positive,mail"], "row 1: text"),
    ],
    ids=["too many", "none", "unknown class", "unknown source", "breaks the contract"],
)
def test_a_file_that_cannot_be_used_is_refused(
    ws: Workspace, folder: Path, rows: list[str], says: str
) -> None:
    project = write_project(folder, rows=rows)

    with pytest.raises(UnitSetError) as refused:
        tried(ws, project)

    assert says in str(refused.value)
    assert "unit.csv" in str(refused.value)


def test_a_file_without_labels_or_no_file_is_refused(ws: Workspace, folder: Path) -> None:
    project = write_project(folder)
    (folder / "unit.csv").write_text("text\nthe good\n")
    with pytest.raises(UnitSetError, match="no column label"):
        tried(ws, project)
    (folder / "unit.csv").unlink()
    with pytest.raises(UnitSetError, match="is not there"):
        tried(ws, project)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("  unit: {file: ../unit.csv}", "in the project's folder"),
        ("  unit: {learned: 0}", "greater than 0"),
        ("  unit: {}\n  task: causal\n  instruction: {answer: text}", "labels nothing"),
    ],
)
def test_mistakes_are_told(folder: Path, line: str, says: str) -> None:
    folder.mkdir()
    (folder / "defs.yaml").write_text(SPEC.replace("  unit: {at_least: 1.0, epochs: 20}", line))

    with pytest.raises(SpecError, match=says):
        load_spec(folder / "defs.yaml")


def test_plan_and_history_know_the_set(ws: Workspace, folder: Path) -> None:
    project = write_project(folder)
    assert "unit.csv" in project_files(project)

    def row() -> tuple[str, str]:
        now = load_spec(folder / "defs.yaml")
        first = status(ws.ledger, now.spec, probe(ws, now))[0]
        return (first.kind, first.state)

    assert row() == ("unit", "unbuilt")
    tried(ws, project)
    assert row() == ("unit", "fresh")
    write_project(folder, rows=ROWS[:-1])
    assert row() == ("unit", "stale")
    write_project(folder, SPEC.replace("  unit: {at_least: 1.0, epochs: 20}\n", ""))
    assert row() == ("raw", "unbuilt")
