"""The declared cleaning rules: each a part of a project file, run in the order given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from fm_platform.spec.part import Name, Part

LanguageCode = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]
"""ISO 639, as `en` or `de`."""


class NormalizeTextRule(Part):
    """Unicode NFC, control characters removed, runs of white space made one space."""

    rule: Literal["normalize_text"]
    form: Literal["NFC", "NFKC"] = "NFC"


class LengthRule(Part):
    """Remove texts outside the bounds, in characters."""

    rule: Literal["length"]
    min_chars: int = Field(default=3, ge=0)
    max_chars: int = Field(default=5_000, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> LengthRule:
        if self.min_chars > self.max_chars:
            told = f"no text is {self.min_chars} characters long at least and {self.max_chars} at"
            raise ValueError(f"{told} most")
        return self


class LanguageRule(Part):
    """Remove texts confidently in another language; short texts are kept."""

    rule: Literal["language"]
    allowed: tuple[LanguageCode, ...] = Field(default=("en",), min_length=1)
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


class TextQualityRule(Part):
    """Remove texts that are hardly language; each limit that a text breaks is named.

    Shares of characters leave white space out. Repeated lines count from four lines on, repeated
    runs of `ngram` words from four such runs on. `stop_words` is for texts of one language; with
    `minimum_stop_words` 0 they are not looked at. What is 0 (or 1 for an upper limit) is off.
    """

    rule: Literal["text_quality"]
    min_words: int = Field(default=1, ge=0)
    min_letters: float = Field(default=0.4, ge=0, le=1, description="share of characters")
    max_digits: float = Field(default=0.5, ge=0, le=1, description="share of characters")
    max_symbols: float = Field(default=0.5, ge=0, le=1, description="neither letter nor digit")
    max_mean_word_chars: float = Field(default=15.0, gt=0)
    max_repeated_lines: float = Field(default=0.3, ge=0, le=1, description="share of lines")
    max_repeated_ngrams: float = Field(default=0.4, ge=0, le=1, description="share of the runs")
    ngram: int = Field(default=3, ge=1, le=8)
    minimum_stop_words: int = Field(default=0, ge=0, description="different ones in a text")
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with", "a",
                                   "is", "it", "in", "i")  # fmt: skip
    stop_words_from: int = Field(default=20, ge=1, description="words a text must have for it")


class RepairedColumn(Part):
    """Which values of a metadata column cannot be right: the missing, and those outside."""

    missing: bool = Field(default=True, description="whether a missing value is looked for")
    allowed: tuple[str | int | float | bool, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


class Dependency(Part):
    """Rows with equal values of `given` have one value of `column`."""

    given: tuple[Name, ...] = Field(min_length=1)
    column: Name


class MetadataRepairRule(Part):
    """Repair metadata columns from declared constraints and the statistics of a window.

    A value that is missing, outside its domain or range, or against a dependency gets the most
    probable of the values that the column has in the window. A repair of at least
    `minimum_probability` is made; one of at least `review_probability` is proposed, and made once
    it is accepted (`fm clean accept`). What is outside its domain or range and has no likely value
    is proposed to be made missing. Repaired columns are kept with the cleaned rows.
    """

    rule: Literal["metadata_repair"]
    columns: dict[Name, RepairedColumn] = Field(min_length=1)
    dependencies: tuple[Dependency, ...] = ()
    evidence: tuple[Name, ...] = Field(
        default=("source",), description="columns beside the repaired ones that tell something"
    )
    minimum_probability: float = Field(default=0.9, gt=0, le=1)
    review_probability: float = Field(default=0.5, gt=0, le=1)
    error_rate: float = Field(
        default=0.05, gt=0, lt=0.5, description="of values that a dependency speaks of"
    )
    window_days: int = Field(default=28, ge=0, description="days before that are learned from")
    max_rows: int = Field(default=100_000, ge=10, description="rows learned from, newest first")
    max_values: int = Field(default=200, ge=2, description="values of a column that are tried")

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that it looks at, sorted."""
        given = {name for one in self.dependencies for name in one.given}
        return tuple(sorted({*self.columns, *self.evidence, *given}))

    @model_validator(mode="after")
    def _consistent(self) -> MetadataRepairRule:
        for one in self.dependencies:
            if one.column not in self.columns:
                raise ValueError(f"a dependency determines {one.column!r}: name it in `columns`")
            if one.column in one.given:
                raise ValueError(f"a dependency determines {one.column!r} by itself")
        if "text" in self.columns or "source" in self.columns:
            raise ValueError("text and source are no metadata columns")
        return self


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
    | TextQualityRule
    | MetadataRepairRule
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
