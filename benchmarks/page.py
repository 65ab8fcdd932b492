"""How fast the lineage page opens, and how smooth it is, in headless Chromium.

    python -m benchmarks.page [--quick] [--json]

A quarter and a year of daily versions; the year has about 10,000 in use. The page is served by a
process of its own, as `fm ui` does, and moved by the mouse events that a person would cause.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import sqlalchemy as sa

from benchmarks.ledgers import PROJECT, History
from fm_platform.home import Home
from fm_platform.lineage import schema
from fm_platform.lineage.ledger import Ledger
from fm_platform.workspace import Workspace
from tests.support.browser import Browser, chromium

DAYS = (91, 365)
FUNCTIONS = 23
LIMIT_S = 2.0
OPENED = 5
MOVES = 120
DRAWN = "performance.getEntriesByName('drawn').length"
RECORD = """(() => {
  const seen = { frames: [], long: 0 };
  new PerformanceObserver((list) => { seen.long += list.getEntries().length; })
    .observe({ entryTypes: ['longtask'] });
  const next = (now) => { seen.frames.push(now); requestAnimationFrame(next); };
  requestAnimationFrame(next);
  window.seen = seen;
})()"""


@dataclass
class Frames:
    """How long frames took while something moved: milliseconds between two of them."""

    median_ms: float
    p95_ms: float
    worst_ms: float
    long_tasks: int


@dataclass
class Measured:
    """One history.

    Attributes:
        in_use: Nodes that the page draws now.
        first_s: The first opening after the server started: from the address to the picture.
        open_s: Openings after it, with an empty browser cache; the median.
        moment_ms: Moments that the server had not told before: from the slider to the picture.
        frames: What was done -> frame times.
    """

    days: int
    in_use: int
    edges: int
    first_s: float
    open_s: float
    moment_ms: float
    frames: dict[str, Frames] = field(default_factory=dict)


def fill(home: Home, days: int) -> None:
    """Write a ledger of so many days with a decision about every model."""
    history = History(0, FUNCTIONS, edit_every=30, rebuilt_days=40).build(days)
    history.write(home.ledger_url)
    ledger = Workspace.open(home).ledger  # its history files are written here, once
    models = [v for v in history.versions if v["kind"] == "merged_model"]
    decide(ledger, [(model["id"], model["created_at"]) for model in models])
    ledger.engine.dispose()


def decide(ledger: Ledger, models: list[tuple[int, object]]) -> None:
    """Refuse every model but one a week, which becomes the champion."""
    decisions, moves = [], []
    for number, (version_id, at) in enumerate(models):
        better = number % 7 == 0
        decisions.append(
            {
                "project": PROJECT, "kind": "promotion" if better else "refusal", "actor": "gate",
                "version_id": version_id, "numbers": {}, "decided_at": at,
                "reason": "it is better" if better else "it is not better than the champion",
            }
        )  # fmt: skip
        if better:
            moves.append(
                {
                    "project": PROJECT, "alias": "champion", "version_id": version_id,
                    "number": len(moves) + 1, "set_at": at, "actor": "gate", "reason": "better",
                }
            )  # fmt: skip
    with ledger.engine.begin() as connection:
        connection.execute(sa.insert(schema.decisions), decisions)
        connection.execute(sa.insert(schema.aliases), moves)


@contextmanager
def served(home: Home) -> Iterator[str]:
    """Serve the page of a home in a process of its own; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    words = [sys.executable, "-m", "fm_platform.web.lineage", "--port", str(port)]
    process = subprocess.Popen(words, env={**os.environ, "FM_HOME": str(home.root)})
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/static/icon.svg", timeout=5).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def opened(browser: Browser, address: str) -> float:
    """Open the page and return the seconds from the address to the picture."""
    browser.open("about:blank")
    browser.open(address, wait_for=DRAWN)
    return float(browser.run("performance.getEntriesByName('drawn')[0].startTime")) / 1000


def mouse(browser: Browser, kind: str, x: float, y: float, **more: object) -> None:
    """Cause one event of the mouse, and wait until the page has handled it."""
    browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


def frames(browser: Browser, act: Callable[[], None]) -> Frames:
    """Return the frame times while something is done."""
    browser.run(RECORD)
    act()
    seen = browser.run("seen")
    spans = [b - a for a, b in zip(seen["frames"], seen["frames"][1:], strict=False)]
    cuts = statistics.quantiles(spans, n=20)
    return Frames(statistics.median(spans), cuts[-1], max(spans), int(seen["long"]))


