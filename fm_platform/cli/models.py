"""`fm models`: every model with its base, its evaluation and what is to be known before use.

`fm models PROJECT` lists them; the commands beside that hand on what a model learned.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from fm_platform.cli import render
from fm_platform.cli.contribute import apply, contribute

if TYPE_CHECKING:
    from fm_platform.lineage.marks import Mark


class _ListFirst(TyperGroup):
    """A group whose command `list` need not be said."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        said = args[0] if args else ""
        return super().parse_args(
            ctx, args if said in self.commands or said == "--help" else ["list", *args]
        )


models = typer.Typer(
    help="List models: fm models PROJECT. Hand on what one learned, and put it on its base.",
    cls=_ListFirst,
)
models.command()(contribute)
models.command()(apply)


@models.command("list")
def list_models(
    project: Annotated[str, typer.Argument(help="Whose models.")],
    at: Annotated[str | None, typer.Option(help="A day or a time: as it was then.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those no longer in use.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List the models of a project: which base each was made for, and where it was measured."""
    from fm_platform.lineage.marks import marks
    from fm_platform.lineage.refs import parse_time
    from fm_platform.workspace import Workspace

    moment = parse_time(at) if at is not None else None
    found = marks(Workspace.to_read().ledger, project, moment, every=every)
    if as_json:
        typer.echo(json.dumps([mark_json(mark) for mark in found], indent=1))
    else:
        typer.echo(marks_text(found) if found else f"no model yet: fm run {project}")


def mark_json(mark: Mark) -> dict[str, Any]:
    """Return a mark as JSON values."""
    from fm_platform.lineage.refs import version_name

    return {
        "model": version_name(mark.version),
        "kind": mark.version.kind,
        "name": mark.version.name,
        "content_hash": mark.version.content_hash,
        "base": mark.base,
        "declared_base": mark.declared,
        "state": mark.state,
        "evaluations": [version.content_hash for version in mark.evaluations],
        "aliases": list(mark.aliases),
        "successor": version_name(mark.successor) if mark.successor else None,
        "verdict": mark.verdict,
        "why": mark.why,
    }


def marks_text(found: Sequence[Mark]) -> str:
    """Return one line a model."""
    from fm_platform.lineage.refs import version_name

    rows = [
        (
            version_name(mark.version),
            mark.version.content_hash[:12],
            (mark.base or "-")[:12],
            mark.state,
            mark.evaluations[0].content_hash[:12] if mark.evaluations else "-",
            ", ".join(mark.aliases),
            mark.why,
        )
        for mark in found
    ]
    head = ("model", "content", "base", "mark", "evaluated by", "aliases", "why")
    return render.table(rows, head)
