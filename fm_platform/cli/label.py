"""`fm label`: rows that people should look at, and what they answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fm_platform.cli import render
from fm_platform.cli.label_report import report
from fm_platform.cli.progress import TerminalReporter
from fm_platform.cli.suggest import suggest

if TYPE_CHECKING:
    from fm_platform.labeling.annotations import Format

label = typer.Typer(
    help="Labels: what the functions do, what to ask people next, and their answers.",
    no_args_is_help=True,
)
label.command()(suggest)

Project = Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Form = Annotated[str, typer.Option("--format", help="csv, argilla or labelstudio.")]
Annotator = Annotated[str, typer.Option("--annotator", "-a", help="Who labels.")]


@label.command()
def queue(
    project: Project,
    annotator: Annotator,
    size: Annotated[int, typer.Option("--size", "-n", min=1, max=10_000)] = 20,
    wanted: Annotated[
        list[str] | None, typer.Option("--class", help="Rows that may be of it; may be repeated.")
    ] = None,
    to: Annotated[Path | None, typer.Option(help="Write the questions into a file.")] = None,
    form: Form = "csv",
    as_json: AsJson = False,
) -> None:
    """Show the rows whose labels are expected to help most; nobody is asked a row twice."""
    from fm_platform.labeling.annotations import render as write
    from fm_platform.lineage import RunContext
    from fm_platform.stages.annotations import require_annotator
    from fm_platform.stages.review_queue import review_queue
    from fm_platform.workspace import Workspace, find_classifier

    ws, loaded = Workspace.open(), find_classifier(project)
    rows = review_queue(
        ws, loaded, require_annotator(annotator), size, RunContext(), TerminalReporter(),
        wanted or (),
    )  # fmt: skip
    if to is not None:
        questions = [row.to_record(loaded.spec) for row in rows]
        _write(to, write(questions, _form(form), loaded.spec.taxonomy.classes))
        typer.echo(f"wrote {len(rows)} rows to {to}; fm label import {project} reads the answers")
    elif as_json:
        typer.echo(json.dumps(render.plain(rows)))
    elif not rows:
        typer.echo(f"nothing to ask: {annotator} has answered every training row of {project}")
    else:
        lines = [
            (r.source, "–", "–", r.reason, r.text) if r.reason
            else (r.source, r.guess, f"{r.confidence:.2f}", f"{r.gain:.3f}", r.text)
            for r in rows
        ]  # fmt: skip
        typer.echo(render.table(lines, ("source", "guess", "sure", "gain", "text")))


@label.command()
def status(project: Project, as_json: AsJson = False) -> None:
    """Tell who answered how much, how far people agree, and how many gold rows that gives."""
    from fm_platform.stages.answered import people
    from fm_platform.workspace import Workspace, find_classifier

    told = people(Workspace.to_read(), find_classifier(project).spec)
    if as_json:
        typer.echo(json.dumps(render.plain(told)))
    elif not told.people:
        typer.echo(f"nobody has answered yet: fm label open {project} --annotator NAME")
    else:
        lines = [(p.annotator, p.answers, p.cannot_tell, p.several, p.not_read, p.last[:10])
                 for p in told.people]  # fmt: skip
        head = ("who", "answers", "cannot tell", "several", "not read", "last")
        typer.echo(render.table(lines, head))
        typer.echo("")
        typer.echo("agreement  " + told.said())
        for row in told.gold:
            typer.echo("gold rows  {source}: {gold rows} of {budget}, "
                       "{of answers} of them by answers".format(**row))  # fmt: skip


@label.command(name="open")
def open_(project: Project, annotator: Annotator) -> None:
    """Label by keyboard on a page of this machine: the queue, one row after the other."""
    from fm_platform.stages.annotations import require_annotator
    from fm_platform.stages.review_queue import days_of
    from fm_platform.web.labeling.server import open_page
    from fm_platform.workspace import Workspace, find_classifier

    ws, loaded = Workspace.open(), find_classifier(project)
    days_of(ws, loaded)  # nothing to label is said here, not on the page
    open_page(ws, project, require_annotator(annotator), typer.echo)


@label.command(name="import")
def import_(
    project: Project,
    file: Annotated[Path, typer.Argument(help="Answers of people.", exists=True, dir_okay=False)],
    form: Form = "csv",
    annotator: Annotated[
        str | None, typer.Option("--annotator", "-a", help="Who labeled, where it does not say.")
    ] = None,
    origin: Annotated[str, typer.Option(help="production or development.")] = "production",
) -> None:
    """Bring in answers; a second import of the same file changes nothing."""
    from fm_platform.labeling.annotations import answered, parse
    from fm_platform.lineage import RunContext
    from fm_platform.stages.annotations import save
    from fm_platform.workspace import Workspace, find_classifier

    ws, loaded = Workspace.open(), find_classifier(project)
    missing: dict[str, Any] = {"origin": origin}
    if annotator is not None:
        missing["annotator"] = annotator
    found = parse(file.read_bytes(), _form(form), str(file))
    records = [{**missing, **record} for record in found if answered(record)]
    changed = save(ws, loaded.spec, records, RunContext())
    typer.echo(f"{len(records)} answers read, {changed} of them new or changed")
    if len(found) > len(records):
        typer.echo(
            f"{len(found) - len(records)} lines without an answer are asked again; who looked and "
            "cannot say fills in annotator alone"
        )


@label.command(name="export")
def export_(
    project: Project,
    to: Annotated[Path | None, typer.Option(help="A file; printed without it.")] = None,
    form: Form = "csv",
) -> None:
    """Write every answer that is kept, with the versions under which it was given."""
    from fm_platform.labeling.annotations import render as write
    from fm_platform.stages.annotations import answers
    from fm_platform.workspace import Workspace, find_classifier

    ws, loaded = Workspace.to_read(), find_classifier(project)
    rows = answers(ws, loaded.spec).to_pylist()
    text = write(rows, _form(form), loaded.spec.taxonomy.classes)
    if to is None:
        typer.echo(text)
    else:
        _write(to, text)
        typer.echo(f"wrote {len(rows)} answers to {to}")


def _write(to: Path, text: str) -> None:
    from fm_platform.errors import FMError

    try:
        to.write_text(text, "utf-8")
    except OSError as error:
        raise FMError(
            "the file cannot be written", where=to, found=error.strerror,
            next_step="name a file in a folder that is there with --to",
        ) from None  # fmt: skip


def _form(form: str) -> Format:
    from fm_platform.errors import FMError
    from fm_platform.labeling.annotations import FORMATS

    for known in FORMATS:
        if form == known:
            return known  # type: ignore[return-value]
    raise FMError("there is no such format", found=form, expected=", ".join(FORMATS))


label.command()(report)
