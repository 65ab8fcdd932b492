"""The script: what happens on which day, and what was true right after it."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, time, timezone
from pathlib import Path
from typing import Any

import pytest

from fm_platform.evaluation import report
from fm_platform.hashing import fingerprint
from fm_platform.home import Home
from fm_platform.lineage.fingerprints import code_closure, environment_hash
from fm_platform.lineage.recipes import CODE
from fm_platform.lineage.records import RunContext
from fm_platform.lineage.status import StatusRow, status
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.definition import record_definition
from fm_platform.stages.evaluation import build_evaluation
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.universe.rollback import rollback
from fm_platform.workspace import Workspace
from tests.histories.clock import clock
from tests.histories.world import (
    BASES,
    PROJECT,
    Declared,
    day_name,
    sources_on,
    write_bases,
    write_day,
    write_declared,
)

EDIT, SPLIT, MISTAKE, ROLLBACK, SWAP = (
    "function edit", "class split", "mistaken edit", "rollback", "base-model swap",
)  # fmt: skip
_NOTES = "history.json"
_CHANGES: dict[str, dict[str, Any]] = {
    EDIT: {"edited": True}, SPLIT: {"split": True}, MISTAKE: {"mistaken": True},
    SWAP: {"base": BASES[1]},
}  # fmt: skip


@dataclass(frozen=True)
class Script:
    """When what happens. Days count from 1; None: it never does.

    Attributes:
        days: Length of the history.
        rows_per_source: Rows of one source on one day.
        window_days: Of label model, duplicates and training.
        models_every: Days between two trainings; every event trains, too.
        edit / split / swap: Days of the events.
        mistake: Day of an edit that makes the labels worse.
        rollback: Day on which the project goes back, since somebody saw it …
        rollback_to: … to the evening of this day.
    """

    days: int = 60
    rows_per_source: int = 24
    window_days: int = 8
    models_every: int = 5
    edit: int | None = 20
    split: int | None = 30
    mistake: int | None = 38
    rollback: int | None = 40
    rollback_to: int = 35
    swap: int | None = 50

    def models_on(self, number: int) -> bool:
        """Whether models are trained on a day."""
        return number % self.models_every == 0 or number in self.events

    @property
    def events(self) -> dict[int, str]:
        """Day -> what happens on it, before its run."""
        when = {
            self.edit: EDIT, self.split: SPLIT, self.mistake: MISTAKE, self.rollback: ROLLBACK,
            self.swap: SWAP,
        }  # fmt: skip
        return {number: what for number, what in when.items() if number is not None}


SIXTY_DAYS = Script()


@dataclass(frozen=True)
class Moment:
    """One event and what `fm status` said right after it, before anything was built.

    Attributes:
        number: Its day, from 1.
        what: EDIT, SPLIT, MISTAKE, ROLLBACK or SWAP.
        before: The last instant at which nothing had changed.
        after: The first instant at which the new definition was recorded and nothing was built.
        status: Status rows as JSON values.
        stale: What a rollback itself said that a run would build, in words.
        rebuilt: After a rollback: when its window and models had been run again.
    """

    number: int
    what: str
    before: datetime
    after: datetime
    status: tuple[dict[str, Any], ...] = ()
    stale: tuple[str, ...] = ()
    rebuilt: datetime | None = None

    def rows(self, kind: str) -> list[dict[str, Any]]:
        """Return the status of the artifacts of one kind."""
        return [row for row in self.status if row["kind"] == kind]


@dataclass
class History:
    """A finished history on disk.

    Attributes:
        root: Folder that holds everything; may be copied.
        script: What happened.
        moments: The events, in order.
    """

    root: Path
    script: Script
    moments: list[Moment] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Its FM_HOME."""
        return self.root / "home"

    @property
    def projects(self) -> Path:
        """What FM_PROJECTS would name."""
        return self.root / "checkout"

    @property
    def folder(self) -> Path:
        """Folder of the project."""
        return self.projects / "assets" / "defs" / PROJECT

    def workspace(self) -> Workspace:
        """Open its FM_HOME."""
        return Workspace.open(Home(self.home))

    def project(self) -> LoadedProject:
        """Load the project as it is declared at the end."""
        return load_spec(self.folder / "defs.yaml")

    def moment(self, what: str) -> Moment:
        """Return an event by its name."""
        return next(moment for moment in self.moments if moment.what == what)

    def evening(self, number: int) -> datetime:
        """Return the end of a day, when everything of it was built."""
        return datetime.combine(
            datetime.fromisoformat(day_name(number)).date(), time.max, timezone.utc
        )

    def save(self) -> None:
        """Write what is not in the ledger beside it."""
        notes = {
            "script": asdict(self.script),
            "moments": [
                asdict(m)
                | {
                    key: at.isoformat() if at else None
                    for key, at in (
                        ("before", m.before),
                        ("after", m.after),
                        ("rebuilt", m.rebuilt),
                    )
                }
                for m in self.moments
            ],
        }
        (self.root / _NOTES).write_text(json.dumps(notes), "utf-8")

    @classmethod
    def load(cls, root: Path) -> History:
        """Open a history that was built before."""
        notes = json.loads((root / _NOTES).read_text("utf-8"))
        moments = [
            Moment(
                m["number"], m["what"], datetime.fromisoformat(m["before"]),
                datetime.fromisoformat(m["after"]), tuple(m["status"]), tuple(m["stale"]),
                datetime.fromisoformat(m["rebuilt"]) if m["rebuilt"] else None,
            )
            for m in notes["moments"]
        ]  # fmt: skip
        return cls(root, Script(**notes["script"]), moments)


