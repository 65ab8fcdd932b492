"""Walk two histories side by side, from the two versions up, only where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Input, Slot
from fm_platform.stages.diff.causes import SUMMARIES, causes_of, stage
from fm_platform.stages.diff.records import Cause, Change
from fm_platform.stages.diff.words import Ids, Key, input_told, keyed, own_told


@dataclass(frozen=True)
class History:
    """Where two histories differ.

    Attributes:
        changes: Every artifact that is not the same, first causes first.
        versions: Id -> version, with inputs, of both sides of every change.
        causes: What nothing above explains, in the order of the stages.
        functions: Names of the labeling functions that were met on each side.
        newer: Where days were added: how the newest is made beside how the newest before was,
            for each artifact of those days whose recipe differs.
    """

    changes: tuple[Change, ...]
    versions: Mapping[int, ArtifactVersion]
    causes: tuple[Cause, ...]
    functions: tuple[frozenset[str], frozenset[str]]
    newer: tuple[tuple[ArtifactVersion, ArtifactVersion], ...] = ()

    def pairs(self, *kinds: str) -> list[tuple[ArtifactVersion, ArtifactVersion]]:
        """Return both versions of each change that has both, of some kinds or of all."""
        found = [
            (self.versions[c.before], self.versions[c.after])
            for c in self.changes
            if c.before is not None and c.after is not None
        ]
        return [pair for pair in [*found, *self.newer] if not kinds or pair[1].kind in kinds]

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
class Walk:
    """The state of one walk: which pairs were met, and what they are made from.

    Attributes:
        slid: A day that only one history reads because its window lies elsewhere -> the newest
            version of the same artifact that the other history reads.
        used: What was in use when each of the two compared versions was made.
    """

    ledger: Ledger
    describe: Callable[[str], Any]
    versions: dict[int, ArtifactVersion] = field(default_factory=dict)
    changes: dict[Ids, Change] = field(default_factory=dict)
    children: dict[Ids, tuple[Ids, ...]] = field(default_factory=dict)
    met: set[Ids] = field(default_factory=set)
    depth: dict[Ids, int] = field(default_factory=dict)
    slid: dict[Ids, int | None] = field(default_factory=dict)
    functions: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    used: tuple[Mapping[Slot, int], Mapping[Slot, int]] = ({}, {})

    def run(self, before: ArtifactVersion, after: ArtifactVersion) -> None:
        """Follow two versions up, wherever what they are made from differs."""
        top: Ids = (before.id, after.id)
        self.versions.update((version.id, version) for version in (before, after))
        self.used = (self._in_use(before), self._in_use(after))
        self.met.add(top)
        level = [top]
        while level:
            self.load(level)
            found: list[Ids] = []
            for ids in level:
                for child in self._step(ids):
                    # a later, longer way down to an artifact puts it further up in the order
                    self.depth[child] = max(self.depth.get(child, 0), self.depth.get(ids, 0) + 1)
                    if child not in self.met:
                        self.met.add(child)
                        found.append(child)
            level = found

    def load(self, level: Iterable[Ids]) -> None:
        """Load the versions of some pairs that are not known yet."""
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
            self.functions[side].update(i.name for i in version.inputs if i.role == "votes")
            if version.kind == "votes":
                self.functions[side].add(version.name)
        children, told, summaries = self._inputs(before, after)
        told += own_told(before, after, self.describe)
        if not told and not children and before.content_hash != after.content_hash:
            told = summaries
        self.children[ids] = tuple(dict.fromkeys(children))
        self.changes[ids] = Change(*after.slot, *ids, tuple(told))
        return list(self.children[ids])

    def _inputs(
        self, before: ArtifactVersion, after: ArtifactVersion
    ) -> tuple[list[Ids], list[str], list[str]]:
        """Return the recorded inputs that differ, and what is to be said of the others."""
        left, right = keyed(before), keyed(after)
        children: list[Ids] = []
        told: list[str] = []
        summaries: list[str] = []
        differing = [
            key for key in dict.fromkeys([*left, *right])
            if key not in left or key not in right
            or left[key].content_hash != right[key].content_hash
        ]  # fmt: skip
        slots = [self._held(n, side, differing) for n, side in enumerate((left, right))]
        read = [{key[1:3] for key in side} for side in (left, right)]
        for key in differing:
            old, new = left.get(key), right.get(key)
            either = right.get(key) or left[key]
            if either.version_id is None and either.role in SUMMARIES:
                summaries.append(f"{SUMMARIES[either.role]} changed")
            elif either.version_id is None or either.role == "champion":
                told.append(input_told(either, old, new))
            else:
                ids = (slots[0].get(key[:3]), slots[1].get(key[:3]))
                if None in ids and key[1:3] in read[0] & read[1]:  # in another role it still is
                    verb = "is read, too" if ids[0] is None else "is no longer read"
                    told.append(f"{either.name} {verb}, as {either.role}")
                    continue
                children.append(ids)
                if None in ids:
                    other = before if ids[0] is None else after
                    self._slide(ids, either, other, before.partition != after.partition)
                if either.part is not None and (old is None or new is None) and None not in ids:
                    verb = "is read, too" if old is None else "is no longer read"
                    told.append(f"part {either.part} of {either.name} {verb}")
        return self._differing(children), list(dict.fromkeys(told)), summaries

    def _in_use(self, version: ArtifactVersion) -> Mapping[Slot, int]:
        return self.ledger.slots_in_use(version.project, at=version.created_at)

    def _held(
        self, side: int, inputs: Mapping[Key, Input], keys: Iterable[Key]
    ) -> dict[tuple[str, str, str | None], int | None]:
        """Return which version holds each input, whatever part of it is read.

        What did not change is recorded as it was when it was first read. Of versions with that
        content the one in use when the compared version was made tells how it came to be.
        """
        wanted = {key[:3] for key in keys}
        items = {key[:3]: item for key, item in inputs.items() if key[:3] in wanted}
        self.load((item.version_id, None) for item in items.values())
        later: dict[tuple[str, str, str | None], int] = {}
        for key, item in items.items():
            if item.version_id is not None:
                slot = self.versions[item.version_id].slot
                later[key] = self.used[side].get(slot, item.version_id)
        self.load((version_id, None) for version_id in later.values())

        def holds(key: tuple[str, str, str | None], item: Input) -> bool:
            version = self.versions[later[key]]
            content = version.parts.get(item.part) if item.part else version.content_hash
            return content == item.content_hash

        return {
            key: later[key] if key in later and holds(key, item) else item.version_id
            for key, item in items.items()
        }

    def _slide(self, ids: Ids, item: Input, other: ArtifactVersion, anyway: bool) -> None:
        """Note a day that only one history reads because its window lies elsewhere.

        Then the other one reads the same artifact on other days, all earlier or all later; of
        two different days compared every other day is such a one.
        """
        days = {
            i.partition: i.version_id
            for i in other.inputs
            if (i.role, i.name) == (item.role, item.name) and i.partition
        }
        if days and item.partition and (
            anyway or not min(days) <= item.partition <= max(days)
        ):  # fmt: skip
            self.slid[ids] = days[max(days)]

    def _differing(self, children: list[Ids]) -> list[Ids]:
        """Return the pairs whose contents differ: a day may be the same and read in other parts."""
        self.load(children)
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

    walk = Walk(ledger, describe)
    walk.run(before, after)
    ordered = sorted(
        walk.changes,
        key=lambda ids: (stage(walk.changes[ids].kind), -walk.depth.get(ids, 0),
                         walk.changes[ids].name, walk.changes[ids].partition or ""),
    )  # fmt: skip
    changes = []
    for ids in ordered:
        via = dict.fromkeys(walk.changes[child].slot for child in walk.children.get(ids, ()))
        changes.append(replace(walk.changes[ids], via=tuple(via)))
    first, second = walk.functions
    causes, newer = causes_of(walk, ordered)
    return History(
        tuple(changes), walk.versions, causes, (frozenset(first), frozenset(second)), newer
    )
