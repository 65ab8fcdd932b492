"""`fm models contribute` and `fm models apply`: what a model learned as a small file, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fm_platform.errors import FMError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def contribute(
    model: Annotated[str, typer.Argument(help="An adapter or a merged model, as in fm lineage.")],
    to: Annotated[Path, typer.Option("--to", help="File to write.")],
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Default: the only one, or sentiment.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Of all parameters, at most; fewer where fewer changed.")
    ] = 0.01,
    importance: Annotated[
        str, typer.Option(help="Of an entry: fisher_change, fisher, or change.")
    ] = "fisher_change",
    as_json: AsJson = False,
) -> None:
    """Write the most important entries that a model changed of its shared start as one file."""
    from fm_platform.stages import contributions
    from fm_platform.workspace import Workspace, find_project, project_or_only

    chosen = _importance(importance)
    ws, declared = Workspace.open(), find_project(project_or_only(project))
    told = contributions.contribute(ws, declared, model, share, chosen, to)
    told = {"file": str(to), **told}
    typer.echo(json.dumps(told, indent=1) if as_json else _written(told))


def apply(
    to: Annotated[Path, typer.Option("--to", help="Folder to write; it must not be there.")],
    files: Annotated[
        list[Path] | None, typer.Argument(help="Contributions; none: the start itself.")
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(help="A shared start, or a folder of a dense model; else what they are for."),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Whose start; else as they say.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put contributions on what they were made for, exactly, and write a whole model."""
    from fm_platform.stages import contributions
    from fm_platform.workspace import Workspace

    told = contributions.apply(Workspace.open(), project, files or [], on, to)
    typer.echo(json.dumps(told, indent=1) if as_json else _applied(told))


def _importance(name: str) -> Any:
    from fm_platform.merging.contribution import IMPORTANCES

    if name not in IMPORTANCES:
        raise FMError("no such importance", expected=", ".join(IMPORTANCES), found=name)
    return name


def _written(told: dict[str, Any]) -> str:
    kept = "all of them" if told["importance"] == "whole" else f"by {told['importance']}"
    return (
        f"{told['file']}: {told['entries']:,} of {told['changed']:,} changed entries of "
        f"{told['model']}, {kept}; {told['bytes']:,} bytes, "
        f"{told['bytes'] / told['dense_bytes']:.2%} of the whole model"
    )


def _applied(told: dict[str, Any]) -> str:
    lines = [f"  {one['model']}: {one['entries']:,} entries" for one in told["contributions"]]
    head = (
        f"{told['folder']}: {told['entries']:,} entries changed, "
        f"{told['conflicts']:,} of them by several"
    )
    return "\n".join([head, *lines])
