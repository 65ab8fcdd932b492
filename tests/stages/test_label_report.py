"""The report on labeling functions from the artifacts of real days."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.label_counts import DaysCounted
from fm_platform.stages.label_days import build_labeled_day
from fm_platform.stages.label_report import Wanted, label_report
from fm_platform.stages.raw import build_raw
from fm_platform.workspace import Workspace

SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-09}
  gold: {column: label, dev_rows_per_source: 20}
  contract: {columns: {text: {type: string}, stars: {type: integer}}}
  slices:
    - {name: angry, column: stars, operator: "<", value: 2}
  sources:
    - {name: mail, options: {path: "mail-*.jsonl"}}
    - {name: chat, options: {path: "chat-*.jsonl"}}
  labeling:
    module: null
    label_model: {candidates: [majority_vote, em], per_source: false, gold_weight: false}
    functions:
      - {kind: keyword, name: praise, words: [great, fine], label: good}
      - {kind: keyword, name: praise_again, words: [great, fine], label: good}
      - {kind: keyword, name: blame, words: [awful], label: bad}
      - {kind: keyword, name: nothing, words: [xylophone], label: bad}
      - {kind: rule, name: stars, column: stars, operator: ">", value: 3, label: good}
"""
DAYS = [(date(2026, 1, 1) + timedelta(days=i)).isoformat() for i in range(9)]


