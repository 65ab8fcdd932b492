"""Cleaning over days: near duplicates of earlier days and of test rows, built once and reused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import status
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace
from tests.support.tiny_model import build_tiny_base

DAYS = ("2026-01-01", "2026-01-02")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {{classes: [bad, good]}}
  calendar: {{start: 2026-01-01, end: 2026-01-02}}
  sources:
    - {{name: main, options: {{path: "rows-*.jsonl"}}}}
  contract: {{columns: {{text: {{}}{columns}}}}}
  labeling:
    functions:
      - {{kind: keyword, name: good_words, words: [great], label: good}}
      - {{kind: keyword, name: bad_words, words: [awful], label: bad}}
{base}  cleaning:
{rules}
"""


def text(i: int, last: str = "end") -> str:
    word = "great" if i % 2 else "awful"
    return f"{word} " + " ".join(f"w{i}x{k}" for k in range(12)) + f" {last}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "small"
    made.mkdir()
    rows = {DAYS[0]: [text(i) for i in range(40)], DAYS[1]: [text(i, "other") for i in range(20)]}
    rows[DAYS[1]] += [f"{text(90)} a@example.org", f"{text(90)} twice"]
    for day, texts in rows.items():
        lines = "\n".join(json.dumps({"text": t}) for t in texts)
        (made / f"rows-{day}.jsonl").write_text(lines + "\n")
    return made


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace.open(Home(tmp_path / "home"))


def project(folder: Path, *rules: str, columns: str = "") -> LoadedProject:
    told = "\n".join(f"    - {{{rule}}}" for rule in rules)
    base = "  base_model: {location: base}\n" if (folder / "base").exists() else ""
    (folder / "defs.yaml").write_text(SPEC.format(rules=told, base=base, columns=columns))
    return load_spec(folder / "defs.yaml")


def build(ws: Workspace, loaded: LoadedProject) -> list[Any]:
    done = []
    for day in DAYS:
        for stage in (build_raw, build_weak_labels, build_cleaned):
            done.append(stage(ws, loaded, day, RunContext(), SilentReporter()))
    return [result for result in done if result.version.kind == "cleaned"]


def test_near_duplicates_of_earlier_days_go_and_leaked_test_rows_are_counted(
    ws: Workspace, folder: Path
) -> None:
    loaded = project(folder, "rule: near_duplicates, similarity: 0.6", "rule: pii")
    first, second = build(ws, loaded)

    raw = {row["row_id"]: row for day in DAYS for row in tables.read(
        ws, ws.ledger.latest("small", "raw", "raw", day), "raw").to_pylist()}  # fmt: skip
    refused = tables.read(ws, second.version, "quarantine").to_pylist()
    test_rows = [r for r in raw.values() if r["split"] == "test" and r["day"] == DAYS[1]]
    assert first.metrics["rows_removed"] == 0
    removed = {raw[r["row_id"]]["text"] for r in refused if r["rule"] == "near_duplicates"}
    open_rows = [r for r in raw.values() if r["split"] != "test" and r["day"] == DAYS[1]]
    repeated = {r["text"] for r in open_rows if r["text"].endswith("other")}
    assert repeated <= removed
    assert len(removed) <= len(repeated) + 1  # at most one of the two that are alike today
    seen_before = {t.rsplit(" ", 1)[0] for t in (r["text"] for r in raw.values()
                   if r["day"] == DAYS[0] and r["split"] != "test")}  # fmt: skip
    leaked = [r for r in test_rows if r["text"].rsplit(" ", 1)[0] in seen_before]
    assert second.metrics["test_rows_like_earlier_rows"] == len(leaked) > 0


def test_what_is_built_is_reused_and_status_agrees(ws: Workspace, folder: Path) -> None:
    loaded = project(folder, "rule: near_duplicates", "rule: exact_duplicates")
    build(ws, loaded)

    again = build(ws, loaded)

    assert [result.reused for result in again] == [True, True]
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    daily = [row for row in rows if row.partition]
    assert {row.kind for row in daily} >= {"shingles", "cleaned"}
    assert {(row.kind, row.state) for row in daily if row.state != "fresh"} == set()


def test_labels_of_a_window_are_judged_and_proposals_kept(ws: Workspace, folder: Path) -> None:
    build_tiny_base(folder / "base")
    loaded = project(folder, "rule: label_noise, minimum_probability: 1.0")

    first, second = build(ws, loaded)
    again = build(ws, loaded)

    assert [result.reused for result in again] == [True, True]
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    assert {r.state for r in rows if r.kind in ("cleaned", "embeddings")} == {"fresh"}
    assert second.metrics["rows_removed"] == first.metrics["rows_removed"] == 0
    for note in tables.corrections(ws, second.version):
        assert not note["applied"]
        assert 0.5 <= note["probability"] < 1
        assert note["before"] != note["after"]


def test_a_rule_that_is_not_declared_is_no_part_of_a_recipe(folder: Path) -> None:
    from fm_platform.lineage import recipes

    plain = project(folder, "rule: length").spec
    more = project(folder, "rule: length", "rule: pii").spec

    codes = [
        {i.name: i.content_hash for i in recipes.machinery(spec) if i.role == "code"}["cleaned"]
        for spec in (plain, more)
    ]
    assert codes[0] == recipes.code_version("cleaned") != codes[1]


def test_status_agrees_where_metadata_is_repaired(ws: Workspace, folder: Path) -> None:
    for nth, day in enumerate(DAYS):
        rows = [{"text": text(40 * nth + i), "unit": "kg" if i else "stone"} for i in range(40)]
        (folder / f"rows-{day}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    repair = "rule: metadata_repair, columns: {unit: {allowed: [kg]}}"
    loaded = project(folder, "rule: exact_duplicates", repair, columns=", unit: {}")
    build(ws, loaded)

    again = build(ws, loaded)
    rows_of_status = status(ws.ledger, loaded.spec, probe(ws, loaded))

    assert [result.reused for result in again] == [True, True]
    assert {row.state for row in rows_of_status if row.kind == "cleaned"} == {"fresh"}
    # a change of an earlier day is told before it is built
    first = folder / f"rows-{DAYS[0]}.jsonl"
    first.write_text(first.read_text() + json.dumps({"text": text(99), "unit": "g"}) + "\n")
    build_raw(ws, loaded, DAYS[0], RunContext(), SilentReporter())
    (told,) = [
        row for row in status(ws.ledger, loaded.spec, probe(ws, loaded))
        if row.kind == "cleaned" and row.partition == DAYS[1]
    ]  # fmt: skip
    assert told.state == "stale"
