"""Labeling functions of the drift demo: a published lexicon, and the same where it is sure."""

from __future__ import annotations

from typing import Any

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from fm_platform.labeling import labeling_function

_ANALYZER = SentimentIntensityAnalyzer()


def _class_of(text: str, least: float) -> str | None:
    compound = float(_ANALYZER.polarity_scores(text)["compound"])
    if abs(compound) < least:
        return None
    return "positive" if compound > 0 else "negative"


@labeling_function()
def vader(row: Any) -> str:
    """VADER with its published thresholds; it never abstains."""
    return _class_of(row.text, 0.05) or "neutral"


@labeling_function()
def vader_strong(row: Any) -> str | None:
    """VADER where it is sure."""
    return _class_of(row.text, 0.5)
