"""One of twenty functions is edited in a history of 365 days: what does that cost?

Real stages, ledger and stores; the days are written as files first. What is compared is the work
on votes: all columns of all days, against the same after one function changed. The label model
and the tables below have new inputs then and are made again in both cases; they are not counted.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages.common import SilentReporter
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_votes
from fm_platform.workspace import Workspace

FIRST = date(2025, 1, 1)
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: history
  taxonomy: {{classes: [negative, positive]}}
  calendar: {{start: {first}, end: {last}}}
  sources:
    - {{name: mail, options: {{path: "mail-*.jsonl"}}}}
  labeling:
    functions:
{functions}
"""


def functions(count: int, edited: bool) -> str:
    """Return the YAML of `count` functions of several kinds; the first one may be edited."""
    lines = []
    for i in range(count):
        word = f"word{i}x" if edited and i == 0 else f"word{i}"
        label = "positive" if i % 2 else "negative"
        body = (
            f"kind: keyword, name: f{i}, words: [{word}, other{i}], label: {label}",
            f"kind: regex, name: f{i}, pattern: '\\b(good|bad)\\b.*{word}', label: {label}",
            f"kind: lexicon, name: f{i}, weights: {{{word}: 1.5, good: 1, bad: -1.5}}, "
            "above: positive, below: negative",
            f"kind: rule, name: f{i}, column: word_count, operator: '>', value: {i + 5}, "
            f"label: {label}",
        )[i % 4]
        lines.append(f"      - {{{body}}}")
    return "\n".join(lines)


def declare(folder: Path, days: int, count: int, edited: bool) -> LoadedProject:
    """Write the project file and load it."""
    last = FIRST + timedelta(days=days - 1)
    text = SPEC.format(first=FIRST, last=last, functions=functions(count, edited))
    (folder / "defs.yaml").write_text(text, "utf-8")
    return load_spec(folder / "defs.yaml")


def write_days(folder: Path, days: int, rows: int, texts: list[str]) -> list[str]:
    """Write one file a day; return the days."""
    found = []
    for number in range(days):
        day = (FIRST + timedelta(days=number)).isoformat()
        at = number * rows
        lines = [
            json.dumps({"text": f"{texts[(at + i) % len(texts)]} word{i % 97} {at + i}"})
            for i in range(rows)
        ]
        (folder / f"mail-{day}.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        found.append(day)
    return found


@contextmanager
def measured(into: dict[str, Any], key: str) -> Iterator[None]:
    """Note wall and CPU seconds of a block."""
    begun, used = time.perf_counter(), time.process_time()
    yield
    into[key] = {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - used,
    }


def columns(ws: Workspace) -> int:
    """Return how many columns of votes were ever computed."""
    return len([head for head in ws.ledger.versions("history") if head.kind == "votes"])


def history(
    days: int, rows: int, count: int, texts: list[str], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Label a history, edit one function, label again; return the costs and the columns."""
    found: dict[str, Any] = {"days": days, "rows_a_day": rows, "functions": count}
    run, log = RunContext(), SilentReporter()
    with tempfile.TemporaryDirectory(prefix="fm-history-") as name:
        folder = Path(name) / "project"
        folder.mkdir()
        ws = Workspace.open(Home(Path(name) / "home"))
        named = write_days(folder, days, rows, texts)
        project = declare(folder, days, count, edited=False)
        tell(f"{count} functions: raw of {days} days")
        for day in named:
            build_raw(ws, project, day, run, log)
        for key, edited in (("full", False), ("edit", True), ("nothing", True)):
            tell(f"{count} functions: {key}")
            project = declare(folder, days, count, edited)
            before = columns(ws)
            with measured(found, key):
                for day in named:
                    build_votes(ws, project, day, run, log)
            found[key]["columns"] = columns(ws) - before
    found["edit_share"] = found["edit"]["cpu_seconds"] / found["full"]["cpu_seconds"]
    return found


def compare(days: int, rows: int, texts: list[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """Return the costs with twenty functions and with five: an edit must cost the same."""
    twenty, five = (history(days, rows, count, texts, tell) for count in (20, 5))
    return {
        "twenty": twenty,
        "five": five,
        "edit_of_twenty_to_five": {
            "ratio": twenty["edit"]["cpu_seconds"] / five["edit"]["cpu_seconds"]
        },
    }


def table(found: dict[str, Any]) -> str:
    """Return the comparison as text."""
    lines = [f"{'functions':10}{'work':10}{'columns':>9}{'s':>9}{'cpu s':>9}{'of full':>9}"]
    for who in ("twenty", "five"):
        told = found[who]
        for key in ("full", "edit", "nothing"):
            share = told[key]["cpu_seconds"] / told["full"]["cpu_seconds"]
            lines.append(
                f"{told['functions']:<10}{key:10}{told[key]['columns']:>9}"
                f"{told[key]['seconds']:>9.1f}{told[key]['cpu_seconds']:>9.1f}{share:>9.1%}"
            )
    ratio = found["edit_of_twenty_to_five"]["ratio"]
    lines.append(f"an edit beside nineteen others costs {ratio:.2f} times one beside four")
    return "\n".join(lines)
