from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fm_platform.errors import RefError
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, slot_name
from fm_platform.lineage.refs import (
    parse,
    parse_time,
    prediction_id,
    projects,
    resolve,
    version_name,
)
from tests.lineage.factory import EARLY, make_produced, make_recipe, record

DAY_1, DAY_2 = "2026-01-01", "2026-01-02"


@pytest.fixture
def made(ledger: Ledger) -> dict[str, ArtifactVersion]:
    """Two days of raw, the first in two versions; two adapters; a champion."""
    recipes = {
        "raw 1 old": make_recipe(),
        "raw 2": make_recipe(partition=DAY_2),
        "vader": make_recipe(kind="votes", name="vader"),
        "nyt": make_recipe(kind="adapter", name="nyt", partition=None),
        "movies": make_recipe(kind="adapter", name="movies", partition=None),
        "merged": make_recipe(kind="merged_model", name="merged_model", partition=None),
        "raw 1": make_recipe(code="new"),
    }
    found = {name: record(ledger, recipe, make_produced(name)) for name, recipe in recipes.items()}
    ledger.set_alias(
        "shop", "champion", found["merged"].id, expected=None, reason="best", actor="gate"
    )
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("champion", "merged"),
        ("merged_model", "merged"),
        ("shop:merged_model", "merged"),
        (" champion ", "merged"),
        ("adapter/nyt", "nyt"),
        ("nyt", "nyt"),
        ("raw/2026-01-01", "raw 1"),
        ("raw/raw/2026-01-01", "raw 1"),
        ("raw/2026-01-01#1", "raw 1 old"),
        ("raw/2026-01-01#2", "raw 1"),
        ("votes/vader/2026-01-01", "vader"),
        ("vader/2026-01-01", "vader"),
        ("votes/2026-01-01", "vader"),
        ("vader", "vader"),
        ("#1", "raw 1 old"),
    ],
)
def test_names(ledger: Ledger, made: dict[str, ArtifactVersion], text: str, expected: str) -> None:
    assert resolve(ledger, "shop", text) == made[expected]
    assert resolve(ledger, None, text).id == made[expected].id


def test_inputs_come_along(ledger: Ledger, made: dict[str, ArtifactVersion]) -> None:
    assert resolve(ledger, "shop", "champion").inputs == make_recipe().inputs


def test_hash_prefixes(ledger: Ledger, made: dict[str, ArtifactVersion]) -> None:
    nyt = made["nyt"]
    for digits in (nyt.content_hash, nyt.content_hash[:8], nyt.recipe_hash[:8]):
        assert resolve(ledger, "shop", digits) == nyt
    with pytest.raises(RefError):
        resolve(ledger, "other", nyt.content_hash)


def test_every_slot_and_version_name_leads_back(
    ledger: Ledger, made: dict[str, ArtifactVersion]
) -> None:
    for version in made.values():
        assert resolve(ledger, "shop", version_name(version)).id == version.id
    for head in ledger.all_latest("shop"):
        assert resolve(ledger, "shop", slot_name(head.slot)).id == head.id


def test_equal_content_of_one_slot_is_the_version_in_use(ledger: Ledger) -> None:
    first = record(ledger, make_recipe(code="a"), make_produced("same"))
    record(ledger, make_recipe(code="b"), make_produced("same"))
    ledger.use(make_recipe(code="a"), first)

    assert resolve(ledger, "shop", first.content_hash[:10]).id == first.id


def test_an_alias_comes_before_artifacts_of_the_same_name(
    ledger: Ledger, made: dict[str, ArtifactVersion]
) -> None:
    # what the champion answered on a day is an artifact called so: `fm lineage champion` named
    # several versions from the first watched day on
    said = record(ledger, make_recipe(kind="answers", name="champion"), make_produced("said"))

    assert resolve(ledger, "shop", "champion").id == made["merged"].id
    assert resolve(ledger, "shop", "answers/champion").id == said.id
    assert resolve(ledger, "shop", "champion/2026-01-01").id == said.id


def test_ambiguous_lists_the_candidates_newest_first(
    ledger: Ledger, made: dict[str, ArtifactVersion]
) -> None:
    with pytest.raises(RefError, match="'adapter' names 2 versions") as caught:
        resolve(ledger, "shop", "adapter")

    assert caught.value.candidates == (made["movies"].id, made["nyt"].id)
    assert "adapter/nyt#1" in str(caught.value)
    assert made["nyt"].content_hash[:12] in str(caught.value)


def test_long_lists_of_candidates_are_cut(ledger: Ledger) -> None:
    for day in range(1, 29):
        record(ledger, make_recipe(partition=f"2026-02-{day:02}"), make_produced(str(day)))

    with pytest.raises(RefError, match="and 16 more") as caught:
        resolve(ledger, "shop", "raw")

    assert len(caught.value.candidates) == 28


