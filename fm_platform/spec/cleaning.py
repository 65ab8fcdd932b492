"""The declared cleaning rules: each a part of a project file, run in the order given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fm_platform.spec.part import Part


class NormalizeTextRule(Part):
    """Unicode NFC, control characters removed, runs of white space made one space."""

    rule: Literal["normalize_text"]
    form: Literal["NFC", "NFKC"] = "NFC"


class LengthRule(Part):
    """Remove texts outside the bounds, in characters."""

    rule: Literal["length"]
    min_chars: int = Field(default=3, ge=0)
    max_chars: int = Field(default=5_000, ge=1)


class LanguageRule(Part):
    """Remove texts confidently in another language; short texts are kept."""

    rule: Literal["language"]
    allowed: tuple[str, ...] = ("en",)
    minimum_confidence: float = Field(default=0.95, ge=0, le=1)
    min_chars: int = Field(default=40, ge=1)


class ExactDuplicatesRule(Part):
    """Keep the first row of each normalized text within the window of days."""

    rule: Literal["exact_duplicates"]
    window_days: int = Field(default=28, ge=1)


class ConfidenceRule(Part):
    """Remove rows whose weak label is less sure than `minimum`, and rows without any vote."""

    rule: Literal["confidence"]
    minimum: float = Field(default=0.4, ge=0, le=1)


class ClassBalanceRule(Part):
    """Per day and source, cap each class at `max_ratio` times the rarest class (at least `floor`).

    The rows with the lowest confidence go first.
    """

    rule: Literal["class_balance"]
    max_ratio: float = Field(default=10.0, ge=1)
    floor: int = Field(default=50, ge=1)


CleaningRule = Annotated[
    NormalizeTextRule
    | LengthRule
    | LanguageRule
    | ExactDuplicatesRule
    | ConfidenceRule
    | ClassBalanceRule,
    Field(discriminator="rule"),
]

DEFAULT_RULES: tuple[CleaningRule, ...] = (
    NormalizeTextRule(rule="normalize_text"),
    LengthRule(rule="length"),
    ExactDuplicatesRule(rule="exact_duplicates"),
    ConfidenceRule(rule="confidence"),
)
