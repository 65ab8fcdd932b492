"""`fm ledger rebuild`: the ledger from the history on disk, or from the stores alone."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fm_platform.cli import render
from fm_platform.cli.history import AsJson
from fm_platform.display import plain

if TYPE_CHECKING:
    from fm_platform.upkeep.rebuild import Rebuilt

_SHOWN = 20


def rebuild(
    check: Annotated[
        bool, typer.Option("--check", help="Rebuild in memory and compare with the ledger.")
    ] = False,
    from_stores: Annotated[
        bool,
        typer.Option("--from-stores", help="From the manifests beside the tables, not history."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Build the ledger again from the history on disk, then hold it against the stores.

    The old file, if there is one, is kept beside it. Where the history is lost as well,
    --from-stores reads the rows that lie beside the tables: versions, uses, aliases, decisions,
    pins, branches. Leases and signing key are of one installation and are not there.
    """
    from fm_platform.upkeep import rebuild as upkeep
    from fm_platform.workspace import Workspace

    ws = Workspace.open()
    do = upkeep.check if check else upkeep.rebuild
    done = do(ws, from_stores=from_stores)
    if as_json:
        typer.echo(json.dumps(render.plain(done), indent=1))
    else:
        typer.echo(_text(done, check, from_stores))
    sys.exit(1 if done.differences or done.missing else 0)


def _text(done: Rebuilt, check: bool, from_stores: bool) -> str:
    source = "manifests beside the tables" if from_stores else "history"
    lines = [f"{done.lines} lines of {source}, {done.versions} versions"]
    if done.history is not None:
        lines.append(f"the old history is kept: {done.history}")
    if done.kept is not None:
        lines.append(f"the old ledger is kept: {done.kept}")
    if check and not done.differences:
        lines.append(f"the ledger says what its {source} {'say' if from_stores else 'says'}")
    for d in done.differences[:_SHOWN]:
        lines += [f"{d.table} {d.key}", f"  ledger:  {d.first}", f"  history: {d.second}"]
    if len(done.differences) > _SHOWN:
        lines.append(f"... and {len(done.differences) - _SHOWN} more rows differ")
    lines += [f"missing in the stores: {name}" for name in done.missing[:_SHOWN]]
    if len(done.missing) > _SHOWN:
        lines.append(f"... and {len(done.missing) - _SHOWN} more are missing")
    lines += [f"not in the ledger: {name}" for name in done.unrecorded[:_SHOWN]]
    if done.unrecorded:
        lines.append(
            "what is not in the ledger was written by a run that was killed before it could say "
            "so; the same recipe run again writes it anew"
        )
    elif not done.missing:
        lines.append("ledger and stores agree")
    return "\n".join(plain(line, limit=2_000) for line in lines)
