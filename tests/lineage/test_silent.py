"""An expert that no day has a row for is left out, and wanted again when rows come."""

from __future__ import annotations

from collections.abc import Mapping

from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import Recipe
from tests.lineage.simulated import Simulation, make_spec


class Silent(Simulation):
    """A world in which some sources have no rows."""

    def __init__(self, ledger: Ledger, **more: object) -> None:
        super().__init__(ledger, make_spec(2, ("mail", "chat", "phone"), **more))
        self.silent = {"phone"}

    def _parts(self, recipe: Recipe, content: str) -> Mapping[str, str]:
        parts = super()._parts(recipe, content)
        return {name: value for name, value in parts.items() if name not in self.silent}


def experts(world: Simulation) -> list[str]:
    return [row.name for row in world.status() if row.kind == "adapter"]


def test_the_others_are_merged_without_it(ledger: Ledger) -> None:
    world = Silent(ledger)
    world.run(), world.run()  # what has rows is known once the days are built

    assert experts(world) == ["mail", "chat"]
    assert set(world.states()) == {"fresh"}
    assert ("adapter", "phone", None) not in world.made[-3:]
    merged = ledger.latest("shop", "merged_model", "merged_model")
    assert merged is not None
    assert [one.name for one in merged.inputs if one.role == "adapter"] == ["mail", "chat"]


def test_it_is_wanted_when_rows_come(ledger: Ledger) -> None:
    world = Silent(ledger)
    world.run(), world.run()

    world.silent = set()
    world.sources["phone", world.days[1]] = "calls"

    world.run(), world.run()
    assert experts(world) == ["mail", "chat", "phone"]
    assert set(world.states()) == {"fresh"}


def test_weights_that_were_declared_are_those_of_the_others(ledger: Ledger) -> None:
    world = Silent(ledger, merge={"weights": {"mail": 0.5, "chat": 0.25, "phone": 0.25}})
    world.run(), world.run()

    merged = ledger.latest("shop", "merged_model", "merged_model")
    assert merged is not None
    assert merged.config["merge"]["weights"] == {"mail": 0.5, "chat": 0.25}
