"""The newest version of every Delta table made that of a universe, by commits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fm_platform.lineage.records import ArtifactVersion
from fm_platform.store.tables import TableRef
from fm_platform.workspace import Workspace


@dataclass
class Heads:
    """What the tables of a universe shall hold: table -> partition -> version, or nothing."""

    scope: str
    wanted: dict[str, dict[str, TableRef]] = field(default_factory=dict)
    gone: dict[str, set[str]] = field(default_factory=dict)

    def want(self, versions: Iterable[ArtifactVersion]) -> None:
        """Let the tables hold the rows of these versions."""
        for version in versions:
            for name, told in version.location.get("tables", {}).items():
                ref = TableRef.from_json(told)
                self.wanted.setdefault(f"{self.scope}/{name}", {})[ref.value] = ref

    def drop(self, versions: Iterable[ArtifactVersion]) -> None:
        """Let the tables hold nothing in the partitions of these versions, unless wanted."""
        for version in versions:
            for name, told in version.location.get("tables", {}).items():
                value = str(told["value"])
                table = f"{self.scope}/{name}"
                if value not in self.wanted.get(table, {}):
                    self.gone.setdefault(table, set()).add(value)

    def commit(
        self, ws: Workspace, why: str, fence: Callable[[], None]
    ) -> tuple[dict[str, int], dict[tuple[str, str], TableRef]]:
        """Make at most one commit a table.

        Returns:
            Table -> Delta version, where one was made; (table, partition) -> where its rows are.
        """
        made: dict[str, int] = {}
        refs: dict[tuple[str, str], TableRef] = {}
        for table in sorted({*self.wanted, *self.gone}):
            done = ws.tables.repoint(
                table, self.wanted.get(table, {}), self.gone.get(table, ()), why=why, fence=fence
            )
            if done.version is not None:
                made[table] = done.version
            refs.update({(table, value): ref for value, ref in done.refs.items()})
        return made, refs
