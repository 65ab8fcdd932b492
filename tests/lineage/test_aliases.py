from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fm_platform.errors import AliasConflictError, LedgerError, RefError
from fm_platform.lineage import database
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.refs import resolve
from tests.lineage.factory import EARLY, make_produced, make_recipe, record
from tests.support.kill import Acks, Ready, race


def model(ledger: Ledger, number: int) -> int:
    recipe = make_recipe(kind="merged_model", name="merged_model", partition=None, seed=number)
    return record(ledger, recipe, make_produced(f"model {number}")).id


def champion(ledger: Ledger, version_id: int | None, expected: int | None) -> None:
    ledger.set_alias(
        "shop", "champion", version_id, expected=expected, reason="better", actor="gate"
    )


def test_alias_moves_when_expected(ledger: Ledger) -> None:
    one, two = model(ledger, 1), model(ledger, 2)

    champion(ledger, one, None)
    champion(ledger, two, one)

    named = ledger.alias("shop", "champion")
    assert named is not None
    assert named.id == two
    assert [m.version_id for m in ledger.alias_history("shop", "champion")] == [one, two]
    assert ledger.aliases("shop") == {"champion": two}


def test_loser_is_told_who_won(ledger: Ledger) -> None:
    one, two = model(ledger, 1), model(ledger, 2)
    champion(ledger, one, None)

    with pytest.raises(AliasConflictError) as caught:
        champion(ledger, two, None)

    assert f"version {one}, set by gate: better" in str(caught.value)


def test_alias_can_be_taken_away(ledger: Ledger) -> None:
    one = model(ledger, 1)
    champion(ledger, one, None)
    champion(ledger, None, one)

    assert ledger.alias("shop", "champion") is None
    assert ledger.aliases("shop") == {}


def test_alias_as_of_then(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "now", lambda: EARLY)
    one, two = model(ledger, 1), model(ledger, 2)
    for hour, (new, old) in enumerate(((one, None), (two, one)), start=1):
        at = EARLY + timedelta(hours=hour)
        monkeypatch.setattr(database, "now", lambda at=at: at)
        champion(ledger, new, old)

    assert ledger.alias_id("shop", "champion", at=EARLY) is None
    assert ledger.alias_id("shop", "champion", at=EARLY + timedelta(hours=1)) == one
    assert ledger.alias_id("shop", "champion", at=EARLY + timedelta(1)) == two


def test_naming_what_it_names_already_is_no_move(ledger: Ledger) -> None:
    one = model(ledger, 1)
    champion(ledger, one, None)
    champion(ledger, one, one)

    assert len(ledger.alias_history("shop", "champion")) == 1


def test_unknown_version_is_no_conflict(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="no version of shop"):
        champion(ledger, 9, None)


def test_version_of_another_project_is_refused(ledger: Ledger) -> None:
    other = record(ledger, make_recipe(project="other"))

    with pytest.raises(LedgerError, match="no version of shop"):
        champion(ledger, other.id, None)


def test_rival_stays_the_same_after_promotion_and_refusal(ledger: Ledger) -> None:
    one, two = model(ledger, 1), model(ledger, 2)

    assert ledger.rival("shop", "champion", ledger.get(one)) is None
    champion(ledger, one, None)
    assert ledger.rival("shop", "champion", ledger.get(one)) is None
    before = ledger.rival("shop", "champion", ledger.get(two))
    champion(ledger, two, one)
    after = ledger.rival("shop", "champion", ledger.get(two))

    assert before is not None
    assert before == after == ledger.get(one)


def test_a_challenger_that_is_promoted_is_none_any_more(ledger: Ledger) -> None:
    one, two = model(ledger, 1), model(ledger, 2)
    ledger.set_alias("shop", "challenger", two, expected=None, reason="merged", actor="run")

    champion(ledger, one, None)
    assert ledger.aliases("shop") == {"champion": one, "challenger": two}
    champion(ledger, two, one)

    assert ledger.aliases("shop") == {"champion": two}
    with pytest.raises(RefError, match="'challenger' names no version"):
        resolve(ledger, "shop", "challenger")
    ledger.set_alias("shop", "challenger", one, expected=two, reason="merged", actor="run")
    assert ledger.aliases("shop") == {"champion": two, "challenger": one}
    assert resolve(ledger, "shop", "challenger").id == one
    ledger.set_alias("shop", "champion", one, expected=two, reason="better", actor="run")
    ledger.set_alias("shop", "champion", two, expected=one, reason="rollback", actor="me")
    assert ledger.aliases("shop") == {"champion": two}  # it had its try


def test_decisions_keep_their_numbers(ledger: Ledger) -> None:
    one = model(ledger, 1)

    first = ledger.record_decision("shop", "promotion", one, {"f1": {"value": 0.8}}, "not worse")
    ledger.record_decision("shop", "refusal", None, {}, "nothing to compare")
    ledger.record_decision("other", "refusal", None, {}, "another project")

    made = ledger.decisions("shop")
    assert [d["kind"] for d in made] == ["promotion", "refusal"]
    assert (made[0]["id"], made[0]["numbers"]) == (first, {"f1": {"value": 0.8}})
    assert ledger.decisions("shop", at=EARLY) == []


# --- O12: 8 promoters at once ---------------------------------------------------------------


def promote(ready: Ready, url: str, out: Path, models: list[int]) -> None:
    ledger = Ledger.open(url)
    for number, mine in enumerate(models):
        expected = ledger.alias_id("shop", "champion")
        ready()  # everybody has read the same champion
        try:
            champion(ledger, mine, expected)
        except AliasConflictError as error:
            Acks(out).append(f"{number} lost {mine} {'set by gate' in str(error)}")
        else:
            Acks(out).append(f"{number} won {mine} {expected}")
        ready()  # the round is over


def race_of_promoters(ledger: Ledger, url: str, out: Path, rounds: int) -> None:
    models = [[model(ledger, 100 * p + r) for r in range(rounds)] for p in range(8)]

    race(promote, [(url, out, own) for own in models])

    told = [line.split() for line in Acks(out).lines()]
    winners = {number: int(who) for number, what, who, _ in told if what == "won"}
    history = ledger.alias_history("shop", "champion")
    assert len(told) == 8 * rounds
    assert sum(what == "won" for _, what, _, _ in told) == rounds
    assert all(reason == "True" for _, what, _, reason in told if what == "lost")
    assert [move.number for move in history] == list(range(1, rounds + 1))
    assert [move.version_id for move in history] == [winners[str(n)] for n in range(rounds)]


def test_promotion_race_has_one_winner_a_round(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    race_of_promoters(ledger, ledger_url, tmp_path / "acks", 5)


@pytest.mark.slow
def test_promotion_race_has_one_winner_a_round_20(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    race_of_promoters(ledger, ledger_url, tmp_path / "acks", 20)
