"""The graph of versions at any moment, and what follows from what.

An edge is a pair (id of the version read, id of the version made from it), as recorded. Nodes of
the graph of a moment are the versions that were in use then: also of assets that no spec declares
any more. Nothing here looks at today's files: history is told from the ledger alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from fm_platform.lineage import schema
from fm_platform.lineage.heads import heads_at
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.nodes import RECORDED, Edge, Node
from fm_platform.lineage.process import without_pauses
from fm_platform.lineage.records import Slot
from fm_platform.lineage.staleness import verdicts
from fm_platform.lineage.status import StatusRow

__all__ = ["Edge", "Graph", "Node", "downstream", "graph_at", "lineage", "upstream", "with_status"]

_AT_ONCE = 500


@dataclass(frozen=True)
class Graph:
    """Versions and what they are made from, in order of their ids.

    Attributes:
        project: Whose.
        at: The moment; None: now.
        nodes: Versions.
        made_from: Id -> ids of the nodes it reads, each once; nothing or no id where there is none.
    """

    project: str
    at: datetime | None
    nodes: tuple[Node, ...]
    made_from: Mapping[int, Sequence[int]]

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """(from, to) for every pair of nodes of which one reads the other, each once."""
        return tuple([(o, reader) for reader, read in self.made_from.items() for o in read])

    @cached_property
    def by_id(self) -> dict[int, Node]:
        """Id -> node."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def by_slot(self) -> dict[Slot, Node]:
        """Slot -> node in use of it (a replaced one only where none is in use)."""
        found = {node.slot: node for node in self.nodes if node.state == "replaced"}
        found.update((node.slot, node) for node in self.nodes if node.state != "replaced")
        return found

    @cached_property
    def reads(self) -> dict[int, list[int]]:
        """Id -> ids of the nodes it reads."""
        return {reader: list(read) for reader, read in self.made_from.items() if read}

    @cached_property
    def readers(self) -> dict[int, list[int]]:
        """Id -> ids of the nodes that read it."""
        found: dict[int, list[int]] = {}
        for origin, reader in self.edges:
            found.setdefault(origin, []).append(reader)
        return found


def graph_at(ledger: Ledger, project: str, at: datetime | None = None) -> Graph:
    """Return the graph that was true at a time, or is true now.

    An edge leads from the version that is in use where content allows it: a day that was rebuilt
    with equal content is still what its readers are made from.
    """
    with without_pauses():
        used = heads_at(ledger, project, at)
        nodes = {reading.node.id: reading.node for reading in used}
        found = verdicts(ledger, project, at, nodes, used)
    for version_id, verdict in found.states.items():
        nodes[version_id] = nodes[version_id]._replace(
            state="stale", why=verdict.why, path=verdict.path
        )
    for version_id, aliases in _aliases(ledger, project, at).items():
        if version_id in nodes:
            nodes[version_id] = nodes[version_id]._replace(aliases=tuple(aliases))
    return Graph(project, at, tuple(nodes.values()), found.reads)


def upstream(ledger: Ledger, ids: Iterable[int], *, without: Sequence[str] = ()) -> list[int]:
    """Return the ids of all that some versions are made from, themselves included, sorted.

    Args:
        ledger: The record.
        ids: Of the versions.
        without: Roles of inputs that are not followed.
    """
    i = schema.inputs.c
    return _closure(ledger, ids, i.version_id, i.from_version_id, without)


def downstream(ledger: Ledger, ids: Iterable[int]) -> list[int]:
    """Return the ids of all that is made from some versions, themselves included, sorted."""
    i = schema.inputs.c
    return _closure(ledger, ids, i.from_version_id, i.version_id)


def lineage(
    ledger: Ledger,
    project: str,
    ids: Sequence[int],
    *,
    up: bool = True,
    down: bool = False,
    at: datetime | None = None,
) -> Graph:
    """Return the versions that some are made from and/or that are made from them.

    With `at`, only what had been made by then; states and aliases are those of that moment.
    """
    wanted: set[int] = set(ids)
    if up:
        wanted.update(upstream(ledger, ids))
    if down:
        wanted.update(downstream(ledger, ids))
    now = graph_at(ledger, project, at)
    aliases = _aliases(ledger, project, at)
    past = _rows(ledger, sorted(wanted - now.by_id.keys()), at)
    nodes = [now.by_id[i] for i in wanted if i in now.by_id]
    nodes += [_past_node(row, now.by_slot, aliases.get(row[0], ())) for row in past]
    nodes.sort(key=lambda node: node.id)
    return Graph(project, at, tuple(nodes), _reads_among(ledger, [n.id for n in nodes]))


