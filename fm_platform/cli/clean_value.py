"""`fm clean value`: what training rows, sources and labeling functions are worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fm_platform.cli import render
from fm_platform.cli.progress import TerminalReporter
from fm_platform.display import plain

_TEXT = 90


def value(
    project: Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")],
    max_rows: Annotated[
        int, typer.Option(min=20, max=100_000, help="Newest training rows that are valued.")
    ] = 10_000,
    lowest: Annotated[int, typer.Option(min=0, max=20, help="Rows of least value to show.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show what rows, sources and functions add to the score on dev gold, and what can go.

    Nothing is removed: a project file or fm clean reject decides that.
    """
    from fm_platform.lineage import RunContext
    from fm_platform.stages.row_value import row_values
    from fm_platform.workspace import Workspace, find_classifier

    ws, loaded = Workspace.open(), find_classifier(project)
    told = row_values(ws, loaded, RunContext(), TerminalReporter(), max_rows)
    typer.echo(json.dumps(render.plain(told)) if as_json else value_text(told, lowest))


def value_text(told: Mapping[str, Any], lowest: int) -> str:
    """Return the values for a terminal."""
    dev = told["dev_rows"]
    blocks = [
        f"{plain(told['project'])}: {told['training_rows']} training rows, {told['method']}; "
        f"valued on {dev['valued_on']} dev gold rows, checked on {dev['checked_on']} others"
    ]
    for what in ("source", "function"):
        lines = [
            (one[what], one["rows"], f"{one['value']:+.4f}",
             f"{one['value_per_thousand_rows']:+.4f}", f"{one['harmful']:.1%}")
            for one in sorted(told[f"{what}s"], key=lambda one: -one["value_per_thousand_rows"])
        ]  # fmt: skip
        head = (what, "rows", "value", "per 1,000 rows", "rows below 0")
        blocks.append(render.table(lines, head))
    steps = [
        (f"{one['removed']:.0%}", one["rows"],
         f"{one['accuracy']:.3f} ({one['low']:.3f}–{one['high']:.3f})")
        for one in told["subsets"]
    ]  # fmt: skip
    blocks.append(render.table(steps, ("removed", "rows left", "right on other dev rows")))
    smallest = told["smallest"]
    if smallest and smallest["removed"]:
        blocks.append(
            f"the lowest {smallest['removed']:.0%} can go without loss on {smallest['dev_rows']} "
            f"dev rows: {smallest['rows']} rows keep the score"
        )
    else:
        blocks.append("no smaller set keeps the score")
    if lowest:
        rows = [
            (one["row_id"][:12], one["day"], one["source"], one["label"], f"{one['value']:+.2e}",
             plain(one["text"], _TEXT))
            for one in told["lowest"][:lowest]
        ]  # fmt: skip
        names = ("row", "day", "source", "label", "value", "text")
        blocks.append("rows of least value\n" + render.table(rows, names))
    return "\n\n".join(blocks)