def test_unknown_names_what_is_close(ledger: Ledger, made: dict[str, ArtifactVersion]) -> None:
    with pytest.raises(RefError, match="close to it: champion"):
        resolve(ledger, "shop", "champoin")
    with pytest.raises(RefError, match=r"close to it: .*adapter/nyt"):
        resolve(ledger, "shop", "adaptr/nyt")


def test_empty_ledger_says_so(ledger: Ledger) -> None:
    with pytest.raises(RefError, match="the ledger holds no version"):
        resolve(ledger, None, "champion")
    assert projects(ledger) == []


@pytest.mark.parametrize(
    "text", ["", "  ", "@2026-01-01", "shop:", "raw@tomorrow", "raw@", "a/b/c/d", "raw//x", "#0"]
)
def test_what_names_nothing_is_refused(
    ledger: Ledger, made: dict[str, ArtifactVersion], text: str
) -> None:
    with pytest.raises(RefError):
        resolve(ledger, "shop", text)


def test_names_at_a_time(ledger: Ledger) -> None:
    old = record(ledger, make_recipe(code="a"), make_produced("1"))
    ledger.set_alias("shop", "champion", old.id, expected=None, reason="", actor="gate")
    new = record(ledger, make_recipe(code="b"), make_produced("2"))
    ledger.set_alias("shop", "champion", new.id, expected=old.id, reason="", actor="gate")
    since = ledger.uses("shop", "raw", "raw", DAY_1)[1].since
    before = since - timedelta(microseconds=1)

    assert resolve(ledger, "shop", "raw", before).id == old.id
    assert resolve(ledger, "shop", f"champion@{before.isoformat()}", since).id == old.id
    assert resolve(ledger, "shop", "raw", since).id == new.id
    assert resolve(ledger, "shop", "raw@now").id == new.id
    with pytest.raises(RefError, match="named nothing at 2020-05-05") as caught:
        resolve(ledger, "shop", "raw@2020-05-05")
    assert "it names raw/2026-01-01#2" in str(caught.value)


def test_a_hash_at_a_time_before_it_was_made(ledger: Ledger) -> None:
    made = record(ledger, make_recipe())
    with pytest.raises(RefError, match="named nothing"):
        resolve(ledger, "shop", made.content_hash, EARLY - timedelta(days=1))


def test_row_ids_and_predictions(ledger: Ledger, made: dict[str, ArtifactVersion]) -> None:
    row = "0123456789abcdef" * 2

    def find_row(project: str, row_id: str, at: datetime | None) -> ArtifactVersion | None:
        return made["raw 2"] if (project, row_id) == ("shop", row) else None

    assert resolve(ledger, "shop", row, find_row=find_row).id == made["raw 2"].id
    wanted = prediction_id(made["merged"].content_hash, row)
    assert resolve(ledger, None, wanted).id == made["merged"].id
    with pytest.raises(RefError):
        resolve(ledger, "shop", row)
    with pytest.raises(RefError):
        resolve(ledger, "shop", prediction_id(made["raw 2"].content_hash, row))


def test_two_projects_are_told_apart(ledger: Ledger) -> None:
    record(ledger, make_recipe(), make_produced("a"))
    other = record(ledger, make_recipe(project="other"), make_produced("b"))

    assert projects(ledger) == ["other", "shop"]
    assert resolve(ledger, None, "other:raw").id == other.id
    with pytest.raises(RefError, match="names 2 versions"):
        resolve(ledger, None, "raw")


def test_hostile_text_is_inert_in_errors(ledger: Ledger) -> None:
    record(ledger, make_recipe(name="\x1b[31mred"), make_produced())
    with pytest.raises(RefError) as caught:
        resolve(ledger, "shop", "\x1b[2Jwipe\u202e")
    assert "\x1b" not in str(caught.value)
    assert "\u202e" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05", datetime(2026, 1, 5, 23, 59, 59, 999999, timezone.utc)),
        ("2026-01-05T10:00", datetime(2026, 1, 5, 10, tzinfo=timezone.utc)),
        ("2026-01-05 10:00:01.5z", datetime(2026, 1, 5, 10, 0, 1, 500000, timezone.utc)),
        ("2026-01-05T10:00+02:00", datetime(2026, 1, 5, 8, tzinfo=timezone.utc)),
    ],
)
def test_times(text: str, expected: datetime) -> None:
    assert parse_time(text) == expected


@given(st.text(max_size=40))
def test_any_text_is_taken_apart_or_refused(text: str) -> None:
    try:
        ref = parse(text)
    except RefError:
        return
    assert ref.body
    assert ref.at is None or ref.at.tzinfo is not None
