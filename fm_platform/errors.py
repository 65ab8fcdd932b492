"""Every error the platform raises on purpose.

    FMError
    ├── SpecError                 the project file is wrong (all problems at once)
    ├── RegistryError             a plug-in name is unknown or taken
    ├── HomeError                 FM_HOME cannot be written
    ├── StoreError                tables and model files
    │   ├── CorruptArtifactError      bytes do not match their recorded hash
    │   ├── MissingArtifactError      a recorded artifact is not there
    │   ├── SchemaMismatchError       a batch does not fit the table
    │   ├── StorageFullError          no space left, or a quota
    │   ├── ConcurrentWriteError      lost a race; trying again helps (retryable)
    │   └── UnsafePathError           a name would leave its folder
    ├── LedgerError               the record of versions
    │   ├── LedgerBusyError           locked for too long, or not reachable (retryable)
    │   ├── FencedError               a newer run holds the lease; this one must stop
    │   ├── NonReproducibleError      one recipe gave two contents
    │   ├── RefError                  a reference names no version, or several
    │   ├── AliasConflictError        somebody else moved the alias first
    │   └── BranchError               no such branch, or it cannot be merged
    ├── SourceError               raw rows could not be read
    │   ├── SourceUnavailableError    not reachable now (retryable)
    │   └── SourceFormatError         reachable, but not what was declared
    ├── ContractError             a whole batch breaks the contract
    ├── LabelingError             labeling functions and label models
    │   ├── FunctionImportError       labeling_functions.py does not import
    │   ├── FunctionFailureError      a function fails on too many rows
    │   └── AnsweredError             a person answered this row before, and otherwise
    ├── UnitSetError              the hand-made set of a project is unusable, or does not hold
    ├── TrainingError             adapters
    │   ├── BaseModelError            base model folder is unusable
    │   ├── CoverageError             too few rows of a class or a declared slice
    │   └── NonFiniteLossError        loss or gradient is NaN or infinite
    ├── MergeRefusedError         adapters that cannot be merged exactly
    ├── EvaluationError           nothing to evaluate, or inconsistent rows
    │   └── LeakError                 too many test rows were trained on
    └── TrackingError             MLflow
        └── RegistryUnavailableError  not reachable now (retryable)

A message says what was expected, what came, where, and what to do next. `retryable` decides
whether Dagster tries the step again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class FMError(Exception):
    """Base of all deliberate errors.

    Args:
        message: What went wrong, in one sentence.
        expected: What would have been right.
        found: What came instead.
        where: File and line, table and partition, column, layer or step.
        next_step: What the reader should do now.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        expected: object | None = None,
        found: object | None = None,
        where: object | None = None,
        next_step: str | None = None,
    ) -> None:
        self.message = message
        self.expected = expected
        self.found = found
        self.where = where
        self.next_step = next_step
        super().__init__(message)

    def __str__(self) -> str:
        lines = [self.message]
        for label, value in (
            ("where", self.where),
            ("expected", self.expected),
            ("found", self.found),
            ("next", self.next_step),
        ):
            if value is not None:
                lines.append(f"  {label}: {value}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(cls: type[FMError], args: tuple[object, ...], state: dict[str, object]) -> FMError:
    error = cls.__new__(cls)
    Exception.__init__(error, *args)
    error.__dict__.update(state)
    return error


@dataclass(frozen=True)
class SpecProblem:
    """One mistake in a project file.

    Attributes:
        file: Path as given by the user.
        line: 1-based line, or None where the file could not be parsed at all.
        path: Dotted path of the wrong value, e.g. ``training.rank``.
        message: What is wrong and which values are allowed.
    """

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class SpecError(FMError, ValueError):
    """A project file has mistakes; `problems` holds all of them."""

    def __init__(self, problems: Sequence[SpecProblem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{count} mistake{'s' if count != 1 else ''} in the project file"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))


class RegistryError(FMError, LookupError):
    """A plug-in name is unknown, taken twice, or malformed."""


class HomeError(FMError, OSError):
    """FM_HOME is missing, read-only or full."""

    def __str__(self) -> str:
        return FMError.__str__(self)


class StoreError(FMError):
    """Base of table and model-file errors."""


class CorruptArtifactError(StoreError):
    """Stored bytes do not match the hash recorded for them."""


class MissingArtifactError(StoreError, LookupError):
    """An artifact that the ledger names is not in the store."""


class SchemaMismatchError(StoreError, TypeError):
    """A batch's columns or types differ from the table's."""


class StorageFullError(StoreError):
    """No space left for a write; everything already written stays valid."""


class ConcurrentWriteError(StoreError):
    """Another writer committed first; a retry reads the new version."""

    retryable = True


class UnsafePathError(StoreError, ValueError):
    """A name or archive member would be written outside its folder."""


class LedgerError(FMError):
    """Base of ledger errors."""


class LedgerBusyError(LedgerError):
    """Another process holds the ledger for too long, or its server is not reachable."""

    retryable = True


class FencedError(LedgerError):
    """A newer run holds the lease of this artifact: this one must not write."""


class NonReproducibleError(LedgerError):
    """The same recipe gave a different content: a bug that must be seen."""


class RefError(LedgerError, LookupError):
    """A reference names no version, or more than one.

    Attributes:
        candidates: Ids of the versions that it may mean, newest first.
    """

    candidates: tuple[int, ...] = ()


class AliasConflictError(LedgerError):
    """An alias moved between reading and setting it."""


class BranchError(LedgerError):
    """There is no such branch, or one too many, or it cannot be merged."""


class SourceError(FMError):
    """Base of connector errors."""


class SourceUnavailableError(SourceError):
    """The source cannot be reached now."""

    retryable = True


class SourceFormatError(SourceError, ValueError):
    """The source can be read but is not what was declared."""


class ContractError(FMError, ValueError):
    """A batch breaks the contract as a whole (a declared column is missing, no rows)."""


class LabelingError(FMError):
    """Base of labeling errors."""


class FunctionImportError(LabelingError, ImportError):
    """The labeling-function module of a project does not import."""


class FunctionFailureError(LabelingError):
    """A labeling function fails on more rows than allowed, or returns an unknown class."""


class AnsweredError(LabelingError):
    """A person answered this row before, and otherwise."""


class UnitSetError(FMError, ValueError):
    """The hand-made set of a project cannot be read, or what it expects does not hold."""


class TrainingError(FMError):
    """Base of training errors."""


class CoverageError(TrainingError):
    """A class, over all or in a declared slice, has fewer effective rows than declared."""


class BaseModelError(TrainingError):
    """The base-model folder lacks weights or tokenizer, or its hash differs."""


class NonFiniteLossError(TrainingError, ArithmeticError):
    """Loss or gradient norm is NaN or infinite; no adapter was written.

    Attributes:
        step: Step from 1; 0 while the head alone is fitted.
        learning_rate: Of that step.
        row_ids: Rows of the batch.
    """

    step: int = 0
    learning_rate: float = 0.0
    row_ids: tuple[str, ...] = ()

    def at(self, step: int, learning_rate: float, row_ids: tuple[str, ...]) -> NonFiniteLossError:
        """Return this error with its place as data."""
        self.step, self.learning_rate, self.row_ids = step, learning_rate, row_ids
        return self


class MergeRefusedError(FMError, ValueError):
    """The adapters cannot be merged without changing what they compute."""


class EvaluationError(FMError, ValueError):
    """There is nothing to evaluate, or predictions and gold rows do not match."""


class LeakError(EvaluationError):
    """More test rows than allowed repeat rows that models were trained on."""


class TrackingError(FMError):
    """Base of MLflow errors."""


class RegistryUnavailableError(TrackingError):
    """The tracking server does not answer; results are spooled and published later."""

    retryable = True
