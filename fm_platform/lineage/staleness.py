"""Stale, from the ledger alone: at any moment, for every version in use, with the path of causes.

`status` asks the declared project what it wants now and looks at the world. This module asks
history: was what a version is made from still in use then, had days come that belong to it, and
had something been declared otherwise since it was made? (A day that is filled in later within the
window of another day is left to `status`.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from fm_platform.lineage import schema
from fm_platform.lineage.causes import input_name, label, sentence, some
from fm_platform.lineage.declarations import Declarations, Declared
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import Slot

__all__ = ["PINNED_ROLES", "Verdict", "Verdicts", "verdicts"]

# The champion that an evaluation compared with was another version of the same slot on purpose.
PINNED_ROLES = ("champion",)


@dataclass(frozen=True)
class Verdict:
    """Why a version is stale, in words, and the ids along the path, nearest first."""

    why: str
    path: tuple[int, ...]


@dataclass
class Verdicts:
    """What is stale, and the edges between versions in use."""

    states: dict[int, Verdict] = field(default_factory=dict)
    edges: list[tuple[int, int]] = field(default_factory=list)


def verdicts(
    ledger: Ledger,
    project: str,
    at: datetime | None,
    heads: Sequence[Sequence[Any]],
    recorded: Sequence[tuple[int, int]],
) -> Verdicts:
    """Judge the versions in use at a time.

    Args:
        ledger: The record.
        project: Whose versions.
        at: The moment; None: now.
        heads: (id, kind, name, partition, number, recipe hash, content hash, rows, bytes,
            time it was made) of each.
        recorded: (from, to) for every input of a version in use that is a version itself.
    """
    slots: dict[int, Slot] = {row[0]: (row[1], row[2], row[3]) for row in heads}
    kept: dict[tuple[int, int], None] = {}
    strayed = False
    for edge in recorded:
        if edge[0] in slots:
            kept[edge] = None
        else:
            strayed = True
    declared = Declarations(ledger, project, at)
    causes: dict[int, list[str]] = {}
    for row in heads:
        if changed := declared.changes(slots[row[0]], row[9]):
            causes[row[0]] = [changed]
    if strayed:
        for reader, told in _strays(ledger, project, at, heads, slots, kept).items():
            causes.setdefault(reader, []).extend(told)
    for reader, told in _windows(ledger, slots, kept, declared.now).items():
        causes.setdefault(reader, []).extend(told)
    found = Verdicts(edges=list(kept))
    if causes:
        found.states = _spread(causes, kept, slots)
    return found


def _strays(
    ledger: Ledger,
    project: str,
    at: datetime | None,
    heads: Sequence[Sequence[Any]],
    slots: dict[int, Slot],
    kept: dict[tuple[int, int], None],
) -> dict[int, list[str]]:
    """Look at inputs that are not in use: equal content adds an edge, other content is a cause."""
    in_use = {slot: version_id for version_id, slot in slots.items()}
    contents = {row[0]: row[6] for row in heads}
    rows = _stray_inputs(ledger, project, at)
    parts = _parts(ledger, {in_use[r.slot] for r in rows if r.part and r.slot in in_use})
    causes: dict[int, list[str]] = {}
    for row in rows:
        head = in_use.get(row.slot)
        if row.role in PINNED_ROLES:
            continue
        name = input_name(row.role, row.name, row.slot[2], row.part)
        if head is None:
            causes.setdefault(row.reader, []).append(f"{name} is gone")
            continue
        content = parts.get(head, {}).get(row.part) if row.part else contents[head]
        if content == row.content_hash:
            kept[head, row.reader] = None
        elif content is None:
            causes.setdefault(row.reader, []).append(f"{name} is gone")
        else:
            causes.setdefault(row.reader, []).append(f"{name} changed")
    return causes


@dataclass(frozen=True)
class _Stray:
    reader: int
    role: str
    name: str
    part: str | None
    content_hash: str
    slot: Slot


def _stray_inputs(ledger: Ledger, project: str, at: datetime | None) -> list[_Stray]:
    i, v = schema.inputs.c, schema.versions.c
    used = ledger.used(project, at)
    again = used.alias()
    query = (
        sa.select(i.version_id, i.role, i.name, i.part, i.content_hash, v.kind, v.name, v.partition)
        .join(used, used.c.id == i.version_id)
        .join(schema.versions, v.id == i.from_version_id)
        .where(~sa.exists().where(again.c.id == i.from_version_id))
        .order_by(i.version_id, i.position)
    )
    with ledger.reading() as connection:
        return [
            _Stray(r[0], r[1], r[2], r[3] or None, r[4], (r[5], r[6], r[7] or None))
            for r in connection.execute(query)
        ]


def _windows(
    ledger: Ledger,
    slots: dict[int, Slot],
    edges: Iterable[tuple[int, int]],
    declared: Declared | None,
) -> dict[int, list[str]]:
    """Tell of days that came into the window of a model after it was made.

    A day counts where it holds what the model reads of the others: rows, or the same parts.
    """
    reads: dict[tuple[int, str, str], set[str]] = {}
    for source, target in edges:
        kind, name, day = slots[source]
        if day is not None and slots[target][2] is None:
            reads.setdefault((target, kind, name), set()).add(day)
    if not reads:
        return {}
    groups = {(kind, name) for _, kind, name in reads}
    days: dict[tuple[str, str], dict[str, int]] = {}
    for version_id, (kind, name, day) in slots.items():
        if (kind, name) in groups and day is not None:
            days.setdefault((kind, name), {})[day] = version_id
    width = declared.spec.training.window_days if declared else None
    new: dict[int, list[tuple[str, str, int]]] = {}
    causes: dict[int, list[str]] = {}
    for (target, kind, name), read in reads.items():
        there = days[kind, name]
        first = _days_before(max(there), width - 1) if width else min(read)
        came = [(name, d, i) for d, i in there.items() if d not in read and d >= first]
        left = sorted(f"{name} {day}" for day in read if day < first)
        if came:
            new.setdefault(target, []).extend(sorted(came))
        if left:
            verb = "is" if len(left) == 1 else "are"
            causes[target] = [f"{some(left)} {verb} no longer in the window"]
    for reader, told in _with_something_to_read(ledger, new).items():
        causes[reader] = [*told, *causes.get(reader, ())]
    return causes


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


def _parts(ledger: Ledger, ids: set[int]) -> dict[int, dict[str, str]]:
    v = schema.versions.c
    listed, found = sorted(ids), {}
    with ledger.reading() as connection:
        for start in range(0, len(listed), 500):
            query = sa.select(v.id, v.parts).where(v.id.in_(listed[start : start + 500]))
            found.update({row.id: row.parts for row in connection.execute(query)})
    return found


def _spread(
    causes: dict[int, list[str]], edges: dict[tuple[int, int], None], slots: dict[int, Slot]
) -> dict[int, Verdict]:
    """Carry causes to all that reads what is stale, along the shortest path to one."""
    readers: dict[int, list[int]] = {}
    for source, target in edges:
        readers.setdefault(source, []).append(target)

    def order(version_id: int) -> tuple[str, int]:
        return (slots[version_id][2] or "", version_id)

    nearest: dict[int, int] = {}
    count: dict[int, int] = {}
    reached = set(causes)
    level = sorted(causes, key=order)
    while level:
        following = []
        for source in level:
            for target in readers.get(source, ()):
                count[target] = count.get(target, 0) + 1
                if target not in reached:
                    reached.add(target)
                    nearest[target] = source
                    following.append(target)
        level = sorted(following, key=order)
    return {i: _told(i, causes, nearest, count.get(i, 0), slots) for i in sorted(reached)}


def _told(
    version_id: int,
    causes: dict[int, list[str]],
    nearest: dict[int, int],
    stale_reads: int,
    slots: dict[int, Slot],
) -> Verdict:
    path = [version_id]
    while path[-1] not in causes:
        path.append(nearest[path[-1]])
    names = [label(slots[i], slots[b]) for b, i in pairwise(path)]
    more = f" (and {stale_reads - 1} more)" if stale_reads > 1 else ""
    return Verdict(sentence(names, some(causes[path[-1]]), more), tuple(path[1:]))
