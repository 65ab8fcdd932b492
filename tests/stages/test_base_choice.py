"""`base_model: {candidates: [...]}` in the chain: chosen once, told, reused, and what follows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fm_platform.cli.plan import base_choice_text
from fm_platform.cli.render import plan_text
from fm_platform.errors import BaseModelError, MissingArtifactError
from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.choosing_base import last_choice, measured
from fm_platform.lineage.graph import graph_at, upstream
from fm_platform.lineage.marks import marks
from fm_platform.lineage.status import status
from fm_platform.spec.base_model import BaseModelSpec, DeclaredBase
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.base_choice import as_made, build_base_choice, with_chosen_base
from fm_platform.stages.check import examine, failing, require_ready
from fm_platform.stages.choice import settled
from fm_platform.stages.common import StageResult
from fm_platform.stages.definition import record_definition
from fm_platform.stages.evaluation import build_evaluation
from fm_platform.stages.export.card import model_card
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.probe import probe
from fm_platform.stages.reproduce.replay import make_plan, reproduce
from fm_platform.stages.serving import predict
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, SPEC, build_days, write_rows
from tests.support.tiny_model import WORDS, build_knowing_base

CANDIDATES = """\
  base_model:
    candidates:
      - {location: blind, license: mit}
      - {location: good, license: apache-2.0}
    probe: separability
    rows_per_source: 30
