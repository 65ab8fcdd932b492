"""What nothing above explains: grouped over days, with the way down to what is compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fm_platform.lineage.records import ArtifactVersion, slot_name
from fm_platform.stages.diff.records import Cause
from fm_platform.stages.diff.words import Ids, input_told, keyed, own_told

if TYPE_CHECKING:
    from fm_platform.stages.diff.history import Walk

STAGES = (
    "days", "spec", "unit", "raw", "embeddings", "votes", "label_model", "weak_labels", "shingles",
    "cleaned", "activations", "replay",
    "start", "adapter", "merged_model", "evaluation",
)  # fmt: skip
SUMMARIES = {
    "gold": "the gold rows it may read", "exemplars": "the exemplars and their votes",
    "seen": "the texts of earlier days",
}  # fmt: skip
_MAIN_LINE = frozenset({"weak_labels", "cleaned", "adapter", "merged_model", "evaluation"})
NEW_DAYS, DAYS_GONE = "new days", "days gone"
_Pair = tuple[ArtifactVersion, ArtifactVersion]
_Key = tuple[str, str, str]


def stage(kind: str) -> int:
    """Return where a kind stands in the chain; unknown kinds come last."""
    return STAGES.index(kind) if kind in STAGES else len(STAGES)


def causes_of(walk: Walk, ordered: list[Ids]) -> tuple[tuple[Cause, ...], tuple[_Pair, ...]]:
    """Return the causes in the order of the stages, and the recipes that differ on newer days."""
    found: dict[_Key, list[Ids]] = {}
    for ids in ordered:
        change = walk.changes[ids]
        for what in change.own:
            key = (change.kind, change.name, what)
            if ids in walk.slid:
                key = ("days", "days", NEW_DAYS if ids[0] is None else DAYS_GONE)
            found.setdefault(key, []).append(ids)
    # a summary follows from rows and votes: it explains only where nothing else does
    summaries = {f"{what} changed" for what in SUMMARIES.values()}
    if any(key[2] not in summaries for key in found):
        found = {key: members for key, members in found.items() if key[2] not in summaries}
    readers: dict[Ids, list[Ids]] = {}
    for reader, children in walk.children.items():
        for child in children:
            readers.setdefault(child, []).append(reader)
    causes = []
    for (kind, name, what), members in found.items():
        days = sorted({p for ids in members if (p := walk.changes[ids].partition)})
        causes.append(Cause(kind, name, what, tuple(days), _path(walk, readers, members[-1])))
    newer = _Newer(walk, readers, set(found))
    for ids in _newest(walk):
        newer.follow(ids)
    causes += newer.causes
    return tuple(sorted(causes, key=lambda c: (stage(c.kind), c.name, c.what))), tuple(newer.pairs)


def _path(walk: Walk, readers: Mapping[Ids, list[Ids]], ids: Ids) -> tuple[str, ...]:
    """Return the way down to the artifacts compared, along the main line where there is one."""

    def rank(reader: Ids) -> tuple[bool, int, str]:
        change = walk.changes[reader]
        return (change.kind not in _MAIN_LINE, stage(change.kind), change.name)

    path = [ids]
    while readers.get(path[-1]):
        path.append(min(readers[path[-1]], key=rank))
    return tuple(slot_name(walk.changes[step].slot) for step in path)


def _newest(walk: Walk) -> list[Ids]:
    """Return, for each artifact with new days, the newest; where there is none, of days gone."""
    newest: dict[tuple[bool, str, str], Ids] = {}
    for ids in sorted(walk.slid, key=lambda ids: str(walk.changes[ids].partition)):
        change = walk.changes[ids]
        newest[ids[0] is None, change.kind, change.name] = ids
    came = [ids for (new, _, _), ids in newest.items() if new]
    return came or list(newest.values())


@dataclass
class _Newer:
    """Recipes of days that only one history has, beside those of the last day of the other.

    Their rows differ because the days do; only what people changed is told: functions,
    configuration, code, packages, base model.
    """

    walk: Walk
    readers: Mapping[Ids, list[Ids]]
    known: set[_Key]
    causes: list[Cause] = field(default_factory=list)
    pairs: list[_Pair] = field(default_factory=list)
    met: set[tuple[int, int]] = field(default_factory=set)

    def follow(self, ids: Ids) -> None:
        """Compare one such day with its partner, and what both were made from on their days."""
        partner = self.walk.slid[ids]
        if partner is None:
            return
        pair = (partner, ids[1]) if ids[0] is None else (ids[0], partner)
        below = _path(self.walk, self.readers, ids)
        todo: deque[tuple[Ids, tuple[str, ...]]] = deque([(pair, below)])
        while todo:  # nearest first: so the way told is the shortest
            (old, new), path = todo.popleft()
            if old is None or new is None or (old, new) in self.met:
                continue
            self.met.add((old, new))
            self.walk.load([(old, new)])
            before, after = self.walk.versions[old], self.walk.versions[new]
            children, told = self._inputs(before, after)
            told = [*own_told(before, after, self.walk.describe), *told]
            if told:
                self.pairs.append((before, after))
            self._tell(before if ids[1] is None else after, told, path)
            self.walk.load(children)
            for child in children:
                version = self.walk.versions[next(i for i in child[::-1] if i is not None)]
                step = (slot_name(version.slot), *path)
                if None in child:
                    self._tell(version, ["is new" if child[0] is None else "is gone"], step)
                else:
                    todo.append((child, step))

    def _inputs(
        self, before: ArtifactVersion, after: ArtifactVersion
    ) -> tuple[list[Ids], list[str]]:
        """Return what was read of the own day, and base models that differ."""
        left, right = keyed(before), keyed(after)
        children: list[Ids] = []
        told = []
        for key in dict.fromkeys([*left, *right]):
            old, new = left.get(key), right.get(key)
            either = right.get(key) or left[key]
            if either.role == "base_model" and old != new:
                told.append(input_told(either, old, new))
            if key[2] == "own" and either.partition and either.version_id is not None:
                children.append((old.version_id if old else None, new.version_id if new else None))
        for side, version in enumerate((before, after)):
            self.walk.functions[side].update(i.name for i in version.inputs if i.role == "votes")
        return list(dict.fromkeys(children)), told

    def _tell(self, version: ArtifactVersion, told: list[str], path: tuple[str, ...]) -> None:
        for what in told:
            key = (version.kind, version.name, what)
            if key not in self.known:
                self.known.add(key)
                days = (version.partition,) if version.partition else ()
                self.causes.append(Cause(*key, days, path))
