"""`fm diff`: what differs between two versions, from the cause down."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from fm_platform.errors import FMError


def diff(
    first: Annotated[str, typer.Argument(help="A version: name, alias, hash prefix, name@time.")],
    second: Annotated[
        str | None, typer.Argument(help="Another; without it: FIRST and the version before it.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Where to look; all without it.")
    ] = None,
    rows: Annotated[
        int, typer.Option(min=0, help="Example rows shown of each kind of change.")
    ] = 5,
    text: Annotated[bool, typer.Option(help="Show the text of example rows.")] = True,
    contents: Annotated[
        bool, typer.Option(help="Read rows, votes, tensors and answers, not only the ledger.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Tell what differs between two versions, from the cause down.

    Rows, labeling functions as source, configuration, packages, tensors, metrics and gold rows.
    """
    from fm_platform.cli.diff_text import diff_text
    from fm_platform.lineage.refs import resolve, version_name
    from fm_platform.stages.diff import Wanted
    from fm_platform.stages.diff import diff as compare
    from fm_platform.stages.trace import row_finder
    from fm_platform.workspace import Workspace

    ws = Workspace.to_read()
    find_row = row_finder(ws)
    named = resolve(ws.ledger, project, first, find_row=find_row)
    if second is None:
        after = named
        found = ws.ledger.versions(named.project, named.kind, named.name, named.partition or "")
        earlier = [version for version in found if version.number < named.number]
        if not earlier:
            raise FMError(
                f"{version_name(named)} is the first of its name: there is none before it",
                next_step="name two versions: fm diff FIRST SECOND",
            )
        before = ws.ledger.get(earlier[-1].id)
    else:
        before, after = (
            named,
            resolve(ws.ledger, project or named.project, second, find_row=find_row),
        )
    told = compare(ws, before, after, Wanted(examples=rows, text=text, contents=contents))
    typer.echo(json.dumps(told.to_json(), indent=1) if as_json else diff_text(told))
