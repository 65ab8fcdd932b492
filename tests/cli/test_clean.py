"""The review loop: list, reject, run again, restored; and how right a rule is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import FMError
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import status
from fm_platform.spec.load import load_spec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace

DAY = "2026-01-01"
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-01}
  sources:
    - {name: main, options: {path: "rows-*.jsonl"}}
  labeling:
    functions:
      - {kind: keyword, name: good_words, words: [great], label: good}
      - {kind: keyword, name: bad_words, words: [awful], label: bad}
  cleaning:
    - {rule: normalize_text}
    - {rule: length, min_chars: 12}
"""


@pytest.fixture
def ws(projects: Path) -> Workspace:
    folder = projects / "assets" / "defs" / "small"
    folder.mkdir()
    texts = [f"great  number {i}" for i in range(6)] + [f"awful {i}" for i in range(6)]
    texts.append("great \x1b[31m<b>x</b>\u202e")
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    (folder / f"rows-{DAY}.jsonl").write_text(lines + "\n")
    (folder / "defs.yaml").write_text(SPEC)
    ws = Workspace.open()
    run(ws, projects)
    return ws


def run(ws: Workspace, projects: Path) -> Any:
    loaded = load_spec(projects / "assets" / "defs" / "small" / "defs.yaml")
    for stage in (build_raw, build_weak_labels, build_cleaned):
        done = stage(ws, loaded, DAY, RunContext(), SilentReporter())
    return done


def test_a_rejected_removal_is_restored_at_the_next_run(
    fm: CliRunner, ws: Workspace, projects: Path
) -> None:
    told = json.loads(fm.invoke(app, ["clean", "review", "small", "--json"]).output)
    gone = [row for row in told["rows"] if row["what"] == "removed"]
    assert {row["rule"] for row in told["rows"]} == {"normalize_text", "length"}
    assert all(row["before"] and row["after"] for row in told["rows"] if row["what"] == "changed")
    assert told["rules"]["length"]["estimated_precision"] == 0.5

    row = gone[0]["row_id"]
    done = fm.invoke(app, ["clean", "reject", "small", row[:10], "--reason", "short but fine"])
    assert done.exit_code == 0, done.output
    assert "next: fm run small --from 2026-01-01" in done.output
    assert "nothing to do" in fm.invoke(app, ["clean", "reject", "small", row[:10]]).output

    loaded = load_spec(projects / "assets" / "defs" / "small" / "defs.yaml")
    stale = {r.kind: r.why for r in status(ws.ledger, loaded.spec, probe(ws, loaded)) if r.partition
             and r.state == "stale"}  # fmt: skip
    assert list(stale) == ["cleaned"]
    assert "reviews" in stale["cleaned"]
    result = run(ws, projects)
    kept = tables.read(ws, result.version, "cleaned").to_pylist()
    assert gone[0]["before"] in [r["text"] for r in kept if r["row_id"] == row]
    assert all(check.passed for check in result.checks)

    again = json.loads(fm.invoke(app, ["clean", "review", "small", "--json"]).output)
    assert row not in [r["row_id"] for r in again["rows"]]
    assert again["rules"]["length"]["rejected"] == 1
    assert again["rules"]["length"]["estimated_precision"] == pytest.approx(1 / 3)
    assert [d["reason"] for d in ws.ledger.decisions("small")] == [
        "rejected 1 of length: short but fine"
    ]
    assert run(ws, projects).reused


def test_a_rejection_that_is_built_can_be_taken_back(
    fm: CliRunner, ws: Workspace, projects: Path
) -> None:
    told = json.loads(fm.invoke(app, ["clean", "review", "small", "--json"]).output)
    gone = next(row for row in told["rows"] if row["what"] == "removed")
    before = tables.read(ws, ws.ledger.latest("small", "cleaned", "cleaned", DAY), "cleaned")
    fm.invoke(app, ["clean", "reject", "small", gone["row_id"]])
    assert run(ws, projects).metrics["rows_removed"] == 4

    shown = fm.invoke(app, ["clean", "review", "small", "--decided", "--json"]).output
    spared = [row for row in json.loads(shown)["rows"] if row["what"] == "spared"]
    assert [(row["row_id"], row["rule"], row["verdict"]) for row in spared] == [
        (gone["row_id"], "length", "reject")
    ]
    assert "nothing to do" in fm.invoke(app, ["clean", "reject", "small", gone["row_id"]]).output
    done = fm.invoke(app, ["clean", "accept", "small", gone["row_id"]])

    assert "accepted 1 rows of length; its estimated precision: 0.67" in done.output
    assert f"next: fm run small --from {DAY} --to {DAY}" in done.output
    assert tables.read(ws, run(ws, projects).version, "cleaned") == before