def write(folder: Path, odd: str = "<b>odd</b>") -> LoadedProject:
    """Write nine days; from the seventh on chat praises nearly everything."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for nth, day in enumerate(DAYS):
        for source in ("chat", "mail"):
            lines = []
            for i in range(60):
                good = generator.random() < (0.9 if nth >= 6 and source == "chat" else 0.5)
                word = ("great" if good else "awful") if i % 6 else odd
                stars = int(generator.integers(3, 6) if good else generator.integers(0, 3))
                stars = 5 - stars if i % 7 == 1 else stars
                lines.append(
                    json.dumps(
                        {"text": f"{word} thing {i} {source} {day}", "stars": stars,
                         "label": "good" if good else "bad"}
                    )
                )  # fmt: skip
            (folder / f"{source}-{day}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "defs.yaml").write_text(SPEC)
    return load_spec(folder / "defs.yaml")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, LoadedProject]:
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    project = write(tmp_path_factory.mktemp("project") / "shop")
    for day in DAYS:
        build_raw(ws, project, day, RunContext(), SilentReporter())
    for day in DAYS:
        last = build_labeled_day(ws, project, day, RunContext(), SilentReporter())
    shown = last.tables["labeling functions of the day"]
    assert [row["function"] for row in shown][-1] == "all together"
    assert shown[0]["log_loss_without_it"] is not None  # the last day that has rows
    return ws, project


def report(shop: tuple[Workspace, LoadedProject], **wanted: object) -> dict:
    ws, project = shop
    return label_report(ws, project, Wanted(rows=False, **wanted), RunContext())  # type: ignore[arg-type]


def test_the_numbers_are_those_of_the_votes(shop: tuple[Workspace, LoadedProject]) -> None:
    ws, _ = shop
    rows = []
    for day in DAYS:
        weak = ws.ledger.latest("shop", "weak_labels", "weak_labels", day)
        raw = ws.ledger.latest("shop", "raw", "raw", day)
        assert weak is not None
        assert raw is not None
        names = weak.metrics["functions"]
        stars = dict(
            zip(
                *[c.to_pylist() for c in tables.read(ws, raw, "raw", ["row_id", "stars"]).columns],
                strict=True,
            )
        )
        for row in tables.read(ws, weak, "weak_labels").to_pylist():
            rows.append((row, row["source"], stars[row["row_id"]] < 2))
    told = {(r["function"], r["source"], r["slice"]): r for r in report(shop)["records"]}

    for position, name in enumerate(names):
        for source, slice_ in (("all", "all"), ("chat", "all"), ("mail", "angry")):
            inside = [row for row, own, angry in rows
                      if source in ("all", own) and (slice_ == "all" or angry)]  # fmt: skip
            voted = [row for row in inside if row["votes"][position] >= 0]
            mine = told[(name, source, slice_)]
            assert (mine["rows"], mine["votes"]) == (len(inside), len(voted))
            if voted:
                sure = np.mean([row["probabilities"][row["votes"][position]] for row in voted])
                assert mine["estimated"]["value"] == pytest.approx(sure, abs=2e-4)


def test_it_says_what_to_do_and_what_drifts(shop: tuple[Workspace, LoadedProject]) -> None:
    told = report(shop)
    kinds = {(one["kind"], one["function"]) for one in told["advice"]}
    assert ("never_votes", "nothing") in kinds
    assert ("copies", "praise") in kinds
    change = told["drift"]["praise"][0]
    assert (change["source"], change["value"], change["since"]) == ("chat", "good", DAYS[6])
    assert change["after"] > change["before"] + 0.15
    assert all(one["source"] == "chat" for listed in told["drift"].values() for one in listed)
    assert {value["function"] for value in told["values"]} == set(told["functions"])


def test_only_a_source_and_only_the_last_days(shop: tuple[Workspace, LoadedProject]) -> None:
    told = report(shop, source="mail", since=DAYS[-2])
    assert told["days"] == DAYS[-2:]
    assert told["sources"] == ["mail"]
    assert max(r["rows"] for r in told["records"]) == 120
    with pytest.raises(FMError, match="no such source"):
        report(shop, source="post")
    with pytest.raises(FMError, match="no day"):
        report(shop, since="yesterday")


def test_a_day_is_counted_once_and_a_reader_records_nothing(
    shop: tuple[Workspace, LoadedProject], monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, project = shop
    before = len(ws.ledger.versions("shop", "label_counts", "label_counts", DAYS[0]))
    report(shop)
    assert len(ws.ledger.versions("shop", "label_counts", "label_counts", DAYS[0])) == before == 1

    edited = load_spec(project.file)
    edited = type(edited)(
        edited.spec.model_copy(update={"slices": ()}), edited.directory, edited.file
    )
    told = label_report(ws, edited, Wanted(rows=False), None, DaysCounted(ws, edited.spec, None))
    assert told["slices"] == []
    assert len(ws.ledger.versions("shop", "label_counts", "label_counts", DAYS[0])) == 1


def test_rows_that_nothing_votes_on_come_in_groups_with_their_words(
    shop: tuple[Workspace, LoadedProject], monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, project = shop
    monkeypatch.setattr(
        "fm_platform.stages.label_rows._vectors",
        lambda ws, project, rows, *more: np.array(
            [[1.0, row.source == "chat", 0.0] for _, row in rows], np.float32
        ),
    )
    told = label_report(ws, project, Wanted(), RunContext())
    assert told["uncovered_votes"] == 0
    assert {group["sources"][0] for group in told["uncovered"]} == {"chat", "mail"}
    assert any("chat" in group["terms"] for group in told["uncovered"])
    assert told["uncovered"][0]["examples"][0]["text"].startswith("<b>odd</b>")
    assert told["disputed"]
    assert "<b>" not in told["disputed"][0]["text"]


FAILING = """
from fm_platform.labeling import labeling_function


@labeling_function()
def picky(row):
    if " 7 " in row.text:
        raise ValueError(row.text)
    return "good" if "great" in row.text else None
"""


def test_a_function_that_fails_on_a_few_rows_is_told(tmp_path: Path) -> None:
    ws, project = Workspace.open(Home(tmp_path / "home")), write(tmp_path / "shop")
    project.file.write_text(SPEC.replace("module: null", "module: functions.py"))
    (project.directory / "functions.py").write_text(FAILING)
    project = load_spec(project.file)
    for day in DAYS[:2]:
        build_raw(ws, project, day, RunContext(), SilentReporter())
        build_labeled_day(ws, project, day, RunContext(), SilentReporter())

    advice = report((ws, project))["advice"]

    (told,) = [one for one in advice if one["kind"] == "fails"]
    assert told["function"] == "picky"
    assert f"failed on 4 rows since {DAYS[0]}" in told["text"]
    assert "ValueError" in told["text"]