def with_status(graph: Graph, rows: Iterable[StatusRow]) -> Graph:
    """Return the graph of now with the states of `status`, which looks at the world as well.

    Slots that are wanted and not built become nodes with negative ids.
    """
    told = {(row.kind, row.name, row.partition): row for row in rows}
    ids = {node.slot: node.id for node in graph.nodes if node.state != "replaced"}
    nodes = []
    for node in graph.nodes:
        row = told.get(node.slot)
        if row is not None and ids.get(node.slot) == node.id:
            path = node.path if row.state == node.state else ()
            node = node._replace(state=row.state, why=row.why, path=path)
        nodes.append(node)
    missing = [row for slot, row in told.items() if slot not in ids]
    for number, row in enumerate(missing, start=1):
        nodes.append(
            Node(
                -number, row.kind, row.name, row.partition, 0, "", "", None, None, None,
                row.state, row.why,
            )
        )  # fmt: skip
    return replace(graph, nodes=tuple(nodes))


def _past_node(row: Sequence[Any], in_use: Mapping[Slot, Node], aliases: Sequence[str]) -> Node:
    head = in_use.get((row[1], row[2], row[3]))
    why = "nothing is in use in its place" if head is None else "another version is in use"
    if head is not None and head.content_hash == row[6]:
        why += ", with equal content"
    return Node._make((*row, "replaced", why, (), tuple(aliases)))


def _aliases(ledger: Ledger, project: str, at: datetime | None) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for alias, version_id in ledger.aliases(project, at=at).items():
        found.setdefault(version_id, []).append(alias)
    return found


def _rows(ledger: Ledger, ids: Sequence[int], at: datetime | None) -> list[Sequence[Any]]:
    v = schema.versions.c
    columns = [sa.func.nullif(v.partition, "") if f == "partition" else v[f] for f in RECORDED]
    found: list[Sequence[Any]] = []
    with ledger.reading() as connection:
        for start in range(0, len(ids), _AT_ONCE):
            query = sa.select(*columns).where(v.id.in_(ids[start : start + _AT_ONCE]))
            if at is not None:
                query = query.where(v.created_at <= at)
            found += connection.execute(query).all()
    return found


def _reads_among(ledger: Ledger, ids: Sequence[int]) -> dict[int, list[int]]:
    i, known = schema.inputs.c, set(ids)
    found: dict[int, dict[int, None]] = {}
    with ledger.reading() as connection:
        for start in range(0, len(ids), _AT_ONCE):
            query = (
                sa.select(i.from_version_id, i.version_id)
                .where(i.version_id.in_(ids[start : start + _AT_ONCE]))
                .order_by(i.version_id, i.position)
            )
            for origin, reader in connection.execute(query):
                if origin in known:
                    found.setdefault(reader, {})[origin] = None
    return {reader: list(origins) for reader, origins in found.items()}


def _closure(
    ledger: Ledger,
    ids: Iterable[int],
    given: sa.Column[Any],
    wanted: sa.Column[Any],
    without: Sequence[str] = (),
) -> list[int]:
    """Follow the inputs from `given` to `wanted`, in the database."""
    found: set[int] = set()
    todo = sorted(set(ids))
    v = schema.versions.c
    with ledger.reading() as connection:
        while todo:
            some, todo = todo[:_AT_ONCE], todo[_AT_ONCE:]
            seeds = [i for i in some if i not in found]
            if not seeds:
                continue
            reached = sa.select(v.id).where(v.id.in_(seeds)).cte("reached", recursive=True)
            step = sa.select(wanted).join(reached, given == reached.c.id)
            if without:
                step = step.where(schema.inputs.c.role.not_in(without))
            reached = reached.union(step.where(wanted.is_not(None)))
            found.update(connection.scalars(sa.select(reached.c.id)))
    return sorted(found)
