"""`training: {method: auto}` in the chain: chosen once, reused, told, and what follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fm_platform.cli.plan import choice_text
from fm_platform.errors import MissingArtifactError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import status
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.spec.training import Auto
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.choice import last_choice, settled
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.probe import probe
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, SPEC, build_days, write_rows
from tests.support.tiny_model import WORDS, build_tiny_base

AUTO = Auto(methods=("full", "lora"), ranks=(2,), rates=(1.0,), trials=2, rows_per_source=30)


def declared(loaded: LoadedProject, **changes: Any) -> LoadedProject:
    training = loaded.spec.training.model_copy(
        update={"method": "auto", "auto": AUTO, "epochs": 1, "full_learning_rate": 0.01, **changes}
    )
    return replace(loaded, spec=loaded.spec.model_copy(update={"training": training}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, LoadedProject]:
    folder = tmp_path_factory.mktemp("auto")
    build_tiny_base(folder / "base")
    write_rows(folder, DAYS, each=60)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    (folder / "defs.yaml").write_text(SPEC.format(**words))
    loaded = declared(load_spec(folder / "defs.yaml"))
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    build_days(ws, loaded, DAYS[:1])
    return ws, loaded


def models(ws: Workspace, loaded: LoadedProject) -> list[Any]:
    run, log = RunContext(), SilentReporter()
    return [
        build_start(ws, loaded, run, log),
        *(build_adapter(ws, loaded, name, run, log) for name in ("mail", "chat")),
        build_merged_model(ws, settled(ws, loaded), run, log),
    ]


def states(ws: Workspace, loaded: LoadedProject) -> dict[str, str]:
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    return {
        r.kind: r.state for r in rows if r.kind in ("choice", "start", "adapter", "merged_model")
    }


def test_a_choice_is_made_once_and_models_are_trained_by_it(
    world: tuple[Workspace, LoadedProject],
) -> None:
    ws, loaded = world
    assert states(ws, loaded)["choice"] == "unbuilt"
    with pytest.raises(MissingArtifactError, match="not chosen yet"):
        settled(ws, loaded)
    assert "nothing was chosen yet" in choice_text(ws, loaded)

    first = models(ws, loaded)
    choice = last_choice(ws, loaded.spec)
    assert choice is not None
    method = choice.location["chosen"]["method"]

    trials = first[0].tables["ways to train"]
    assert {row["method"] for row in trials} == {"full", "lora"}
    assert first[0].metrics["training"].startswith(f"{method} ")
    assert first[1].version.config["training"].get("method", "lora") == method
    assert [i.content_hash for i in first[0].version.inputs if i.role == "choice"] == [
        choice.content_hash
    ]
    assert f"{method} of rank" in choice_text(ws, loaded) or f"{method} at" in choice_text(
        ws, loaded
    )
    assert states(ws, loaded)["choice"] == "fresh"
    assert all(result.reused for result in models(ws, loaded))


def test_a_new_day_within_the_rhythm_keeps_the_choice(
    world: tuple[Workspace, LoadedProject],
) -> None:
    ws, loaded = world
    models(ws, loaded)
    before = last_choice(ws, loaded.spec)
    build_days(ws, loaded, DAYS[1:])

    assert states(ws, loaded)["choice"] == "fresh"
    assert states(ws, loaded)["start"] == "stale"
    start, *_ = models(ws, loaded)
    after = last_choice(ws, loaded.spec)
    assert before is not None
    assert after is not None
    assert after.id == before.id
    assert not start.reused
    assert set(states(ws, loaded).values()) == {"fresh"}


def test_other_ways_to_try_make_the_choice_stale(world: tuple[Workspace, LoadedProject]) -> None:
    ws, loaded = world
    models(ws, loaded)
    other = declared(loaded, auto=AUTO.model_copy(update={"trials": 1}))

    assert states(ws, other)["choice"] == "stale"
    assert (
        states(ws, declared(loaded, auto=AUTO.model_copy(update={"minutes": 1.0})))["choice"]
        == "fresh"
    )  # patience is part of no recipe
