"""How long questions to the ledger take, from 1,000 to 100,000 versions.

    python -m benchmarks.lineage [--quick] [--json]

Beside our recursive queries stands the plain way: load every edge into Python and walk.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.ledgers import PROJECT, History, postgres, postgres_binaries
from fm_platform.lineage import schema
from fm_platform.lineage.graph import downstream, graph_at, upstream
from fm_platform.lineage.history import log_of
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.refs import resolve

SIZES = (1_000, 10_000, 100_000)
LIMIT_MS = 200.0
# the questions that must be answered in that time
BOUND = ("upstream of the merged model", "downstream of an old day", "graph as of half-way",
         "graph now, stale and why")  # fmt: skip
REPEATS = 7


@dataclass(frozen=True)
class Measured:
    """Median and worst of some repetitions, in milliseconds."""

    database: str
    versions: int
    question: str
    median_ms: float
    worst_ms: float
    answer: int


def in_python(ledger: Ledger, version_id: int) -> int:
    """Walk upstream in Python over all edges: what one does without a recursive query."""
    i = schema.inputs.c
    reads: dict[int, list[int]] = {}
    with ledger.reading() as connection:
        for source, target in connection.execute(sa.select(i.from_version_id, i.version_id)):
            reads.setdefault(target, []).append(source)
    found, todo = {version_id}, [version_id]
    while todo:
        for other in reads.get(todo.pop(), ()):
            if other not in found:
                found.add(other)
                todo.append(other)
    return len(found)


def questions(ledger: Ledger, history: History) -> dict[str, Callable[[], int]]:
    """Return question -> what asks it; the answer is a count, to see that it is one."""
    merged = history.current["merged_model", "merged_model", ""]["version_id"]
    old = history.current["raw", "raw", history.days[len(history.days) // 2]]["version_id"]
    half = history.at(0.5)
    content = history.versions[merged - 1]["content_hash"][:12]

    def stale() -> int:
        return sum(n.state == "stale" for n in graph_at(ledger, PROJECT).nodes)

    return {
        BOUND[0]: lambda: len(upstream(ledger, [merged])),
        BOUND[1]: lambda: len(downstream(ledger, [old])),
        BOUND[2]: lambda: len(graph_at(ledger, PROJECT, half).nodes),
        BOUND[3]: stale,
        "the same, asked again": stale,
        "version by hash": lambda: resolve(ledger, PROJECT, content).id,
        "version by name and time": lambda: resolve(ledger, PROJECT, "merged_model", half).id,
        "last 30 events": lambda: len(log_of(ledger, PROJECT, None, limit=30)),
        "upstream, walked in Python": lambda: in_python(ledger, merged),
    }


def measure(database: str, ledger: Ledger, history: History) -> Iterator[Measured]:
    """Ask every question some times."""
    gc.collect()
    gc.freeze()  # the rows that this benchmark itself holds are not searched for garbage
    for question, ask in questions(ledger, history).items():
        repeats = 2 if question.endswith("in Python") else REPEATS
        answer, times = ask(), []
        for _ in range(repeats):
            if question in BOUND:  # asked by a process that has not asked this ledger before
                ledger.kept_readings.clear()
            begin = time.perf_counter()
            answer = ask()
            times.append((time.perf_counter() - begin) * 1000)
        size = len(history.versions)
        yield Measured(database, size, question, statistics.median(times), max(times), answer)


@contextmanager
def databases(quick: bool) -> Iterator[dict[str, str]]:
    """Give database -> URL with `{name}`; PostgreSQL only where a server is installed."""
    binaries = None if quick else postgres_binaries()
    server: Any = postgres(binaries) if binaries else nullcontext(None)
    with tempfile.TemporaryDirectory(prefix="fm-bench-") as folder, server as url:
        found = {"sqlite": f"sqlite:///{Path(folder)}/{{name}}.db"}
        if url is not None:
            found["postgresql"] = url
        yield found


def create_database(url: str, name: str) -> str:
    """Return the URL of a new, empty database."""
    if url.startswith("postgresql"):
        engine = sa.create_engine(url.format(name="postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"create database {name}")
        engine.dispose()
    return url.format(name=name)


def run(quick: bool, say: Callable[[str], None]) -> list[Measured]:
    """Measure all sizes on all databases."""
    found: list[Measured] = []
    with databases(quick) as urls:
        if "postgresql" not in urls and not quick:
            say("PostgreSQL is not measured: no server is installed")
        for size in SIZES[:2] if quick else SIZES:
            history = History(size).build()
            for database, url in urls.items():
                begin = time.perf_counter()
                ledger = history.write(create_database(url, f"size_{size}"))
                say(
                    f"{database}: {len(history.versions):,} versions, {len(history.inputs):,} "
                    f"edges, {len(history.current):,} in use, written in "
                    f"{time.perf_counter() - begin:.0f} s"
                )
                found += measure(database, ledger, history)
                ledger.engine.dispose()
    return found


def table(found: list[Measured]) -> str:
    """Return a line a question: median milliseconds for each size, and how they grow."""
    sizes = sorted({m.versions for m in found})
    head = ["database", "question", *(f"{size:,}" for size in sizes), "growth", "answer"]
    lines = [head]
    for database in dict.fromkeys(m.database for m in found):
        for question in dict.fromkeys(m.question for m in found):
            row = [m for m in found if (m.database, m.question) == (database, question)]
            by_size = {m.versions: m for m in row}
            first, last = by_size[sizes[0]], by_size[sizes[-1]]
            lines.append(
                [
                    database, question, *(f"{by_size[s].median_ms:.1f} ms" for s in sizes),
                    f"x{last.median_ms / first.median_ms:.1f}", f"{last.answer:,}",
                ]
            )  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> int:
    """Measure and print; the exit code is not 0 only where nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="SQLite only, up to 10,000")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    found = run(given.quick, lambda text: print(text, file=sys.stderr))
    worst = max(m.median_ms for m in found if m.question in BOUND)
    if given.json:
        told = {"limit_ms": LIMIT_MS, "worst_ms": worst, "rows": [m.__dict__ for m in found]}
        print(json.dumps(told, indent=1))
    else:
        print(table(found))
        verdict = "within" if worst <= LIMIT_MS else "above"
        print(f"\nslowest of the bound questions: {worst:.0f} ms, {verdict} {LIMIT_MS:.0f} ms")
    return 0 if found else 1


if __name__ == "__main__":
    sys.exit(main())
