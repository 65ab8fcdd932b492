"""The rule `text_quality`: texts that are hardly language go, each broken limit named.

The limits are of the kind of Rae et al. 2021, "Scaling Language Models: Methods, Analysis &
Insights from Training Gopher", table A1, with defaults that spare short messages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.cleaning.rules import RULES, DayContext, Verdicts

_WORD = re.compile(r"\w+")
_LEAST_LINES = 4
_LEAST_RUNS = 4


@RULES.register("text_quality")
def text_quality(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Remove texts beyond a limit."""
    remove = np.zeros(rows.num_rows, bool)
    reasons = []
    for i, text in enumerate(rows["text"].to_pylist()):
        broken = list(broken_limits(text, rule))
        if broken:
            remove[i] = True
            reasons.append("; ".join(broken))
    return Verdicts(remove, reasons)


def broken_limits(text: str, rule: Any) -> Iterator[str]:
    """Yield each limit that a text breaks, with what was found.

    Example:
        >>> from fm_platform.spec.cleaning import TextQualityRule
        >>> list(broken_limits("12 34 5", TextQualityRule(rule="text_quality")))
        ['letters are 0% of the characters, at least 40% wanted', \
'digits are 100% of the characters, at most 50% allowed']
    """
    words = _WORD.findall(text.casefold())
    if len(words) < rule.min_words:
        yield f"{len(words)} words, at least {rule.min_words} wanted"
    yield from _characters(text, rule)
    if words:
        mean = sum(map(len, words)) / len(words)
        if mean > rule.max_mean_word_chars:
            yield f"words of {mean:.1f} characters, at most {rule.max_mean_word_chars:g} allowed"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) >= _LEAST_LINES:
        yield from _repeated("lines", lines, rule.max_repeated_lines)
    size = rule.ngram
    runs = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    if len(runs) >= _LEAST_RUNS:
        yield from _repeated(f"runs of {size} words", runs, rule.max_repeated_ngrams)
    if rule.minimum_stop_words and len(words) >= rule.stop_words_from:
        found = len(set(words) & {word.casefold() for word in rule.stop_words})
        if found < rule.minimum_stop_words:
            yield f"{found} different stop words, at least {rule.minimum_stop_words} wanted"


def _characters(text: str, rule: Any) -> Iterator[str]:
    seen = [c for c in text if not c.isspace()]
    if not seen:
        return
    letters = sum(c.isalpha() for c in seen) / len(seen)
    digits = sum(c.isdigit() for c in seen) / len(seen)
    symbols = 1 - letters - digits
    if letters < rule.min_letters:
        yield f"letters are {letters:.0%} of the characters, at least {rule.min_letters:.0%} wanted"
    for name, share, most in (
        ("digits", digits, rule.max_digits), ("symbols", symbols, rule.max_symbols)
    ):  # fmt: skip
        if share > most:
            yield f"{name} are {share:.0%} of the characters, at most {most:.0%} allowed"


def _repeated(what: str, items: list[Any], most: float) -> Iterator[str]:
    counts = Counter(items)
    share = sum(count - 1 for count in counts.values()) / len(items)
    if share > most:
        yield f"{share:.0%} of the {what} are repeated, at most {most:.0%} allowed"
