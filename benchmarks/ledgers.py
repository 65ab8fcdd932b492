"""Ledgers of any size for measurements: years of daily builds with edits and rebuilds."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fm_platform.hashing import sha256_hex
from fm_platform.lineage import schema
from fm_platform.lineage.cards import card
from fm_platform.lineage.ledger import Ledger

PROJECT = "bench"
FUNCTIONS = 5
LABEL_WINDOW = 7
TRAIN_WINDOW = 28
EDIT_EVERY = 7
REBUILT_DAYS = 90
EXPERTS = ("a", "b", "c", "d")
FIRST = date(2024, 1, 1)
_ROWS_AT_ONCE = 20_000

Slot = tuple[str, str, str]


@dataclass
class History:
    """Rows of a ledger in which a project is built day after day.

    Every day brings raw rows, votes, a label model, weak labels, cleaned rows, and new models on
    a window of 28 days; every seventh day a labeling function is edited and the last 90 days
    are rebuilt below it. The last edit was made to one day of raw and is not rebuilt: so
    something is stale.
    """

    size: int
    functions: int = FUNCTIONS
    edit_every: int = EDIT_EVERY
    rebuilt_days: int = REBUILT_DAYS
    versions: list[dict[str, Any]] = field(default_factory=list)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    uses: list[dict[str, Any]] = field(default_factory=list)
    current: dict[Slot, dict[str, Any]] = field(default_factory=dict)
    numbers: dict[Slot, int] = field(default_factory=dict)
    days: list[str] = field(default_factory=list)

    def build(self, days: int | None = None) -> History:
        """Fill the rows: until there are `size` versions, or so many days."""
        while len(self.days) < days if days else len(self.versions) < self.size:
            day = (FIRST + timedelta(days=len(self.days))).isoformat()
            self.days.append(day)
            self._day(day)
            if len(self.days) % self.edit_every == 0:
                edited = len(self.days) // self.edit_every % self.functions
                for other in self.days[-self.rebuilt_days :]:
                    self._votes(other, edited)
                    self._below_votes(other)
            self._models()
        self._put(("raw", "raw", self.days[-2]), [])
        return self

    def at(self, share: float) -> datetime:
        """Return the moment when this share of the versions was made."""
        found: datetime = self.versions[int(share * (len(self.versions) - 1))]["created_at"]
        return found

    def _day(self, day: str) -> None:
        self._put(("raw", "raw", day), [])
        for number in range(self.functions):
            self._votes(day, number)
        self._below_votes(day)

    def _votes(self, day: str, number: int) -> None:
        self._put(("votes", f"function_{number}", day), [("raw", "raw", day)])

    def _below_votes(self, day: str) -> None:
        votes: list[Slot] = [("votes", f"function_{n}", day) for n in range(self.functions)]
        window = self.days[: self.days.index(day) + 1][-LABEL_WINDOW:]
        model: Slot = ("label_model", "label_model", day)
        numbers = range(self.functions)
        self._put(model, [("votes", f"function_{n}", d) for d in window for n in numbers])
        self._put(("weak_labels", "weak_labels", day), [("raw", "raw", day), *votes, model])
        self._put(("cleaned", "cleaned", day), [("weak_labels", "weak_labels", day)])

    def _models(self) -> None:
        days: list[Slot] = [("cleaned", "cleaned", d) for d in self.days[-TRAIN_WINDOW:]]
        start: Slot = ("start", "shared_start", "")
        adapters: list[Slot] = [("adapter", name, "") for name in EXPERTS]
        merged: Slot = ("merged_model", "merged_model", "")
        self._put(start, days)
        for adapter in adapters:
            self._put(adapter, [start, *days])
        self._put(merged, [*adapters, start, *days])
        labels: list[Slot] = [("weak_labels", "weak_labels", d) for d in self.days[-TRAIN_WINDOW:]]
        self._put(("evaluation", "evaluation", ""), [merged, *adapters, *labels])

    def _put(self, slot: Slot, reads: list[Slot]) -> None:
        kind, name, partition = slot
        number = self.numbers[slot] = self.numbers.get(slot, 0) + 1
        version_id = len(self.versions) + 1
        at = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(minutes=version_id)
        content = sha256_hex(f"{slot} {number}".encode())
        named = {"project": PROJECT, "kind": kind, "name": name, "partition": partition}
        self.versions.append(
            {
                **named, "id": version_id, "number": number, "content_hash": content,
                "recipe_hash": sha256_hex(f"recipe {slot} {number}".encode()),
                "inputs_hash": content, "location": {}, "parts": {}, "metrics": {"numbers": {}},
                "config": {"classes": ["bad", "good"]}, "code": "c" * 64, "environment": "e" * 64,
                "run_environment": "f" * 64, "seed": 0, "rows": 100, "bytes": 10_000,
                "created_at": at, "duration_s": 1.0, "asked_by": "schedule:daily",
            }
        )  # fmt: skip
        for position, read in enumerate(reads):
            origin = self.current[read]["version_id"]
            self.inputs.append(
                {
                    "version_id": version_id, "position": position, "from_version_id": origin,
                    "role": read[0], "name": read[1], "partition": read[2], "part": "",
                    "content_hash": self.versions[origin - 1]["content_hash"],
                }
            )  # fmt: skip
        use = {**named, "id": version_id, "version_id": version_id, "since": at, "until": None}
        read_by = [(self.current[read]["version_id"], read[0], None) for read in reads]
        use["card"] = card(self.versions[-1], read_by)
        if slot in self.current:
            self.uses[self.current[slot]["use_id"] - 1]["until"] = at
        self.uses.append(use)
        self.current[slot] = {**named, "version_id": version_id, "use_id": version_id}

    def write(self, url: str) -> Ledger:
        """Write the rows into a new ledger; questions are asked with its own settings later."""
        ledger = Ledger.open(url)
        tables = (
            (schema.versions, self.versions), (schema.inputs, self.inputs),
            (schema.uses, self.uses), (schema.current, list(self.current.values())),
        )  # fmt: skip
        fill = _fill_sqlite if url.startswith("sqlite") else _copy
        fill(ledger.engine, tables)
        ledger.engine.dispose()
        return ledger


Tables = Sequence[tuple[sa.Table, list[dict[str, Any]]]]


def _fill_sqlite(engine: sa.Engine, tables: Tables) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA synchronous=OFF")
        connection.exec_driver_sql("PRAGMA cache_size=-400000")
        connection.exec_driver_sql("BEGIN")
        for table, rows in tables:
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                connection.execute(table.insert(), rows[start : start + _ROWS_AT_ONCE])
        connection.exec_driver_sql("COMMIT")


def _copy(engine: sa.Engine, tables: Tables) -> None:
    connection = engine.raw_connection()
    cursor = connection.cursor()
    for table, rows in tables:
        names = list(rows[0])
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        for row in rows:
            writer.writerow([_cell(row[name]) for name in names])
        buffer.seek(0)
        columns = ", ".join(names)
        words = f"COPY {table.name} ({columns}) FROM STDIN WITH (FORMAT csv, NULL '\\N')"
        cursor.copy_expert(words, buffer)  # type: ignore[attr-defined]
    connection.commit()
    connection.close()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as plain:
        plain.exec_driver_sql("VACUUM ANALYZE")  # as the server's autovacuum would


def _cell(value: Any) -> Any:
    if value is None:
        return "\\N"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return value.isoformat() if isinstance(value, datetime) else value


def postgres_binaries() -> Path | None:
    """Return the folder of an installed PostgreSQL server, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


@contextmanager
def postgres(binaries: Path) -> Iterator[str]:
    """Give the URL of a server of our own on a Unix socket, `{name}` for its database."""
    import pwd

    users = {entry.pw_name for entry in pwd.getpwall()}
    # the server refuses to run as root
    user = next((n for n in ("postgres", "nobody") if n in users), None)
    user = user if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="fm-pg-"))
    if user is not None:
        shutil.chown(folder, user)

    def run(*words: str) -> None:
        subprocess.run(
            [str(binaries / words[0]), *words[1:]], check=True, capture_output=True, user=user,
            cwd=folder, timeout=300,
        )  # fmt: skip

    data = str(folder / "data")
    options = f"-c listen_addresses= -c unix_socket_directories={folder}"
    try:
        run("initdb", "-D", data, "-U", "fm", "-A", "trust", "-E", "UTF8")
        run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg2://fm@/{{name}}?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)
