"""What a person declares: one frozen pydantic model for each part of a project file.

Every field has a default where a sensible one exists, so a useful project fits in 25 lines.
Units are in the names. Extra fields are mistakes.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from fm_platform.spec.alerts import Alerts as Alerts
from fm_platform.spec.annotation import Annotation as Annotation
from fm_platform.spec.base_model import BaseModelSpec as BaseModelSpec
from fm_platform.spec.base_model import DeclaredBase as DeclaredBase
from fm_platform.spec.behaviour import Behaviour as Behaviour
from fm_platform.spec.checks import cross_problems
from fm_platform.spec.cleaning import DEFAULT_RULES, CleaningRule
from fm_platform.spec.coverage import Coverage as Coverage
from fm_platform.spec.evaluation import Evaluation as Evaluation
from fm_platform.spec.evaluation import Gate as Gate
from fm_platform.spec.instruction import Instruction as Instruction
from fm_platform.spec.labeling import AnnotatorFunction as AnnotatorFunction
from fm_platform.spec.labeling import DeclaredFunction as DeclaredFunction
from fm_platform.spec.labeling import ExemplarFunction as ExemplarFunction
from fm_platform.spec.labeling import KeywordFunction as KeywordFunction
from fm_platform.spec.labeling import Labeling as Labeling
from fm_platform.spec.labeling import LabelModelSpec as LabelModelSpec
from fm_platform.spec.labeling import Labels as Labels
from fm_platform.spec.labeling import LexiconFunction as LexiconFunction
from fm_platform.spec.labeling import LookupFunction as LookupFunction
from fm_platform.spec.labeling import ModelFunction as ModelFunction
from fm_platform.spec.labeling import NearestFunction as NearestFunction
from fm_platform.spec.labeling import PromptFunction as PromptFunction
from fm_platform.spec.labeling import PropagatedFunction as PropagatedFunction
from fm_platform.spec.labeling import RegexFunction as RegexFunction
from fm_platform.spec.labeling import RuleFunction as RuleFunction
from fm_platform.spec.part import NAME_PATTERN, compiled
from fm_platform.spec.part import Name as Name
from fm_platform.spec.part import Part as Part
from fm_platform.spec.slices import Slice as Slice
from fm_platform.spec.taxonomy import Taxonomy as Taxonomy
from fm_platform.spec.training import Training as Training
from fm_platform.spec.unit import Unit as Unit

_CRON = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_CRON_ITEM = r"(\*|\?|[Ll]|(\d+|[A-Za-z]{3})(-(\d+|[A-Za-z]{3}))?)(/[1-9]\d*)?"
_CRON_FIELD = re.compile(rf"{_CRON_ITEM}(,{_CRON_ITEM})*")
SCALAR_TYPES = ("string", "integer", "number", "boolean", "date", "timestamp")


class Calendar(Part):
    """Which days the project knows. `end` is None for a stream that goes on."""

    start: date
    end: date | None = None
    timezone: str = "UTC"

    @model_validator(mode="after")
    def _ordered(self) -> Calendar:
        if self.end is not None and self.end < self.start:
            raise ValueError(f"end {self.end} lies before start {self.start}")
        return self

    @field_validator("timezone")
    @classmethod
    def _exists(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("no time zone of this name, e.g. UTC or Europe/Berlin") from None
        return value


class Source(Part):
    """One stream of raw rows.

    `connector` is a registered connector name; `options` are that connector's own settings and
    are checked by it.
    """

    name: Name
    connector: str = "files"
    options: dict[str, Any] = Field(default_factory=dict)
    starts: date | None = None


class Column(Part):
    """What the contract says of one column.

    Bounds are for numbers; domain, pattern and lengths for strings. A date or timestamp may lie
    one day after the row's own day (time zones differ) and no later, unless `future` is true.
    """

    type: Literal["string", "integer", "number", "boolean", "date", "timestamp"] = "string"
    nullable: bool = False
    unique: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None
    pattern: str | None = None
    min_chars: int | None = Field(default=None, ge=0)
    max_chars: int | None = Field(default=None, ge=1)
    future: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        return compiled(value, re2=True)

    @model_validator(mode="after")
    def _fits_its_type(self) -> Column:
        numeric = {"minimum", "maximum"}
        textual = {"allowed", "pattern", "min_chars", "max_chars"}
        given = {name for name in numeric | textual if getattr(self, name) is not None}
        if self.type in ("integer", "number"):
            wrong = given - numeric
        else:
            wrong = given - textual if self.type == "string" else given
        if wrong:
            raise ValueError(f"{', '.join(sorted(wrong))} cannot be asked of a {self.type}")
        for low, high in ((self.minimum, self.maximum), (self.min_chars, self.max_chars)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"no value lies between {low:g} and {high:g}")
        return self


class Contract(Part):
    """Types, ranges and domains of raw rows. Columns not named here are not carried."""

    columns: dict[Name, Column] = Field(default_factory=lambda: {"text": Column(max_chars=20_000)})
    max_quarantined_share: float = Field(default=0.05, ge=0, le=1)


class Split(Part):
    """Shares of train, dev and test; a row's side is a hash of its id and `salt`."""

    train: float = Field(default=0.7, gt=0, lt=1)
    dev: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.2, gt=0, lt=1)
    salt: str = "split-1"

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        total = self.train + self.dev + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + dev + test must be 1, not {total:g}")
        return self


