"""The graph of now beside what the files of the project say: edits nothing was built with yet."""

from __future__ import annotations

from dataclasses import dataclass

from fm_platform.errors import FMError
from fm_platform.lineage.graph import Graph, with_status
from fm_platform.workspace import Workspace


@dataclass(frozen=True)
class World:
    """What looking at the files gave.

    Attributes:
        graph: The graph with their verdicts; None where they change nothing.
        note: Why they could not be read; empty where they could.
    """

    graph: Graph | None
    note: str = ""


def world(ws: Workspace, graph: Graph) -> World:
    """Look at the declared project and compare.

    A project that is not declared (any more), or with errors in its file, still has its history:
    the errors become a note.
    """
    from fm_platform.lineage.status import status
    from fm_platform.stages.probe import probe
    from fm_platform.workspace import find_project

    try:
        loaded = find_project(graph.project)
        rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    except FMError as error:
        return World(None, str(error))
    told = with_status(graph, rows)
    return World(None if told.nodes == graph.nodes else told)
