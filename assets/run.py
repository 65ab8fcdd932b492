"""Build a project through Dagster, in this process: what `fm run` starts.

    python -m assets.run sentiment --from 2024-01-01 --to 2024-01-07

The days are one run and the model another; both are in the UI afterwards. Exit codes: 0 built or
fresh, 1 a step failed, 2 wrong words or a wrong project file, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy.exc import DatabaseError

from assets.console import ConsoleListener, summary_line
from assets.definitions import shared_definitions
from assets.instance import (
    execute,
    fail_abandoned_runs,
    failed_checks,
    failures,
    open_instance,
    records_failure,
    was_interrupted,
)
from assets.keys import DAILY_STAGES, MODEL_STAGES, STAGES, WATCH, keys_of_stages, stage_key
from assets.partitions import complete_days
from assets.project import project_definitions
from assets.reporting import listening
from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage.fingerprints import git_state
from fm_platform.spec import ProjectSpec
from fm_platform.spec.load import LoadedProject
from fm_platform.workspace import find_project


@dataclass
class Report:
    """What a call did; `--json` prints it."""

    project: str
    days: list[str]
    runs: list[dict[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, with the counts that scripts ask for."""
        reused = sum(artifact["reused"] for artifact in self.artifacts)
        return {
            **self.__dict__,
            "seconds": round(self.seconds, 1),
            "ok": not self.errors,
            "built": len(self.artifacts) - reused,
            "reused": reused,
        }


def chosen_days(project: LoadedProject, first: str | None, last: str | None) -> list[str]:
    """Return the days from `first` to `last`, both included and both optional.

    Raises:
        FMError: If a day is not one of the project's, or none is left.
    """
    spec = project.spec
    days = complete_days(spec)
    if not days:
        raise FMError(f"the first day of {spec.name}, {spec.calendar.start}, is not over yet")
    for word, day in (("--from", first), ("--to", last)):
        if day is not None and day not in days:
            raise FMError(
                f"{word} {day} is not a day of {spec.name}",
                expected=f"a day from {days[0]} to {days[-1]}, as YYYY-MM-DD",
            )
    chosen = [day for day in days if (first or days[0]) <= day <= (last or days[-1])]
    if not chosen:
        raise FMError(f"no day lies between --from {first} and --to {last}")
    return chosen


def build(
    project: LoadedProject, days: list[str], stages: Sequence[str], listener: ConsoleListener
) -> Report:
    """Run the daily stages over `days` as one run, then the model stages as another.

    The second run is not started when the first fails.
    """
    began_s = time.monotonic()
    spec = project.spec
    report = Report(spec.name, days)
    definitions = dg.Definitions.merge(
        project_definitions(project, watched=False), shared_definitions()
    )
    commit, dirty = git_state(Path(__file__).resolve().parents[1])
    tags = {
        "asked_by": "person",
        "project": spec.name,
        "git_commit": f"{commit}{'+changes' if dirty else ''}" if commit else "unknown",
    }
    parts: tuple[tuple[str, list[str], list[str]], ...] = (
        ("daily", [stage for stage in (*DAILY_STAGES, WATCH) if stage in stages], days),
        ("model", [stage for stage in MODEL_STAGES if stage in stages], []),
    )
    with open_instance(Home.from_environment().ensure()) as instance, listening(listener):
        for run_id in fail_abandoned_runs(instance):
            listener.say(f"run {run_id} had died; it is marked as failed now")
        for part, names, part_days in parts:
            if not names or report.errors:
                continue
            result = execute(
                instance, definitions, f"{spec.name}_{part}",
                keys=_keys(spec, names), days=part_days, tags=tags,
            )  # fmt: skip
            status = "success" if result.success else "failure"
            report.runs.append({"run_id": result.run_id, "part": part, "status": status})
            if was_interrupted(result):
                raise KeyboardInterrupt
            report.errors += [str(error) for error in failures(result)]
            report.warnings += [str(error) for error in failed_checks(result, blocking=False)]
    report.artifacts = [outcome.to_json() for outcome in listener.outcomes]
    report.seconds = time.monotonic() - began_s
    return report


def _keys(spec: ProjectSpec, stages: list[str]) -> list[dg.AssetKey]:
    watched = WATCH in stages and spec.task == "classification"
    watch = [stage_key(spec, WATCH)] if watched else []
    return [*keys_of_stages(spec, stages), *watch]


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="python -m assets.run", description=__doc__)
    parser.add_argument("project")
    parser.add_argument("--from", dest="first", metavar="DAY", help="default: the first day")
    parser.add_argument("--to", dest="last", metavar="DAY", help="default: the last complete day")
    parser.add_argument(
        "--stages", nargs="+", choices=(*STAGES, WATCH), default=list(STAGES), metavar="STAGE",
        help=f"of {', '.join(STAGES)}, {WATCH}; default: all but {WATCH}",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Build what the words ask for and say what was done."""
    given = parse(words)
    try:
        project = find_project(given.project)
        days = chosen_days(project, given.first, given.last)
        Home.from_environment().ensure()
    except FMError as error:
        return _refuse(str(error), given.json)
    try:
        with ConsoleListener(quiet=given.json) as listener:
            listener.say(f"{project.spec.name}: {days[0]} to {days[-1]}, {len(days)} day(s)")
            report = build(project, days, given.stages, listener)
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        print("interrupted; what is finished is kept, run again to go on", file=sys.stderr)  # noqa: T201
        return 130
    except DatabaseError as error:
        return _refuse(str(records_failure(error, Home.from_environment())), given.json)
    if given.json:
        print(json.dumps(report.to_json(), indent=1))  # noqa: T201
    else:
        _show(report, listener)
    return 1 if report.errors else 0


def _show(report: Report, listener: ConsoleListener) -> None:
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    for error in report.errors:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
    if not report.errors:
        print(summary_line(listener.outcomes, report.seconds))  # noqa: T201


def _refuse(message: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"ok": False, "errors": [message]}, indent=1))  # noqa: T201
    else:
        print(f"error: {message}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
