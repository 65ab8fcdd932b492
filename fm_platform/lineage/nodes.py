"""A version as a node of the graph: the fields that a picture or a table needs, and no more."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from fm_platform.lineage.records import Slot, slot_name

NodeState = Literal["fresh", "stale", "unbuilt", "replaced"]
Edge = tuple[int, int]
"""(id of the version read, id of the version made from it)."""


class Node(NamedTuple):
    """One version (or one wanted slot without any).

    Attributes:
        id: Of the version in the ledger: `ledger.get(id)` is its whole record. Negative for a
            slot that is not built.
        state: `fresh`; `stale`: made from something else than is in use at this moment;
            `unbuilt`: wanted, never made; `replaced`: another version of its slot is in use.
        why: The cause, with the path to it; empty where fresh.
        path: Ids along that path, nearest first; the last one is where the cause lies.
        aliases: Those that name it at this moment.
    """

    id: int
    kind: str
    name: str
    partition: str | None
    number: int
    recipe_hash: str
    content_hash: str
    rows: int | None
    bytes: int | None
    created_at: datetime | None
    state: NodeState = "fresh"
    why: str = ""
    path: tuple[int, ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def slot(self) -> Slot:
        """What it is a version of."""
        return (self.kind, self.name, self.partition)

    @property
    def label(self) -> str:
        """Its reference, e.g. `votes/vader/2026-01-05`."""
        return slot_name(self.slot)


RECORDED = Node._fields[:10]
"""The fields that are columns of the ledger."""
