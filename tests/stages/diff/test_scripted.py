"""Comparisons and marks through a scripted life: an edit, a class split, a base-model swap."""

from __future__ import annotations

import pytest

from fm_platform.lineage.marks import base_of, marks
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.stages.diff import Diff, diff
from fm_platform.stages.export.conformance import problems
from fm_platform.stages.export.openlineage import Exporter
from fm_platform.workspace import Workspace
from tests.histories import EDIT, SPLIT, SWAP, History, Script, scripted
from tests.histories.world import PROJECT

pytestmark = pytest.mark.slow

SHORT = Script(
    days=15, rows_per_source=24, window_days=4, models_every=7, edit=9, split=11, rollback=None,
    swap=13,
)  # fmt: skip


@pytest.fixture(scope="module")
def life(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> History:
    cache = pytestconfig.cache.mkdir("histories")
    return scripted(cache, tmp_path_factory.mktemp("life") / "history", SHORT)


@pytest.fixture(scope="module")
def ws(life: History) -> Workspace:
    return life.workspace()


def across(ws: Workspace, life: History, what: str) -> Diff:
    """Return the comparison of the models before and after an event."""
    moment = life.moment(what).before
    listed = ws.ledger.versions(PROJECT, "merged_model")
    before = [v for v in listed if v.created_at <= moment][-1]
    after = next(v for v in listed if v.created_at > moment)
    return diff(ws, ws.ledger.get(before.id), ws.ledger.get(after.id))


def told(found: Diff) -> set[tuple[str, str]]:
    return {(c.kind, c.what.partition(" (")[0]) for c in found.causes if c.kind != "days"}


def test_the_edit_is_told_with_its_source(ws: Workspace, life: History) -> None:
    found = across(ws, life, EDIT)

    assert told(found) == {("votes", "labeling function changed")}
    (edited,) = [f for f in found.functions if f.status == "changed"]
    assert any(line.startswith("+") and "return" in line for line in edited.source)
    assert [f.name for f in found.files] == ["labeling_functions.py"]


def test_the_split_is_told_in_classes_functions_and_rows(ws: Workspace, life: History) -> None:
    found = across(ws, life, SPLIT)

    assert ("merged_model", "configuration changed") in told(found)
    assert "classes" in {s.path for s in found.settings}
    assert {f.status for f in found.functions} >= {"new", "gone"}
    weak = next(r for r in found.rows if r.table == "weak_labels")
    assert weak.relabeled > 0
    assert found.tensors is not None
    # the head has another number of classes
    assert {t.name for t in found.tensors.tensors if t.status == "reshaped"} == {
        "classifier.weight", "classifier.bias",
    }  # fmt: skip


def test_the_swap_is_told_as_another_base(ws: Workspace, life: History) -> None:
    found = across(ws, life, SWAP)

    assert ("start", "base model changed") in told(found)
    assert any(t.name.startswith("bert.embeddings") for t in found.tensors.tensors)  # type: ignore[union-attr]


def test_after_the_swap_every_model_is_marked_and_none_was_measured_on_another_base(
    ws: Workspace, life: History
) -> None:
    swap = life.moment(SWAP)

    before, after = (marks(ws.ledger, PROJECT, at) for at in (swap.before, swap.after))

    assert {m.state for m in before} == {"current"}
    assert {m.state for m in after} == {"other base"}
    assert {m.version.kind for m in after} == {"start", "adapter", "merged_model"}
    for mark in marks(ws.ledger, PROJECT, every=True):
        assert mark.evaluations, mark.version.name
        for evaluation in ws.ledger.get_many([e.id for e in mark.evaluations]):
            measured = _inputs(ws, evaluation, ("merged_model", "adapter", "start"))
            if mark.version.id in {v.id for v in measured}:
                assert {base_of(ws.ledger, v) for v in measured} == {mark.base}


def _inputs(
    ws: Workspace, evaluation: ArtifactVersion, roles: tuple[str, ...]
) -> list[ArtifactVersion]:
    ids = [i.version_id for i in evaluation.inputs if i.role in roles and i.version_id]
    return ws.ledger.get_many(ids)


def test_the_whole_life_is_exported_as_events_that_conform(ws: Workspace) -> None:
    events = list(Exporter(ws.ledger, PROJECT).events())

    assert [p for event in events for p in problems(event)] == []
    runs = {e["run"]["runId"] for e in events if "run" in e}
    assert len(runs) == len(ws.ledger.versions(PROJECT))
