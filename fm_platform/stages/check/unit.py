"""The hand-made set, tried where its recipe is new and told again otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from fm_platform.errors import FMError
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.check.findings import NOTE, OK, WRONG, Finding, of_error
from fm_platform.stages.common import SilentReporter
from fm_platform.stages.unit import build_unit
from fm_platform.workspace import Workspace, run_context

_PART = "unit set"
_MEND = "mend the functions, the settings or the rows of the file"


def unit_findings(ws: Workspace, project: LoadedProject) -> Iterator[Finding]:
    """Yield whether the declared set holds, link by link; nothing where none is declared."""
    if project.spec.unit is None:
        return
    try:
        result = build_unit(ws, project, run_context("person"), SilentReporter())
    except FMError as error:
        yield of_error(_PART, error)
        return
    if result is None:
        return
    wrong = [check for check in result.checks if not check.passed]
    for check in wrong:
        yield Finding(_PART, WRONG, f"{check.name}: {check.description}", _MEND)
    silent = next((c.metadata["silent"] for c in result.checks if c.name == "votes"), "")
    if silent:
        yield Finding(_PART, NOTE, f"no row of it gets a vote of {silent}")
    if not wrong:
        when = "reused" if result.reused else f"tried in {result.metrics['seconds']} s"
        told = f"{result.metrics['rows']} rows hold from votes to merged model, {when}"
        yield Finding(_PART, OK, told)
