"""`fm clean`: what cleaning removed and changed, for people to accept or reject."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fm_platform.cli.clean_value import value
from fm_platform.display import plain
from fm_platform.errors import FMError

if TYPE_CHECKING:
    from fm_platform.lineage.reviews import Verdict
    from fm_platform.stages.review import Deed

clean = typer.Typer(
    help="Review what cleaning removed and changed; see what training rows are worth.",
    no_args_is_help=True,
)
Project = Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")]
Rows = Annotated[list[str], typer.Argument(help="Row ids, or beginnings of them.")]
Day = Annotated[str | None, typer.Option(help="Only this day, YYYY-MM-DD.")]
Rule = Annotated[str | None, typer.Option(help="Only what this rule did.")]
Reason = Annotated[str, typer.Option(help="Why, in a few words.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_PREVIEW = 100


@clean.command()
def review(
    project: Project,
    day: Day = None,
    rule: Rule = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows of each rule; 0: all.")] = 10,
    decided: Annotated[bool, typer.Option("--decided", help="Also what was reviewed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show every row that a rule removed, changed or would change, with before and after.

    Of each rule those come first whose review is expected to move the model most.
    """
    from fm_platform.stages.review import deeds, precision
    from fm_platform.stages.review_effect import by_effect
    from fm_platform.workspace import Workspace, find_classifier

    find_classifier(project)
    ws = Workspace.to_read()
    everything = by_effect(ws, project, deeds(ws, project, day, rule))
    listed = [deed for deed in everything if decided or deed.verdict is None]
    rules = {(deed.rule, deed.settings) for deed in everything}
    known = {name: precision(ws, project, name, settings) for name, settings in sorted(rules)}
    if as_json:
        answer: dict[str, Any] = {
            "project": project,
            "rules": {
                name: {
                    "rows": sum(deed.rule == name for deed in everything),
                    "accepted": p.accepted, "rejected": p.rejected,
                    "estimated_precision": p.estimate, "low": p.low, "high": p.high,
                }
                for name, p in known.items()
            },
            "rows": [deed.to_json() for deed in _first(listed, limit)],
        }  # fmt: skip
        typer.echo(json.dumps(answer, indent=1))
        return
    if not everything:
        typer.echo("cleaning removed and changed nothing here")
    for name, p in known.items():
        mine = [deed for deed in listed if deed.rule == name]
        said = f"estimated precision {p.estimate:.2f}"
        if p.accepted + p.rejected:
            said += (
                f" ({p.accepted} accepted, {p.rejected} rejected; 95 % interval "
                f"{p.low:.2f} to {p.high:.2f})"
            )
        else:
            said += " (nothing reviewed yet)"
        typer.echo(f"{name}: {len(mine)} rows to review; {said}")
        for deed in _first(mine, limit):
            typer.echo(_deed_text(deed))
        if limit and len(mine) > limit:
            typer.echo(f"  … and {len(mine) - limit} more: --rule {name} --limit 0")


@clean.command()
def reject(
    project: Project, rows: Rows, rule: Rule = None, day: Day = None, reason: Reason = ""
) -> None:
    """Say that a rule was wrong about rows: the next run restores them as they were."""
    _decide(project, rows, rule, day, reason, "reject")


@clean.command()
def accept(
    project: Project, rows: Rows, rule: Rule = None, day: Day = None, reason: Reason = ""
) -> None:
    """Say that a rule was right about rows; what it only proposed is done at the next run."""
    _decide(project, rows, rule, day, reason, "accept")


def _decide(
    project: str, rows: Sequence[str], rule: str | None, day: str | None, reason: str,
    verdict: Verdict,
) -> None:  # fmt: skip
    from fm_platform.stages.review import chosen, decide, deeds, precision
    from fm_platform.workspace import Workspace, find_classifier

    find_classifier(project)
    ws = Workspace.open()
    listed = [*deeds(ws, project, day, rule)]
    known = list(dict.fromkeys(chosen(listed, row, rule) for row in rows))
    new = [deed for deed in known if deed.verdict != verdict]
    if not new:
        typer.echo(f"{len(known)} rows were {verdict}ed before: nothing to do")
        return
    decide(ws, project, new, verdict, reason, _person())
    days = sorted({deed.day for deed in new})
    for name, settings in sorted({(deed.rule, deed.settings) for deed in new}):
        p = precision(ws, project, name, settings)
        count = sum(deed.rule == name for deed in new)
        typer.echo(f"{verdict}ed {count} rows of {name}; its estimated precision: {p.estimate:.2f}")
    if verdict == "reject" or any(deed.what in ("proposed", "spared") for deed in new):
        typer.echo(f"next: fm run {project} --from {days[0]} --to {days[-1]}")


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:  # no such user in a container
        raise FMError("who decides is not known", next_step="set the variable USER") from error


def _first(listed: Sequence[Deed], limit: int) -> list[Deed]:
    """Return at most `limit` of each rule."""
    counts: dict[str, int] = {}
    found = []
    for deed in listed:
        counts[deed.rule] = counts.get(deed.rule, 0) + 1
        if not limit or counts[deed.rule] <= limit:
            found.append(deed)
    return found


def _deed_text(deed: Deed) -> str:
    said = {None: "", "accept": " [accepted]", "reject": " [rejected]"}[deed.verdict]
    lines = [f"  {deed.row_id[:12]}  {deed.day}  {deed.what}{said}: {plain(deed.reason, 160)}"]
    before, after = plain(deed.before, None), plain(deed.after, None)
    start = _difference(before, after) if deed.after is not None else 0
    lines.append(f"      before  {_from(before, start)}")
    if deed.after is not None:
        lines.append(f"      after   {_from(after, start)}")
    return "\n".join(lines)


def _difference(before: str, after: str) -> int:
    """Return where to begin so that the first difference is seen; 0 where it is near enough."""
    both = enumerate(zip(before, after, strict=False))
    same = next((i for i, (a, b) in both if a != b), min(len(before), len(after)))
    end = max(len(before), len(after))
    return 0 if end <= _PREVIEW or same <= _PREVIEW // 2 else same - _PREVIEW // 3


def _from(text: str, start: int) -> str:
    return plain(f"…{text[start + 1 :]}" if start else text, _PREVIEW)


clean.command()(value)
