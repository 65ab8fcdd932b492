"""Stale, from the ledger alone: at any moment, for every version in use, with the path of causes.

`status` asks the declared project what it wants now and looks at the world. This module asks
history: was what a version is made from still in use then, had days come that belong to it, and
had something been declared otherwise since it was made? (A day that is filled in later within the
window of another day is left to `status`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import sqlalchemy as sa

from fm_platform.lineage import schema
from fm_platform.lineage.cards import Reading
from fm_platform.lineage.causes import input_name, label, sentence, some
from fm_platform.lineage.choosing import choice_day
from fm_platform.lineage.continuing import anchor_day
from fm_platform.lineage.declarations import Declarations, Declared
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.nodes import Node

__all__ = ["Verdict", "Verdicts", "verdicts"]

_AT_ONCE = 5_000  # ids in one query; SQLite takes 32,766


class Verdict(NamedTuple):
    """Why a version is stale, in words, and the ids along the path, nearest first."""

    why: str
    path: tuple[int, ...]


@dataclass
class Verdicts:
    """What is stale, and for every version in use the versions in use that it reads."""

    states: dict[int, Verdict] = field(default_factory=dict)
    reads: dict[int, list[int]] = field(default_factory=dict)


def verdicts(
    ledger: Ledger,
    project: str,
    at: datetime | None,
    known: Mapping[int, Node],
    used: Sequence[Reading],
) -> Verdicts:
    """Judge the versions in use at a time.

    Args:
        ledger: The record.
        project: Whose versions.
        at: The moment; None: now.
        known: Id -> version in use.
        used: The same, with what each of them reads.
    """
    found = Verdicts()
    strays = _split(used, found.reads)
    declared = Declarations(ledger, project, at)
    causes: dict[int, list[str]] = {}
    if declared.now is not None:
        born = ledger.born_on_branches(project)
        for head in known.values():
            if head.created_at is not None and (
                changed := declared.changes(head.slot, head.created_at, born.get(head.id, ""))
            ):
                causes[head.id] = [changed]
    for more in (
        _changed(ledger, known, strays, found.reads) if strays else {},
        _windows(ledger, known, found.reads, declared.now),
    ):
        for reader, told in more.items():
            causes.setdefault(reader, []).extend(told)
    if causes:
        found.states = _spread(causes, found.reads, known)
    return found


def _split(used: Sequence[Reading], reads: dict[int, list[int]]) -> list[_Stray]:
    """Fill `reads` with what is read and in use; return what is read and not in use."""
    strays: list[_Stray] = []
    in_use = {reading.node.id for reading in used}
    for node, items, plain in used:
        if plain and in_use.issuperset(items):
            reads[node.id] = items
            continue
        kept: dict[int, None] = {}
        for item in items:
            origin, part, role = _item(item)
            if origin in in_use:
                kept[origin] = None
            elif role is None:
                strays.append(_Stray(node.id, origin, part))
        reads[node.id] = list(kept)
    return strays


def _item(item: Any) -> tuple[int, str | None, str | None]:
    if isinstance(item, int):
        return item, None, None
    return item[0], item[1], item[2] if len(item) > 2 else None


class _Stray(NamedTuple):
    """An input that is not in use: who reads it, its id, and the part that is read."""

    reader: int
    origin: int
    part: str | None


def _changed(
    ledger: Ledger,
    known: Mapping[int, Node],
    strays: Sequence[_Stray],
    reads: dict[int, list[int]],
) -> dict[int, list[str]]:
    """Compare inputs with what is in use in their place.

    Equal content is no change: the reader then reads what is in use.
    """
    origins = _origins(ledger, {stray.origin for stray in strays})
    wanted = {origin[:3] for origin in origins.values()}
    names = {slot[1] for slot in wanted}
    in_use = {h.slot: h for h in known.values() if h.name in names and h.slot in wanted}
    with_parts = {stray.origin for stray in strays if stray.part}
    heads = {in_use[slot].id for i in with_parts if (slot := origins[i][:3]) in in_use}
    parts = _parts(ledger, with_parts | heads)
    causes: dict[int, list[str]] = {}
    for reader, origin, part in strays:
        kind, name, day, read = origins[origin]
        head = in_use.get((kind, name, day))
        now = None if head is None else head.content_hash
        if part is not None:
            read = parts[origin].get(part, "")
            now = None if head is None else parts[head.id].get(part)
        if head is not None and now == read:
            reads[reader].append(head.id)
        else:
            verb = "is gone" if now is None else "changed"
            causes.setdefault(reader, []).append(f"{input_name(kind, name, day, part)} {verb}")
    return causes


def _origins(ledger: Ledger, ids: set[int]) -> dict[int, tuple[str, str, str | None, str]]:
    """Return id -> kind, name, partition and content hash."""
    v = schema.versions.c
    listed, found = sorted(ids), {}
    with ledger.reading() as connection:
        for start in range(0, len(listed), _AT_ONCE):
            some_ids = listed[start : start + _AT_ONCE]
            query = sa.select(v.id, v.kind, v.name, v.partition, v.content_hash)
            for row in connection.execute(query.where(v.id.in_(some_ids))):
                found[row[0]] = (row[1], row[2], row[3] or None, row[4])
    return found


def _parts(ledger: Ledger, ids: set[int]) -> dict[int, dict[str, str]]:
    v = schema.versions.c
    listed, found = sorted(ids), {}
    with ledger.reading() as connection:
        for start in range(0, len(listed), _AT_ONCE):
            query = sa.select(v.id, v.parts).where(v.id.in_(listed[start : start + _AT_ONCE]))
            found.update({row.id: row.parts for row in connection.execute(query)})
    return found


def _windows(
    ledger: Ledger,
    known: Mapping[int, Node],
    reads: Mapping[int, Sequence[int]],
    declared: Declared | None,
) -> dict[int, list[str]]:
    """Tell of days that came into the window of a model after it was made, and that left it.

    A day counts where it holds what the model reads of the others: rows, or the same parts.
    """
    read_days: dict[tuple[int, str, str], set[str]] = {}
    for reader, origins in reads.items():
        if known[reader].partition is None:
            for head in (known[origin] for origin in origins):
                if head.partition is not None:
                    key = (reader, head.kind, head.name)
                    read_days.setdefault(key, set()).add(head.partition)
    groups: dict[tuple[str, str], dict[str, int]] = {(k, n): {} for _, k, n in read_days}
    if groups:
        for head in known.values():
            if head.partition is not None and (head.kind, head.name) in groups:
                groups[head.kind, head.name][head.partition] = head.id
    width = declared.spec.training.window_days if declared else None
    new: dict[int, list[tuple[str, str, int]]] = {}
    causes: dict[int, list[str]] = {}
    for (reader, kind, name), days in read_days.items():
        there = _before_anchor(declared, known[reader].kind, groups[kind, name])
        if not there:
            continue
        first = _days_before(max(there), width - 1) if width else min(days)
        came = [(name, d, i) for d, i in there.items() if d not in days and d >= first]
        left = sorted(f"{name} {day}" for day in days if day < first)
        if came:
            new[reader] = sorted([*new.get(reader, ()), *came])
        if left:
            verb = "is" if len(left) == 1 else "are"
            causes[reader] = [f"{some(left)} {verb} no longer in the window"]
    for reader, told in _with_something_to_read(ledger, new).items():
        causes[reader] = [*told, *causes.get(reader, ())]
    return causes


def _before_anchor(
    declared: Declared | None, kind: str, days: Mapping[str, int]
) -> Mapping[str, int]:
    """Leave out days that a shared start waits with until the next full retrain."""
    if declared is not None and kind == "choice":
        last = choice_day(declared.spec, max(days))
        return {day: version_id for day, version_id in days.items() if day <= last} or days
    if declared is None or declared.spec.training.continuing is None or kind != "start":
        return days
    last = anchor_day(declared.spec, max(days))
    return {day: version_id for day, version_id in days.items() if day <= last} or days


def _days_before(day: str, count: int) -> str:
    return (date.fromisoformat(day) - timedelta(days=count)).isoformat()


def _with_something_to_read(
    ledger: Ledger, new: Mapping[int, Sequence[tuple[str, str, int]]]
) -> dict[int, list[str]]:
    """Keep the new days that hold what their reader reads of the days it knows."""
    candidates = {i for listed in new.values() for _, _, i in listed}
    made = ledger.get_many(sorted(candidates), with_inputs=False)
    parts = {version.id: set(version.parts) for version in made}
    filled = {version.id for version in made if version.rows}
    inputs = ledger.inputs(sorted(new))
    causes: dict[int, list[str]] = {}
    for reader, listed in new.items():
        wanted: dict[str, set[str | None]] = {}
        for item in inputs.get(reader, ()):
            if item.partition is not None:
                wanted.setdefault(item.name, set()).add(item.part)
        named = [
            f"{name} {day}"
            for name, day, i in listed
            if (parts[i] & wanted[name]) or (None in wanted[name] and i in filled)
        ]
        if named:
            causes[reader] = [f"{some(named)} {'is' if len(named) == 1 else 'are'} new"]
    return causes


def _spread(
    causes: Mapping[int, Sequence[str]],
    reads: Mapping[int, Sequence[int]],
    known: Mapping[int, Node],
) -> dict[int, Verdict]:
    """Carry causes to all that reads what is stale, along the shortest path to one."""
    reached = set(causes)
    before = -1
    while before < len(reached):  # ids grow downwards but for a few: one or two rounds
        before = len(reached)
        reached.update(i for i, origins in reads.items() if not reached.isdisjoint(origins))
    readers: dict[int, list[int]] = {}
    count: dict[int, int] = {}
    for target in reached:
        above = [origin for origin in reads[target] if origin in reached]
        count[target] = len(above)
        for origin in above:
            readers.setdefault(origin, []).append(target)

    def order(version_id: int) -> tuple[str, int]:
        return (known[version_id].partition or "", version_id)

    nearest: dict[int, int] = {}
    seen, level = set(causes), sorted(causes, key=order)
    while level:
        following = []
        for source in level:
            for target in readers.get(source, ()):
                if target not in seen:
                    seen.add(target)
                    nearest[target] = source
                    following.append(target)
        level = sorted(following, key=order)
    return {i: _told(i, causes, nearest, count[i], known) for i in sorted(reached)}


def _told(
    version_id: int,
    causes: Mapping[int, Sequence[str]],
    nearest: Mapping[int, int],
    stale_reads: int,
    known: Mapping[int, Node],
) -> Verdict:
    path = [version_id]
    while path[-1] not in causes:
        path.append(nearest[path[-1]])
    names = [label(known[upper].slot, known[lower].slot) for lower, upper in pairwise(path)]
    more = f" (and {stale_reads - 1} more)" if stale_reads > 1 else ""
    return Verdict(sentence(names, some(causes[path[-1]]), more), tuple(path[1:]))
