"""The frozen results of a comparison. `Diff.to_json()` is what `fm diff --json` prints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fm_platform.lineage.records import ArtifactVersion, Slot


@dataclass(frozen=True)
class Side:
    """One of the two versions.

    Attributes:
        reference: A name that finds it again, e.g. `adapter/nyt#3`.
        git_dirty: Whether the tree had changes that no commit holds.
    """

    reference: str
    id: int
    project: str
    kind: str
    name: str
    partition: str | None
    number: int
    content_hash: str
    recipe_hash: str
    created_at: datetime
    asked_by: str
    git_commit: str | None
    git_dirty: bool | None

    @classmethod
    def of(cls, version: ArtifactVersion, reference: str) -> Side:
        """Return what names a version."""
        own = {f.name for f in dataclasses.fields(cls)} - {"reference"}
        return cls(reference, **{name: getattr(version, name) for name in own})


@dataclass(frozen=True)
class Change:
    """One artifact that is not the same in the two histories.

    Attributes:
        before: Id of the version in the first history; None where it has none.
        after: The same in the second history.
        own: What differs in its own recipe beside recorded inputs, in words.
        via: Inputs that differ, too.
    """

    kind: str
    name: str
    partition: str | None
    before: int | None
    after: int | None
    own: tuple[str, ...] = ()
    via: tuple[Slot, ...] = ()

    @property
    def slot(self) -> Slot:
        """What it is a version of."""
        return (self.kind, self.name, self.partition)


@dataclass(frozen=True)
class Cause:
    """A difference that nothing above it explains, of one artifact over all its days.

    Attributes:
        what: The difference in words.
        partitions: The days it was found in; empty for an artifact without days.
        path: From the artifact down to the one compared, as references.
    """

    kind: str
    name: str
    what: str
    partitions: tuple[str, ...]
    path: tuple[str, ...]


@dataclass(frozen=True)
class RowExample:
    """One row that differs.

    Attributes:
        change: `relabeled`, `added` or `removed`.
        before: Its label in the first history; None for no label or no row.
        after: Its label in the second history; None for no label or no row.
        text: As stored: whoever shows it makes it inert.
    """

    change: str
    row_id: str
    source: str | None
    before: str | None
    after: str | None
    text: str | None = None


@dataclass(frozen=True)
class RowCounts:
    """Rows that differ, of one source."""

    source: str
    added: int
    removed: int
    relabeled: int


@dataclass(frozen=True)
class Relabeled:
    """So many rows went from one label to another; None is no label."""

    before: str | None
    after: str | None
    rows: int


@dataclass(frozen=True)
class RowsChange:
    """Rows of one table, over all days that differ.

    Attributes:
        table: `raw`, `gold`, `weak_labels`, `cleaned` or `embeddings`.
        partitions: Days that differ.
        before_rows: Rows of those days in the first history.
        after_rows: Rows of those days in the second history.
        added: Rows that only the second history has.
        removed: Rows that only the first history has.
        moved: Rows that both have, on different days.
        relabeled: Rows with another label (or another split, where that is all there is).
        edited: Rows of which other columns differ, with the same label.
        reweighted: Rows with the same label and other probabilities (or another vector).
        mean_shift: Mean total variation distance of the probabilities of `reweighted`, 0..1;
            for vectors the mean cosine distance.
        by_source: Counts of each source that has any.
        labels: From which label to which, most first.
        examples: Some of the rows.
    """

    table: str
    partitions: tuple[str, ...]
    before_rows: int
    after_rows: int
    added: int = 0
    removed: int = 0
    moved: int = 0
    relabeled: int = 0
    edited: int = 0
    reweighted: int = 0
    mean_shift: float | None = None
    by_source: tuple[RowCounts, ...] = ()
    labels: tuple[Relabeled, ...] = ()
    examples: tuple[RowExample, ...] = ()


@dataclass(frozen=True)
class FunctionChange:
    """One labeling function.

    Attributes:
        status: `changed`, `new`, `gone`, or `same` where only what it read differs.
        before: Its fingerprint in the first history.
        after: Its fingerprint in the second history.
        source: Unified diff of its source, without line ends; empty where a side is not recorded.
        recorded: Whether the ledger holds the source of every side that exists.
        days: Days of which its votes differ.
        rows: Rows of those days that both sides have.
        votes_changed: How many of them got another vote.
    """

    name: str
    status: str
    before: str | None
    after: str | None
    source: tuple[str, ...]
    recorded: bool
    days: int
    rows: int
    votes_changed: int


@dataclass(frozen=True)
class FileChange:
    """One file of the project's folder, as declared when the two versions were made.

    Attributes:
        status: `changed`, `new` or `gone`.
        source: Unified diff, without line ends.
    """

    name: str
    status: str
    source: tuple[str, ...]


@dataclass(frozen=True)
class SettingChange:
    """One value of the configuration; `absent` stands for a value that is not there.

    Attributes:
        path: Where it is, e.g. `training.rank`.
        artifacts: Kinds of artifacts that were made with it.
    """

    path: str
    before: Any
    after: Any
    artifacts: tuple[str, ...]


@dataclass(frozen=True)
class PackageChange:
    """One package, Python or the machine, and the kinds of artifacts whose content it may alter."""

    name: str
    before: str | None
    after: str | None
    artifacts: tuple[str, ...] = ()


@dataclass(frozen=True)
class CodeChange:
    """One module of the platform whose code differs, and the kinds of artifacts it makes."""

    module: str
    before: str | None
    after: str | None
    artifacts: tuple[str, ...]


@dataclass(frozen=True)
class TensorChange:
    """One tensor that differs.

    Attributes:
        name: Of the dense weight, also for an adapter.
        shape: Of the dense weight, [out, in] for a linear layer.
        status: `changed`, `new`, `gone` or `reshaped`.
        norm: Frobenius norm of after - before; of the tensor itself where it is new or gone.
        relative: `norm` / Frobenius norm of before; None where that is 0 or not comparable.
        largest: Largest absolute difference of one entry.
        rank: Directions of the difference above the rounding noise of the stored numbers; None
            for a tensor that is no matrix, or a matrix too large for it.
        stable_rank: norm^2 / largest singular value^2: how many directions carry the change.
    """

    name: str
    shape: tuple[int, ...]
    status: str
    norm: float
    relative: float | None = None
    largest: float | None = None
    rank: int | None = None
    stable_rank: float | None = None


@dataclass(frozen=True)
class TensorsChange:
    """The tensors of two models.

    Attributes:
        form: `adapter` (dense updates scaling * B @ A are compared, so ranks may differ) or
            `dense`.
        total: Tensors of both models together, each name once.
        equal: How many are equal in every bit.
        norm: Frobenius norm over all that both have.
        relative: `norm` / norm of the first model's.
        tensors: Those that differ, in the order of their names.
        files: Other files of the folders that differ: settings, tokenizer, card.
    """

    form: str
    total: int
    equal: int
    norm: float
    relative: float | None
    tensors: tuple[TensorChange, ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetricChange:
    """One metric of one system on one slice.

    Attributes:
        system: e.g. `merged_model` or `expert:nyt`.
        source: Slice, or `all`.
        before: {"value", "low", "high"} as evaluated, or None.
        after: The same of the second version.
        difference: The same for after - before on the rows both were evaluated on, paired
            bootstrap; None where they cannot be paired.
        rows: Rows of that comparison.
    """

    system: str
    source: str
    metric: str
    before: Mapping[str, float] | None
    after: Mapping[str, float] | None
    difference: Mapping[str, float] | None
    rows: int | None


@dataclass(frozen=True)
class Flip:
    """One gold row with another answer."""

    row_id: str
    day: str
    source: str
    gold: str
    before: str | None
    after: str | None
    before_confidence: float | None
    after_confidence: float | None
    text: str | None = None


@dataclass(frozen=True)
class FlipCounts:
    """Gold rows of one slice; `all` first."""

    source: str
    rows: int
    fixed: int
    broken: int
    other: int


@dataclass(frozen=True)
class Answers:
    """What two models answer on gold rows.

    Attributes:
        before_evaluation: Content hash of the evaluation of the first version.
        after_evaluation: The same of the second; the same hash where one evaluation holds both.
        common: Gold rows that both were evaluated on.
        flips: Counts per slice: wrong -> right, right -> wrong, wrong -> wrong otherwise.
        examples: Some flipped rows: broken first, surest first.
    """

    before_system: str
    after_system: str
    before_evaluation: str
    after_evaluation: str
    common: int
    metrics: tuple[MetricChange, ...]
    flips: tuple[FlipCounts, ...]
    examples: tuple[Flip, ...]


@dataclass(frozen=True)
class Diff:
    """Everything that differs between two versions, from the cause down.

    Attributes:
        same_content: The two are the same thing, whatever they were made from.
        files: Files of the project that differ between the definitions in use when the two
            versions were made; empty where one was not recorded.
        values: What the artifact itself says, of a label model or a gate.
        notes: What could not be compared, and why.
    """

    before: Side
    after: Side
    same_content: bool
    same_recipe: bool
    causes: tuple[Cause, ...] = ()
    changes: tuple[Change, ...] = ()
    rows: tuple[RowsChange, ...] = ()
    functions: tuple[FunctionChange, ...] = ()
    files: tuple[FileChange, ...] = ()
    settings: tuple[SettingChange, ...] = ()
    packages: tuple[PackageChange, ...] = ()
    code: tuple[CodeChange, ...] = ()
    tensors: TensorsChange | None = None
    values: tuple[SettingChange, ...] = ()
    answers: tuple[Answers, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value
