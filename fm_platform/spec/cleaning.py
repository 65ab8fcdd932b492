"""The declared cleaning rules: each a part of a project file, run in the order given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

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


class NearDuplicatesRule(Part):
    """Keep the first row of each group of near duplicates within the window of days.

    Two texts are near duplicates where the Jaccard similarity of their runs of `size` words (or
    characters) is at least `similarity`. Rows of the test split are never removed, and what is
    like one of them is: today's, or one of an earlier day.
    """

    rule: Literal["near_duplicates"]
    similarity: float = Field(default=0.7, gt=0, le=1)
    unit: Literal["words", "characters"] = "words"
    size: int = Field(default=3, ge=1, le=8)
    window_days: int = Field(default=28, ge=0, description="days before; 0: only the day itself")


PiiKind = Literal["email", "phone", "card", "iban", "ip", "name"]


class PiiRule(Part):
    """Mask personal data in texts, e.g. an address by `[EMAIL]`, or remove the rows.

    Numbers of cards and IBANs must have right check digits. `name` finds what follows a form of
    address or an introduction, and the declared `names`.
    """

    rule: Literal["pii"]
    kinds: tuple[PiiKind, ...] = Field(
        default=("email", "phone", "card", "iban", "ip"), min_length=1
    )
    names: tuple[str, ...] = Field(default=(), description="names of people, for kind `name`")
    action: Literal["mask", "remove"] = "mask"

    @field_validator("kinds")
    @classmethod
    def _unique(cls, value: tuple[PiiKind, ...]) -> tuple[PiiKind, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a kind is named more than once")
        return value


class LabelNoiseRule(Part):
    """Correct labels that out-of-fold predictions on frozen embeddings contradict.

    A correction of at least `minimum_probability` is made; one of at least `review_probability`
    is proposed, and made once it is accepted (`fm clean accept`).
    """

    rule: Literal["label_noise"]
    minimum_probability: float = Field(default=0.7, gt=0, le=1)
    review_probability: float = Field(default=0.5, gt=0, le=1)
    window_days: int = Field(default=28, ge=0, description="days before that are learned from")
    folds: int = Field(default=5, ge=2, le=20)
    max_rows: int = Field(default=20_000, ge=10, description="rows learned from, newest first")


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
    | NearDuplicatesRule
    | PiiRule
    | LabelNoiseRule
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
