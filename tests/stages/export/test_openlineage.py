"""Events of a real small history: every one conforms, the graph is whole, twice is the same."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage.ledger import Ledger
from fm_platform.stages.export import openlineage
from fm_platform.stages.export.conformance import problems
from fm_platform.stages.export.openlineage import Exporter
from fm_platform.workspace import Workspace
from tests.lineage.simulated import Simulation, make_spec
from tests.stages.diff.worlds import DAY, build_day, write_project


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    ws = Workspace.open(Home(tmp_path / "home"))
    build_day(ws, write_project(tmp_path / "small"))
    return ws


def runs(events: list[dict[str, Any]], kind: str = "COMPLETE") -> dict[str, dict[str, Any]]:
    return {e["job"]["name"]: e for e in events if e.get("eventType") == kind}


def test_every_version_is_one_start_and_one_complete(ws: Workspace) -> None:
    events = list(Exporter(ws.ledger, "small").events())

    starts, ends = runs(events, "START"), runs(events)
    assert starts.keys() == ends.keys()
    assert len(events) == 2 * len(ws.ledger.versions("small"))
    for name, start in starts.items():
        assert start["run"]["runId"] == ends[name]["run"]["runId"]
        assert start["eventTime"] <= ends[name]["eventTime"]
        assert "outputs" not in start or start["outputs"] == []
    assert len({e["run"]["runId"] for e in ends.values()}) == len(ends)
    assert [p for e in events for p in problems(e)] == []


def test_what_is_read_was_written_by_another_job(ws: Workspace) -> None:
    ends = runs(list(Exporter(ws.ledger, "small").events()))

    written = {d["name"] for e in ends.values() for d in e["outputs"]}
    read = {d["name"] for e in ends.values() for d in e.get("inputs", [])}
    outside = {name.split("/")[1] for name in read - written}
    assert {"small/raw", "small/gold", "small/quarantine", "small/weak_labels"} <= written
    # only what comes from outside was written by nobody
    assert outside <= {"source", "file", "function", "taxonomy", "code", "environment",
                       "base_model"}  # fmt: skip
    assert "source" in outside


def test_a_day_is_a_subset_with_its_content_hash(ws: Workspace) -> None:
    end = runs(list(Exporter(ws.ledger, "small").events()))["small.weak_labels"]
    version = ws.ledger.latest("small", "weak_labels", "weak_labels", DAY)
    assert version is not None

    (output,) = end["outputs"]
    subset = output["outputFacets"]["subset"]["outputCondition"]
    assert subset["partitions"] == [
        {"dimensions": {"day": DAY}, "identifier": version.content_hash}
    ]
    assert output["facets"]["version"]["datasetVersion"] == version.content_hash
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == version.rows
    assert [f["name"] for f in output["facets"]["schema"]["fields"]][:2] == ["row_id", "day"]
    raw = next(d for d in end["inputs"] if d["name"] == "small/raw")
    assert raw["inputFacets"]["subset"]["inputCondition"]["partitions"][0]["dimensions"] == {
        "day": DAY, "role": "raw",
    }  # fmt: skip
    assert end["run"]["facets"]["nominalTime"]["nominalEndTime"] == "2026-01-02T00:00:00Z"


def test_a_run_carries_its_recipe_settings_and_checks(ws: Workspace) -> None:
    end = runs(list(Exporter(ws.ledger, "small").events()))["small.cleaned"]
    version = ws.ledger.latest("small", "cleaned", "cleaned", DAY)
    assert version is not None

    facets = end["run"]["facets"]
    tags = {tag["key"]: tag["value"] for tag in facets["tags"]["tags"]}
    assert tags["recipe_hash"] == version.recipe_hash
    assert tags["git_commit"] == "c" * 40
    assert tags["git_dirty"] == "false"
    assert "seed" not in tags  # it has none
    parameters = {p["key"]: p["value"] for p in facets["executionParameters"]["parameters"]}
    assert json.loads(parameters["rules"])[0]["rule"] == "length"
    raw = runs(list(Exporter(ws.ledger, "small").events()))["small.raw"]
    assert {t["status"] for t in raw["run"]["facets"]["test"]["tests"]} == {"pass"}


def test_a_labeling_function_carries_its_source(ws: Workspace) -> None:
    ends = runs(list(Exporter(ws.ledger, "small").events()))

    declared = ends["small.votes.good_words"]["job"]["facets"]["sourceCode"]
    written = ends["small.votes.short"]["job"]["facets"]["sourceCode"]
    assert (declared["language"], written["language"]) == ("yaml", "python")
    assert "great" in declared["sourceCode"]
    assert "is_short(row.text)" in written["sourceCode"]


def test_exporting_twice_gives_the_same_events(ws: Workspace) -> None:
    first = list(Exporter(ws.ledger, "small").events())

    assert list(Exporter(Ledger.open(ws.home.ledger_url), "small").events()) == first


def test_only_what_is_new_or_was_then_is_exported(ws: Workspace, tmp_path: Path) -> None:
    latest = max(v.created_at for v in ws.ledger.versions("small"))
    before = list(Exporter(ws.ledger, "small").events())
    build_day(ws, write_project(tmp_path / "small", good="great, fine"))

    new = list(Exporter(ws.ledger, "small").events(since=latest))
    old = list(Exporter(ws.ledger, "small").events(at=latest))

    assert old == before
    assert {e["job"]["name"] for e in new} == {
        "small.spec", "small.votes.good_words", "small.label_model", "small.weak_labels",
        "small.cleaned",
    }  # fmt: skip
    assert list(Exporter(ws.ledger, "small").events(at=latest - timedelta(days=1))) == []


def test_a_promotion_is_an_event_of_the_model(tmp_path: Path) -> None:
    world = Simulation(Ledger.open(f"sqlite:///{tmp_path}/ledger.db"), make_spec(days=2))
    world.run()
    model = world.ledger.latest("shop", "merged_model", "merged_model")
    assert model is not None
    reason = "better <script>"
    world.ledger.set_alias("shop", "champion", model.id, expected=None, reason=reason, actor="me")
    world.ledger.set_alias("shop", "champion", None, expected=model.id, reason="", actor="me")

    events = list(Exporter(world.ledger, "shop", "other").events())
    named, removed = [e for e in events if "dataset" in e]

    assert named["dataset"]["namespace"] == "other"
    assert named["dataset"]["name"] == "shop/merged_model"
    assert named["dataset"]["facets"]["version"]["datasetVersion"] == model.content_hash
    tags = {t["key"]: t["value"] for t in named["dataset"]["facets"]["tags"]["tags"]}
    assert tags == {
        "alias.champion": "set", "alias.champion.by": "me", "alias.champion.reason": reason,
    }  # fmt: skip
    assert removed["dataset"]["facets"]["tags"]["tags"][0]["value"] == "removed"


def test_an_event_that_would_not_conform_is_never_given(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from openlineage.client.generated.base import OutputDataset

    monkeypatch.setattr(openlineage, "outputs", lambda *_: [OutputDataset("n", 3)])

    with pytest.raises(FMError, match="would not conform") as error:
        list(Exporter(ws.ledger, "small").events())
    assert "outputs[0].name: int instead of str" in str(error.value)
