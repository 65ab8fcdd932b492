"""`fm label report`: what the labeling functions do, and what to do about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from fm_platform.cli import render
from fm_platform.display import plain
from fm_platform.errors import FMError

_ALL, _TOGETHER = "all", "*"
_TEXT = 110
_DAYS = 14
_DISPUTED = 5

Project = Annotated[str, typer.Argument(help="Name of a project under assets/defs/.")]


def report(
    project: Project,
    function: Annotated[
        str | None, typer.Option("--function", "-f", help="One function, in detail.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only rows of this source.")] = None,
    since: Annotated[str | None, typer.Option(help="Only days from this one, YYYY-MM-DD.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Show coverage, conflicts, accuracy, worth and drift of the labeling functions.

    At the end: what to do. Days that were counted before are added up, not counted again.
    """
    from fm_platform.lineage import RunContext
    from fm_platform.stages.label_report import Wanted, label_report
    from fm_platform.workspace import Workspace, find_classifier

    ws, loaded = Workspace.open(), find_classifier(project)
    told = label_report(ws, loaded, Wanted(source, since), RunContext())
    if function is not None and function not in told["functions"]:
        raise FMError(
            "there is no such labeling function",
            found=function,
            expected=", ".join(told["functions"]),
        )
    if as_json:
        typer.echo(json.dumps(render.plain(told if function is None else of(told, function))))
    else:
        typer.echo(whole_text(told) if function is None else function_text(told, function))


def of(told: Mapping[str, Any], function: str) -> dict[str, Any]:
    """Return the part of a report that is about one function."""
    kept = {key: told[key] for key in ("project", "days", "source", "classes", "value_measure")}
    return kept | {
        "function": function,
        "records": [r for r in told["records"] if r["function"] == function],
        "by_day": told["by_day"][function],
        "against": told["against"][function],
        "value": value_of(told, function),
        "drift": told["drift"].get(function, []),
        "advice": [one for one in told["advice"] if one["function"] == function],
        "disputed": [row for row in told["disputed"] if _votes(row, function)],
    }


def value_of(told: Mapping[str, Any], function: str) -> Mapping[str, Any] | None:
    """Return the marginal value of a function, or None where it is not known."""
    found = [value for value in told["values"] or () if value["function"] == function]
    return found[0] if found else None


def whole_text(told: Mapping[str, Any]) -> str:
    """Return the report on all functions for a terminal."""
    days, whole = told["days"], {}
    for record in told["records"]:
        if (record["source"], record["slice"]) == (_ALL, _ALL):
            whole[record["function"]] = record
    where = f"source {told['source']}" if told["source"] else "all sources"
    blocks = [
        f"{plain(told['project'])}: {len(told['functions'])} labeling functions on "
        f"{whole[_TOGETHER]['rows']} rows of {where}, {days[0]} .. {days[-1]}"
        + _model_text(told["label_model"]),
        render.table(
            [_line(told, whole[name]) for name in (*told["functions"], _TOGETHER) if name in whole],
            ("function", "covers", "overlap", "conflict", "estimated", "right on dev", "worth",
             "drift"),
        ),
        f"worth: {told['value_measure']}"
        if told["values"]
        else "worth: not known; it is made with the label model of the next run",
    ]  # fmt: skip
    parts = [r for r in told["records"] if r["function"] == _TOGETHER
             and (r["source"], r["slice"]) != (_ALL, _ALL)]  # fmt: skip
    if parts:
        lines = [
            (r["source"], r["slice"], r["rows"], _share(r["coverage"]), _share(r["conflict"]),
             _interval(r["estimated"]))
            for r in parts
        ]  # fmt: skip
        head = ("source", "slice", "rows", "covered", "conflict", "estimated")
        blocks.append(render.table(lines, head))
    blocks += [_disputed_text(told["disputed"]), _uncovered_text(told), _advice_text(told)]
    return "\n\n".join(block for block in blocks if block)


