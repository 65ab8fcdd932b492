"""`fm label suggest`: labeling functions from a few examples, written in when a person approves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fm_platform.cli import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fm_platform.labeling.suggest import Suggestion
    from fm_platform.stages.suggest import Intention


def suggest(
    project: Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")],
    examples: Annotated[
        Path, typer.Option(help="CSV with text,label: ten lines do.", exists=True, dir_okay=False)
    ],
    intention: Annotated[
        str | None, typer.Option(help="A prompt that asks what you want, with {text} in it.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder of a causal model that the prompt is asked of.")
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(help="class=word of the prompt; repeat. A class is its own word without."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Lower bound of the precision to be cleared.")
    ] = 0.7,
    accept: Annotated[
        list[str] | None, typer.Option(help="Write this function into the project file; repeat.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Suggest labeling functions, judged on held-out rows; test rows are never read."""
    from fm_platform.stages import suggest as stage
    from fm_platform.workspace import Workspace, find_classifier

    ws, loaded = Workspace.open(), find_classifier(project)
    classes = loaded.spec.taxonomy.classes
    given = stage.read_examples(examples.read_bytes(), str(examples), classes)
    wanted = _intention(intention, model, answer or [], classes)
    found = stage.suggest(ws, loaded, given, wanted, threshold)
    written = stage.accept(loaded, found, accept) if accept else []
    if as_json:
        typer.echo(json.dumps({"suggestions": [asdict(s) for s in found], "written": written}))
        return
    typer.echo(_text(found, project))
    if accept:
        told = ", ".join(written) or "nothing: all of it is there already"
        typer.echo(f"written into {loaded.file}: {told}")
        typer.echo(f"next: fm plan {project}")


def _intention(
    template: str | None, model: str | None, answers: Sequence[str], classes: Sequence[str]
) -> Intention | None:
    from fm_platform.errors import FMError
    from fm_platform.stages.suggest import Intention

    if template is None:
        return None
    if model is None:
        raise FMError("a prompt is asked of a model", next_step="name its folder with --model")
    words: dict[str, list[str]] = {}
    for pair in answers:
        name, _, word = pair.partition("=")
        words.setdefault(name.strip(), []).append(word.strip())
    return Intention(template, model, words or {name: [name] for name in classes})


def _text(found: Sequence[Suggestion], project: str) -> str:
    from fm_platform.spec.edit import as_yaml

    if not found:
        return "no function is right often enough on rows like these; give other examples"
    lines = []
    for one in found:
        if one.accepted:
            lines += [f"# {one.name}: {one.why}", as_yaml(one.declared)]
    rows = [
        (s.name, "yes" if s.accepted else "no", f"{s.coverage:.1%}", f"{s.new:.1%}",
         f"{s.precision:.2f} ({s.low:.2f}-{s.high:.2f})", s.hits,
         f"{s.gold_right}/{s.gold_hits}", s.why)
        for s in found
    ]  # fmt: skip
    head = ("function", "clears", "coverage", "new", "precision", "rows", "people", "why")
    lines.append(render.table(rows, head))
    good = [one.name for one in found if one.accepted]
    if good:
        lines.append(f"to take one: fm label suggest {project} … --accept {good[0]}")
    return "\n".join(lines)
