"""What must be kept, derived from the ledger: everything that something alive is made from.

Alive is what an alias names, what is pinned, what is in use within the recorded windows, all
source rows in use, which cannot be made again from anything else, and every definition. What is in
use on a branch is kept under a name of its own, and is alive in the same way. Whatever a live
version was made from, at any distance, is kept with it: so it can be traced, compared and built
again. Of what an evaluation only compared its model with, a champion of the past, the source rows
are kept: it was kept while it was champion, and reproducing the evaluation builds it again. Caches
(embeddings, states of frozen layers, indexes of shingles) stay while they are in use only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from fm_platform.lineage import schema
from fm_platform.lineage.graph import upstream
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.retention import Pin

# These are made from nothing that the ledger holds: once gone, they are gone.
SOURCES = ("raw",)
# Made again from rows and a base model at need, and never looked at for their own sake.
CACHES = ("activations", "embeddings", "shingles")
# Roles of inputs that something is only compared with.
COMPARED = ("champion",)
NEEDED = "something kept is made from it"


@dataclass(frozen=True)
class KeepSet:
    """What is kept, and why.

    Attributes:
        reasons: Version id -> why, for all that is kept.
        roots: Those of them that are kept for their own sake.
    """

    reasons: Mapping[int, str]
    roots: frozenset[int]


def keep_set(ledger: Ledger, *, in_use_since: datetime | None = None) -> KeepSet:
    """Return what must be kept, over all projects.

    Args:
        ledger: The record.
        in_use_since: Also what was in use at any moment since then; None: no such wish.
    """
    reasons: dict[int, str] = {}
    ledger = ledger.on_branch(None)
    for version_id, why in _roots(ledger, in_use_since):
        reasons.setdefault(version_id, why)
    roots = frozenset(reasons)
    needed = set(upstream(ledger, sorted(roots), without=COMPARED)) - _of(ledger, CACHES)
    needed |= _of(ledger, SOURCES).intersection(upstream(ledger, sorted(roots)))
    for version_id in sorted(needed):
        reasons.setdefault(version_id, NEEDED)
    return KeepSet(reasons, roots)


def _roots(ledger: Ledger, since: datetime | None) -> Iterator[tuple[int, str]]:
    pins: list[Pin] = ledger.pins()
    yield from ((pin.version_id, "pinned") for pin in pins)
    yield from _definitions(ledger)
    for project in universes(ledger):
        for alias, version_id in ledger.aliases(project).items():
            yield version_id, f"{alias} of {project}"
            before = _named_before(ledger, project, alias, version_id)
            if before is not None:
                yield before, f"{alias} of {project} before"
        yield from _in_use(ledger, project)
        if since is not None:
            yield from _used_since(ledger, project, since)


def universes(ledger: Ledger) -> list[str]:
    """Return the names under which something is in use: projects, and branches of them."""
    c = schema.current.c
    with ledger.reading() as connection:
        return list(connection.scalars(sa.select(c.project).distinct().order_by(c.project)))


def _of(ledger: Ledger, kinds: Sequence[str]) -> set[int]:
    """Return the ids of all versions of some kinds."""
    v = schema.versions.c
    with ledger.reading() as connection:
        return set(connection.scalars(sa.select(v.id).where(v.kind.in_(kinds))))


def _definitions(ledger: Ledger) -> Iterator[tuple[int, str]]:
    """Yield every definition: they are small, and history is told by them."""
    v = schema.versions.c
    with ledger.reading() as connection:
        for version_id in connection.scalars(sa.select(v.id).where(v.kind == "spec")):
            yield version_id, "definition"


def _named_before(ledger: Ledger, project: str, alias: str, now_named: int) -> int | None:
    """Return the version that the champion followed: the first place to go back to."""
    if alias != "champion":
        return None
    named = [move.version_id for move in ledger.alias_history(project, alias)]
    earlier = [version_id for version_id in named if version_id not in (None, now_named)]
    return earlier[-1] if earlier else None


def _in_use(ledger: Ledger, project: str) -> Iterator[tuple[int, str]]:
    heads = ledger.heads(project)
    days = [head.partition for head in heads if head.partition is not None]
    width = recorded_window(ledger, project)
    first = _first_day(max(days, default=None), width)
    for head in heads:
        if head.partition is None or (first is None and head.kind not in SOURCES):
            yield head.id, f"in use in {project}"
        elif head.kind in SOURCES:
            yield head.id, f"source rows in use in {project}"
        elif first is not None and head.partition >= first:
            yield head.id, f"in use in {project}, in the window of {width} days"


def _first_day(last: str | None, width: int | None) -> str | None:
    """Return the first day of a window that ends with `last`; None: there is no first."""
    if last is None or width is None:
        return None
    try:
        return (date.fromisoformat(last) - timedelta(days=width)).isoformat()
    except (ValueError, OverflowError):
        return None


def recorded_window(ledger: Ledger, project: str, at: datetime | None = None) -> int | None:
    """Return the widest window, in days, that the definition in use declares, now or at a time.

    None where no definition is recorded or it declares no window: then all days count.
    """
    declared = ledger.latest(project, "spec", "spec", at=at)
    widths = list(_widths(declared.config)) if declared is not None else []
    return max(widths, default=None)


def _widths(value: Any) -> Iterator[int]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "window_days" and isinstance(inner, int):
                yield inner
            else:
                yield from _widths(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _widths(inner)


def _used_since(ledger: Ledger, project: str, since: datetime) -> Iterator[tuple[int, str]]:
    u = schema.uses.c
    query = sa.select(u.version_id).where(
        u.project == project, u.until.is_(None) | (u.until >= since)
    )
    with ledger.reading() as connection:
        for version_id in connection.scalars(query.distinct()):
            yield version_id, f"in use since {since:%Y-%m-%d %H:%M} in {project}"
