"""`fm reproduce`: a version and all under it built again, and every hash compared."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fm_platform.cli import render
from fm_platform.cli.history import AsJson, InProject, Reference
from fm_platform.display import plain

if TYPE_CHECKING:
    from fm_platform.spec.load import LoadedProject
    from fm_platform.stages.reproduce import Plan, Reproduction


def reproduce(
    ref: Reference = "champion",
    project: InProject = None,
    keep: Annotated[
        Path | None, typer.Option(help="Build in this new folder and keep it, to look into.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build a version and everything under it again, elsewhere, and compare every content hash.

    Says before it starts what is not as it was (packages, processor, code, stored bytes). Rows
    of a day whose source changed since, or is gone, are those that were kept. Ends with 0 where
    every hash is equal, with 1 where one is not; the first of those is named.
    """
    from fm_platform.lineage.refs import resolve
    from fm_platform.stages.reproduce import make_plan
    from fm_platform.stages.reproduce import reproduce as build_again
    from fm_platform.workspace import Workspace

    ws = Workspace.open()
    version = resolve(ws.ledger, project, ref)
    plan = make_plan(ws, version)
    if not as_json:
        typer.echo(plan_text(plan))
    log = _Echo(silent=as_json)
    if keep is not None:
        keep.mkdir(parents=True)
        done = build_again(ws, plan, keep, _today(version.project), log)
    else:
        with tempfile.TemporaryDirectory(dir=ws.home.work, prefix="reproduce-") as folder:
            done = build_again(ws, plan, Path(folder), _today(version.project), log)
    typer.echo(json.dumps(_json(done), indent=1) if as_json else result_text(done))
    sys.exit(0 if done.equal else 1)


def plan_text(plan: Plan) -> str:
    """Return what is known before anything is built."""
    target = plan.target
    lines = [
        f"{target.project}: {target.name} {target.content_hash[:12]}, "
        f"built {target.created_at:%Y-%m-%d %H:%M} UTC from {len(plan.versions) - 1} artifacts"
    ]
    lines += [f"not as it was: {line}" for line in plan.differences]
    lines += [f"stored bytes damaged: {name}: {plain(what)}" for name, what in plan.damaged.items()]
    if plan.removed:
        lines.append(removed_text(plan))
    if not plan.differences:
        lines.append("packages, processor and code are those of the record")
    return "\n".join(lines)


def removed_text(plan: Plan) -> str:
    """Return which stored bytes retention removed, before they are built again."""
    from fm_platform.lineage.refs import version_name

    when = plan.removed.get(version_name(plan.target))
    if when is not None:
        return (
            f"the bytes of this version were removed by fm gc on {when:%Y-%m-%d %H:%M} UTC, with "
            f"{len(plan.removed) - 1} of those it is made from: they are built again here"
        )
    return f"{len(plan.removed)} of those it is made from were removed by fm gc"


def result_text(done: Reproduction) -> str:
    """Return the verdict."""
    same = sum(compared.state in ("equal", "kept") for compared in done.compared)
    total = len(done.plan.versions)
    first = done.first_difference
    if first is None:
        lines = [f"equal: all {total} content hashes are those of the record"]
    else:
        lines = [
            f"NOT equal: {first.name} {first.state}",
            f"  recorded  {first.recorded}",
            f"  found     {first.found or '-'}",
            f"  why       {plain(first.why, 500)}",
            f"{same} of {total} artifacts are equal; what is built from this one was not compared",
        ]
    if done.kept:
        lines.append(
            f"{len(done.kept)} days of raw: their source is not what it was, so the rows that were "
            "kept were taken"
        )
        lines += [f"  {day.name}: {plain(day.why, 200)}" for day in done.kept[:10]]
        lines += [f"  and {len(done.kept) - 10} more"] if len(done.kept) > 10 else []
    if done.plan.damaged:
        names = ", ".join(done.plan.damaged)
        lines.append(f"damaged in the store: {names}; fm run {done.plan.target.project} mends it")
    return "\n".join(lines)


def _json(done: Reproduction) -> dict[str, object]:
    return {
        "target": done.plan.target.content_hash,
        "equal": done.equal,
        "differences": list(done.plan.differences),
        "damaged": dict(done.plan.damaged),
        "removed": render.plain(dict(done.plan.removed)),
        "artifacts": render.plain(done.compared),
    }


def _today(project: str) -> LoadedProject | None:
    """Return the project as its folder is now; None where there is none any more."""
    from fm_platform.workspace import find_project, project_names

    return find_project(project) if project in project_names() else None


class _Echo:
    """Tells each artifact on a line of its own."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent

    def info(self, message: str) -> None:
        """Drop the words of a stage."""

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Tell the artifacts, not the steps inside one."""
        if task == "reproduce" and not self._silent:
            typer.echo(f"[{done}/{total}] {note}")
