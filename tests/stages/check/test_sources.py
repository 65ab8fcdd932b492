"""What a build would stumble over in the rows is told before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.spec.load import load_spec
from fm_platform.stages.check import Finding
from fm_platform.stages.check.sources import source_findings
from fm_platform.workspace import Workspace

SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: tickets
  taxonomy: {classes: [billing, other]}
  calendar: {start: 2026-01-01, end: 2026-01-03}
  gold: {column: label}
  sources:
    - {name: mail, options: {path: "mail*.csv", date_column: day, key_column: id}}
    - {name: chat, options: {path: "*chat.csv", date_column: day, key_column: id}}
"""
ROWS = "id,day,text,label\n" + "".join(
    f"t{i},2026-01-0{1 + i % 3},some words {i},{'billing' if i % 2 else ''}\n" for i in range(60)
)
Edit = Callable[[Path], object]


def found(tmp_path: Path, edit: Edit = lambda folder: None, spec: str = SPEC) -> list[Finding]:
    (tmp_path / "defs.yaml").write_text(spec)
    for name in ("mail.csv", "chat.csv"):
        (tmp_path / name).write_text(ROWS)
    edit(tmp_path)
    home = Home(tmp_path / "home").ensure()
    return [*source_findings(Workspace.open(home), load_spec(tmp_path / "defs.yaml"))]


def write(name: str, old: str, new: str) -> Edit:
    return lambda folder: (folder / name).write_text(ROWS.replace(old, new))


def test_sources_that_keep_their_promise_are_ready(tmp_path: Path) -> None:
    assert [(f.state, f.what) for f in found(tmp_path)] == [("ok", "mail, chat: readable")]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (write("chat.csv", "id,day,text", "id,day,txt"), "source chat: a file lacks column text"),
        (write("more-chat.csv", "id,day,text", "id,day,txt"), "in more-chat.csv"),
        (lambda folder: (folder / "mail.csv").unlink(), "source mail: no file matches"),
        (write("chat.csv", "billing", "Billing"),
         "chat: 10 of the first 20 rows of 2026-01-03 break the contract, most by label: "
         "not one of billing, other; found 'Billing'"),
        (write("mail.csv", "2026-01-0", "0.1.2026-"),
         "mail: 60 of the first 60 rows of 2026-01-01 break the contract, most by day: no date"),
    ],
    ids=["no column", "no column in one of two files", "no file", "other case", "other dates"],
)  # fmt: skip
def test_what_would_stop_a_build_is_told(tmp_path: Path, edit: Edit, told: str) -> None:
    (bad,) = [finding for finding in found(tmp_path, edit) if finding.failing]

    assert told in bad.what
    assert bad.next_step


def test_rows_of_other_days_are_told_and_stop_nothing_while_there_are_some(tmp_path: Path) -> None:
    spec = SPEC + "  experts: [{name: written, sources: [mail]}, {name: talk, sources: [chat]}]\n"

    told = found(tmp_path, write("chat.csv", "2026-01", "2026-02"), spec)

    assert [(finding.state, finding.what) for finding in told] == [
        ("note", "chat has no row of 2026-01-01 to 2026-01-03, its rows are of 2026-02-01 to "
                 "2026-02-03"),
        ("note", "expert talk has no rows yet: the others are merged without it"),
        ("ok", "mail, chat: readable"),
    ]  # fmt: skip


def test_rows_without_a_label_of_people_are_told(tmp_path: Path) -> None:
    (note, ready) = found(tmp_path, spec=SPEC.replace("  gold: {column: label}\n", ""))

    assert (note.state, ready.state) == ("note", "ok")
    assert note.what.startswith("no row looked at has a label of people")


def test_a_calendar_without_a_row_is_wrong(tmp_path: Path) -> None:
    spec = SPEC.replace("2026-01-0", "2025-01-0")

    (bad,) = [finding for finding in found(tmp_path, spec=spec) if finding.failing]

    assert bad.what == "no source has a row from 2025-01-01 to 2025-01-03"


def test_a_source_that_has_not_begun_is_no_mistake(tmp_path: Path) -> None:
    spec = SPEC.replace("id}}\n    - {name: chat,", "id}}\n    - {name: chat, starts: 2999-01-01,")
    spec = spec.replace("end: 2026-01-03", "end: 2999-01-03")

    (note, *_) = found(tmp_path, spec=spec)

    assert (note.state, note.what) == ("note", "chat: its first day is not over yet")
