"""Repairs of metadata against planted errors of which the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from fm_platform.cleaning.clean import clean_day
from fm_platform.cleaning.repair import ColumnModel, Proposal
from fm_platform.cleaning.repair_rule import Repairs
from fm_platform.spec.cleaning import Dependency, MetadataRepairRule, RepairedColumn
from tests.cleaning.test_clean import CLASSES, row


def rule(**more: Any) -> MetadataRepairRule:
    columns = more.pop("columns", {"country": RepairedColumn(allowed=("at", "de", "fr"))})
    return MetadataRepairRule(rule="metadata_repair", columns=columns, **more)


def planted(n: int = 600, wrong: float = 0.1) -> tuple[dict[str, list[Any]], list[str], set[int]]:
    """Return cities with their country; some countries are missing, unknown or another's."""
    generator = np.random.default_rng(0)
    city_of = {"wien": "at", "graz": "at", "bonn": "de", "kiel": "de", "lyon": "fr"}
    cities = [str(c) for c in generator.choice(sorted(city_of), n)]
    truth = [city_of[c] for c in cities]
    spoiled = set(np.flatnonzero(generator.random(n) < wrong).tolist())
    told: list[Any] = list(truth)
    for i in spoiled:
        others = [c for c in ("at", "de", "fr") if c != truth[i]]
        told[i] = [None, "xx", str(generator.choice(others))][i % 3]
    source = ["web" if c != "lyon" else "shop" for c in cities]
    return {"city": cities, "country": told, "source": source}, truth, spoiled


def test_a_dependency_and_a_domain_repair_planted_errors() -> None:
    values, truth, spoiled = planted()
    one = rule(dependencies=(Dependency(given=("city",), column="country"),))
    model = ColumnModel("country", one, values)

    found = {i: p for i in range(len(truth)) if (p := model.propose(i)) is not None}

    assert set(found) == spoiled
    assert all(found[i].after == truth[i] for i in found)
    assert all(p.probability > 0.9 for p in found.values())
    assert "have another value" in next(p for p in found.values() if p.before in truth).doubt


def test_without_a_dependency_evidence_tells_and_its_probability_is_honest() -> None:
    values, truth, spoiled = planted(2_000)
    one = rule(evidence=("source",))
    model = ColumnModel("country", one, values)

    found = {i: p for i in range(len(truth)) if (p := model.propose(i)) is not None}

    assert set(found) < spoiled  # a wrong country of the domain is not seen
    shop = [p for i, p in found.items() if values["source"][i] == "shop"]
    assert all(p.after == "fr" for p in shop)
    web = {i: p for i, p in found.items() if values["source"][i] == "web"}
    right = np.mean([p.after == truth[i] for i, p in web.items()])
    said = np.mean([p.probability for p in web.values()])
    assert said == pytest.approx(right, abs=0.15)
    assert said < 0.7


def test_a_number_beyond_its_range_gets_the_value_of_its_group() -> None:
    values = {"shop": ["a"] * 30 + ["b"] * 30, "stars": [5] * 29 + [99] + [1] * 30}
    columns = {"stars": RepairedColumn(minimum=0, maximum=5)}
    model = ColumnModel("stars", rule(columns=columns, evidence=("shop",)), values)
    one = model.propose(29)
    assert one is not None
    assert (one.before, one.after) == (99, 5)
    assert one.doubt == "99 lies above 5"
    assert model.propose(0) is None


def test_sure_repairs_are_made_and_unsure_ones_wait_or_are_given_back() -> None:
    rows = [row(i, f"t{i}", lang=None) for i in range(3)]
    known = {
        0: Repairs({f"{i:032x}": {"lang": Proposal(None, "de", p, "it is missing")}
                    for i, p in enumerate([0.95, 0.6, 0.2])})
    }  # fmt: skip
    declared = rule(columns={"lang": RepairedColumn()})

    def done(**more: Any) -> Any:
        schema = pa.Table.from_pylist([row(0, "")]).schema
        table = pa.Table.from_pylist(rows, schema)
        return clean_day(table.to_batches(), [declared], CLASSES, frozenset(), "-",
                         known=known, **more)  # fmt: skip

    def values(**more: Any) -> list[str | None]:
        return done(**more).kept[0]["lang"].to_pylist()  # type: ignore[no-any-return]

    assert values() == ["de", None, None]
    (change,) = done().quarantine[0].to_pylist()
    assert (change["column"], change["before"], change["after"]) == ("lang", None, "de")
    assert [(c["applied"], c["probability"]) for c in done().corrections] == [
        (True, 0.95), (False, 0.6),
    ]  # fmt: skip
    assert values(accepted={"metadata_repair": frozenset([f"{1:032x}"])}) == ["de", "de", None]
    assert values(rejected={"metadata_repair": frozenset([f"{0:032x}"])}) == [None, None, None]


def test_a_value_outside_its_range_without_a_likely_one_is_proposed_to_be_made_missing() -> None:
    one = rule(columns={"price": RepairedColumn(minimum=0)})
    prices = [float(i) for i in range(300)]
    prices[7] = -5.0
    model = ColumnModel("price", one, {"price": list(prices), "source": ["web"] * 300})
    proposal = model.propose(7)
    assert proposal is not None
    assert proposal.probability < one.review_probability
    columns = [{**row(i, "text"), "price": price} for i, price in enumerate(prices[:10])]
    batch = pa.RecordBatch.from_pylist(columns)
    known = {0: Repairs({f"{7:032x}": {"price": proposal}})}

    def done(accepted: set[str]) -> Any:
        return clean_day([batch], [one], CLASSES, frozenset(), "2026-01-01", known=known,
                         accepted={"metadata_repair": frozenset(accepted)})  # fmt: skip

    proposed, accepted = done(set()), done({f"{7:032x}"})

    (note,) = proposed.corrections
    assert (note["before"], note["after"], note["applied"]) == ("-5.0", None, False)
    assert note["reason"] == "-5.0 lies below 0; no value is likely, so it would be missing"
    assert proposed.kept[0]["price"].to_pylist() == prices[:10]
    assert accepted.kept[0]["price"].to_pylist() == [*prices[:7], None, *prices[8:10]]
    assert accepted.quarantine[0].num_rows == 1


def test_a_dependency_on_an_unnamed_column_is_refused() -> None:
    with pytest.raises(ValidationError, match="name it in `columns`"):
        rule(dependencies=(Dependency(given=("city",), column="street"),))
