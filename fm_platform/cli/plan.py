"""`fm plan`: the resolved recipe of a project, and what a run would compute, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from fm_platform.cli import render
from fm_platform.lineage.forecast import Forecast, StageForecast
from fm_platform.spec.taxonomy import Taxonomy

if TYPE_CHECKING:
    from fm_platform.lineage import ArtifactVersion
    from fm_platform.lineage.status import StatusRow
    from fm_platform.spec.load import LoadedProject
    from fm_platform.spec.models import ProjectSpec
    from fm_platform.spec.training import Training
    from fm_platform.workspace import Workspace


def plan(
    project: Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Print the resolved recipe of a project, and what a run would build, and why."""
    from fm_platform.lineage.forecast import forecast
    from fm_platform.lineage.status import plan as make_plan
    from fm_platform.stages.probe import probe
    from fm_platform.workspace import Workspace, find_project

    ws, loaded = Workspace.to_read(), find_project(project)
    planned = make_plan(ws.ledger, loaded.spec, probe(ws, loaded))
    counted = forecast(ws.ledger, loaded.spec.name, planned)
    if as_json:
        told = {
            "spec": loaded.spec.model_dump(mode="json"),
            "plan": render.plain(planned),
            "forecast": counted.to_json(),
            "unit_fails": unit_fails(ws, loaded.spec, planned),
        }
        typer.echo(json.dumps(told))
        return
    typer.echo(render.plan_text(loaded, planned))
    training = loaded.spec.training
    for text in filter(None, (
        rows_text(training), base_choice_text(ws, loaded), choice_text(ws, loaded),
    )):  # fmt: skip
        typer.echo(f"\n{text}")
    if changes := taxonomy_text(loaded.spec.taxonomy):
        typer.echo(f"\n{changes}")
    if planned:
        typer.echo(f"\n{forecast_text(counted)}")
    if fails := unit_fails(ws, loaded.spec, planned):
        typer.echo(
            f"\nthe unit set does not hold ({', '.join(fails)}), and nothing is trained before it "
            f"does: fm check {project} tells why"
        )


def unit_fails(ws: Workspace, spec: ProjectSpec, planned: Sequence[StatusRow]) -> list[str]:
    """Return the checks of the hand-made set that failed; none where it is yet to be tried."""
    if spec.unit is None or any(row.kind == "unit" for row in planned):
        return []
    tried = ws.ledger.latest(spec.name, "unit", "unit")
    checks = tried.metrics["checks"] if tried is not None else ()
    return [str(check["name"]) for check in checks if not check["passed"]]


def rows_text(training: Training) -> str:
    """Return what training rows cost and which are taken; empty where all is as usual."""
    told = []
    if training.loss == "generalised":
        told.append(f"generalised cross entropy, q {training.loss_q:g}")
    if training.weights != "none":
        told.append(f"rows weighted by {training.weights}")
    if training.subset < 1:
        told.append(f"{100 * training.subset:g} % of the rows, by {training.subset_by}")
    return f"training rows: {'; '.join(told)}" if told else ""


def choice_text(ws: Workspace, project: LoadedProject) -> str:
    """Return what a search of training settings would try, and what the last one found."""
    from fm_platform.stages.choice import last_choice

    training = project.spec.training
    if training.method != "auto":
        return ""
    auto = training.auto
    head = (
        f"training is chosen: {', '.join(auto.methods)}; {auto.trials} trials and {auto.minutes:g} "
        f"minutes at most, on {auto.rows_per_source} rows a source, every {auto.every} days"
    )
    tried = {"losses": auto.losses, "weights": auto.weights, "subsets": auto.subsets}
    named = [f"{name} {', '.join(map(str, values))}" for name, values in tried.items() if values]
    if auto.judge == "gold":
        named.append("judged by gold dev rows")
    head += f"\ntried beside: {'; '.join(named)}" if named else ""
    return f"{head}\n{_chosen_text(last_choice(ws, project.spec))}"


def base_choice_text(ws: Workspace, project: LoadedProject) -> str:
    """Return how the base model is chosen, and what the last choice found of each candidate."""
    from fm_platform.lineage.choosing_base import last_choice

    declared = project.spec.base_model
    if not declared.candidates:
        return ""
    head = (
        f"the base model is chosen among {', '.join(one.label for one in declared.candidates)} by "
        f"{declared.probe} on {declared.rows_per_source} rows a source, every {declared.every} days"
    )
    return f"{head}\n{_chosen_text(last_choice(ws.ledger, project.spec.name))}"


def _chosen_text(version: ArtifactVersion | None) -> str:
    if version is None:
        return "nothing was chosen yet"
    rows = version.metrics["tables"]["trials"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    told = render.table([["" if row.get(n) is None else row[n] for n in names] for row in rows],
                        names)  # fmt: skip
    return f"{version.metrics['told']} (from data up to {version.partition})\n{told}"


def taxonomy_text(taxonomy: Taxonomy) -> str:
    """Return how the classes came about, and what becomes of labels of before."""
    lines = [
        f"classes {change.version - 1} -> {change.version}: {change.told()}"
        + (f" ({change.reason})" if change.reason else "")
        for change in taxonomy.changes
    ]
    for name, told in taxonomy.former.items():
        what = "its rows are left out" if not told else f"read as {' or '.join(told)}"
        lines.append(f"  labels {name}: {what}")
    return "\n".join(lines)


def forecast_text(counted: Forecast) -> str:
    """Return the counts by stage, and the minutes."""
    rows = [
        (s.kind, _days(s), s.build, s.carry, s.reuse, s.check, _minutes(s.minutes), _names(s))
        for s in counted.stages
    ]
    head = ("stage", "days", "build", "carry over", "reuse", "maybe", "minutes", "what")
    sure, most = counted.minutes, counted.minutes_at_most
    shown, unknown = render.table(rows, head), counted.unknown
    if len(unknown) == len(counted.stages):
        return f"{shown}\nhow long it takes is not known: nothing of it ran before"
    span = f"{sure:.1f}" if most - sure < 0.05 else f"{sure:.1f} to {most:.1f}"
    text = f"{shown}\nabout {span} minutes, from what it took before"
    return text + (f"; not known for {', '.join(unknown)}" if unknown else "")


def _days(stage: StageForecast) -> str:
    if stage.first_day is None:
        return ""
    span = stage.first_day if stage.days == 1 else f"{stage.first_day}..{stage.last_day}"
    return f"{stage.days}: {span}"


def _minutes(minutes: float | None) -> str:
    return "?" if minutes is None else f"{minutes:.1f}"


def _names(stage: StageForecast) -> str:
    if set(stage.names) <= {stage.kind}:
        return ""
    listed = [f"{name} x {count}" if count > 1 else name for name, count in stage.names.items()]
    return ", ".join(listed[:6]) + (f" and {len(listed) - 6} more" if len(listed) > 6 else "")