"""
RUN, LOG = RunContext(), SilentReporter()
World = tuple[Workspace, LoadedProject, dict[str, StageResult]]


def write_project(folder: Path, base_model: str = CANDIDATES) -> LoadedProject:
    folder.mkdir(parents=True, exist_ok=True)
    build_knowing_base(folder / "blind", 0)
    build_knowing_base(folder / "good", 5)
    write_rows(folder, DAYS, each=45)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    text = SPEC.format(**words).replace("  base_model: {location: base}\n", base_model)
    text = text.replace(
        "method: auto\n    methods: [linear, regmean]", "weights: {mail: 0.5, chat: 0.5}"
    )
    (folder / "defs.yaml").write_text(
        text.replace("epochs: 4", "epochs: 1").replace(", router: true", "")
    )
    return load_spec(folder / "defs.yaml")


def build_models(ws: Workspace, loaded: LoadedProject) -> dict[str, StageResult]:
    """Do what the assets do."""
    found = {"start": build_start(ws, loaded, RUN, LOG)}
    for expert in ("mail", "chat"):
        found[expert] = build_adapter(ws, loaded, expert, RUN, LOG)
    found["merged"] = build_merged_model(ws, settled(ws, loaded), RUN, LOG)
    found["evaluation"] = build_evaluation(ws, as_made(ws, loaded), RUN, LOG)
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("root")
    loaded = write_project(root / "assets" / "defs" / "small")
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    record_definition(ws, loaded, RUN)
    build_days(ws, loaded, DAYS[:1])
    with pytest.raises(MissingArtifactError, match="not chosen yet"):
        with_chosen_base(ws, loaded)
    assert "nothing was chosen yet" in base_choice_text(ws, loaded)
    return ws, loaded, build_models(ws, loaded)


def declared(loaded: LoadedProject, **changes: Any) -> LoadedProject:
    own = set(DeclaredBase.model_fields) - set(BaseModelSpec.model_fields)
    base = DeclaredBase(**{**loaded.spec.base_model.model_dump(include=own), **changes})
    return replace(loaded, spec=loaded.spec.model_copy(update={"base_model": base}))


def states(ws: Workspace, loaded: LoadedProject) -> dict[str, str]:
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    wanted = ("choice", "start", "adapter", "merged_model", "evaluation")
    return {row.kind: row.state for row in rows if row.kind in wanted}


def chosen(ws: Workspace) -> ArtifactVersion:
    found = last_choice(ws.ledger, "small")
    assert found is not None
    return found


def test_the_better_candidate_is_what_all_models_are_made_of(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, loaded, built = world
    good = resolve_base_model(loaded.spec.base_model.at("good"), loaded.directory)
    choice = chosen(ws)
    assert choice.content_hash == good.content_hash
    assert choice.location["chosen"]["location"] == "good"
    for name in ("start", "merged"):
        read = [i.content_hash for i in built[name].version.inputs if i.role == "base_model"]
        assert read == [good.content_hash]
    assert built["merged"].version.config["base_model"] == "good"
    monkeypatch.setenv("FM_PROJECTS", str(loaded.directory.parents[2]))
    assert predict(ws, "small", "adapter/mail", ["good"])[0]["label"]
    assert built["evaluation"].version.metrics["gate"]["promote"]


def test_every_candidate_is_shown_with_its_scores(world: World) -> None:
    ws, loaded, built = world
    rows = built["start"].tables["base models"]
    assert [(row["candidate"], row["state"]) for row in rows] == [
        ("blind", "tried"), ("good", "chosen"),
    ]  # fmt: skip
    assert all(row["probe_loss"] and row["logme"] is not None for row in rows)
    assert built["start"].metrics["base_model"].startswith("good was chosen by linear probe")
    text = base_choice_text(ws, loaded)
    assert "chosen among blind, good by separability on 30 rows a source, every 28 days" in text
    assert "good was chosen by linear probe" in text
    assert "blind" in text.splitlines()[-2]
    assert "base       blind or good" in plan_text(loaded, [])


def test_the_choice_is_in_the_lineage_and_the_marks(world: World) -> None:
    ws, _, built = world
    choice = chosen(ws)
    assert choice.id in upstream(ws.ledger, [built["merged"].version.id])
    labels = {node.label: node.state for node in graph_at(ws.ledger, "small").nodes}
    assert labels["choice/base/2026-01-01"] == "fresh"
    assert labels["start/shared_start"] == "fresh"
    for mark in marks(ws.ledger, "small"):
        assert (mark.state, mark.declared) == ("current", choice.content_hash)


def test_what_is_built_is_fresh_and_reused(world: World) -> None:
    ws, loaded, _ = world
    assert states(ws, loaded)["choice"] == "fresh"
    assert build_base_choice(ws, loaded, RUN, LOG) == chosen(ws)
    assert all(result.reused for result in build_models(ws, loaded).values())


def test_labels_are_made_without_the_choice(world: World) -> None:
    """The first candidate embeds texts: no label waits for a base, so none goes stale by one."""
    ws, loaded, _ = world
    first = resolve_base_model(loaded.spec.base_model, loaded.directory)
    assert first.location == "blind"
    assert probe(ws, loaded).base() == first.content_hash
    cleaned = ws.ledger.latest("small", "cleaned", "cleaned", DAYS[0])
    assert cleaned is not None
    assert chosen(ws).id not in upstream(ws.ledger, [cleaned.id])


def test_rows_are_chosen_by_the_embeddings_that_labels_have(world: World) -> None:
    """The chosen base would embed them otherwise, and the days would never be fresh again."""
    ws, loaded, _ = world
    training = loaded.spec.training.model_copy(update={"subset": 0.5})
    half = replace(loaded, spec=loaded.spec.model_copy(update={"training": training}))
    first = resolve_base_model(loaded.spec.base_model, loaded.directory)

    start = build_start(ws, half, RUN, LOG)

    read = [i.version_id for i in start.version.inputs if i.role == "embeddings"]
    bases = {
        i.content_hash
        for version in ws.ledger.get_many([one for one in read if one is not None])
        for i in version.inputs if i.role == "base_model"
    }  # fmt: skip
    assert bases == {first.content_hash}
    rows = status(ws.ledger, half.spec, probe(ws, half))
    embedded = [row for row in rows if row.kind == "embeddings"]
    assert embedded[0].state == "fresh"  # of the one day that was built
    build_models(ws, loaded)


def test_other_candidates_are_judged_anew_and_patience_is_not(world: World) -> None:
    ws, loaded, _ = world
    assert states(ws, declared(loaded, minutes=1.0))["choice"] == "fresh"
    other = declared(loaded, rows_per_source=20)
    assert states(ws, other)["choice"] == "stale"
    two = loaded.spec.base_model.candidates
    assert states(ws, declared(loaded, candidates=two[::-1]))["choice"] == "stale"
    # the same base comes out again: nothing below it is trained again
    again = declared(loaded, rows_per_source=25)
    before = chosen(ws)
    assert build_start(ws, again, RUN, LOG).reused
    assert chosen(ws).id != before.id
    assert chosen(ws).content_hash == before.content_hash
    assert build_start(ws, loaded, RUN, LOG).reused  # and back to what was declared


def test_short_trainings_choose_too(world: World) -> None:
    ws, loaded, _ = world
    brief = declared(loaded, probe="short_run", trials=1)
    version = build_base_choice(ws, brief, RUN, LOG)
    assert version is not None
    assert version.content_hash == chosen(ws).content_hash
    rows = {row["candidate"]: row for row in version.metrics["tables"]["trials"]}
    assert rows["good"]["state"] == "chosen"
    assert rows["good"]["short_loss"] > 0
    assert rows["blind"]["state"] == "not tried"
    assert states(ws, brief)["choice"] == "fresh"
    assert states(ws, declared(loaded, probe="short_run", trials=2))["choice"] == "stale"
    assert build_start(ws, loaded, RUN, LOG).reused  # and back to what was declared


def test_history_tells_that_other_candidates_were_declared(world: World) -> None:
    ws, loaded, _ = world
    two = loaded.spec.base_model.candidates
    record_definition(ws, declared(loaded, candidates=two[::-1]), RUN)
    found = {node.label: node for node in graph_at(ws.ledger, "small").nodes}
    assert found["choice/base/2026-01-01"].state == "stale"
    assert "configuration changed (candidates" in found["choice/base/2026-01-01"].why
    assert "choice base 2026-01-01 is stale" in found["start/shared_start"].why
    record_definition(ws, loaded, RUN)
    assert {n.state for n in graph_at(ws.ledger, "small").nodes if n.kind == "start"} == {"fresh"}


def test_a_candidate_that_is_gone_is_told_and_the_base_in_use_is_kept(
    world: World, tmp_path: Path
) -> None:
    ws, loaded, _ = world
    folder = tmp_path / "small"
    shutil.copytree(loaded.directory, folder)
    copy = load_spec(folder / "defs.yaml")
    shutil.rmtree(folder / "blind")
    assert failing(examine(ws, copy)) == []
    told = [f for f in examine(ws, copy) if f.state == "note" and f.part == "base model"]
    assert "blind is left out of the choice" in told[0].what
    require_ready(copy, ["adapters"])
    version = build_base_choice(ws, copy, RUN, LOG)
    assert version is not None
    rows = version.metrics["tables"]["trials"]
    assert [(row["candidate"], row["state"]) for row in rows] == [
        ("blind", "unreadable"), ("good", "chosen"),
    ]  # fmt: skip
    assert "hf download blind" in rows[0]["why"]

    shutil.move(folder / "good", folder / "away")
    with pytest.raises(BaseModelError, match="no reason to choose another"):
        build_base_choice(ws, copy, RUN, LOG)
    assert any(f.part == "base model" for f in failing(examine(ws, copy)))
    build_base_choice(ws, loaded, RUN, LOG)


def test_the_card_names_the_chosen_base_and_its_licence(world: World) -> None:
    ws, loaded, built = world
    text = (ws.model_path(built["merged"].version) / "README.md").read_text()
    assert "license: apache-2.0" in text
    exported = loaded.spec.base_model.at("good")
    assert exported.license == "apache-2.0"
    with pytest.raises(Exception, match="not known") as missing:  # the project is no checkout
        model_card(ws, built["merged"].version, loaded.directory)
    assert "license" not in str(missing.value)


def test_all_of_it_is_built_again_elsewhere(world: World, tmp_path: Path) -> None:
    ws, loaded, built = world
    plan = make_plan(ws, ws.ledger.get(built["evaluation"].version.id))
    assert ("choice", "base") in {(v.kind, v.name) for v in plan.versions}
    assert plan.differences == ()
    done = reproduce(ws, plan, tmp_path, loaded, LOG)
    assert done.first_difference is None
    assert done.equal


def test_measured_models_are_looked_up_once_a_rhythm(world: World) -> None:
    ws, loaded, built = world
    later = declared(loaded, every=1)
    found = measured(ws.ledger, later.spec, DAYS[1])
    rows = built["evaluation"].version.metrics["evaluation"]["rows"]
    of = {row["system"]: row["f1_weighted"]["value"] for row in rows if row["source"] == "all"}
    outcome = round(of["merged_model"] - of["label_model"], 6)
    assert found == {chosen(ws).content_hash: [1, outcome]}
    assert measured(ws.ledger, loaded.spec, DAYS[0]) == {}  # nothing was known on that day

    build_days(ws, loaded, DAYS[1:])
    assert states(ws, loaded)["choice"] == "fresh"  # a new day within the rhythm
    assert states(ws, loaded)["start"] == "stale"
    assert states(ws, later)["choice"] == "unbuilt"  # every day is another choice
    assert states(ws, later)["start"] == "stale"
    version = build_base_choice(ws, later, RUN, LOG)
    assert version is not None
    row = next(r for r in version.metrics["tables"]["trials"] if r["candidate"] == "good")
    assert (row["outcomes"], row["mean_outcome"]) == (1, outcome)
    assert states(ws, later)["choice"] == "fresh"


def test_another_choice_makes_models_stale_like_another_declared_base(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured models flip the choice on the next day of the rhythm; all below is stale then."""
    ws, loaded, _ = world
    days = declared(loaded, every=1)
    if ws.ledger.latest("small", "cleaned", "cleaned", DAYS[1]) is None:
        build_days(ws, loaded, DAYS[1:])
    blind = resolve_base_model(loaded.spec.base_model.at("blind"), loaded.directory)
    good = resolve_base_model(loaded.spec.base_model.at("good"), loaded.directory)
    past = {blind.content_hash: [9, 0.9], good.content_hash: [9, -0.9]}
    version = build_base_choice(ws, days, RUN, LOG, past)
    assert version is not None
    assert version.content_hash == blind.content_hash
    found = states(ws, days)
    assert found["choice"] == "fresh"
    assert {found[kind] for kind in ("start", "adapter", "merged_model")} == {"stale"}
    assert {mark.state for mark in marks(ws.ledger, "small")} == {"other base"}
    monkeypatch.setenv("FM_PROJECTS", str(loaded.directory.parents[2]))
    assert predict(ws, "small", "adapter/mail", ["good"])[0]["label"]  # on the base it was made for
