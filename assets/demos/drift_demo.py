"""`fm demo-drift`: amazon arrives after two weeks of films, and the platform deals with it.

A project of its own, in a home of its own beside that of the demo, under a real daemon: one alert,
one backfill, a training, the gate, a new champion, and the alert closed with the score before and
after. Every part can be done again: what is finished is kept, so an interrupted demo goes on.

Exit codes: 0 each part held, 1 one did not, 2 wrong words, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from assets.demos.drift_facts import Facts, Held, facts
from fm_platform.errors import FMError
from fm_platform.home import Home

if TYPE_CHECKING:
    from fm_platform.workspace import Workspace

PROJECT = "drift"
FILMS = ("2026-01-01", "2026-01-14")
ARRIVAL = ("2026-01-15", "2026-01-16")
TICKS = 10

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_MARK = "home of fm demo-drift: it may remove this folder\n"
_STOP_AFTER_S = 20.0


class Demo:
    """The demo in one home.

    Args:
        home: Its home; made where it is not there.
        shared: The home of `fm demo`, whose downloads are used.
        minutes: How long to wait for the daemon at most.
    """

    def __init__(self, home: Home, shared: Home, minutes: float) -> None:
        self.home, self.shared, self.minutes = home, shared, minutes
        self.began_s = time.monotonic()

    @cached_property
    def ws(self) -> Workspace:
        """The workspace of the home, opened once."""
        from fm_platform.workspace import Workspace

        return Workspace.open(self.home)

    def say(self, words: str) -> None:
        """Print a line with the time since the beginning."""
        since = int(time.monotonic() - self.began_s)
        print(f"[{since // 60:2d}:{since % 60:02d}] {words}", flush=True)  # noqa: T201

    def prepare(self) -> None:
        """Put the project where it is found, and take over what was fetched before."""
        from fm_platform.sources.corpora import ARCHIVE_VARIABLE, fetch

        self.home.ensure()
        (self.home.root / "DEMO").write_text(_MARK, "utf-8")
        folder = self.home.root / "project" / "assets" / "defs" / PROJECT
        folder.mkdir(parents=True, exist_ok=True)
        for source in (_HERE / "drift" / name for name in ("defs.yaml", "labeling_functions.py")):
            target = folder / source.name
            if not target.exists() or target.read_bytes() != source.read_bytes():
                shutil.copyfile(source, target)
        os.environ["FM_HOME"] = str(self.home.root)
        os.environ["FM_PROJECTS"] = str(self.home.root / "project")
        os.environ.setdefault(ARCHIVE_VARIABLE, str(fetch(self.shared.cache)))

    def build(self) -> None:
        """Two weeks of films and their champion; then amazon comes and is looked at."""
        self.say("two weeks of film reviews: labeled, cleaned, a model trained on them")
        if self.facts().champions == 0:
            self._run(*FILMS)
        if self.facts().champions > 1:
            return  # all that is left is the daemon's
        self.say(f"amazon arrives on {ARRIVAL[0]}")
        self._run(*ARRIVAL, "--stages", "raw", "weak_labels", "cleaned")
        self._run(FILMS[1], ARRIVAL[1], "--stages", "watch")

    def _run(self, first: str, last: str, *words: str) -> None:
        command = [sys.executable, "-m", "assets.run", PROJECT, "--from", first, "--to", last]
        done = subprocess.run([*command, *words], cwd=_ROOT, check=False)
        if done.returncode in (130, -2):
            raise KeyboardInterrupt
        if done.returncode:
            raise FMError(
                "a part of the demo could not be built",
                found=f"exit code {done.returncode}",
                next_step="see the error above; the same command goes on where it stopped",
            )

    def watch(self) -> None:
        """Tell what the daemon does until the alert is closed and ten ticks did nothing."""
        deadline = time.monotonic() + 60 * self.minutes
        told: set[str] = set()
        counted = -1
        while time.monotonic() < deadline:
            now = self.facts()
            for event in now.story:
                if event not in told:
                    told.add(event)
                    self.say(event)
            if now.closed:
                done = min(now.quiet_ticks, TICKS)
                if done != counted:
                    counted = done
                    self.say(f"{done} of {TICKS} further ticks: nothing to do")
                if done == TICKS:
                    return
            time.sleep(2)
        raise FMError(
            f"the loop was not closed within {self.minutes:g} minutes",
            where=self.home.logs / "daemon.log",
            next_step="a slow machine needs --minutes; the same command goes on",
        )

    def facts(self) -> Facts:
        """Return what is recorded by now."""
        return facts(self.ws, PROJECT)


@contextmanager
def running_daemon(home: Home) -> Iterator[None]:
    """Run the real daemon, and end it and what it started, by id.

    Raises:
        FMError: If it does not start.
    """
    from assets.instance import open_instance

    with open_instance(home) as instance:
        _fail_what_died(instance)
    with (home.logs / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "assets.daemon", "--workspace", str(_ROOT / "workspace.yaml")],
            cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        time.sleep(1)
        if process.poll() is not None:
            raise FMError(
                "the daemon did not start", where=home.logs / "daemon.log",
                found=f"exit code {process.returncode}",
            )  # fmt: skip
        yield
    finally:
        _end(process)


def _fail_what_died(instance: object) -> None:
    """Mark runs of an interrupted demo as failed: no daemon runs here, so nothing else does."""
    import dagster as dg

    assert isinstance(instance, dg.DagsterInstance)  # noqa: S101 - for the type only
    started = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING]
    for run in instance.get_runs(dg.RunsFilter(statuses=started)):
        instance.report_run_failed(run, "The demo was interrupted while this ran.")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(_STOP_AFTER_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in family:  # psutil knows each by id and start: never another that took its number
        if child.is_running():
            child.terminate()
    _, alive = psutil.wait_procs(family, timeout=5)
    for child in alive:
        child.kill()


def start_over(home: Home) -> None:
    """Remove the home of an earlier demo.

    Raises:
        FMError: If the folder is not one that the demo made.
    """
    if not home.root.exists():
        return
    mark = home.root / "DEMO"
    if not mark.is_file() or mark.read_text("utf-8") != _MARK:
        raise FMError(
            "this folder was not made by the demo and is left alone", where=home.root,
            next_step="remove it yourself, or set FM_HOME to another place",
        )  # fmt: skip
    shutil.rmtree(home.root)


def tell(demo: Demo, held: Sequence[Held], done_before: bool) -> int:
    """Print the story and return the exit code."""
    now = demo.facts()
    lines = ["", "done before; --again starts over" if done_before else "what happened", ""]
    lines += [f"  {line}" for line in now.story]
    lines += ["", "what had to hold", ""]
    lines += [f"  {'yes' if one.holds else 'NO '}  {one.words}" for one in held]
    fm = f"FM_HOME={demo.home.root} FM_PROJECTS={demo.home.root / 'project'} fm"
    lines += [
        "", "where to look", "",
        f"  {fm} alerts show {PROJECT} {now.alert_id}",
        f"  {fm} results {PROJECT}",
        f"  {fm} ui      Dagster (the backfill), the alerts page and the lineage page",
    ]  # fmt: skip
    print("\n".join(lines))  # noqa: T201
    return 0 if all(one.holds for one in held) else 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the demo, or say that it was run."""
    parser = argparse.ArgumentParser(prog="fm demo-drift", description=__doc__)
    parser.add_argument("--again", action="store_true", help="start over in a fresh home")
    parser.add_argument("--minutes", type=float, default=60.0, help="wait for the daemon at most")
    given = parser.parse_args(words)
    shared = Home.from_environment()
    home = Home(shared.root.with_name(f"{shared.root.name}-drift"))
    demo = Demo(home, shared, given.minutes)
    try:
        if given.again:
            start_over(home)
        demo.prepare()
        held = demo.facts().held(TICKS)
        if all(one.holds for one in held):
            return tell(demo, held, done_before=True)
        demo.build()
        with running_daemon(home):
            demo.watch()
        return tell(demo, demo.facts().held(TICKS), done_before=False)
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, the same command goes on", file=sys.stderr)  # noqa: T201
        return 130
    except FMError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
