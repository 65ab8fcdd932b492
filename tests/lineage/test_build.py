from __future__ import annotations

from typing import Any

import pytest

from fm_platform.errors import (
    CorruptArtifactError,
    FencedError,
    MissingArtifactError,
    NonReproducibleError,
)
from fm_platform.hashing import sha256_hex
from fm_platform.lineage.build import BuildResult, build, lease_key, record_spec
from fm_platform.lineage.leases import Lease
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Input, Produced, Recipe, RunContext
from fm_platform.spec.models import ProjectSpec
from tests.lineage.factory import make_recipe


class Shelf:
    """A store of texts: what is computed, what is damaged, what was set aside."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.kept: dict[str, str] = {}
        self.computed: list[str] = []
        self.set_aside: list[int] = []

    def make(self, recipe: Recipe, text: str) -> BuildResult:
        def compute(lease: Lease) -> Produced:
            self.ledger.check_lease(lease)
            self.computed.append(recipe.name)
            self.kept[recipe.hash] = text
            return Produced(sha256_hex(text.encode()), {"key": recipe.hash}, rows=len(text))

        def verify(version: ArtifactVersion) -> None:
            text = self.kept.get(version.location["key"])
            if text is None:
                raise MissingArtifactError("the text is gone")
            if sha256_hex(text.encode()) != version.content_hash:
                raise CorruptArtifactError("the text differs")

        def on_damage(version: ArtifactVersion, _error: Exception) -> None:
            self.set_aside.append(version.id)

        return build(
            self.ledger, recipe, verify=verify, compute=compute, run=RunContext(),
            on_damage=on_damage,
        )  # fmt: skip


@pytest.fixture
def shelf(ledger: Ledger) -> Shelf:
    return Shelf(ledger)


def below(name: str, *above: ArtifactVersion, **changes: Any) -> Recipe:
    inputs = tuple(version.as_input(version.name) for version in above)
    return make_recipe(kind=name, name=name, inputs=inputs, **changes)


def test_first_build_computes(shelf: Shelf) -> None:
    made = shelf.make(make_recipe(), "rows")

    assert (made.reused, made.reason) == (False, "never built")
    assert shelf.computed == ["raw"]


def test_second_build_computes_nothing(shelf: Shelf) -> None:
    first = shelf.make(make_recipe(), "rows")

    again = shelf.make(make_recipe(), "rows")

    assert again.version == first.version
    assert again.reused
    assert again.reason.startswith("reused ")
    assert shelf.computed == ["raw"]


def test_input_that_comes_out_the_same_leaves_everything_below_valid(shelf: Shelf) -> None:
    old = shelf.make(make_recipe(code="old"), "same rows").version
    cleaned = shelf.make(below("cleaned", old), "clean").version
    model = shelf.make(below("model", cleaned), "weights").version

    new = shelf.make(make_recipe(code="new"), "same rows").version
    cleaned_again = shelf.make(below("cleaned", new), "clean")
    model_again = shelf.make(below("model", cleaned_again.version), "weights")

    assert new.id != old.id
    assert cleaned_again.reused
    assert model_again.version == model
    assert shelf.computed == ["raw", "cleaned", "model", "raw"]


def test_change_above_is_named(shelf: Shelf) -> None:
    old = shelf.make(make_recipe(code="old"), "rows").version
    shelf.make(below("cleaned", old), "clean")

    new = shelf.make(make_recipe(code="new"), "other rows").version
    again = shelf.make(below("cleaned", new), "clean")

    assert again.reason == "raw 2026-01-01 changed"


def test_going_back_reuses_the_old_version(shelf: Shelf, ledger: Ledger) -> None:
    first = shelf.make(make_recipe(config={"n": 1}), "one")
    shelf.make(make_recipe(config={"n": 2}), "two")

    back = shelf.make(make_recipe(config={"n": 1}), "one")

    assert back.reused
    assert ledger.latest("shop", "raw", "raw", "2026-01-01") == first.version


@pytest.mark.parametrize("damage", ["flip", "remove"])
def test_damaged_version_is_set_aside_and_computed_again(shelf: Shelf, damage: str) -> None:
    made = shelf.make(make_recipe(), "rows").version
    if damage == "flip":
        shelf.kept[made.recipe_hash] = "rOws"
    else:
        del shelf.kept[made.recipe_hash]

    again = shelf.make(make_recipe(), "rows")

    assert again.version == made
    assert not again.reused
    assert again.reason.startswith("damaged: the text ")
    assert shelf.set_aside == [made.id]
    assert shelf.make(make_recipe(), "rows").reused


def test_other_error_while_verifying_is_not_taken_for_damage(shelf: Shelf) -> None:
    made = shelf.make(make_recipe(), "rows").version

    with pytest.raises(PermissionError):
        build(
            shelf.ledger, make_recipe(), verify=refuse, compute=lambda _l: Produced("", {}),
            run=RunContext(),
        )  # fmt: skip
    assert shelf.ledger.versions("shop")[0].id == made.id


def refuse(_version: ArtifactVersion) -> None:
    raise PermissionError("not readable now")


def test_one_recipe_with_two_contents_is_reported(shelf: Shelf, ledger: Ledger) -> None:
    made = shelf.make(make_recipe(), "rows").version
    del shelf.kept[made.recipe_hash]

    with pytest.raises(NonReproducibleError):
        shelf.make(make_recipe(), "rows in another order")

    assert [conflict.version.id for conflict in ledger.conflicts("shop")] == [made.id]
    assert ledger.held_leases() == []


def test_run_that_was_overtaken_records_nothing(shelf: Shelf, ledger: Ledger) -> None:
    def overtaken(_lease: Lease) -> Produced:
        ledger.acquire_lease(lease_key(make_recipe()), "newer run")
        return Produced("ab", {})

    with pytest.raises(FencedError):
        build(
            ledger, make_recipe(), verify=refuse, compute=overtaken, run=RunContext(),
        )  # fmt: skip

    assert ledger.versions("shop") == []
    assert [lease.holder for lease in ledger.held_leases()] == ["newer run"]


def test_failed_computation_gives_its_lease_back(shelf: Shelf, ledger: Ledger) -> None:
    def fail(_lease: Lease) -> Produced:
        raise ValueError("no rows")

    with pytest.raises(ValueError, match="no rows"):
        build(ledger, make_recipe(), verify=refuse, compute=fail, run=RunContext())

    assert ledger.held_leases() == []


def test_edges_lead_to_the_versions_read(shelf: Shelf) -> None:
    raw = shelf.make(make_recipe(), "rows").version
    cleaned = shelf.make(below("cleaned", raw), "clean").version

    assert [item.version_id for item in cleaned.inputs] == [raw.id]


def test_spec_is_recorded_once(ledger: Ledger) -> None:
    spec = make_spec()

    first = record_spec(ledger, spec, RunContext())
    again = record_spec(ledger, spec, RunContext())
    other = record_spec(ledger, make_spec(description="new"), RunContext())

    assert first == again
    assert other.number == 2
    assert ProjectSpec(**other.location["spec"]).description == "new"


def make_spec(**changes: Any) -> ProjectSpec:
    fields: dict[str, Any] = {
        "name": "shop",
        "taxonomy": {"classes": ["good", "bad"]},
        "calendar": {"start": "2026-01-01"},
        "sources": [{"name": "mail", "options": {"path": "a.csv"}}],
    }
    return ProjectSpec(**{**fields, **changes})


def test_unused_input_role_is_named(shelf: Shelf) -> None:
    one = shelf.make(make_recipe(), "rows")
    source = Input("source", "chat", "2026-01-01", "ab")

    again = shelf.make(make_recipe(inputs=(source,)), "other")

    assert not one.reused
    assert again.reason == "source chat 2026-01-01 is new; source mail 2026-01-01 is gone"
