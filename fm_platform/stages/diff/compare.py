"""Compare two versions: histories first, then contents, then what became of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from fm_platform.errors import FMError, MissingArtifactError
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import version_name
from fm_platform.stages.definition import read_definition
from fm_platform.stages.diff.answers import Judged, answers, best_pair, judged
from fm_platform.stages.diff.functions import file_changes, function_changes
from fm_platform.stages.diff.history import History, compare_histories
from fm_platform.stages.diff.records import (
    Answers,
    Diff,
    FileChange,
    RowsChange,
    SettingChange,
    Side,
    TensorsChange,
)
from fm_platform.stages.diff.rows import TABLES, Sides, kind_of, rows_change, vectors_change
from fm_platform.stages.diff.settings import (
    code_changes,
    leaves,
    package_changes,
    setting_changes,
)
from fm_platform.stages.trace_row import keeps_predictions
from fm_platform.workspace import Workspace

_MODELS = ("start", "adapter", "merged_model")
COMPARABLE = (frozenset({"start", "adapter"}),)
"""Kinds that can be compared with one another; every kind can be compared with itself."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Wanted:
    """How much a comparison reads.

    Attributes:
        examples: Rows shown of each kind of change.
        text: Whether examples carry the text of their rows.
        contents: Whether rows, votes, tensors and answers are read; without them it costs a few
            queries of the ledger.
    """

    examples: int = 5
    text: bool = True
    contents: bool = True


def diff(
    ws: Workspace,
    before: ArtifactVersion,
    after: ArtifactVersion,
    wanted: Wanted | None = None,
) -> Diff:
    """Return what differs between two versions of one kind, from the cause down.

    Args:
        ws: The stores and the ledger.
        before: The first version, with its inputs.
        after: The second version, with its inputs.
        wanted: How much is read.

    Raises:
        FMError: If the two are of kinds that cannot be compared.
        CorruptArtifactError: If a stored byte differs from its hash.
    """
    kinds = {before.kind, after.kind}
    if len(kinds) > 1 and not any(kinds <= group for group in COMPARABLE):
        raise FMError(
            "two artifacts of different kinds have nothing to compare",
            found=f"{before.kind} {version_name(before)} and {after.kind} {version_name(after)}",
            expected="two versions of one kind",
            next_step="fm lineage REF --up shows what each was made from",
        )
    return _Comparison(ws, before, after, wanted or Wanted()).result()


