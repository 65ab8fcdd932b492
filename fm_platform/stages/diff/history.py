"""Walk two histories side by side, from the two versions up, only where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Input
from fm_platform.lineage.refs import slot_name
from fm_platform.stages.diff.records import Cause, Change
from fm_platform.stages.diff.settings import Leaf, environment_leaves, leaves

STAGES = (
    "days", "spec", "raw", "embeddings", "votes", "label_model", "weak_labels", "cleaned",
    "start", "adapter", "merged_model", "evaluation",
)  # fmt: skip
_MAIN_LINE = frozenset({"weak_labels", "cleaned", "adapter", "merged_model", "evaluation"})
_SUMMARIES = {
    "gold": "the gold rows it may read", "exemplars": "the exemplars and their votes",
    "seen": "the texts of earlier days",
}  # fmt: skip
_SHOWN = 3
_VALUE_CHARS = 48
Ids = tuple[int | None, int | None]
_Key = tuple[str, str, str | None, str | None]


@dataclass(frozen=True)
class History:
    """Where two histories differ.

    Attributes:
        changes: Every artifact that is not the same, first causes first.
        versions: Id -> version, with inputs, of both sides of every change.
        causes: What nothing above explains, in the order of the stages.
        functions: Names of the labeling functions that were met on each side.
    """

    changes: tuple[Change, ...]
    versions: Mapping[int, ArtifactVersion]
    causes: tuple[Cause, ...]
    functions: tuple[frozenset[str], frozenset[str]]

    def pairs(self, *kinds: str) -> list[tuple[ArtifactVersion, ArtifactVersion]]:
        """Return both versions of each change that has both, of some kinds or of all."""
        return [
            (self.versions[c.before], self.versions[c.after])
            for c in self.changes
            if c.before is not None and c.after is not None and (not kinds or c.kind in kinds)
        ]

    def sides(self, kind: str) -> list[tuple[ArtifactVersion | None, ArtifactVersion | None]]:
        """Return both sides of each change of a kind; None where a history has no such version."""
        return [
            (
                None if c.before is None else self.versions[c.before],
                None if c.after is None else self.versions[c.after],
            )
            for c in self.changes
            if c.kind == kind
        ]


@dataclass
class _Walk:
    """The state of one walk: which pairs were met, and what they are made from."""

    ledger: Ledger
    describe: Callable[[str], Any]
    versions: dict[int, ArtifactVersion] = field(default_factory=dict)
    changes: dict[Ids, Change] = field(default_factory=dict)
    children: dict[Ids, tuple[Ids, ...]] = field(default_factory=dict)
    met: set[Ids] = field(default_factory=set)
    depth: dict[Ids, int] = field(default_factory=dict)
    days: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    functions: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))

    def run(self, top: Ids) -> None:
        self.met.add(top)
        level = [top]
        while level:
            self._load(level)
            found: list[Ids] = []
            for ids in level:
                for child in self._step(ids):
                    # a later, longer way down to an artifact puts it further up in the order
                    self.depth[child] = max(self.depth.get(child, 0), self.depth.get(ids, 0) + 1)
                    if child not in self.met:
                        self.met.add(child)
                        found.append(child)
            level = found

    def _load(self, level: Iterable[Ids]) -> None:
        wanted = {i for ids in level for i in ids if i is not None} - self.versions.keys()
        self.versions.update((v.id, v) for v in self.ledger.get_many(sorted(wanted)))

    def _step(self, ids: Ids) -> list[Ids]:
        before, after = (None if i is None else self.versions[i] for i in ids)
        if before is None or after is None:
            verb = "is new" if before is None else "is gone"
            for version in (before, after):
                if version is not None:
                    self.changes[ids] = Change(*version.slot, *ids, (verb,))
            return []
        for side, version in enumerate((before, after)):
            # of two different days neither is one that the other history lacks
            own = None if before.partition == after.partition else version.partition
            self.days[side].update(
                i.partition for i in version.inputs if i.partition and i.partition != own
            )
            self.functions[side].update(i.name for i in version.inputs if i.role == "votes")
            if version.kind == "votes":
                self.functions[side].add(version.name)
        children, told, summaries = self._inputs(before, after)
        told += _own(before, after, self.describe)
        if not told and not children and before.content_hash != after.content_hash:
            told = summaries
        self.children[ids] = tuple(dict.fromkeys(children))
        self.changes[ids] = Change(*after.slot, *ids, tuple(told))
        return list(self.children[ids])

    def _inputs(
        self, before: ArtifactVersion, after: ArtifactVersion
    ) -> tuple[list[Ids], list[str], list[str]]:
        """Return the recorded inputs that differ, and what is to be said of the others."""
        left, right = _keyed(before), _keyed(after)
        slots = [{key[:3]: i.version_id for key, i in side.items()} for side in (left, right)]
        children: list[Ids] = []
        told: list[str] = []
        summaries: list[str] = []
        for key in dict.fromkeys([*left, *right]):
            old, new = left.get(key), right.get(key)
            if old is not None and new is not None and old.content_hash == new.content_hash:
                continue
            either = right.get(key) or left[key]
            if either.version_id is None and either.role in _SUMMARIES:
                summaries.append(f"{_SUMMARIES[either.role]} changed")
            elif either.version_id is None or either.role == "champion":
                told.append(_told(either, old, new))
            else:
                ids = (slots[0].get(key[:3]), slots[1].get(key[:3]))
                children.append(ids)
                if either.part is not None and (old is None or new is None) and None not in ids:
                    verb = "is read, too" if old is None else "is no longer read"
                    told.append(f"part {either.part} of {either.name} {verb}")
        return self._differing(children), list(dict.fromkeys(told)), summaries

    def _differing(self, children: list[Ids]) -> list[Ids]:
        """Return the pairs whose contents differ: a day may be the same and read in other parts."""
        self._load(children)
        return [
            ids
            for ids in children
            if None in ids
            or len({self.versions[i].content_hash for i in ids if i is not None}) == 2
        ]


def compare_histories(ledger: Ledger, before: ArtifactVersion, after: ArtifactVersion) -> History:
    """Return where the histories of two versions differ, themselves included.

    Inputs with equal content are equal, also where another version holds it.
    """
    memo: dict[str, Any] = {}

    def describe(hash_: str) -> Any:
        if hash_ not in memo:
            memo[hash_] = ledger.document(hash_)
        return memo[hash_]

    walk = _Walk(ledger, describe, {before.id: before, after.id: after})
    top = (before.id, after.id)
    walk.run(top)
    ordered = sorted(
        walk.changes,
        key=lambda ids: (_stage(walk.changes[ids].kind), -walk.depth.get(ids, 0),
                         walk.changes[ids].name, walk.changes[ids].partition or ""),
    )  # fmt: skip
    changes = []
    for ids in ordered:
        via = dict.fromkeys(walk.changes[child].slot for child in walk.children.get(ids, ()))
        changes.append(replace(walk.changes[ids], via=tuple(via)))
    first, second = walk.functions
    return History(
        tuple(changes), walk.versions, _causes(walk, ordered), (frozenset(first), frozenset(second))
    )


def _keyed(version: ArtifactVersion) -> dict[_Key, Input]:
    """Return the inputs by what they are; the own day counts as the same day."""
    return {
        (i.role, i.name, "own" if i.partition == version.partition else i.partition, i.part): i
        for i in version.inputs
    }


def _told(either: Input, old: Input | None, new: Input | None) -> str:
    named = "base model" if either.role == "base_model" else f"{either.role} {either.name}"
    if either.role == "champion":
        named = "the champion it was compared with"
    if old is None or new is None:
        return f"{named} {'is new' if old is None else 'is gone'}"
    return f"{named} changed ({old.content_hash[:12]} -> {new.content_hash[:12]})"


def _own(before: ArtifactVersion, after: ArtifactVersion, describe: Any) -> list[str]:
    """Return what differs beside the inputs, in words."""
    told = []
    differing = list(leaves(before.config, after.config))
    if after.kind == "votes" and any(leaf.path == "function" for leaf in differing):
        told.append("labeling function changed")
        differing = [leaf for leaf in differing if leaf.path != "function"]
    if differing:
        told.append(f"configuration changed ({_listed(differing)})")
    if before.code != after.code:
        left, right = describe(before.code), describe(after.code)
        names = []
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            names = sorted(n for n in {*left, *right} if left.get(n) != right.get(n))
        told.append("platform code changed" + (f" ({_some(names)})" if names else ""))
    if before.environment != after.environment:
        found = environment_leaves(describe(before.environment), describe(after.environment))
        told.append("environment changed" + (f" ({_listed(found)})" if found else ""))
    if before.seed != after.seed:
        told.append(f"seed changed ({before.seed} -> {after.seed})")
    return told


def _listed(found: list[Leaf]) -> str:
    return _some([f"{path}: {_short(old)} -> {_short(new)}" for path, old, new in found])


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _VALUE_CHARS else text[: _VALUE_CHARS - 1] + "…"


def _some(items: list[str]) -> str:
    more = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _stage(kind: str) -> int:
    return STAGES.index(kind) if kind in STAGES else len(STAGES)


def _causes(walk: _Walk, ordered: list[Ids]) -> tuple[Cause, ...]:
    """Group what nothing above explains: over days, and whole days that came or went."""
    found: dict[tuple[str, str, str], list[Ids]] = {}
    for ids in ordered:
        change = walk.changes[ids]
        for what in change.own:
            key = (change.kind, change.name, what)
            day = change.partition
            for side, missing in enumerate(ids):
                if missing is None and day is not None and day not in walk.days[side]:
                    key = ("days", "days", "new days" if side == 0 else "days gone")
            found.setdefault(key, []).append(ids)
    readers: dict[Ids, list[Ids]] = {}
    for reader, children in walk.children.items():
        for child in children:
            readers.setdefault(child, []).append(reader)
    causes = []
    # a summary follows from rows and votes: it explains only where nothing else does
    summaries = {f"{what} changed" for what in _SUMMARIES.values()}
    if any(key[2] not in summaries for key in found):
        found = {key: members for key, members in found.items() if key[2] not in summaries}
    for (kind, name, what), members in found.items():
        days = sorted({p for ids in members if (p := walk.changes[ids].partition)})
        causes.append(Cause(kind, name, what, tuple(days), _path(walk, readers, members[-1])))
    return tuple(sorted(causes, key=lambda c: (_stage(c.kind), c.name, c.what)))


def _path(walk: _Walk, readers: Mapping[Ids, list[Ids]], ids: Ids) -> tuple[str, ...]:
    """Return the way down to the artifacts compared, along the main line where there is one."""

    def rank(reader: Ids) -> tuple[bool, int, str]:
        change = walk.changes[reader]
        return (change.kind not in _MAIN_LINE, _stage(change.kind), change.name)

    path = [ids]
    while readers.get(path[-1]):
        path.append(min(readers[path[-1]], key=rank))
    return tuple(slot_name(walk.changes[step].slot) for step in path)
