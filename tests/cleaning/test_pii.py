"""Personal data: what is found, what only looks like it, and what stands in its place."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fm_platform.cleaning.pii import KINDS, find, mask, pii, suspects
from fm_platform.cleaning.rules import DayContext
from fm_platform.spec.cleaning import PiiRule


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to Jane.Doe+news@mail.example.co.uk.", "write to [EMAIL]."),
        ("jane (at) example (dot) org, please", "[EMAIL], please"),
        ("call (555) 234-5678 x12 now", "call [PHONE] now"),
        ("or 001-555-234-5678, or +49 30 901820", "or [PHONE], or [PHONE]"),
        ("fax 030/9018-2000", "fax [PHONE]"),
        ("card 4111 1111 1111 1111, exp 12/27", "card [CARD], exp 12/27"),
        ("amex 378282246310005", "amex [CARD]"),
        ("pay to DE89 3704 0044 0532 0130 00 by Monday", "pay to [IBAN] by Monday"),
        ("GB82WEST12345698765432", "[IBAN]"),
        ("from 192.168.0.17 and 2001:db8::ff00:42:8329", "from [IP] and [IP]"),
        ("Mrs. Anna Smith, my name is Jos\u00e9 da Silva", "Mrs. [NAME], my name is [NAME]"),
    ],
)  # fmt: skip
def test_it_is_found_and_masked(text: str, masked: str) -> None:
    assert mask(text, find(text, KINDS)) == masked
    assert suspects([text], KINDS) == [0]


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112 fails its check digit",
        "DE89 3704 0044 0532 0130 01 fails, too",
        "version 1.2.3 of 2026-01-31 12:30:00, and 999.999.999.999",
        "it sold 1,234,567 copies at 12.99 in 1999-2004",
        "@home, me@you and a::b at 12:30:45",
        "1700000000 seconds, 12345678901234567890 ids, 100 000 000 people",
        "he said name is not everything, Dr. no",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert find(text, KINDS) == []


def test_only_the_declared_kinds_and_names_are_looked_for() -> None:
    text = "Ann Lee (ann@example.org) met Annabel at 10.0.0.1"

    assert [item.kind for item in find(text, ("ip",))] == ["ip"]
    assert mask(text, find(text, ("name",), ("Ann", "Ann Lee"))).startswith("[NAME] (ann@")


@pytest.mark.parametrize("action", ["mask", "remove"])
def test_the_rule_masks_or_removes_and_counts_what_it_found(action: Any) -> None:
    rows = pa.table({"text": ["fine", "a@example.org or b@example.org or 10.0.0.1"]})

    verdicts = pii(rows, PiiRule(rule="pii", action=action), DayContext(("a",), frozenset()))

    assert verdicts.remove.tolist() == [False, action == "remove"]
    if action == "mask":
        assert verdicts.text == {1: "[EMAIL] or [EMAIL] or [IP]"}
        assert verdicts.notes == {1: "holds 2 email, 1 ip"}
    else:
        assert verdicts.reasons == ["holds 2 email, 1 ip"]
