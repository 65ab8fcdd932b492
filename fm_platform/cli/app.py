"""The commands of `fm`. Heavy libraries are imported inside the command that needs them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fm_platform.cli import branch, history, render, rollback
from fm_platform.cli import gc as retention
from fm_platform.cli.alerts import alerts
from fm_platform.cli.check import check
from fm_platform.cli.clean import clean
from fm_platform.cli.diff import diff
from fm_platform.cli.label import label
from fm_platform.cli.ledger import ledger
from fm_platform.cli.models import models
from fm_platform.cli.plan import plan
from fm_platform.cli.reproduce import reproduce
from fm_platform.errors import FMError

app = typer.Typer(
    name="fm",
    help="Build, check and promote models from data, every day.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def universe(
    on_branch: Annotated[
        str | None,
        typer.Option("--branch", envvar="FM_BRANCH", help="Look at this branch, not at main."),
    ] = None,
) -> None:
    """Build, check and promote models from data, every day."""
    branch.look_at(on_branch)


Project = Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")]
OptionalProject = Annotated[str | None, typer.Argument(help="Name of a project; all without it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the new project: a-z, 0-9, _.")],
    data: Annotated[Path, typer.Option("--from", help="A CSV, JSON Lines or Parquet file.")],
    text: Annotated[str | None, typer.Option(help="Column of the texts.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of people's labels.")] = None,
    day: Annotated[str | None, typer.Option("--date", help="Column of the days.")] = None,
) -> None:
    """Write a new project from a data file: a YAML file and labeling functions to fill in.

    Columns that are not named are found by their names and values, and it is said which.
    """
    from fm_platform.display import plain
    from fm_platform.sources.inference import Columns, infer_project
    from fm_platform.workspace import project_root

    if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", name):  # it becomes a folder
        raise FMError(
            "this cannot be the name of a project",
            found=name,
            expected="a small letter, then small letters, digits and _, 64 at most",
        )
    folder = project_root() / "assets" / "defs" / name
    if (folder / "defs.yaml").exists():
        raise FMError(
            f"project {name!r} exists already", where=folder, next_step="choose another name"
        )
    found = infer_project(name, data, folder, Columns(text, label, day))
    folder.mkdir(parents=True, exist_ok=True)
    for line in found.told:
        typer.echo(plain(line, None))  # names of columns are as hostile as rows
    for file, written in sorted(found.files.items()):
        (folder / file).write_text(written, "utf-8")
        typer.echo(f"wrote {folder / file}")
    typer.echo(f"next: look at both files, then  fm plan {name}  and  fm run {name}")


@app.command()
def projects(as_json: AsJson = False) -> None:
    """List the projects."""
    from fm_platform.workspace import project_names

    names = project_names()
    typer.echo(json.dumps(names) if as_json else "\n".join(names) or "no project yet: fm init")


@app.command()
def status(project: OptionalProject = None, as_json: AsJson = False) -> None:
    """Tell for every artifact: version, fresh or stale and why, champion.

    A source that cannot be read is named, and counts as what it held when its days were made.
    """
    from fm_platform.cli.alerts import alert_status
    from fm_platform.lineage.status import status as all_status
    from fm_platform.stages.probe import Held, probe
    from fm_platform.workspace import Workspace, find_project, project_names

    ws = Workspace.to_read()
    names = [project] if project else project_names()
    answer: list[dict[str, Any]] = []
    for name in names:
        loaded = find_project(name)
        held = Held(ws, loaded)
        asked = probe(ws, loaded, held.source_ids)
        rows = render.plain(all_status(ws.ledger, loaded.spec, asked))
        champion = ws.ledger.alias(name, "champion")
        answer.append(
            {
                "project": name,
                "champion": champion.content_hash if champion else None,
                "decisions": render.plain(ws.ledger.decisions(name)[-5:]),
                "alerts": alert_status(ws, name),
                "unread": {source: render.one_line(e) for source, e in held.unread.items()},
                "artifacts": rows,
            }
        )
    if as_json:
        typer.echo(json.dumps(answer[0] if project else answer, indent=1))
    else:
        typer.echo(render.status_text(answer))


@app.command()
def run(
    project: Project,
    first: Annotated[str | None, typer.Option("--from", help="First day, YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last day, YYYY-MM-DD.")] = None,
    on_branch: Annotated[str | None, typer.Option("--branch", help="Build on this branch.")] = None,
) -> None:
    """Build what is missing or stale, through Dagster."""
    branch.look_at(on_branch)
    sys.exit(_run(project, first, last))


def _run(project: str, first: str | None, last: str | None) -> int:
    words = [sys.executable, "-m", "assets.run", project]
    words += ["--from", first] if first else []
    words += ["--to", last] if last else []
    code = subprocess.run(words, check=False).returncode
    if code < 0:  # it could say nothing itself
        again = f"fm run {project}" + (f" --from {first}" if first else "")
        again += f" --to {last}" if last else ""
        memory = "; the system does that where memory is short" if -code == signal.SIGKILL else ""
        raise FMError(
            "the run was ended from outside",
            found=f"signal {-code} ({signal.Signals(-code).name}){memory}",
            next_step=f"{again} goes on where it ended",
        )
    return code


app.command()(plan)
app.command()(check)
app.command()(diff)
app.command()(reproduce)


@app.command()
def demo() -> None:
    """Run the shipped project on real data and print its table of results."""
    code = _run("sentiment", None, None)
    if code == 0:
        results("sentiment", as_json=False)
        typer.echo(render.where_next())
    sys.exit(code)


@app.command("demo-drift")
def demo_drift(
    again: Annotated[bool, typer.Option("--again", help="Start over in a fresh home.")] = False,
    minutes: Annotated[float, typer.Option(help="Wait for the daemon at most.")] = 60.0,
) -> None:
    """Let a new source arrive: one alert, one backfill, a new champion, and did it help?"""
    words = [sys.executable, "-m", "assets.demos.drift_demo", "--minutes", str(minutes)]
    done = subprocess.run([*words, "--again"] if again else words, check=False)
    sys.exit(done.returncode)


@app.command()
def results(project: Project, as_json: AsJson = False) -> None:
    """Print the evaluation table of the latest evaluation."""
    from fm_platform.evaluation.table import EvaluationTable
    from fm_platform.stages.decision import decisions_on
    from fm_platform.workspace import Workspace

    ws = Workspace.to_read()
    version = ws.ledger.latest(project, "evaluation", "evaluation")
    if version is None:
        raise FMError(
            f"project {project!r} has not been evaluated yet", next_step=f"fm run {project}"
        )
    decided = next(reversed(decisions_on(ws, version)), None)
    if version.config.get("task") == "causal":
        typer.echo(render.answers_text(version, decided, as_json=as_json))
        return
    table = EvaluationTable.from_json(version.metrics["evaluation"])
    told = table.to_json(project, version.content_hash)
    typer.echo(json.dumps(told, indent=1) if as_json else table.to_text())
    if not as_json:
        for found in version.metrics.get("behaviour", ()):
            typer.echo(render.behaviour_text(found))
        typer.echo(render.gate_text(version.metrics["gate"], decided))


@app.command()
def predict(
    texts: Annotated[list[str], typer.Argument(help="Texts to classify.")],
    project: Annotated[
        str | None, typer.Option("--project", "-p", help="Default: the only one, or sentiment.")
    ] = None,
    model: Annotated[str, typer.Option(help="Any version, as in fm lineage.")] = "champion",
    as_json: AsJson = False,
) -> None:
    """Classify texts, or answer them, with the champion or with any version."""
    from fm_platform.stages.serving import predict as answer
    from fm_platform.workspace import Workspace, project_or_only

    rows = answer(Workspace.to_read(), project_or_only(project), model, texts)
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        typer.echo(render.predictions_text(rows))


@app.command()
def fsck(
    repair: Annotated[bool, typer.Option(help="Move what is damaged aside.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look for damaged commits, files and models; `--repair` moves them aside.

    It also brings back models moved aside before that are whole again.
    """
    from fm_platform.store import fsck as checks
    from fm_platform.upkeep.plan import needed_files
    from fm_platform.workspace import Workspace

    ws = Workspace.open() if repair else Workspace.to_read()
    found = [
        *checks.check_tables(ws.tables, deep=True, needed=needed_files(ws)),
        *checks.check_models(ws.models),
        *checks.check_columns(ws.columns),
        *checks.check_states(ws.states),
    ]
    back: list[str] = []
    if repair:
        checks.repair(found)
        back = checks.bring_back(ws.models)
    findings = render.plain(found)
    if as_json:
        typer.echo(json.dumps(findings))
    else:
        for finding in findings:
            typer.echo(render.finding_text(finding))
        for content_hash in back:
            typer.echo(f"model {content_hash[:12]} is whole again and back in its place")
        count = "1 finding" if len(findings) == 1 else f"{len(findings)} findings"
        typer.echo(count if findings else "no damage found")
    sys.exit(1 if findings and not repair else 0)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check versions, FM_HOME, the daemon lock and unsafe settings."""
    from fm_platform.cli.doctor import examine

    checks = examine()
    if as_json:
        typer.echo(json.dumps([check._asdict() for check in checks]))
    else:
        for check in checks:
            typer.echo(f"{'ok  ' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
    sys.exit(0 if all(check.passed for check in checks) else 1)


@app.command()
def ui(
    port: Annotated[
        int,
        typer.Option(
            help="Dagster; MLflow and the lineage, alerts and labeling pages take the next."
        ),
    ] = 3000,
) -> None:
    """Serve Dagster (guarded), its daemon, MLflow, lineage, alerts and labeling until Ctrl-C."""
    from fm_platform.cli.serve import serve

    sys.exit(serve(port))


@app.command()
def daemon() -> None:
    """Run the one Dagster daemon of this FM_HOME."""
    os.execv(sys.executable, [sys.executable, "-m", "assets.daemon"])  # noqa: S606


history.add_to(app)
rollback.add_to(app)
branch.add_to(app)
retention.add_to(app)
app.add_typer(ledger, name="ledger")
app.add_typer(clean, name="clean")
app.add_typer(label, name="label")
app.add_typer(models, name="models")
app.add_typer(alerts, name="alerts")
