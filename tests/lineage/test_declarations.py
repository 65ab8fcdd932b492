"""Stale because of what was declared, judged at any moment from the ledger alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from fm_platform.hashing import fingerprint
from fm_platform.lineage.database import now
from fm_platform.lineage.graph import Graph, graph_at
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.recipes import machinery, spec_recipe
from fm_platform.lineage.records import Input, Produced, RunContext
from tests.lineage.simulated import Simulation, make_spec


def declare(project: Simulation, commit: str | None, *, dirty: bool = False, **code: str) -> None:
    """Record what the project declares now; `code` stands in for the code of some kinds."""
    inputs = [
        *(Input("function", f.name, None, f.fingerprint) for f in project.functions),
        Input("base_model", "base_model", None, project.base),
        *(
            replace(item, content_hash=code[item.name])
            if item.role == "code" and item.name in code
            else item
            for item in machinery()
        ),
    ]
    for function in project.functions:
        project.ledger.remember(
            function.fingerprint, "function", {"name": function.name, "needs": function.needs}
        )
    recipe = spec_recipe(project.spec, inputs)
    known = project.ledger.lookup(recipe.hash)
    if known is not None:
        project.ledger.use(recipe, known)
        return
    run = RunContext(git_commit=commit, git_dirty=dirty)
    project.ledger.record(recipe, Produced(fingerprint(recipe.hash), {}), run, now(), now())


@pytest.fixture
def project(ledger: Ledger) -> Simulation:
    made = Simulation(ledger, make_spec())
    declare(made, "aaaaaaaaaa")
    made.run()
    return made


def stale(graph: Graph) -> dict[str, str]:
    return {n.label: n.why for n in graph.nodes if n.state == "stale"}


def told(project: Simulation, at: datetime | None = None) -> dict[str, str]:
    return stale(graph_at(project.ledger, "shop", at))


def test_what_was_built_as_declared_is_fresh(project: Simulation) -> None:
    assert told(project) == {}


def test_an_edited_function_is_the_cause_with_its_commit(project: Simulation) -> None:
    before = now()
    project.edit("plain_1", "other source")
    declare(project, "bbbbbbbbbb")

    found = told(project)

    cause = "labeling function plain_1 changed at commit bbbbbbb"
    assert found["votes/plain_1/2026-01-01"] == cause
    assert found["adapter/mail"].endswith(cause)
    assert "votes/plain_0/2026-01-01" not in found
    assert "raw/2026-01-01" not in found
    assert told(project, before) == {}
    project.run()
    assert told(project) == {}


def test_the_commit_is_that_of_the_change_not_the_last_one(project: Simulation) -> None:
    project.edit("plain_1", "other source")
    declare(project, "bbbbbbbbbb", dirty=True)
    project.edit("plain_0", "yet another")
    declare(project, "cccccccccc")

    found = told(project)

    assert found["votes/plain_1/2026-01-01"] == (
        "labeling function plain_1 changed at commit bbbbbbb with uncommitted changes"
    )
    assert found["votes/plain_0/2026-01-01"].endswith("at commit ccccccc")


def test_a_swapped_base_makes_every_adapter_stale(project: Simulation) -> None:
    project.base = "another base"
    declare(project, "bbbbbbbbbb")

    found = told(project)

    assert found["start/shared_start"] == "base_model changed at commit bbbbbbb"
    assert found["adapter/mail"] == (
        "shared_start (and 4 more) is stale: base_model changed at commit bbbbbbb"
    )
    assert {"adapter/mail", "adapter/chat", "merged_model", "evaluation"} <= set(found)
    assert found["cleaned/2026-01-01"].endswith("base_model changed at commit bbbbbbb")
    assert "votes/plain_0/2026-01-01" not in found


def test_a_new_class_makes_everything_stale(project: Simulation) -> None:
    project.spec = make_spec(taxonomy={"classes": ["good", "bad", "mixed"], "version": 2})
    declare(project, None)

    found = told(project)

    assert found["raw/2026-01-01"] == (
        "configuration changed (classes: ['good', 'bad'] -> ['good', 'bad', 'mixed'])"
    )
    heads = {n.label for n in graph_at(project.ledger, "shop").nodes if n.kind != "spec"}
    assert heads == set(found)


def test_a_description_matters_to_the_card_of_the_model_only(project: Simulation) -> None:
    project.spec = make_spec(description="new words")
    declare(project, "bbbbbbbbbb")

    found = told(project)

    assert set(found) == {"merged_model", "evaluation"}
    assert "description" in found["merged_model"]


def test_a_removed_function_is_no_longer_declared(project: Simulation) -> None:
    project.functions = [f for f in project.functions if f.name != "plain_1"]
    declare(project, "bbbbbbbbbb")

    found = told(project)

    assert found["votes/plain_1/2026-01-01"] == (
        "labeling function plain_1 is no longer declared at commit bbbbbbb"
    )
    assert "functions" in found["label_model/2026-01-01"]


def test_changed_code_is_told_by_module(project: Simulation) -> None:
    project.ledger.remember("new code", "code", {"fm_platform.training.train": "x"})
    declare(project, "bbbbbbbbbb", adapter="new code")

    found = told(project)

    assert found["adapter/mail"].startswith("its code changed (fm_platform.")
    assert found["adapter/mail"].endswith("at commit bbbbbbb")
    assert "start/shared_start" not in found


def test_what_is_declared_again_is_fresh_again(project: Simulation) -> None:
    project.edit("plain_1", "other source")
    declare(project, "bbbbbbbbbb")
    between = now()
    project.edit("plain_1", "source of plain_1")
    declare(project, "aaaaaaaaaa")

    assert told(project) == {}
    assert told(project, between) != {}


def test_a_definition_of_another_release_judges_nothing(project: Simulation) -> None:
    recipe = spec_recipe(project.spec, machinery())
    odd = replace(recipe, config={"name": "shop", "unknown_field": 1})
    project.ledger.record(odd, Produced("f" * 64, {}), RunContext(), now(), now())

    assert told(project) == {}


def test_a_day_that_came_makes_models_stale(ledger: Ledger) -> None:
    project = Simulation(ledger, make_spec(days=3))
    project.run()
    grown = Simulation(ledger, make_spec(days=4))
    grown.run(only={"raw", "embeddings", "votes", "label_model", "weak_labels", "cleaned"})

    found = told(grown)

    assert found["start/shared_start"] == "cleaned 2026-01-04 is new"
    assert found["evaluation"] == "raw 2026-01-04, weak_labels 2026-01-04 are new"
    assert set(found) == {
        "start/shared_start", "adapter/mail", "adapter/chat", "merged_model", "evaluation",
    }  # fmt: skip


def test_a_smaller_window_lets_days_go(project: Simulation) -> None:
    project.spec = make_spec(training={"window_days": 2})
    declare(project, "bbbbbbbbbb")

    found = told(project)

    assert found["start/shared_start"] == (
        "cleaned 2026-01-01, cleaned 2026-01-02 are no longer in the window"
    )