def test_a_row_that_is_named_twice_is_decided_once(fm: CliRunner, ws: Workspace) -> None:
    told = json.loads(fm.invoke(app, ["clean", "review", "small", "--json"]).output)
    row = next(row["row_id"] for row in told["rows"] if row["what"] == "removed")

    done = fm.invoke(app, ["clean", "reject", "small", row, row[:10]])

    assert "rejected 1 rows of length" in done.output


def test_before_and_after_are_shown_where_they_differ(
    fm: CliRunner, ws: Workspace, projects: Path
) -> None:
    folder = projects / "assets" / "defs" / "small"
    (folder / "defs.yaml").write_text(SPEC + "    - {rule: pii}\n")
    long = "great " + " ".join(f"word{i}" for i in range(60))
    lines = [json.dumps({"text": f"{long} {n} mail me@example.org now"}) for n in range(8)]
    (folder / f"rows-{DAY}.jsonl").write_text("\n".join(lines) + "\n")
    run(ws, projects)

    output = fm.invoke(app, ["clean", "review", "small", "--rule", "pii"]).output

    lines = [line for line in output.splitlines() if "      before" in line]
    assert lines
    assert all("me@example.org now" in line and len(line) < 130 for line in lines)
    assert "mail [EMAIL] now" in output


def test_accepting_confirms_and_changes_nothing(
    fm: CliRunner, ws: Workspace, projects: Path
) -> None:
    told = json.loads(fm.invoke(app, ["clean", "review", "small", "--json"]).output)
    rows = [row["row_id"] for row in told["rows"] if row["rule"] == "length"][:3]

    done = fm.invoke(app, ["clean", "accept", "small", *rows, "--rule", "length"])

    assert "accepted 3 rows of length; its estimated precision: 0.80" in done.output
    assert "next:" not in done.output
    assert run(ws, projects).reused


def test_texts_of_rows_are_shown_inert(fm: CliRunner, ws: Workspace) -> None:
    output = fm.invoke(app, ["clean", "review", "small", "--limit", "0"]).output

    assert not {"\x1b", "\u202e"} & set(output)
    assert "great <b>x</b>" in output


def test_a_row_that_nothing_touched_is_an_error(fm: CliRunner, ws: Workspace) -> None:
    result = fm.invoke(app, ["clean", "reject", "small", "zzzz"])

    assert isinstance(result.exception, FMError)
    assert "0 rows that cleaning removed or changed" in str(result.exception)


def test_unknown_projects_and_rules_are_errors(fm: CliRunner, ws: Workspace) -> None:
    project = fm.invoke(app, ["clean", "review", "smal"])
    rule = fm.invoke(app, ["clean", "review", "small", "--rule", "lenght"])

    assert isinstance(project.exception, FMError)
    assert "there is no project 'smal'" in str(project.exception)
    assert isinstance(rule.exception, FMError)
    assert "no cleaning rule 'lenght' ran here" in str(rule.exception)
    assert "length, normalize_text" in str(rule.exception)


def test_verdicts_survive_the_ledger(ws: Workspace, fm: CliRunner) -> None:
    told = json.loads(fm.invoke(app, ["clean", "review", "small", "--json"]).output)
    fm.invoke(app, ["clean", "reject", "small", told["rows"][0]["row_id"], "--rule",
                    told["rows"][0]["rule"]])  # fmt: skip

    assert json.loads(fm.invoke(app, ["ledger", "rebuild", "--check", "--json"]).output) is not None
    assert len(ws.ledger.reviews("small", DAY)) == 1
    assert ws.ledger.reviews("other") == []
