"""The graph of now beside what the files of the project say: edits nothing was built with yet."""

from __future__ import annotations

from dataclasses import dataclass

from fm_platform.errors import FMError
from fm_platform.home import Home, branch_from_environment
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


def beside(ws: Workspace, branch: str | None) -> Workspace:
    """Return the same FM_HOME on a branch, or on main (None), with the same open ledger."""
    found = Workspace(Home(ws.home.root, branch), ws.is_writable)
    vars(found)["ledger"] = ws.ledger.on_branch(branch)  # where the cached property keeps it
    return found


def world(ws: Workspace, graph: Graph) -> World:
    """Look at the declared project and compare.

    A project that is not declared (any more), or with errors in its file, still has its history:
    the errors become a note.
    """
    from fm_platform.lineage.status import status
    from fm_platform.stages.probe import probe
    from fm_platform.workspace import find_project

    if ws.home.branch is None and branch_from_environment() is not None:
        return World(None, "the files of main are not looked at from the page of a branch")
    try:
        loaded = find_project(graph.project, ws.home.own if ws.home.branch else None)
        rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    except FMError as error:
        return World(None, str(error))
    told = with_status(graph, rows)
    return World(None if told.nodes == graph.nodes else told)
