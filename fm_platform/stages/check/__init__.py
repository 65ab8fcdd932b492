"""The compile step: everything a build needs, looked at before anything expensive.

* `examine`: all of it, in seconds (`fm check`)
* `require_ready`: what costs next to nothing, at the begin of every run
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fm_platform.errors import FMError
from fm_platform.lineage.choosing_base import last_choice
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.check.declared import function_findings, some_rows
from fm_platform.stages.check.findings import DIFFERS, FAILING, OK, Finding, failing
from fm_platform.stages.check.models import (
    base_findings,
    candidate_findings,
    serving_findings,
    tokenizer_findings,
    training_findings,
)
from fm_platform.stages.check.packages import (
    environment_findings,
    requirement_findings,
    serving_packages,
)
from fm_platform.stages.check.sources import source_findings
from fm_platform.stages.check.unit import unit_findings
from fm_platform.workspace import Workspace

__all__ = ["FAILING", "Finding", "examine", "failing", "require_ready"]


def examine(ws: Workspace, project: LoadedProject) -> Iterator[Finding]:
    """Yield what was looked at, part by part, the cheap ones first.

    Args:
        ws: The workspace; only read, but that the unit set is tried where it is new.
        project: A project whose file has no mistakes.
    """
    spec = project.spec
    yield Finding("project file", OK, f"{project.file.name}: no mistakes")
    if spec.task == "causal":
        yield from _examine_causal(ws, project)
        return
    yield Finding(
        "taxonomy", OK, f"version {spec.taxonomy.version}: {', '.join(spec.taxonomy.classes)}"
    )
    missing = [*requirement_findings(ws.home.ledger_url)]
    yield from missing
    yield from environment_findings(ws, spec)
    sources = [*source_findings(ws, project)]
    yield from sources
    rows, real = some_rows(ws, project, readable=not failing(sources))
    yield from function_findings(project, rows, real)
    if spec.base_model.candidates:
        last = last_choice(ws.ledger, spec.name)
        found = [*candidate_findings(project, last, bool(failing(missing)))]
    else:
        found = [*_examine_base(ws, project, bool(failing(missing)))]
    yield from found
    if failing(missing):
        return  # what loads models needs all of them
    if all(one.state == DIFFERS for one in failing(found)):
        yield from unit_findings(ws, project)
    champion = ws.ledger.alias(spec.name, "champion") or ws.ledger.latest(
        spec.name, "merged_model", "merged_model"
    )
    if champion is not None:
        yield from serving_packages(ws, champion)
        yield from serving_findings(ws, champion)


def _examine_base(ws: Workspace, project: LoadedProject, only_files: bool) -> Iterator[Finding]:
    """Yield what was looked at of the base model, and of a training that begins with it."""
    spec = project.spec
    declared = ws.ledger.latest(spec.name, "spec", "spec")
    base, found = base_findings(project, ws.ledger.get(declared.id) if declared else None)
    yield from found
    if only_files:
        return
    if base is not None:
        yield from tokenizer_findings(base, spec)
    yield from training_findings(base, spec)


def _examine_causal(ws: Workspace, project: LoadedProject) -> Iterator[Finding]:
    """Yield what was looked at of a project of prompts and answers."""
    spec = project.spec
    missing = [*requirement_findings(ws.home.ledger_url)]
    yield from missing
    yield from environment_findings(ws, spec)
    yield from source_findings(ws, project)
    declared = ws.ledger.latest(spec.name, "spec", "spec")
    base, found = base_findings(project, ws.ledger.get(declared.id) if declared else None)
    yield from found
    if base is not None and not failing(missing):
        yield from tokenizer_findings(base, spec)


def require_ready(project: LoadedProject, stages: Collection[str]) -> None:
    """Refuse a run that could only fail later; takes milliseconds beside the hash of the base.

    Args:
        project: The project.
        stages: The stages of the run; `raw` alone needs neither functions nor base model.

    Raises:
        FMError: With everything that is missing or wrong.
    """
    found = [*requirement_findings()]
    if set(stages) - {"raw"} and project.spec.task == "classification":
        found += function_findings(project)
    if set(stages) & {"adapters", "merged_model", "evaluation"}:
        found += (
            candidate_findings(project, None, True)
            if project.spec.base_model.candidates
            else base_findings(project, None)[1]
        )
    bad = [finding for finding in failing(found) if finding.state != DIFFERS]
    if bad:
        lines = [f"{f.part}: {f.what}" + (f"; {f.next_step}" if f.next_step else "") for f in bad]
        raise FMError(
            f"{project.spec.name} is not ready to be built",
            found="\n    ".join(lines),
            next_step=f"mend this, then fm check {project.spec.name}",
        )
