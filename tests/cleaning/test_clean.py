"""Cleaning: every row is kept or in quarantine with rule, reason, before and after."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.cleaning.clean import clean_day
from fm_platform.cleaning.contracts import check_batch, shortened, typed_column
from fm_platform.cleaning.near_rule import Twin, Twins
from fm_platform.cleaning.noise_rule import Doubts
from fm_platform.cleaning.repair import Proposal
from fm_platform.cleaning.repair_rule import Repairs
from fm_platform.errors import ContractError, RegistryError
from fm_platform.spec.cleaning import (
    ClassBalanceRule,
    ConfidenceRule,
    ExactDuplicatesRule,
    LabelNoiseRule,
    LanguageRule,
    LengthRule,
    MetadataRepairRule,
    NearDuplicatesRule,
    NormalizeTextRule,
    PiiRule,
    RepairedColumn,
    TextQualityRule,
)
from fm_platform.spec.models import Column, Contract

CLASSES = ("bad", "good")


def row(i: int, text: str, **changes: Any) -> dict[str, Any]:
    made = {
        "row_id": f"{i:032x}", "day": "2026-01-01", "source": "main", "split": "train",
        "text": text, "text_key": text.casefold().strip(), "votes": [1], "majority": [0.2, 0.8],
        "probabilities": [0.2, 0.8], "label": "good", "confidence": 0.8, "labeled": True,
        "lang": "en",
    }  # fmt: skip
    return {**made, **changes}


def clean(
    rows: list[dict[str, Any]], *rules: Any, seen: tuple[str, ...] = (), **more: Any
) -> tuple[Any, Any]:
    table = pa.Table.from_pylist(rows)
    done = clean_day(table.to_batches(), rules, CLASSES, frozenset(seen), "2026-01-01", **more)
    kept = [r for part in done.kept for r in part.to_pylist()]
    return kept, [r for part in done.quarantine for r in part.to_pylist()]


def test_normalising_records_before_and_after_and_keeps_the_row() -> None:
    kept, refused = clean([row(1, "a\u0301  b\x00\n"), row(2, "fine")],
                          NormalizeTextRule(rule="normalize_text"))  # fmt: skip

    assert [r["text"] for r in kept] == ["\u00e1 b", "fine"]
    assert [(r["removed"], r["after"]) for r in refused] == [(False, "\u00e1 b")]


def test_length_bounds_are_in_characters() -> None:
    kept, refused = clean([row(1, "ab"), row(2, "\u00e9\u00e9\u00e9"), row(3, "x" * 9)],
                          LengthRule(rule="length", min_chars=3, max_chars=8))  # fmt: skip

    assert [r["text"] for r in kept] == ["\u00e9\u00e9\u00e9"]
    assert [r["reason"] for r in refused] == [
        "2 characters, allowed 3 to 8", "9 characters, allowed 3 to 8",
    ]  # fmt: skip


def test_duplicates_of_today_and_of_earlier_days_go() -> None:
    kept, refused = clean([row(1, "one"), row(2, "ONE "), row(3, "old"), row(4, "new")],
                          ExactDuplicatesRule(rule="exact_duplicates"), seen=("old",))  # fmt: skip

    assert [r["text"] for r in kept] == ["one", "new"]
    assert [r["reason"].split()[-1] for r in refused] == ["today", "rows"]


def test_unsure_and_unlabeled_rows_go_with_their_own_reason() -> None:
    rows = [row(1, "a"), row(2, "b", confidence=0.3), row(3, "c", labeled=False, label=None)]

    kept, refused = clean(rows, ConfidenceRule(rule="confidence", minimum=0.5))

    assert [r["text"] for r in kept] == ["a"]
    assert refused[0]["reason"] == "confidence 0.30, at least 0.50 wanted"
    assert refused[1]["reason"] == "no labeling function votes"


def test_the_least_sure_rows_of_a_large_class_are_capped() -> None:
    rows = [row(i, f"t{i}", confidence=0.5 + i / 100) for i in range(10)]
    rows += [row(20, "x", label="bad")]

    kept, refused = clean(rows, ClassBalanceRule(rule="class_balance", max_ratio=4, floor=1))

    assert sorted(r["confidence"] for r in kept if r["label"] == "good") == pytest.approx(
        [0.56, 0.57, 0.58, 0.59]
    )
    assert len(refused) == 6


def test_a_sure_correction_is_made_and_an_unsure_one_waits_for_a_person() -> None:
    rows = [row(i, f"t{i}") for i in range(4)]  # all labeled good
    believed = {f"{i:032x}": p for i, p in enumerate([(0.9, 0.1), (0.6, 0.4), (0.1, 0.9)])}
    doubts = Doubts(believed, believed, dict.fromkeys(believed, 2.0))
    table, rule = pa.Table.from_pylist(rows), LabelNoiseRule(rule="label_noise")

    def done(**more: Any) -> Any:
        return clean_day(table.to_batches(), [rule], CLASSES, frozenset(), "-",
                         known={0: doubts}, **more)  # fmt: skip

    def labels(**more: Any) -> list[str]:
        return [label for part in done(**more).kept for label in part["label"].to_pylist()]

    first = done()
    assert labels() == ["bad", "good", "good", "good"]
    assert first.kept[0]["probabilities"].to_pylist()[0] == pytest.approx([0.9, 0.1])
    changed = first.quarantine[0].to_pylist()
    assert [(r["column"], r["before"], r["after"]) for r in changed] == [("label", "good", "bad")]
    assert [(c["applied"], c["probability"]) for c in first.corrections] == [
        (True, 0.9), (False, 0.6),
    ]  # fmt: skip
    # the unsure one is worth more of a person's time
    assert first.corrections[1]["effect"] > first.corrections[0]["effect"]
    accepted = {"label_noise": frozenset([f"{1:032x}"])}
    assert labels(accepted=accepted) == ["bad", "bad", "good", "good"]
    rejected = {"label_noise": frozenset([f"{0:032x}"])}
    assert labels(rejected=rejected) == ["good"] * 4


def test_a_foreign_language_goes_and_short_texts_stay() -> None:
    german = "Das ist ein langer deutscher Satz, der hier nicht erwartet wird."

    kept, refused = clean([row(1, german), row(2, "na ja"), row(3, "This is plain English text.")],
                          LanguageRule(rule="language", min_chars=20))  # fmt: skip

    assert [r["row_id"][-1] for r in kept] == ["2", "3"]
    assert refused[0]["reason"].startswith("language de")


RULES = st.lists(
    st.sampled_from(
        [
            NormalizeTextRule(rule="normalize_text"),
            LengthRule(rule="length", min_chars=2, max_chars=6),
            ExactDuplicatesRule(rule="exact_duplicates"),
            ConfidenceRule(rule="confidence", minimum=0.5),
            ClassBalanceRule(rule="class_balance", max_ratio=1, floor=1),
            LanguageRule(rule="language", min_chars=1, minimum_confidence=0.2),
            NearDuplicatesRule(rule="near_duplicates"),
            PiiRule(rule="pii"),
            PiiRule(rule="pii", action="remove"),
            LabelNoiseRule(rule="label_noise"),
            TextQualityRule(rule="text_quality", max_symbols=0.3),
            MetadataRepairRule(rule="metadata_repair", columns={"lang": RepairedColumn()}),
        ]
    ),
    max_size=6,
)
TEXTS = st.one_of(
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=8),
    st.sampled_from(["a@example.org", "to a@example.org", "10.0.0.1 again", "one two", "one two"]),
)
ROWS = st.lists(
    st.tuples(
        TEXTS,
        st.sampled_from(CLASSES),
        st.floats(0, 1, width=32),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(
    ROWS, RULES, st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=6), st.data()
)
def test_rows_in_are_rows_kept_plus_removed(
    values: list[tuple[str, str, float, bool]],
    rules: list[Any],
    alike: list[tuple[int, int]],
    data: st.DataObject,
) -> None:
    rows = [
        row(i, text, label=label, confidence=sure, labeled=labeled)
        for i, (text, label, sure, labeled) in enumerate(values)
    ]
    twin = {max(a, b): min(a, b) for a, b in alike if a != b}
    today = {f"{b:032x}": Twin(f"{a:032x}", "2026-01-01", False, 0.8) for b, a in twin.items()}
    believed = {f"{i:032x}": (1 - sure, sure) for i, (_, _, sure, _) in enumerate(values)}
    doubts = Doubts(believed, believed, dict.fromkeys(believed, 1.0))
    repairs = Repairs(
        {f"{i:032x}": {"lang": Proposal("en", "de", sure, "odd")}
         for i, (_, _, sure, _) in enumerate(values)}
    )  # fmt: skip
    what = {
        "near_duplicates": Twins({}, today), "label_noise": doubts, "metadata_repair": repairs,
    }  # fmt: skip
    known = {n: what[r.rule] for n, r in enumerate(rules) if r.rule in what}
    spared = frozenset(f"{i:032x}" for i in data.draw(st.sets(st.integers(0, 11), max_size=3)))
    rejected = {rule.rule: spared for rule in rules[:2]}

    kept, refused = clean(rows, *rules, known=known, rejected=rejected)
    again = clean(rows, *rules, known=known, rejected=rejected)

    removed = [r["row_id"] for r in refused if r["removed"]]
    assert sorted([r["row_id"] for r in kept] + removed) == [r["row_id"] for r in rows]
    assert all(r["reason"] and r["rule"] for r in refused)
    assert again == (kept, refused)
    assert not [r for r in refused if r["row_id"] in spared and r["rule"] in rejected]
    # every value that differs from what came can be followed back, change by change
    repaired = {"lang"} if any(rule.rule == "metadata_repair" for rule in rules) else set()
    for column in {"text", "label"} | repaired:
        held = {r["row_id"]: r[column] for r in rows}
        for change in (r for r in refused if r["column"] == column):
            assert change["before"] == held[change["row_id"]]
            held[change["row_id"]] = change["after"]
        assert {r["row_id"]: r[column] for r in kept}.items() <= held.items()


def test_an_unknown_rule_lists_the_known_ones() -> None:
    class Unknown:
        rule = "polish"

    with pytest.raises(RegistryError, match=r"(?s)no cleaning rule 'polish'.*exact_duplicates"):
        clean([row(1, "x")], Unknown())


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("integer", "12", "1.5"),
        ("number", "-1.5e3", "inf"),
        ("boolean", "Yes", "perhaps"),
        ("date", "2026-01-31", "2026-02-31"),
        ("timestamp", "2026-01-31 10:20:30", "yesterday"),
    ],
)
def test_a_value_of_another_type_becomes_null(kind: str, good: str, bad: str) -> None:
    typed = typed_column(pa.array([good, bad, None]), kind)

    assert [value is None for value in typed.to_pylist()] == [False, True, True]


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        (Column(), None, "null"),
        (Column(max_chars=3), "four", "length"),
        (Column(min_chars=2), "x", "length"),
        (Column(allowed=("a", "b")), "c", "domain"),
        (Column(pattern="^[a-z]+$"), "A1", "pattern"),
        (Column(type="integer", minimum=3), "2", "range"),
        (Column(type="number", maximum=3), "3.5", "range"),
        (Column(type="integer"), "two", "type"),
    ],
)
def test_a_violation_names_rule_column_and_value(column: Column, value: Any, rule: str) -> None:
    batch = pa.record_batch({"text": ["fine"], "extra": pa.array([value], pa.string())})

    _, rejections = check_batch(batch, Contract(columns={"text": Column(), "extra": column}))

    assert [(r.rule, r.column, r.before) for r in rejections] == [(rule, "extra", value)]


def test_a_missing_column_stops_the_batch() -> None:
    contract = Contract(columns={"text": Column(), "stars": Column(type="integer")})

    with pytest.raises(ContractError, match=r"(?s)'stars' did not come.*found: text"):
        check_batch(pa.record_batch({"text": ["x"]}), contract)


def test_a_long_value_keeps_its_length_and_hash() -> None:
    assert "5000 characters, sha256" in (shortened("y" * 5000) or "")