class _Comparison:
    """One comparison; what its parts share is computed once."""

    def __init__(
        self, ws: Workspace, before: ArtifactVersion, after: ArtifactVersion, wanted: Wanted
    ) -> None:
        self.ws, self.before, self.after, self.wanted = ws, before, after, wanted
        self.notes: list[str] = []
        self._documents: dict[str, Any] = {}

    @cached_property
    def history(self) -> History:
        return compare_histories(self.ws.ledger, self.before, self.after)

    def describe(self, hash_: str) -> Any:
        if hash_ not in self._documents:
            self._documents[hash_] = self.ws.ledger.document(hash_)
        return self._documents[hash_]

    def result(self) -> Diff:
        history, pairs = self.history, self.history.pairs()
        read = self.wanted.contents
        return Diff(
            before=Side.of(self.before, version_name(self.before)),
            after=Side.of(self.after, version_name(self.after)),
            same_content=self.before.content_hash == self.after.content_hash,
            same_recipe=self.before.recipe_hash == self.after.recipe_hash,
            causes=history.causes,
            changes=tuple(c for c in history.changes if c.before != c.after),
            rows=self.rows() if read else (),
            functions=self.tried(
                "votes", (), lambda: function_changes(
                    self.ws, self.votes(), history.functions, self.describe
                )
            ) if read else (),
            files=self.tried("definitions", (), self.files) if read else (),
            settings=setting_changes(pairs),
            packages=package_changes(pairs, (self.before, self.after), self.describe),
            code=code_changes(pairs, self.describe),
            tensors=self.tried("tensors", None, self.tensors) if read else None,
            values=self.values(),
            answers=self.tried("predictions", (), self.answers) if read else (),
            notes=tuple(self.notes),
        )  # fmt: skip

    def votes(self) -> list[Sides]:
        """Return both sides of all votes that differ; those of other days for their recipes."""
        newer = [pair for pair in self.history.newer if pair[1].kind == "votes"]
        return [*self.history.sides("votes"), *newer]

    def tried(self, what: str, without: Made, make: Callable[[], Made]) -> Made:
        """Return what `make` gives; where its files are gone, say so and go on without."""
        try:
            return make()
        except MissingArtifactError as error:
            self.notes.append(f"{what} not compared: {error.message} ({error.where})")
            return without

    def rows(self) -> tuple[RowsChange, ...]:
        """Return the tables of which rows differ, those nearest to the source first."""
        found: list[RowsChange | None] = []
        sources: tuple[list[str] | None, list[str] | None] = (None, None)
        if self.after.kind == self.before.kind == "adapter":
            sources = (_parts(self.before), _parts(self.after))
        for table in TABLES:
            days = self.history.sides(kind_of(table))
            if table == "gold":  # most days that differ have the same gold rows
                days = [d for d in days if len({v and v.parts.get("gold") for v in d}) > 1]
            elif table == "cleaned" and sources[0] != sources[1]:
                days = self._read_days()  # the same day, read in other parts

            def compare(table: str = table, days: list[Sides] = days) -> RowsChange | None:
                return rows_change(
                    self.ws, table, days, sources=sources, examples=self.wanted.examples,
                    text=self.wanted.text,
                )  # fmt: skip

            found.append(self.tried(f"rows of {table}", None, compare))
        vectors = self.history.sides("embeddings")
        found.append(self.tried("embeddings", None, lambda: vectors_change(self.ws, vectors)))
        return tuple(change for change in found if change is not None)

    def _read_days(self) -> list[Sides]:
        """Return both versions of every cleaned day that either reads itself."""
        ids = [
            {i.partition: i.version_id for i in v.inputs if i.role == "cleaned" and i.version_id}
            for v in (self.before, self.after)
        ]
        listed = {i for side in ids for i in side.values()}
        known = {v.id: v for v in self.ws.ledger.get_many(sorted(listed))}
        days = sorted({str(day) for side in ids for day in side})
        return [(known.get(ids[0].get(d, 0)), known.get(ids[1].get(d, 0))) for d in days]

    def files(self) -> tuple[FileChange, ...]:
        """Return the files that differ between the definitions in use at the two moments."""
        found = []
        for version in (self.before, self.after):
            declared: ArtifactVersion | None = version
            if version.kind != "spec":
                declared = self.ws.ledger.latest(
                    version.project, "spec", "spec", at=version.created_at
                )
            if declared is None or "model" not in declared.location:
                return ()
            found.append(read_definition(self.ws, declared).files)
        return file_changes(*found)

    def tensors(self) -> TensorsChange | None:
        pair = (self.before, self.after)
        if self.after.kind == "evaluation":
            pairs = self.history.pairs("merged_model")
            if not pairs:
                return None
            pair = pairs[0]
        if pair[1].kind not in _MODELS or pair[0].content_hash == pair[1].content_hash:
            return None
        from fm_platform.stages.diff.tensors import tensors_change

        return tensors_change(*(self.ws.model_path(version) for version in pair))

    def values(self) -> tuple[SettingChange, ...]:
        """Return what the two artifacts themselves say, where that is a few numbers."""
        found = leaves(_said(self.before), _said(self.after))
        return tuple(SettingChange(*leaf, (self.after.kind,)) for leaf in found)

    def answers(self) -> tuple[Answers, ...]:
        wanted = self.wanted
        return tuple(
            answers(self.ws, *pair, examples=wanted.examples, text=wanted.text)
            for pair in self._judged()
        )

    def _judged(self) -> list[tuple[Judged, Judged]]:
        if not keeps_predictions(self.after):
            if self.after.kind in _MODELS:
                self.notes.append(
                    "answers of causal models are measured together: fm diff evaluation"
                )
            return []
        if self.after.kind == "evaluation":
            systems = [
                list(dict.fromkeys(r["system"] for r in v.metrics["evaluation"]["rows"]))
                for v in (self.before, self.after)
            ]
            both = [s for s in systems[1] if s in systems[0] and s != "human"]
            return [(Judged(self.before, s), Judged(self.after, s)) for s in both]
        if self.after.kind not in _MODELS:
            return []
        listed = self.ws.ledger.versions(self.after.project, "evaluation")
        known = self.ws.ledger.get_many([version.id for version in listed])
        found = [judged(known, version) for version in (self.before, self.after)]
        pair = best_pair(*found)
        for version, places in zip((self.before, self.after), found, strict=True):
            if not places:
                self.notes.append(f"{version_name(version)} has not been evaluated")
        return [] if pair is None else [pair]


def _parts(version: ArtifactVersion) -> list[str]:
    """Return the sources that an adapter reads."""
    return sorted({i.part for i in version.inputs if i.part is not None})


def _said(version: ArtifactVersion) -> dict[str, Any]:
    """Return what a label model or an evaluation says of itself; nothing for other kinds."""
    if version.kind == "label_model":
        method = version.location["label_model"]["method"]
        return {"method": method, "functions": _by_group(version.metrics.get("functions", []))}
    if version.kind == "evaluation":
        return {"gate": _verdict(version.metrics["gate"]), **_of_answers(version)}
    return {}


def _of_answers(version: ArtifactVersion) -> dict[str, Any]:
    """Return system -> source -> what a causal project measured of its answers; else nothing."""
    found: dict[str, Any] = {}
    for row in () if keeps_predictions(version) else version.metrics["rows"]:
        numbers = {name: row[name] for name in ("answer_loss", "exact_match", "n")}
        found.setdefault(str(row["system"]), {})[str(row["source"])] = numbers
    return found


def _verdict(gate: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a gate decided; the differences it saw are told with the answers."""
    return {name: value for name, value in gate.items() if name != "differences"}


def _by_group(functions: Any) -> dict[str, Any]:
    """Return group -> function -> its numbers."""
    found: dict[str, Any] = {}
    for record in functions:
        numbers = {k: v for k, v in record.items() if k in ("coverage", "dev_accuracy")}
        found.setdefault(str(record["group"]), {})[str(record["function"])] = numbers
    return found
