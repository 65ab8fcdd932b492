"""Loss, weights and subset of training rows in the chain: what is read, built, reused and told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fm_platform.cli.plan import choice_text, rows_text
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.choosing import choice_recipe
from fm_platform.lineage.status import status
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.spec.training import Auto
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.choice import last_choice
from fm_platform.stages.probe import probe
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, SPEC, build_days, write_rows
from tests.support.tiny_model import WORDS, build_tiny_base

World = tuple[Workspace, LoadedProject]
RUN, LOG = RunContext(), SilentReporter()
DECLARED = {"loss": "generalised", "weights": "confidence", "subset": 0.5, "epochs": 1}
AUTO = {
    "methods": ("head",), "ranks": (2,), "rates": (1.0,), "trials": 3, "rows_per_source": 20,
    "losses": ("soft", "generalised"), "subsets": (1.0, 0.5), "judge": "gold",
}  # fmt: skip


def declared(loaded: LoadedProject, **changes: Any) -> LoadedProject:
    training = loaded.spec.training.model_copy(update=changes)
    return replace(loaded, spec=loaded.spec.model_copy(update={"training": training}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("noisy")
    build_tiny_base(folder / "base")
    write_rows(folder, DAYS, each=40)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    (folder / "defs.yaml").write_text(SPEC.format(**words))
    loaded = load_spec(folder / "defs.yaml")
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    build_days(ws, loaded)
    return ws, loaded


def states(ws: Workspace, loaded: LoadedProject, *kinds: str) -> dict[str, str]:
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    return {r.kind: r.state for r in rows if r.kind in kinds}


def embedded(ws: Workspace, loaded: LoadedProject) -> dict[str | None, str]:
    """Return the state of the embeddings that are wanted, by day."""
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    return {r.partition: r.state for r in rows if r.kind == "embeddings"}


def test_days_that_nothing_is_trained_on_need_no_embeddings(world: World) -> None:
    ws, plain = world

    assert [*embedded(ws, declared(plain, subset=0.5))] == [*DAYS]
    assert [*embedded(ws, declared(plain, subset=0.5, window_days=1))] == [DAYS[-1]]
    auto = Auto.model_validate(AUTO)
    assert [*embedded(ws, declared(plain, method="auto", auto=auto))] == [DAYS[0]]


def test_models_are_trained_as_declared_and_reused(world: World) -> None:
    ws, plain = world
    loaded = declared(plain, **DECLARED)
    kinds = ("embeddings", "start", "adapter")
    assert set(states(ws, plain, *kinds)) == {"start", "adapter"}  # nothing else is wanted

    start = build_start(ws, loaded, RUN, LOG)
    mail = build_adapter(ws, loaded, "mail", RUN, LOG)
    build_adapter(ws, loaded, "chat", RUN, LOG)

    for built in (start, mail):
        assert [i.partition for i in built.version.inputs if i.role == "embeddings"] == [*DAYS]
        told = built.version.config["training"]
        assert {name: told[name] for name in DECLARED} == DECLARED
        assert (told["loss_q"], told["subset_by"]) == (0.7, "coverage")
    assert states(ws, loaded, *kinds) == dict.fromkeys(kinds, "fresh")
    assert build_adapter(ws, loaded, "mail", RUN, LOG).reused


def test_the_surest_rows_need_no_embeddings(world: World) -> None:
    ws, plain = world
    loaded = declared(plain, subset=0.5, subset_by="certainty", epochs=1)

    start = build_start(ws, loaded, RUN, LOG)

    assert {i.role for i in start.version.inputs} == {"cleaned", "base_model"}


def test_trials_differ_as_declared_and_gold_rows_judge(world: World) -> None:
    ws, plain = world
    loaded = declared(plain, method="auto", auto=Auto.model_validate(AUTO), epochs=1)
    start = build_start(ws, loaded, RUN, LOG)
    choice = last_choice(ws, loaded.spec)

    assert choice is not None
    trials = start.tables["ways to train"]
    assert [(row["loss"], row["subset"]) for row in trials] == [
        ("soft", 1.0), ("generalised", 1.0), ("soft", 0.5),
    ]  # fmt: skip
    assert all(row["weights"] == "none" and 0 <= row["gold_accuracy"] <= 1 for row in trials)
    assert {"gold", "embeddings"} < {item.role for item in choice.inputs}
    assert set(choice.location["chosen"]) >= {"loss", "subset"}
    assert "weights" not in choice.location["chosen"]
    assert states(ws, loaded, "choice", "start") == {"choice": "fresh", "start": "fresh"}
    some = choice.location["chosen"]["subset"] < 1
    assert embedded(ws, loaded) == dict.fromkeys(DAYS if some else DAYS[:1], "fresh")
    assert "tried beside: losses soft, generalised; subsets 1.0, 0.5; judged by gold" in (
        choice_text(ws, loaded)
    )


def test_a_search_without_further_dimensions_is_in_no_other_recipe(world: World) -> None:
    _, plain = world
    recipe = choice_recipe(plain.spec, DAYS[0], [], "base", None)

    assert not {"losses", "weights", "subsets", "judge"} & set(recipe.config["auto"])
    assert not {"loss", "loss_q", "weights", "subset", "subset_by"} & set(recipe.config["training"])


def test_what_is_declared_is_told(world: World) -> None:
    _, plain = world

    assert rows_text(plain.spec.training) == ""
    assert rows_text(declared(plain, **DECLARED).spec.training) == (
        "training rows: generalised cross entropy, q 0.7; rows weighted by confidence; "
        "50 % of the rows, by coverage"
    )
