"""Marks of models: through a base swap, for any moment, from the ledger alone."""

from __future__ import annotations

from datetime import datetime

import pytest

from fm_platform.errors import LedgerError
from fm_platform.lineage.database import now
from fm_platform.lineage.ledger import ArtifactVersion, Ledger
from fm_platform.lineage.marks import (
    Mark,
    base_of,
    declared_base,
    evaluations_of,
    mark,
    marks,
)
from fm_platform.lineage.recipes import spec_recipe
from fm_platform.lineage.records import Input, Produced, Recipe
from tests.lineage.factory import record
from tests.lineage.simulated import Simulation, make_spec


class World(Simulation):
    """A simulated project that records its definition before a run, as real runs do."""

    def declare_and_run(self) -> datetime:
        base = Input("base_model", "base_model", None, self.base)
        recipe: Recipe = spec_recipe(self.spec, [base])
        record(self.ledger, recipe, Produced(recipe.hash, {}))
        self.run()
        return now()

    def model(self, kind: str, name: str, number: int) -> ArtifactVersion:
        found = [v for v in self.ledger.versions("shop", kind, name) if v.number == number]
        return self.ledger.get(found[0].id)


@pytest.fixture
def swapped(ledger: Ledger) -> tuple[World, datetime, datetime]:
    """Two bases one after the other; of the second, the experts are not evaluated yet."""
    world = World(ledger, make_spec(days=2))
    world.base = "a" * 64
    first = world.declare_and_run()
    world.base = "b" * 64
    base = Input("base_model", "base_model", None, world.base)
    recipe = spec_recipe(world.spec, [base])
    record(ledger, recipe, Produced(recipe.hash, {}))
    return world, first, now()


def by_name(found: list[Mark]) -> dict[str, Mark]:
    return {f"{m.version.name}#{m.version.number}": m for m in found}


def test_every_model_is_current_and_evaluated_before_the_swap(
    swapped: tuple[World, datetime, datetime],
) -> None:
    world, first, _ = swapped

    found = by_name(marks(world.ledger, "shop", first))

    assert set(found) == {"shared_start#1", "mail#1", "chat#1", "merged_model#1"}
    for model in found.values():
        assert (model.state, model.base, model.declared) == ("current", "a" * 64, "a" * 64)
        assert len(model.evaluations) == 1
        assert model.why == ""


def test_after_the_swap_every_model_is_marked(swapped: tuple[World, datetime, datetime]) -> None:
    world, _, _ = swapped

    for model in marks(world.ledger, "shop"):
        assert (model.state, model.base, model.declared) == ("other base", "a" * 64, "b" * 64)
        assert model.why == (
            f"made for base {'a' * 12}, the project declares {'b' * 12}; not trained again yet"
        )


def test_trained_again_they_are_current_and_the_old_stay_with_their_base(
    swapped: tuple[World, datetime, datetime],
) -> None:
    world, first, _ = swapped
    world.run()

    now_found, ever = by_name(marks(world.ledger, "shop")), by_name(
        marks(world.ledger, "shop", every=True)
    )  # fmt: skip

    assert {m.state for m in now_found.values()} == {"current"}
    assert {m.base for m in now_found.values()} == {"b" * 64}
    assert ever["mail#1"].base == "a" * 64
    assert ever["mail#2"].base == "b" * 64
    # no evaluation ever measured a model on another base than its own
    for model in ever.values():
        assert model.evaluations
        for evaluation in world.ledger.get_many([e.id for e in model.evaluations]):
            judged = next(i for i in evaluation.inputs if i.role == "merged_model")
            merged = world.ledger.get(judged.version_id or 0)
            named = {
                i.role for i in evaluation.inputs if i.content_hash == model.version.content_hash
            }
            assert base_of(world.ledger, merged) == model.base or named == {"champion"}
    assert {m.state for m in marks(world.ledger, "shop", first)} == {"current"}


def test_a_marked_model_tells_what_came_of_it(swapped: tuple[World, datetime, datetime]) -> None:
    world, first, _ = swapped
    world.run()
    old, new = (world.model("merged_model", "merged_model", n) for n in (1, 2))
    world.ledger.record_decision("shop", "refusal", new.id, {}, "worse on mail")

    merged, adapter = mark(world.ledger, old), mark(world.ledger, world.model("adapter", "mail", 1))

    assert merged.successor is not None
    assert merged.successor.id == new.id
    assert merged.why.endswith("trained again as merged_model#2, refused: worse on mail")
    assert adapter.why.endswith("trained again as adapter/mail#2")
    assert mark(world.ledger, old, first).successor is None
    assert mark(world.ledger, new).successor is None


def test_a_model_without_evaluation_says_so(swapped: tuple[World, datetime, datetime]) -> None:
    world, _, _ = swapped
    world.run(only={"start", "adapter", "embeddings", "votes", "label_model", "weak_labels",
                    "cleaned"})  # fmt: skip

    found = mark(world.ledger, world.model("adapter", "mail", 2))

    assert (found.state, found.evaluations, found.why) == ("current", (), "not evaluated")


def test_aliases_are_those_of_the_moment(swapped: tuple[World, datetime, datetime]) -> None:
    world, first, _ = swapped
    merged = world.model("merged_model", "merged_model", 1)
    world.ledger.set_alias("shop", "champion", merged.id, expected=None, reason="", actor="me")

    assert mark(world.ledger, merged).aliases == ("champion",)
    assert mark(world.ledger, merged, first).aliases == ()


def test_without_a_definition_no_base_is_declared(ledger: Ledger) -> None:
    world = Simulation(ledger, make_spec(days=1))
    world.run()

    assert declared_base(ledger, "shop") is None
    assert {m.why for m in marks(ledger, "shop")} == {"no base is declared"}


def test_no_model_no_mark(ledger: Ledger) -> None:
    world = Simulation(ledger, make_spec(days=1))
    world.run(only={"raw"})
    raw = ledger.latest("shop", "raw", "raw", world.days[0])
    assert raw is not None

    assert marks(ledger, "shop") == []
    assert base_of(ledger, raw) is None
    assert evaluations_of(ledger, raw) == []
    with pytest.raises(LedgerError, match="is no model"):
        mark(ledger, raw)


def test_the_adapter_of_a_removed_expert_is_not_current(
    swapped: tuple[World, datetime, datetime],
) -> None:
    world, _, before = swapped
    kept = tuple(expert for expert in world.spec.experts if expert.name != "chat")
    world.spec = world.spec.model_copy(update={"experts": kept})
    world.declare_and_run()

    found = by_name(marks(world.ledger, "shop"))

    assert (found["chat#1"].state, found["mail#2"].state) == ("not declared", "current")
    assert found["chat#1"].why == "expert chat is no longer declared"
    assert by_name(marks(world.ledger, "shop", before))["chat#1"].state == "other base"
