"""Another base for ten experts: all marked, all trained again and judged, one promotion or none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fm_platform.errors import MergeRefusedError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.marks import Mark, marks
from fm_platform.lineage.status import status
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.definition import record_definition
from fm_platform.stages.evaluation import build_evaluation
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.probe import probe
from fm_platform.stages.serving import base_for, predict
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, SPEC, build_days, write_rows
from tests.support.tiny_model import WORDS, build_tiny_base

EXPERTS = [f"e{i}" for i in range(10)]
RUN, LOG = RunContext(), SilentReporter()


def spec_text() -> str:
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    text = SPEC.format(**words).replace("epochs: 4", "epochs: 1").replace(", router: true", "")
    head, rest = text.split("  experts:\n")
    tail = rest[rest.index("  training:") :]
    experts = "".join(
        f"    - {{name: {name}, sources: [{('mail', 'chat')[i % 2]}]}}\n"
        for i, name in enumerate(EXPERTS)
    )
    weights = ", ".join(f"{name}: 0.1" for name in EXPERTS)
    merge = f"  merge: {{weights: {{{weights}}}}}\n"
    before, after = tail.split("  merge:\n")
    return f"{head}  experts:\n{experts}{before}{merge}{after[after.index('  evaluation') :]}"


def models(ws: Workspace, project: LoadedProject, experts: list[str]) -> None:
    build_start(ws, project, RUN, LOG)
    for name in experts:
        build_adapter(ws, project, name, RUN, LOG)


def of_state(ws: Workspace, state: str) -> list[Mark]:
    return [mark for mark in marks(ws.ledger, "small") if mark.state == state]


@pytest.mark.slow
def test_ten_adapters_through_a_change_of_their_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FM_PROJECTS", str(tmp_path))
    folder = tmp_path / "assets" / "defs" / "small"
    folder.mkdir(parents=True)
    build_tiny_base(folder / "base")
    build_tiny_base(folder / "other", seed=7)
    write_rows(folder, DAYS[:1], each=60)
    (folder / "defs.yaml").write_text(spec_text().replace("2026-01-02", "2026-01-01"))
    project = load_spec(folder / "defs.yaml")
    ws = Workspace.open(Home(tmp_path / "home"))
    record_definition(ws, project, RUN)
    build_days(ws, project, DAYS[:1])
    models(ws, project, EXPERTS)
    first = build_merged_model(ws, project, RUN, LOG).version
    build_evaluation(ws, project, RUN, LOG)
    assert len(of_state(ws, "current")) == 12  # the start, ten adapters, the merged model
    assert all(mark.evaluations for mark in of_state(ws, "current"))
    before = resolve_base_model(project.spec.base_model, folder).content_hash

    # the project declares another base: every model is marked, and nothing answers with it
    declared = project.spec.base_model.model_copy(update={"location": "other"})
    swapped = replace(project, spec=project.spec.model_copy(update={"base_model": declared}))
    (folder / "defs.yaml").write_text(
        (folder / "defs.yaml").read_text().replace("location: base", "location: other")
    )
    record_definition(ws, swapped, RUN)
    old = of_state(ws, "other base")
    assert sorted(mark.version.name for mark in old if mark.version.kind == "adapter") == EXPERTS
    assert len(old) == 12
    assert all("not trained again yet" in mark.why for mark in old)
    stale = {r.name for r in status(ws.ledger, swapped.spec, probe(ws, swapped))
             if r.kind == "adapter" and r.state == "stale"}  # fmt: skip
    assert stale == set(EXPERTS)
    for mark in old:
        if mark.version.kind == "adapter":
            assert base_for(ws, ws.ledger.get(mark.version.id)).content_hash == before
    assert predict(ws, "small", "adapter/e3", ["good"])

    # half of the family is no family: it is not merged, and the champion stays
    models(ws, swapped, EXPERTS[:5])
    with pytest.raises(MergeRefusedError, match="another base model"):
        build_merged_model(ws, swapped, RUN, LOG)
    champion = ws.ledger.alias("small", "champion")
    assert champion is not None
    assert champion.content_hash == first.content_hash

    # all of it is judged by one score, and moves in one promotion or not at all
    models(ws, swapped, EXPERTS)
    second = build_merged_model(ws, swapped, RUN, LOG).version
    judged = build_evaluation(ws, swapped, RUN, LOG).version.metrics["gate"]
    champion = ws.ledger.alias("small", "champion")
    assert champion is not None
    assert judged["differences"], "the new family was compared with the old one"
    expected = second if judged["promote"] else first
    assert champion.content_hash == expected.content_hash
    now = {m.version.id: m for m in marks(ws.ledger, "small", every=True)}
    for mark in old:
        told = now[mark.version.id]
        assert told.state == "other base"
        assert told.successor is not None
        assert told.successor.name == mark.version.name
    verdict = now[first.id].verdict
    assert verdict.startswith("promoted" if judged["promote"] else "refused")
    assert len(of_state(ws, "current")) >= 12
    assert predict(ws, "small", "champion", ["good"])
