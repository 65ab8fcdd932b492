"""Comparisons of real models: two experts of one project, and one project before and after."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.definition import record_definition
from fm_platform.stages.diff import Wanted, diff
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, Built, build_models


def test_two_experts_differ_in_their_rows_their_updates_and_their_answers(built: Built) -> None:
    ws, _, results = built

    told = diff(ws, results["mail"].version, results["chat"].version)

    assert [c.what for c in told.causes] == [
        "part chat of cleaned is read, too", "part mail of cleaned is no longer read",
    ]  # fmt: skip
    (rows,) = told.rows
    read = {name: results[name].version for name in ("mail", "chat")}
    assert (rows.table, rows.partitions) == ("cleaned", DAYS)
    assert (rows.before_rows, rows.after_rows) == (rows.removed, rows.added)
    assert rows.added >= (read["chat"].rows or 0)  # dev rows are read, too
    assert {(c.source, c.added > 0, c.removed > 0) for c in rows.by_source} == {
        ("chat", True, False), ("mail", False, True),
    }  # fmt: skip
    assert told.tensors is not None
    assert told.tensors.form == "adapter"
    # both began from one start of rank 2: what they learned since has rank 4 at most
    ranks = [t.rank for t in told.tensors.tensors if t.rank is not None and "layer" in t.name]
    assert ranks
    assert max(ranks) <= 4
    (answers,) = told.answers
    assert (answers.before_system, answers.after_system) == ("expert:mail", "expert:chat")
    assert answers.before_evaluation == answers.after_evaluation
    assert answers.common == answers.flips[0].rows > 0
    assert told.notes == ()


def test_a_start_and_an_expert_are_comparable(built: Built) -> None:
    ws, _, results = built

    told = diff(ws, results["start"].version, results["mail"].version, Wanted(text=False))

    assert told.tensors is not None
    assert told.tensors.form == "adapter"
    assert [(a.before_system, a.after_system) for a in told.answers] == [
        ("shared_start", "expert:mail")
    ]


@pytest.mark.slow
def test_an_edited_function_is_followed_from_its_source_to_the_flipped_rows(
    built: Built, tmp_path: Path
) -> None:
    ws, loaded, results = built
    before = results["merged"].version
    shutil.copytree(ws.home.root, tmp_path / "home")
    shutil.copytree(loaded.directory, tmp_path / "small")
    file = tmp_path / "small" / "defs.yaml"
    edited = file.read_text().replace("love]", "street]")
    assert edited != file.read_text()
    file.write_text(edited)
    other, project = Workspace.open(Home(tmp_path / "home")), load_spec(file)
    record_definition(other, project, RunContext())
    for day in DAYS:
        for stage in (build_raw, build_weak_labels, build_cleaned):
            stage(other, project, day, RunContext(), SilentReporter())
    after = build_models(other, project)["merged"].version

    told = diff(other, other.ledger.get(before.id), after)

    assert [(c.kind, c.name, c.what) for c in told.causes] == [
        ("votes", "good_words", "labeling function changed")
    ]
    assert [step.split("/")[0] for step in told.causes[0].path] == [
        "votes", "weak_labels", "cleaned", "adapter", "merged_model",
    ]  # fmt: skip
    (function,) = told.functions
    assert any(line.startswith("-words:") and "love" in line for line in function.source)
    assert {change.table for change in told.rows} == {"weak_labels", "cleaned"}
    assert told.settings == ()
    assert told.tensors is not None
    assert told.tensors.form == "dense"
    # embeddings are never trained
    assert not any("embeddings" in tensor.name for tensor in told.tensors.tensors)
    (answers,) = told.answers
    assert (answers.before_system, answers.after_system) == ("champion", "merged_model")
    assert any(m.difference is not None for m in answers.metrics)
