"""What `fm` prints. Row text and names go through `display.plain`: they may be hostile."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from fm_platform import display
from fm_platform.errors import FMError
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.spec.evaluation import Gate
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.training import Training

_TABLE_ROWS = 12


def plain(value: Any) -> Any:
    """Return a value as JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)


def table(rows: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    """Return aligned columns."""
    texts = [list(head), *([display.plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in texts]
    return "\n".join(line.rstrip() for line in lines)


def tables(named: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Return small tables with their titles, the first rows of each; empty ones are left out."""
    shown = []
    for title, rows in sorted(named.items()):
        if not rows:
            continue
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [
            ["" if row.get(n) is None else row[n] for n in names] for row in rows[:_TABLE_ROWS]
        ]
        more = len(rows) - len(cells)
        text = f"{display.plain(title)}\n{table(cells, [display.plain(name) for name in names])}"
        shown.append(text + (f"\n... {more} more (--json)" if more else ""))
    return shown


def plan_text(project: LoadedProject, planned: Any) -> str:
    """Return the resolved recipe and what a run would build."""
    spec = project.spec
    head = [
        f"project    {spec.name}  ({project.file})",
        f"classes    {', '.join(spec.taxonomy.classes)}  (taxonomy {spec.taxonomy.version})",
        f"days       {spec.calendar.start} .. {spec.calendar.end or 'open'}",
        f"sources    {', '.join(source.name for source in spec.sources)}",
        f"cleaning   {', '.join(rule.rule for rule in spec.cleaning)}",
        f"base       {' or '.join(one.label for one in spec.base_model.bases)}",
        "experts    " + ", ".join(f"{e.name} <- {' + '.join(e.sources)}" for e in spec.experts),
        f"training   {trained_by(spec.training)}, {spec.training.epochs} epoch(s), "
        f"seed {spec.training.seed}",
        *narrowing(spec.training),
        f"merge      {spec.merge.method}",
        *(f"requires   {line}" for line in required(spec.gate)),
        f"schedule   {spec.schedule.cron} {spec.calendar.timezone}",
        "",
    ]
    rows = plain(planned)
    body = grouped(rows) if rows else "nothing to build: every artifact is fresh"
    return "\n".join(head) + body


def trained_by(training: Training) -> str:
    """Return the method of training, with the settings that it reads."""
    if training.method == "auto":
        return "as trials show"
    told = {
        "lora": f"LoRA rank {training.rank}",
        "rslora": f"rsLoRA rank {training.rank}",
        "full": "full fine-tuning",
        "fish": f"FISH mask of {100 * training.mask_share:g} %",
        "head": "head alone",
    }.get(training.method, training.method)
    frozen = f", {training.frozen_layers} lower layer(s) frozen" if training.frozen_layers else ""
    return f"{told}{frozen}, learning rate {training.rate(start=True):g}"


def narrowing(training: Training) -> list[str]:
    """Return what training does against a gap; nothing where it is not declared."""
    rule = training.narrow_gap
    if rule is None:
        return []
    return [f"           narrows the gap between {rule.between}, strength {rule.strength:g}"]


def required(gate: Gate) -> list[str]:
    """Return a line for each constraint that a champion must meet."""
    declared, found = gate.constraints, []
    for gap in declared.largest_gap:
        what = gap.between if isinstance(gap.between, str) else f"slice {', '.join(gap.between)}"
        found.append(f"gap between {what} at most {gap.at_most:g}")
    for ceiling in declared.false_positives:
        found.append(f"false positives of {ceiling.label} at most {ceiling.at_most:.1%}")
    if declared.confidence is not None and found:
        level = f"{100 * declared.confidence:g}%"
        found = [f"{line}, shown with {level} confidence" for line in found]
    if declared.size_mb is not None:
        found.append(f"at most {declared.size_mb:g} MB")
    if (rule := declared.latency) is not None:
        share = f"{rule.percentile:g}% of texts answered"
        found.append(f"{share} within {rule.at_most_ms:g} ms by {rule.threads} thread(s)")
    return found


def grouped(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return one line for all partitions of an artifact with the same state and reason."""
    counts: Counter[tuple[str, str, str, str]] = Counter()
    days: dict[tuple[str, str, str, str], list[str]] = {}
    for row in rows:
        key = (row["kind"], row["name"], row["state"], row["why"] or "")
        counts[key] += 1
        days.setdefault(key, []).append(row.get("partition") or "")
    lines = []
    for key, count in counts.items():
        kind, name, state, why = key
        span = "" if count == 1 and not days[key][0] else f"{min(days[key])}..{max(days[key])}"
        lines.append((kind, name, span, count, state, why))
    return table(lines, ("kind", "name", "days", "n", "state", "why"))


def status_text(answer: Sequence[Mapping[str, Any]]) -> str:
    """Return the status of some projects."""
    blocks = []
    for project in answer:
        rows = project["artifacts"]
        states = Counter(row["state"] for row in rows)
        champion = project["champion"]
        blocks.append(
            f"{project['project']}: {states.get('fresh', 0)} fresh, {states.get('stale', 0)} "
            f"stale, {states.get('unbuilt', 0)} unbuilt; champion "
            f"{champion[:12] if champion else 'none'}\n"
            + "".join(
                f"cannot be read, taken for what it held: {why}\n"
                for why in project.get("unread", {}).values()
            )
            + "".join(f"{line}\n" for line in alert_lines(project.get("alerts")))
            + grouped(rows)
        )
    return "\n\n".join(blocks) or "no project yet: fm init NAME --from data.csv"


def one_line(error: FMError) -> str:
    """Return an error and what was expected and found, safe for a terminal."""
    told = [("expected", error.expected), ("found", error.found), ("in", error.where)]
    words = [error.message, *(f"{name} {value}" for name, value in told if value is not None)]
    return display.plain("; ".join(words), 500)


def alert_lines(alerts: Mapping[str, Any] | None) -> list[str]:
    """Return how many alerts are open, and each change of the policy with author and reason."""
    if not alerts:
        return []
    lines = [f"{alerts['open']} open alert(s): fm alerts list"] if alerts["open"] else []
    for change in alerts["changes"]:
        until = f" until {change['until']}" if change.get("until") else ""
        lines.append(
            display.plain(
                f"policy {change['version']}: {change['what']} {change['cause']}{until}, by "
                f"{change['actor']} on {change['at'][:10]}: {change['reason']}"
            )
        )
    return lines


_DECIDED = {
    "promotion": "promoted",
    "canary": "passed, tried out as canary",
    "waiting": "passed, waits",
    "refusal": "refused",
}


def gate_text(gate: Mapping[str, Any], decided: Mapping[str, Any] | None = None) -> str:
    """Return the verdict of the gate, and what was decided on it where that is recorded."""
    if decided is not None and decided["kind"] in _DECIDED:
        return f"gate: {_DECIDED[decided['kind']]}: {decided['reason']}"
    return f"gate: {'passed' if gate['promote'] else 'refused'}: {gate['reason']}"


def behaviour_text(found: Mapping[str, Any]) -> str:
    """Return one behaviour test: how often it passes, and some cases in which it does not."""
    verdict = "passes" if found["ok"] else ("fails" if found["required"] else "fails (no gate)")
    lines = [
        f"behaviour: {found['name']} {verdict}: {found['passed']} of {found['cases']} cases"
        f" (at least {found['at_least']:.0%}){': ' + found['why'] if found['why'] else ''}"
    ]
    for case in found["failures"] if not found["ok"] else ():
        asked = case.get("row_id") or " -> ".join(
            repr(case[key]) for key in ("text", "changed") if key in case
        )
        answers = " -> ".join(case[key] for key in ("answer", "after") if key in case)
        lines.append(f"  {asked}: {answers}")
    return "\n".join(display.plain(line) for line in lines)


def predictions_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return label, confidence and text a line, and how to ask for the model that answered."""
    if rows and "answer" in rows[0]:
        told = table([(row["text"], row["answer"]) for row in rows], ("prompt", "answer"))
        return f"{told}\n\nfm lineage {rows[0]['prediction_id']}"
    by = bool(rows) and "by" in rows[0]  # a canary is tried out
    lines = [
        (row["label"], f"{row['confidence']:.3f}", *([row["by"]] if by else []), row["text"])
        for row in rows
    ]
    told = table(lines, ("label", "confidence", *(["by"] if by else []), "text"))
    return f"{told}\n\nfm lineage {rows[0]['prediction_id']}" if rows else told


def answers_text(
    version: ArtifactVersion, decided: Mapping[str, Any] | None, *, as_json: bool
) -> str:
    """Return the evaluation of a causal model: loss and exactness of answers, and the gate."""
    rows, gate = version.metrics["rows"], version.metrics["gate"]
    if as_json:
        told = {"project": version.project, "evaluation": version.content_hash, "rows": rows}
        return json.dumps({**told, "gate": gate}, indent=1)
    head = ("system", "source", "pairs", "nats a token", "interval", "word for word")
    lines = [
        (
            row["system"], row["source"], f"{row['n']:,}", f"{row['answer_loss']:.3f}",
            f"{row['low']:.3f}-{row['high']:.3f}",
            "-" if row["exact_match"] is None else f"{row['exact_match']:.0%}",
        )
        for row in rows
    ]  # fmt: skip
    return f"{table(lines, head)}\n\n{gate_text(gate, decided)}"


def finding_text(finding: Mapping[str, Any]) -> str:
    """Return one finding of fsck."""
    return display.plain(f"{finding['kind']}  {finding['where']}: {finding['detail']}", 400)


def where_next() -> str:
    """Return what to look at after the demo."""
    return (
        "\nwhere to look next:\n"
        "  make ui                                   Dagster and MLflow on this machine\n"
        "  .venv/bin/fm status                       every artifact, fresh or stale and why\n"
        '  .venv/bin/fm predict "what a great film"  ask the champion\n'
        "  .venv/bin/fm init mine --from data.csv    your own data"
    )