def build_history(root: Path, script: Script = SIXTY_DAYS) -> History:
    """Live through a script in an empty folder.

    Args:
        root: Where; becomes `root/home` (FM_HOME) and `root/checkout` (FM_PROJECTS).
        script: What happens.
    """
    history = History(root, script)
    history.folder.mkdir(parents=True)
    write_bases(history.folder)
    life = _Life(history)
    for number in range(1, script.days + 1):
        life.day(number)
    history.save()
    return history


def scripted(cache: Path, target: Path, script: Script = SIXTY_DAYS) -> History:
    """Return a copy of a history that is built once for each state of the code.

    Args:
        cache: Folder that is kept between runs, e.g. `pytestconfig.cache.mkdir("histories")`.
        target: Folder of the copy; must not exist.
        script: What happens.
    """
    modules = sorted({name for names in CODE.values() for name in names})
    kept = cache / fingerprint(
        [
            asdict(script), code_closure(*modules), environment_hash(),
            [(Path(__file__).parent / name).read_text() for name in ("script.py", "world.py")],
        ]
    )[:16]  # fmt: skip
    with kept.with_suffix(".lock").open("w") as one_at_a_time:  # tests may run side by side
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not (kept / _NOTES).is_file():
            shutil.rmtree(kept, ignore_errors=True)
            build_history(kept, script)
    shutil.copytree(kept, target)
    return History.load(target)


