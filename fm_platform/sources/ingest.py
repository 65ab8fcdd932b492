"""From what a connector brings to rows with ids, split and gold labels kept apart."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from fm_platform.hashing import sha256_hex
from fm_platform.sources.connectors import GOLD_LABEL, GOLD_RATERS, KEY
from fm_platform.spec.models import Contract, ProjectSpec, Split

_SPACES = re.compile(r"\s+")
_SPLIT_STEPS = 2**32


class Rejected(Protocol):
    """What the contract says of a wrong row."""

    @property
    def row(self) -> int:
        """Position in the batch."""

    @property
    def rule(self) -> str:
        """Which rule it breaks."""

    @property
    def column(self) -> str | None:
        """Which column is at fault; None for the row as a whole."""

    @property
    def reason(self) -> str:
        """What was expected."""

    @property
    def before(self) -> str | None:
        """The value, shortened."""


Reason = tuple[str, str | None, str, str | None]
"""Rule, column, reason, value before."""

Check = Callable[[pa.RecordBatch, Contract, str], tuple[pa.RecordBatch, "Sequence[Rejected]"]]
"""Batch, contract and day -> the batch with typed columns, and what is wrong with which row."""


@dataclass(frozen=True)
class Ingested:
    """One batch, sorted into three tables: good rows, their gold labels, and what was refused."""

    rows: list[dict[str, object]]
    gold: list[dict[str, object]]
    quarantine: list[dict[str, object]]


def row_id(source: str, key: str) -> str:
    """Return the id of a row: 32 hex digits of SHA-256 over source and key."""
    return sha256_hex(f"{source}\0{key}".encode("utf-8", "surrogatepass"))[:32]


def text_key(text: str) -> str:
    """Return a key that is equal for texts that differ in case, width or white space only."""
    folded = _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().casefold()
    return sha256_hex(folded.encode("utf-8", "surrogatepass"))[:32]


def split_of(identity: str, split: Split) -> str:
    """Return train, dev or test: a hash of the row id, made once and for ever."""
    point = int(sha256_hex(f"{split.salt}\0{identity}".encode())[:8], 16) / _SPLIT_STEPS
    if point < split.train:
        return "train"
    return "dev" if point < split.train + split.dev else "test"


class Ingest:
    """Ingests one day; remembers the ids of the day, so that a second one is refused."""

    def __init__(self, spec: ProjectSpec, day: str, check: Check) -> None:
        self.spec, self.day, self.check = spec, day, check
        self._seen: set[str] = set()
        self._read: dict[str, int] = {}
        self._unique: dict[str, set[object]] = {
            name: set() for name, column in spec.contract.columns.items() if column.unique
        }

    def source(self, name: str, batches: Iterable[pa.RecordBatch]) -> Iterator[Ingested]:
        """Yield every batch of a source, sorted into tables; rows in = rows + quarantine."""
        for batch in batches:
            yield self._batch(name, batch)

    def _batch(self, source: str, batch: pa.RecordBatch) -> Ingested:
        typed, rejections = self.check(batch, self.spec.contract, self.day)
        refused = {rejection.row: rejection for rejection in rejections}
        out = Ingested([], [], [])
        # the text as the contract has it: always a string
        texts = typed.column("text").to_pylist()
        keys = self._keys(source, batch, texts)
        labels = [self._class_of(value) for value in _optional(batch, GOLD_LABEL)]
        raters = _optional(batch, GOLD_RATERS)
        declared = {
            name: typed.column(name).to_pylist()
            for name in sorted(self.spec.contract.columns)
            if name != "text"
        }
        for i, (text, key) in enumerate(zip(texts, keys, strict=True)):
            identity = row_id(source, key)
            problem = refused.get(i)
            values = {name: column[i] for name, column in declared.items()}
            reason: Reason | None
            if problem is not None:
                reason = (problem.rule, problem.column, problem.reason, problem.before)
            else:
                reason = (
                    self._no_id(batch, i)
                    or self._duplicate(identity, key, {"text": text, **values})
                    or self._unknown_class(labels[i])
                )
            if reason is not None:
                out.quarantine.append(self._refusal(identity, source, *reason))
                continue
            self._seen.add(identity)
            for name, known in self._unique.items():
                known.add(text if name == "text" else values[name])
            split = split_of(identity, self.spec.split)
            out.rows.append(
                {
                    "row_id": identity, "day": self.day, "source": source, "split": split,
                    "text": text, "text_key": text_key(text), **values,
                }
            )  # fmt: skip
            if labels[i] is not None:
                out.gold.append(
                    {
                        "row_id": identity, "day": self.day, "source": source, "split": split,
                        "label": labels[i], "annotator": self.spec.gold.annotator,
                        "guideline_version": self.spec.gold.guideline_version,
                        "rater_labels": raters[i],
                    }
                )  # fmt: skip
        return out

    def _keys(self, source: str, batch: pa.RecordBatch, texts: list[str | None]) -> list[str]:
        """Return what each row is known by: its key, else its text, else its place in the day."""
        given = batch.column(KEY).to_pylist() if KEY in batch.schema.names else texts
        first = self._read.get(source, 0)
        self._read[source] = first + batch.num_rows
        return [
            str(key) if key is not None else f"{self.day}\0{first + i}\0{text}"
            for i, (key, text) in enumerate(zip(given, texts, strict=True))
        ]

    def _no_id(self, batch: pa.RecordBatch, i: int) -> Reason | None:
        if KEY in batch.schema.names and not batch.column(KEY)[i].is_valid:
            return ("null", KEY, "no id, where the source names a column of ids", None)
        return None

    def _class_of(self, value: object) -> object:
        """Return the class that a gold value means; None where there is none."""
        if value is None or value == "":
            return None
        return self.spec.gold.values.get(str(value), str(value))

    def _duplicate(self, identity: str, key: str, values: dict[str, object]) -> Reason | None:
        if identity in self._seen:
            return ("duplicate_id", KEY, "a row with this id came before on this day", _short(key))
        for name, seen in self._unique.items():
            if values[name] is not None and values[name] in seen:
                return ("unique", name, "this value came before on this day", _short(values[name]))
        return None

    def _unknown_class(self, label: object) -> Reason | None:
        taxonomy = self.spec.taxonomy
        # a class of before is kept as it was said: what it means today may change again
        if label is None or label in taxonomy.classes or label in taxonomy.former:
            return None
        column = self.spec.gold.column or GOLD_LABEL
        return ("gold_class", column, f"not one of {', '.join(taxonomy.classes)}", _short(label))

    def _refusal(
        self,
        identity: str,
        source: str,
        rule: str,
        column: str | None,
        reason: str,
        before: str | None,
    ) -> dict[str, object]:
        return {
            "row_id": identity, "day": self.day, "stage": "raw", "source": source, "rule": rule,
            "reason": reason, "column": column, "before": before, "after": None, "removed": True,
            "part": f"raw-{self.day}",
        }  # fmt: skip


def _optional(batch: pa.RecordBatch, name: str) -> list[object]:
    if name in batch.schema.names:
        values: list[object] = batch.column(name).to_pylist()
        return values
    return [None] * batch.num_rows


def _short(value: object) -> str:
    return str(value)[:2_000]
