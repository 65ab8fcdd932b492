"""`fm check`: the compile step of a project."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from fm_platform.cli import render
from fm_platform.display import plain
from fm_platform.errors import SpecError

if TYPE_CHECKING:
    from fm_platform.stages.check import Finding

Project = Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def check(project: Project, as_json: AsJson = False) -> None:
    """Check all that a build needs, in seconds, before anything expensive.

    Project file, taxonomy, labeling functions, base model, tokenizer, training code, packages and
    the model in use, beside the environment of the last build. Ends with 1 where something is
    missing, wrong or not as it was then; each is named, with what to do.
    """
    findings = _examined(project)
    bad = [finding for finding in findings if finding.failing]
    if as_json:
        answer = {"project": project, "ok": not bad, "findings": render.plain(findings)}
        typer.echo(json.dumps(answer, indent=1))
    else:
        typer.echo("\n".join(map(_line, findings)))
        typer.echo(f"{len(bad)} to mend" if bad else f"{project} is ready to be built")
    sys.exit(1 if bad else 0)


def _examined(project: str) -> list[Finding]:
    from fm_platform.stages.check import Finding, examine
    from fm_platform.workspace import Workspace, find_project

    try:
        loaded = find_project(project)
    except SpecError as error:
        return [
            Finding(
                "project file", "wrong", f"{p.path}: {p.message}",
                f"mend {p.file}" + (f", line {p.line}" if p.line else ""),
            )
            for p in error.problems
        ]  # fmt: skip
    return list(examine(Workspace.to_read(), loaded))


def _line(finding: Finding) -> str:
    said = f"{finding.state:8}{finding.part}: {plain(finding.what, 500)}"
    return said + (f"\n        -> {plain(finding.next_step, 300)}" if finding.next_step else "")