def function_text(told: Mapping[str, Any], function: str) -> str:
    """Return the report on one function for a terminal."""
    mine = of(told, function)
    lines = [
        (r["source"], r["slice"], r["rows"], _share(r["coverage"]), _share(r["overlap"]),
         _share(r["conflict"]), _interval(r["estimated"]), _dev(r["dev"]), _classes(r))
        for r in mine["records"]
    ]  # fmt: skip
    head = ("source", "slice", "rows", "covers", "overlap", "conflict", "estimated",
            "right on dev", "votes")  # fmt: skip
    by_day = [
        (one["day"], one["rows"], _share(one["coverage"]), _share(one["conflict"]),
         _interval(one["estimated"]))
        for one in mine["by_day"][-_DAYS:]
    ]  # fmt: skip
    others = [
        (one["function"], one["both"], one["contradict"], _share(one["same"]))
        for one in mine["against"][:_DISPUTED]
    ]
    value = mine["value"]
    blocks = [
        f"{plain(function)} of {plain(told['project'])}",
        render.table(lines, head) if lines else "it saw no rows",
        render.table(by_day, ("day", "rows", "covers", "conflict", "estimated")),
        render.table(others, ("beside", "both vote", "contradict", "same")) if others else "",
        f"worth {_worth(value)}: {told['value_measure']}; {_changed(value)}" if value else "",
        _disputed_text(mine["disputed"]),
        _advice_text(mine),
    ]
    return "\n\n".join(block for block in blocks if block)


def _line(told: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[str, ...]:
    name = record["function"]
    if name == _TOGETHER:
        name, worth, drift = "all together", "", ""
    else:
        changes = told["drift"].get(name, [])
        worth = _worth(value_of(told, name))
        drift = f"{changes[0]['source']} {changes[0]['before']:.0%}→{changes[0]['after']:.0%}" if (
            changes) else ""  # fmt: skip
    return (
        name, _share(record["coverage"]), _share(record["overlap"]), _share(record["conflict"]),
        _interval(record["estimated"]), _dev(record["dev"]), worth, drift,
    )  # fmt: skip


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(value: Mapping[str, float] | None) -> str:
    return (
        "–" if value is None else f"{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"
    )


def _dev(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return ""
    if not value["n"]:
        return "no dev row"
    return f"{value['right']}/{value['n']} ({value['low']:.2f}–{value['high']:.2f})"


def _worth(value: Mapping[str, Any] | None) -> str:
    if value is None or value["log_loss"] is None:
        return "–"
    return f"{value['log_loss']:+.3f} ({value['low']:+.3f}..{value['high']:+.3f})"


def _changed(value: Mapping[str, Any]) -> str:
    return (
        f"of {value['dev_rows']} dev rows {value['gained']} are right only with it and "
        f"{value['lost']} only without; {value['changed']:.1%} of all labels change"
    )


def _classes(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count}" for name, count in record["by_class"].items())


def _model_text(model: Mapping[str, Any] | None) -> str:
    if model is None:
        return ""
    said = f"\nlabel model {model['method']} of {model['day']}"
    if model["accuracy"] is not None:
        said += f": right on {model['accuracy']:.1%} of {model['dev_rows']} dev rows"
    return said


def _votes(row: Mapping[str, Any], function: str) -> bool:
    return any(vote.startswith(f"{function}: ") for vote in row["votes"])


def _disputed_text(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    lines = ["most disputed rows"]
    for row in rows[:_DISPUTED]:
        lines.append(f"  {row['row_id'][:12]}  {row['day']}  {plain(row['source'])}  "
                     f"{plain(row['text'], _TEXT)}")  # fmt: skip
        lines.append(f"      {plain(', '.join(row['votes']), 2 * _TEXT)}")
    return "\n".join(lines)


def _uncovered_text(told: Mapping[str, Any]) -> str:
    if not told["uncovered"]:
        return ""
    votes = "no vote" if told["uncovered_votes"] == 0 else "at most one vote"
    lines = [f"rows with {votes}, in groups of texts alike ({told['uncovered_rows']} looked at)"]
    for group in told["uncovered"]:
        named = plain(", ".join(group["terms"])) or "(no words in common)"
        lines.append(f"  {group['rows']} rows: {named}  [{plain(', '.join(group['sources']))}]")
        lines.append(f"      {plain(group['examples'][0]['text'], _TEXT)}")
    return "\n".join(lines)


def _advice_text(told: Mapping[str, Any]) -> str:
    if not told["advice"]:
        return "what to do: nothing stands out"
    return "\n".join(["what to do", *(f"  - {plain(one['text'], 400)}" for one in told["advice"])])
