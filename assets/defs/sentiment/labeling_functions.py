"""Labeling functions of the shipped project. None of them was written while looking at test rows.

A function returns a class name, or None where it does not know. Word lists are resources: they
belong to the function's fingerprint, so that a changed word recomputes this column and no other.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from fm_platform.labeling import labeling_function

NEGATIVE_CUES = (
    "annoying", "at best", "awful", "barely", "bland", "boring", "bored", "boredom", "broke",
    "broken", "clumsy", "contrived", "could have", "defective", "difficult", "disappointed",
    "disappointing", "disappointment", "doesn't", "don't", "dull", "fail to", "failed", "fails",
    "flat", "forgettable", "generic", "hardly", "instead of", "isn't", "lack", "lacks", "lame",
    "mediocre", "mess", "neither", "never", "no longer", "nor", "not worth", "nothing",
    "pointless", "poor", "poorly", "predictable", "pretentious", "problem", "problems", "shallow",
    "should have", "sloppy", "stale", "stopped working", "supposed to", "tedious", "terrible",
    "thin", "tired", "too bad", "too little", "too long", "too many", "too much", "too slow",
    "unable", "unfortunately", "uninspired", "useless", "waste", "weak", "won't", "worse", "worst",
    "would have",
)  # fmt: skip
POSITIVE_CUES = (
    "amazing", "awesome", "beautiful", "beautifully", "best", "brilliant", "charming",
    "compelling", "congrats", "delight", "delightful", "easy to", "engaging", "enjoy", "enjoyable",
    "enjoyed", "entertaining", "excellent", "fascinating", "fine", "fresh", "fun", "funny", "good",
    "great", "gripping", "happy", "heart", "hilarious", "honest", "intelligent", "inventive",
    "love", "loved", "lovely", "loves", "masterful", "moving", "original", "perfect", "perfectly",
    "pleased", "poignant", "powerful", "recommend", "recommended", "rich", "sharp", "smart",
    "solid", "superb", "terrific", "thank you", "thanks", "thrilling", "touching", "warm", "witty",
    "wonderful", "works fine", "works great", "works well", "yay",
)  # fmt: skip
TROUBLE = (
    "abuse", "abuses", "attack", "attacks", "corrupt", "corruption", "crisis", "cut", "cuts",
    "danger", "dangerous", "death", "deaths", "debt", "deficit", "denied", "deny", "fraud",
    "guilty", "illegal", "killed", "lawsuit", "misguided", "opponents", "poverty", "prison",
    "reckless", "refuse", "refused", "reject", "rejected", "risk", "risky", "scandal", "shortfall",
    "suffer", "suffering", "threat", "threatens", "torture", "unemployment", "victim", "victims",
    "violence", "violent", "war", "wrong",
)  # fmt: skip


@lru_cache(maxsize=16)
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")\b", re.IGNORECASE)


@lru_cache(maxsize=1)
def _vader() -> Any:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


@lru_cache(maxsize=100_000)
def _compound(text: str) -> float:
    """Return VADER's compound score in [-1, 1]."""
    return float(_vader().polarity_scores(text)["compound"])


@lru_cache(maxsize=1)
def _opinion_words() -> Any:
    from afinn import Afinn

    return Afinn(emoticons=True)


@lru_cache(maxsize=100_000)
def _opinion(text: str) -> float:
    """Return the sum of the AFINN valences (Nielsen 2011) of the words of a text."""
    return float(_opinion_words().score(text))


@lru_cache(maxsize=100_000)
def _polarity(text: str) -> float:
    """Return the polarity in [-1, 1] of the pattern lexicon (De Smedt & Daelemans 2012)."""
    from textblob.en import sentiment

    return float(sentiment(text)[0])


def _past(value: float, upper: float, lower: float) -> str | None:
    if value >= upper:
        return "positive"
    return "negative" if value <= lower else None


@labeling_function()
def vader(row: Any) -> str:
    """VADER with its published thresholds; it never abstains."""
    return _past(_compound(row.text), 0.05, -0.05) or "neutral"


@labeling_function()
def vader_strong(row: Any) -> str | None:
    """VADER where it is sure."""
    return _past(_compound(row.text), 0.5, -0.5)


@labeling_function()
def opinion_lexicon(row: Any) -> str | None:
    """Sum of opinion words."""
    return _past(_opinion(row.text), 1, -1)


@labeling_function()
def opinion_lexicon_strong(row: Any) -> str | None:
    """Sum of opinion words, far from zero."""
    return _past(_opinion(row.text), 4, -3)


@labeling_function()
def adjectives(row: Any) -> str | None:
    """Polarity of adjectives and adverbs."""
    return _past(_polarity(row.text), 0.1, -0.05)


@labeling_function()
def adjectives_strong(row: Any) -> str | None:
    """Polarity of adjectives and adverbs, far from zero."""
    return _past(_polarity(row.text), 0.4, -0.25)


@labeling_function()
def no_opinion_word(row: Any) -> str | None:
    """No lexicon knows a word of it."""
    silent = _compound(row.text) == 0 and _opinion(row.text) == 0
    return "neutral" if silent and abs(_polarity(row.text)) < 0.05 else None


@labeling_function(resources={"words": NEGATIVE_CUES})
def negative_cues(row: Any, words: tuple[str, ...]) -> str | None:
    """Words of disappointed reviewers."""
    return "negative" if _any_of(words).search(row.text) else None


@labeling_function(resources={"words": POSITIVE_CUES})
def positive_cues(row: Any, words: tuple[str, ...]) -> str | None:
    """Words of pleased reviewers."""
    return "positive" if _any_of(words).search(row.text) else None


@labeling_function(resources={"words": TROUBLE})
def troubles_of_the_world(row: Any, words: tuple[str, ...]) -> str | None:
    """What editorials complain about."""
    return "negative" if _any_of(words).search(row.text) else None
