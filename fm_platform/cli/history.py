"""`fm lineage`, `fm log`, `fm show`, `fm trace`: the history of every version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from fm_platform.cli import history_text, render
from fm_platform.errors import FMError

if TYPE_CHECKING:
    from datetime import datetime

    from fm_platform.lineage.ledger import Ledger
    from fm_platform.lineage.records import ArtifactVersion
    from fm_platform.workspace import Workspace

Reference = Annotated[
    str,
    typer.Argument(
        help="A name (adapter/nyt, raw/2026-01-05), an alias, 4 or more digits of a hash, a row "
        "id or a prediction id; @TIME after it means that moment."
    ),
]
OptionalReference = Annotated[str | None, typer.Argument(help="As in fm lineage; all without it.")]
InProject = Annotated[
    str | None, typer.Option("--project", "-p", help="Look in this project only.")
]
At = Annotated[str | None, typer.Option(help="A day (its end, UTC) or a time: as it was then.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands to `fm`."""
    for command in (lineage, log, show, trace):
        app.command()(command)


def lineage(
    ref: OptionalReference = None,
    at: At = None,
    up: Annotated[bool, typer.Option("--up", help="Only what it is made from.")] = False,
    down: Annotated[bool, typer.Option("--down", help="Only what is made from it.")] = False,
    every: Annotated[bool, typer.Option("--all", help="One line for every version.")] = False,
    page: Annotated[bool, typer.Option("--open", help="Show it on the lineage page.")] = False,
    project: InProject = None,
    as_json: AsJson = False,
) -> None:
    """Show what a version is made from and what was made from it, now or at a time.

    Without REF: everything that is in use, stage by stage.
    """
    from fm_platform.lineage.graph import graph_at
    from fm_platform.lineage.graph import lineage as lineage_of

    ws, when = _open(), _time(at)
    if page:
        from fm_platform.web.lineage.server import open_page

        named = _resolve(ws, project, ref, when) if ref else None
        open_page(
            ws, named[0].project if named else project, named[0] if named else None,
            named[1] if named else when, typer.echo,
        )  # fmt: skip
        return
    if ref is None:
        graphs = [graph_at(ws.ledger, name, when) for name in _projects(ws.ledger, project)]
        if as_json:
            typer.echo(json.dumps([history_text.graph_json(graph) for graph in graphs], indent=1))
        else:
            typer.echo(history_text.graphs_text(graphs, every=every))
        return
    version, when = _resolve(ws, project, ref, when)
    both = up == down
    graph = lineage_of(
        ws.ledger, version.project, [version.id], up=up or both, down=down or both, at=when
    )
    if as_json:
        typer.echo(json.dumps(history_text.graph_json(graph, version.id), indent=1))
    else:
        typer.echo(history_text.lineage_text(graph, version.id, up or both, down or both, every))


def log(
    ref: OptionalReference = None,
    at: At = None,
    limit: Annotated[int, typer.Option("-n", min=1, help="At most so many entries.")] = 30,
    project: InProject = None,
    as_json: AsJson = False,
) -> None:
    """Tell what happened, newest first: versions put in use and why, aliases, decisions."""
    from fm_platform.lineage.history import log_of

    ws = _open()
    entries = log_of(ws.ledger, project, ref, at=_time(at), limit=limit)
    if as_json:
        typer.echo(json.dumps(render.plain(entries), indent=1))
    else:
        typer.echo(history_text.log_text(entries))


def show(ref: Reference, at: At = None, project: InProject = None, as_json: AsJson = False) -> None:
    """Show the whole record of one version."""
    from fm_platform.lineage.view import record_of

    ws, when = _open(), _time(at)
    version, when = _resolve(ws, project, ref, when)
    record = record_of(ws.ledger, version, when)
    typer.echo(json.dumps(record, indent=1) if as_json else history_text.record_text(record))


def trace(
    row: Annotated[
        str | None, typer.Argument(help="A row id or a prediction id; some to choose from without.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Whose prediction: a reference; the champion without it.")
    ] = None,
    at: At = None,
    project: InProject = None,
    as_json: AsJson = False,
) -> None:
    """Explain one row: prediction, model, adapters, training rows, votes, raw row, source."""
    from fm_platform.stages import trace as tracing

    ws, when = _open(), _time(at)
    if row is None:
        found = [
            example
            for name in _projects(ws.ledger, project)
            for example in tracing.examples(ws, name, model, when)
        ]
        typer.echo(json.dumps(found, indent=1) if as_json else history_text.examples_text(found))
        return
    told = tracing.trace(ws, project, row, model=model, at=when)
    typer.echo(json.dumps(told, indent=1) if as_json else history_text.trace_text(told))


def _open() -> Workspace:
    from fm_platform.workspace import Workspace

    return Workspace.to_read()


def _time(at: str | None) -> datetime | None:
    from fm_platform.lineage.refs import parse_time

    return None if at is None else parse_time(at)


def _projects(ledger: Ledger, project: str | None) -> list[str]:
    from fm_platform.lineage.refs import projects

    known = projects(ledger)
    if project is None:
        return known
    if project not in known:
        raise FMError(
            f"the ledger holds no version of {project!r}",
            expected=", ".join(known) or None,
            next_step=f"fm run {project}",
        )
    return [project]


def _resolve(
    ws: Workspace, project: str | None, text: str, at: datetime | None
) -> tuple[ArtifactVersion, datetime | None]:
    """Return the version and the moment that counts: that of the reference, or of `--at`."""
    from fm_platform.lineage.refs import parse, resolve
    from fm_platform.stages.trace import row_finder

    found = resolve(ws.ledger, project, text, at, find_row=row_finder(ws))
    return found, parse(text).at or at