class Gold(Part):
    """Where human labels come from and how many of them may be read before the test.

    `column` names a class column of the source rows; it is moved to the gold table at `raw` and
    never carried with the text. `values` says which class a value of it means; a value that is
    not named there must be a class itself. `dev_rows_per_source` is the budget of dev gold rows.
    """

    column: str | None = Field(default=None, min_length=1)
    values: dict[str, Name] = Field(default_factory=dict)
    annotator: str = "unknown"
    guideline_version: str = "1"
    dev_rows_per_source: int = Field(default=50, ge=0)


class Expert(Part):
    """One adapter, trained on the cleaned rows of `sources`."""

    name: Name
    sources: tuple[Name, ...] = Field(min_length=1)

    @field_validator("sources")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a source is named more than once")
        return value


MergeMethodName = Literal[
    "linear", "ties", "dare", "dare_ties", "slerp", "svd", "fisher", "regmean"
]


Share = Annotated[float, Field(gt=0, lt=1)]


class Merge(Part):
    """How experts become one model.

    `weights` absent: equal ones, unless gold dev rows show that others are better (`evidence:
    gold`), or those that fit weak dev labels best (`evidence: weak`), or those of the experts whose
    texts are alike (`search: similar`). A negative weight makes the model forget a task.
    """

    method: Literal[
        "linear", "ties", "dare", "dare_ties", "slerp", "svd", "fisher", "regmean", "auto"
    ] = Field(default="linear", description="auto: one of `methods`, as `evidence` says")
    methods: tuple[MergeMethodName, ...] = Field(
        default=("linear", "ties", "dare", "fisher", "regmean"), min_length=1
    )
    weights: dict[Name, float] | None = None
    evidence: Literal["gold", "weak"] = Field(
        default="gold", description="what decides among merges; without gold rows weights are equal"
    )
    scales: tuple[Share, ...] = Field(
        default=(0.75, 0.5, 0.25), description="equal weights times these are tried on gold rows"
    )
    density: float = Field(default=0.5, gt=0, le=1, description="TIES, DARE: share of entries kept")
    rank: int | None = Field(default=None, ge=1, description="SVD: rank of the merged update")
    search: Literal["simplex", "free", "soup", "similar"] = Field(
        default="simplex",
        description="weights that sum to 1, of any sign, or equal ones of some; similar: without a"
        " label, by whose texts are nearest to those of `towards`",
    )  # fmt: skip
    towards: tuple[Name, ...] = Field(
        default=(),
        description="similar: sources to be answered; none: those without an expert, or all",
    )
    similarity: float = Field(
        default=0.1, ge=0, le=1,
        description="similar: share of the nearest texts below which an expert has no weight",
    )  # fmt: skip
    search_evaluations: int = Field(default=12, ge=1, description="weights tried at most")
    search_rows_per_source: int = Field(default=120, ge=1)
    max_loss: float | None = Field(
        default=None, ge=0, le=1,
        description="accuracy on weak dev rows that a source may lose against its own expert",
    )  # fmt: skip

    @model_validator(mode="after")
    def _similar_reads_no_label(self) -> Merge:
        if self.towards and self.search != "similar":
            raise ValueError("towards is read by search: similar alone")
        if self.search == "similar" and self.method == "auto":
            raise ValueError("auto compares methods by labels, and similar reads none")
        return self

    @property
    def candidates(self) -> tuple[MergeMethodName, ...]:
        """The methods that are tried."""
        return self.methods if self.method == "auto" else (self.method,)