def movements(browser: Browser) -> dict[str, Callable[[], None]]:
    """Return what a person does -> what does it."""
    left, top, width = browser.run(
        "(() => { const b = document.getElementById('slider').getBoundingClientRect();"
        " return [b.left, b.top + b.height - 8, b.width]; })()"
    )

    def point() -> None:
        for n in range(MOVES):
            mouse(browser, "mouseMoved", 150 + 3 * n, 200 + 4 * n)

    def zoom() -> None:
        for n in range(MOVES // 2):
            delta = -60 if n < MOVES // 3 else 60
            mouse(browser, "mouseWheel", 400, 400, deltaX=0, deltaY=delta, modifiers=2)

    def pan() -> None:
        browser.run("lineagePage.view.zoom(6)")
        mouse(browser, "mousePressed", 700, 700, button="left", clickCount=1)
        for n in range(MOVES):
            mouse(browser, "mouseMoved", 700, 700 - 5 * (n % 80), button="left", buttons=1)
        mouse(browser, "mouseReleased", 700, 300, button="left", clickCount=1)
        browser.run("lineagePage.view.whole()")

    def slide() -> None:
        mouse(browser, "mousePressed", left + width - 9, top, button="left", clickCount=1)
        for n in range(MOVES):
            x = left + width - 9 - n * (width - 60) / MOVES
            mouse(browser, "mouseMoved", x, top, button="left", buttons=1)
        mouse(browser, "mouseReleased", left + 60, top, button="left", clickCount=1)

    return {"pointing": point, "zooming": zoom, "panning": pan, "the slider dragged": slide}


def moment_ms(browser: Browser) -> float:
    """Return how long it takes from the slider to the picture of a moment not told before."""
    took = []
    for part in (3, 5, 7, 9, 11):
        took.append(
            browser.run(
                "(async () => { const t = performance.now(); const { timeline } = lineagePage;"
                f" timeline.go(Math.floor(timeline.moments.length / {part}));"
                " await lineagePage.page.loading; await new Promise(requestAnimationFrame);"
                " return performance.now() - t; })()"
            )
        )
    return float(statistics.median(took))


def measure(days: int, folder: Path, browser: Browser) -> Measured:
    """Fill a home, serve it, open it and move it."""
    home = Home(folder / f"days-{days}").ensure()
    fill(home, days)
    with served(home) as address:
        first = opened(browser, address)
        again = [opened(browser, address) for _ in range(OPENED)]
        found = Measured(
            days, browser.run("lineagePage.page.graph.size"),
            browser.run("lineagePage.page.graph.from.length"),
            first, statistics.median(again), moment_ms(browser),
        )  # fmt: skip
        browser.run("lineagePage.timeline.go(lineagePage.timeline.moments.length - 1)")
        for name, act in movements(browser).items():
            found.frames[name] = frames(browser, act)
        browser.open("about:blank")
    return found


def text(found: list[Measured]) -> str:
    """Return a few lines for each history."""
    lines = []
    for one in found:
        lines.append(
            f"{one.days} days: {one.in_use:,} versions in use, {one.edges:,} edges\n"
            f"  opens in {one.open_s:.2f} s, {one.first_s:.2f} s after the server started\n"
            f"  another moment is there in {one.moment_ms:.0f} ms"
        )
        for name, seen in one.frames.items():
            lines.append(
                f"  {name}: a frame every {seen.median_ms:.1f} ms, 95 % below {seen.p95_ms:.1f}, "
                f"worst {seen.worst_ms:.1f}, {seen.long_tasks} tasks above 50 ms"
            )
    worst = max(max(one.first_s, one.open_s) for one in found)
    verdict = "within" if worst <= LIMIT_S else "above"
    lines.append(f"slowest opening: {worst:.2f} s, {verdict} {LIMIT_S:.0f} s")
    return "\n".join(lines)


def main() -> int:
    """Measure and print; the exit code is not 0 where a page opens too slowly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the quarter only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fm-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with chromium(folder / "profile") as browser:
            browser.resize(1440, 900)
            browser.call("Network.setCacheDisabled", cacheDisabled=True)
            chosen = DAYS[:1] if given.quick else DAYS
            found = [measure(days, folder, browser) for days in chosen]
    print(json.dumps([asdict(one) for one in found], indent=1) if given.json else text(found))
    return 0 if all(max(one.first_s, one.open_s) <= LIMIT_S for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
