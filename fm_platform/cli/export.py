"""`fm ledger export`: history for other systems."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fm_platform.errors import FMError

EVENTS = "openlineage.ndjson"
CARD = "README.md"


def export(
    project: Annotated[str, typer.Argument(help="Whose history.")],
    to: Annotated[
        Path, typer.Option("--to", help="Folder for the files; made if it is not there.")
    ],
    form: Annotated[
        str, typer.Option("--format", help="openlineage, card, or all of them.")
    ] = "all",
    model: Annotated[
        str, typer.Option(help="Merged model the card is of: an alias, a name, a hash prefix.")
    ] = "champion",
    at: Annotated[
        str | None, typer.Option(help="History up to this time, e.g. 2026-01-05.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only events after this time: what is new since then.")
    ] = None,
    namespace: Annotated[
        str, typer.Option(help="OpenLineage namespace of the jobs and datasets.")
    ] = "fm_platform",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON.")
    ] = False,
) -> None:
    """Write OpenLineage events, checked against their schema, and a model card, from the ledger.

    Events need nothing that a project may leave out. The card needs a description, languages and
    a licence: where it cannot be made, the events are written, and what is missing is told.
    """
    from fm_platform.lineage.refs import parse_time, resolve, version_name
    from fm_platform.stages.export.card import model_card
    from fm_platform.stages.export.openlineage import Exporter
    from fm_platform.store.files import atomic_write
    from fm_platform.workspace import Workspace

    if form not in ("openlineage", "card", "all"):
        raise FMError("no such format", found=form, expected="openlineage, card or all")
    ws = Workspace.to_read()
    moment = parse_time(at) if at is not None else None
    told: dict[str, Any] = {"project": project}
    if not ws.ledger.versions(project):
        raise FMError(
            f"the ledger holds nothing of {project!r}", next_step=f"fm run {project} builds it"
        )
    if form != "card":
        events = Exporter(ws.ledger, project, namespace).events(
            since=parse_time(since) if since is not None else None, at=moment
        )
        to.mkdir(parents=True, exist_ok=True)
        told[EVENTS] = _write_lines(to / EVENTS, events)
    try:
        if form != "openlineage":
            version = resolve(ws.ledger, project, model, moment)
            card = model_card(ws, version, _folder_of(project), moment)
            to.mkdir(parents=True, exist_ok=True)
            atomic_write(to / CARD, card.encode())
            told[CARD] = version_name(version)
    finally:
        if len(told) > 1:
            typer.echo(json.dumps(told) if as_json else _told(told, to))


def _write_lines(path: Path, events: Iterable[Mapping[str, Any]]) -> int:
    """Write one event a line, all of them or none; return how many."""
    partial = path.with_name(f".{path.name}.part")
    count = 0
    try:
        with partial.open("w", encoding="utf-8") as file:
            for event in events:
                file.write(json.dumps(event, sort_keys=True, separators=(",", ":")) + "\n")
                count += 1
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _folder_of(project: str) -> Path | None:
    """Return where a project is declared, or None where it is not there any more."""
    from fm_platform.spec.load import discover
    from fm_platform.workspace import project_root

    return next((f.parent for f in discover(project_root()) if f.parent.name == project), None)


def _told(told: Mapping[str, Any], to: Path) -> str:
    lines = []
    if EVENTS in told:
        lines.append(f"{to / EVENTS}: {told[EVENTS]:,} events that conform to OpenLineage")
    if CARD in told:
        lines.append(f"{to / CARD}: the card of {told[CARD]}")
    return "\n".join(lines)
