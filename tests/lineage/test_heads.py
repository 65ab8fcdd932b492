from __future__ import annotations

import pytest

from fm_platform.errors import LedgerError
from fm_platform.lineage import heads, schema
from fm_platform.lineage.graph import graph_at
from fm_platform.lineage.heads import heads_at
from fm_platform.lineage.ledger import Ledger, now
from tests.lineage.simulated import Simulation, make_spec


@pytest.fixture
def built(ledger: Ledger) -> Simulation:
    project = Simulation(ledger, make_spec())
    project.run()
    return project


def test_asked_again_gives_what_a_ledger_says_that_was_opened_just_now(built: Simulation) -> None:
    first = heads_at(built.ledger, "shop", None)
    before = now()
    built.edit("plain_0", "another source")
    built.run()

    later = heads_at(built.ledger, "shop", None)
    then = heads_at(built.ledger, "shop", before)
    built.ledger.kept_readings.clear()

    assert later == heads_at(built.ledger, "shop", None) != first
    assert then == first


@pytest.mark.parametrize(
    ("card", "told"), [(None, "have no card"), ("[7]", "cannot be read"), ("[", "cannot be read")]
)
def test_a_use_without_a_good_card_is_told_not_left_out(
    built: Simulation, card: str | None, told: str
) -> None:
    with built.ledger.engine.begin() as connection:
        connection.execute(schema.uses.update().where(schema.uses.c.id == 1).values(card=card))

    with pytest.raises(LedgerError, match=told):
        heads_at(built.ledger, "shop", None)


def test_what_is_kept_has_a_bound(built: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "KEPT", 5)
    graph = graph_at(built.ledger, "shop")

    assert len(built.ledger.kept_readings) == 5
    assert graph_at(built.ledger, "shop") == graph
