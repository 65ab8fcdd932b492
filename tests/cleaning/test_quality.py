from __future__ import annotations

from typing import Any

import pytest

from fm_platform.cleaning.quality_rule import broken_limits
from fm_platform.spec.cleaning import TextQualityRule


@pytest.mark.parametrize(
    ("text", "settings", "said"),
    [
        ("Great film, I loved it :)", {}, None),
        ("ok", {}, None),
        ("", {}, "0 words"),
        ("0031 2214 4471 ab", {}, "digits are 86%"),
        ("$$$ ### !!! buy", {}, "symbols are 75%"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", {}, "words of 38.0 characters"),
        ("a b\nc d\na b\na b\n", {}, "50% of the lines are repeated"),
        ("buy it now " * 5, {}, "77% of the runs of 3 words are repeated"),
        ("der die das " + "wort " * 20, {"minimum_stop_words": 2, "max_repeated_ngrams": 1},
         "0 different stop words"),
        ("die Katze", {"minimum_stop_words": 2}, None),
    ],
)  # fmt: skip
def test_each_broken_limit_is_named(text: str, settings: dict[str, Any], said: str | None) -> None:
    found = list(broken_limits(text, TextQualityRule(rule="text_quality", **settings)))
    if said is None:
        assert found == []
    else:
        assert any(said in one for one in found), found