class Schedule(Part):
    """When a new day is built."""

    cron: str = "0 2 * * *"
    enabled: bool = True

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        words = value.split()
        if len(words) != len(_CRON):
            raise ValueError("a cron expression has five fields: minute hour day month weekday")
        for word, (field, low, high) in zip(words, _CRON, strict=True):
            numbers = re.findall(r"(?<![/\d])\d+", word)
            if not _CRON_FIELD.fullmatch(word) or not all(low <= int(n) <= high for n in numbers):
                raise ValueError(f"{word} is no {field} of a cron expression: * or {low} to {high}")
        return value


class ProjectSpec(Part):
    """One application: task, taxonomy, sources, labeling, cleaning, base model, experts, merge.

    Raises:
        pydantic.ValidationError: With every mistake of a single part; `cross_problems` tells
            those between parts. `fm_platform.spec.load.load_spec` gives all, with file and line.
    """

    name: Name
    description: str = ""
    owners: tuple[str, ...] = ("team:ml-platform",)
    task: Literal["classification", "causal"] = Field(
        default="classification", description="classes of texts, or answers to prompts"
    )
    taxonomy: Taxonomy = Field(description="the classes; a causal project has none")
    instruction: Instruction = Instruction()
    calendar: Calendar
    sources: tuple[Source, ...] = Field(min_length=1)
    contract: Contract = Contract()
    split: Split = Split()
    gold: Gold = Gold()
    annotation: Annotation = Annotation()
    slices: tuple[Slice, ...] = Field(default=(), description="rows that are counted apart")
    labeling: Labeling = Labeling()
    cleaning: tuple[CleaningRule, ...] = DEFAULT_RULES
    coverage: Coverage | None = Field(default=None, description="absent: any rows will do")
    base_model: DeclaredBase = DeclaredBase()
    experts: tuple[Expert, ...] = ()
    training: Training = Training()
    merge: Merge = Merge()
    evaluation: Evaluation = Evaluation()
    gate: Gate = Gate()
    schedule: Schedule = Schedule()
    unit: Unit | None = Field(default=None, description="absent: no rows are tried by hand")
    alerts: Alerts | None = Field(default=None, description="absent: no sensor acts on alerts")

    @model_validator(mode="before")
    @classmethod
    def _one_expert_by_default(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("experts"):
            sources = data.get("sources")
            if isinstance(sources, (list, tuple)):
                names = [s.get("name") if isinstance(s, dict) else getattr(s, "name", None)
                         for s in sources]  # fmt: skip
                if all(isinstance(name, str) and re.match(NAME_PATTERN, name) for name in names):
                    return {**data, "experts": [{"name": "all", "sources": names}]}
        return data

    @model_validator(mode="before")
    @classmethod
    def _no_classes_to_declare(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("task") == "causal" and "taxonomy" not in data:
            return {**data, "taxonomy": {"classes": ["answered", "unanswered"]}}
        return data

    @field_validator("owners")
    @classmethod
    def _owners(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for owner in value:
            if not re.fullmatch(r"team:.+|[^@\s]+@[^@\s]+\.[^@\s]+", owner):
                raise ValueError(f"{owner!r} is neither team:NAME nor a mail address")
        return value

    def cross_problems(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Return mistakes between parts as (location, message); empty when consistent."""
        return cross_problems(self.model_dump())