class _Life:
    """The days of a project, one after another."""

    def __init__(self, history: History) -> None:
        self.history, self.script = history, history.script
        self.ws = history.workspace()
        self.declared = Declared()
        self.log = SilentReporter()

    def day(self, number: int) -> None:
        """Bring the files of a day, let its event happen, run what a schedule would run."""
        script, folder = self.script, self.history.folder
        write_day(folder, number, script.rows_per_source)
        what = script.events.get(number)
        with clock(_at(number, 1)):
            if what is not None:
                self._event(number, what)
        with clock(_at(number, 3)):
            if number == 1:
                self._declare()
            first = number
            if what in (SPLIT, SWAP):  # a person builds the whole window again
                first = max(1, number - script.window_days + 1)
            if what == ROLLBACK:  # and here the days that were built by mistake
                first = script.rollback_to + 1
            self._build_days(range(first, number + 1), "schedule" if what is None else "person")
            if script.edit is not None and number == script.edit + 2:  # the window, two days late
                self._build_days(range(max(1, number - script.window_days + 1), number), "backfill")
        if script.models_on(number) and len(sources_on(number)) == 2:
            with clock(_at(number, 4)):
                self._build_models("schedule" if what is None else "person")

    def _event(self, number: int, what: str) -> None:
        before, stale, rebuilt = _at(number, 1), (), None
        if what == ROLLBACK:
            stale = self._go_back()
        else:
            self.declared = replace(self.declared, **_CHANGES[what])
            self._declare()
        rows = tuple(_plain(row) for row in self.status() if _is_known(row, number))
        if what == ROLLBACK:
            with clock(_at(number, 2)):
                self._build_window(self.script.rollback_to)
            rebuilt = _at(number, 3)
        self.history.moments.append(
            Moment(number, what, before, _at(number, 2), rows, stale, rebuilt)
        )

    def _go_back(self) -> tuple[str, ...]:
        """Do what `fm rollback` does; return what it says that a run would build."""
        to, history = self.history.evening(self.script.rollback_to), self.history
        done = rollback(self.ws, PROJECT, history.folder, to, self._run("person"))
        self.declared = replace(self.declared, mistaken=False)
        return (*(f"{row.kind}/{row.name} {row.partition}: {row.why}" for row in done.stale),
                *([done.unknown] if done.unknown else []))  # fmt: skip

    def _build_window(self, number: int) -> None:
        """Run the window that ends on a day, and the models, as the run of that day did."""
        first = max(1, number - self.script.window_days + 1)
        self._build_days(range(first, number + 1), "person")
        self._build_models("person")

    def _declare(self) -> None:
        """Write what is declared now, and record it as the begin of a run does."""
        folder, script = self.history.folder, self.script
        write_declared(folder, self.declared, script.days, script.window_days)
        record_definition(self.ws, self.history.project(), self._run("person"))

    def status(self) -> list[StatusRow]:
        """Return what `fm status` says."""
        project = self.history.project()
        return status(self.ws.ledger, project.spec, probe(self.ws, project))

    def _build_days(self, numbers: Iterable[int], asked_by: str) -> None:
        project, run = self.history.project(), self._run(asked_by)
        record_definition(self.ws, project, run)
        days = [day_name(number) for number in numbers]
        for stage in (build_raw, build_weak_labels, build_cleaned):
            for day in days:
                stage(self.ws, project, day, run, self.log)

    def _build_models(self, asked_by: str) -> None:
        project, run = self.history.project(), self._run(asked_by)
        build_start(self.ws, project, run, self.log)
        for expert in project.spec.experts:
            build_adapter(self.ws, project, expert.name, run, self.log)
        build_merged_model(self.ws, project, run, self.log)
        with pytest.MonkeyPatch.context() as patch:  # the drawn report takes seconds every time
            patch.setattr(report, "write_report", _no_report)
            build_evaluation(self.ws, project, run, self.log)

    @staticmethod
    def _run(asked_by: str) -> RunContext:
        return RunContext(asked_by=asked_by, git_commit="0" * 40, git_dirty=False)


def _no_report(_reference: Any, _current: Any, path: Path, **_more: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("<!doctype html><title>report</title>\n", "utf-8")


def _at(number: int, hour: int) -> datetime:
    day = datetime.fromisoformat(day_name(number))
    return day.replace(hour=hour, tzinfo=timezone.utc)


def _is_known(row: StatusRow, number: int) -> bool:
    return row.partition is None or row.partition < day_name(number)


def _plain(row: StatusRow) -> dict[str, Any]:
    created = row.created_at
    return {**asdict(row), "created_at": created.isoformat() if created else None}
