"""Where results wait while the tracking server is away.

One JSON file per record, named by order of arrival and by the record's key, written whole or
not at all. A record that is there already is not written again. A file lock lets one process
at a time publish.
"""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fm_platform.errors import RegistryUnavailableError, TrackingError
from fm_platform.store.files import aside, atomic_write, make_dirs
from fm_platform.tracking.records import AnyRecord, from_json, to_json

MAX_REFUSALS = 3
"""A record is set aside when MLflow refused it so often: an outage may look like a refusal."""

_ENTRY = re.compile(r"(\d{12})-([a-z]+)-([0-9a-f]{64})\.json")


@dataclass(frozen=True)
class Entry:
    """One waiting record."""

    path: Path
    key: str


class Spool:
    """The waiting records in a folder.

    Args:
        folder: Created when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Return the waiting records, oldest first."""
        if not self.folder.is_dir():
            return []
        found = ((path, _ENTRY.fullmatch(path.name)) for path in sorted(self.folder.iterdir()))
        return [Entry(path, match[3]) for path, match in found if match]

    def add(self, record: AnyRecord) -> Entry:
        """Keep a record; return where it waits: an earlier entry for the same record.

        A champion record replaces an earlier one: the last decision is the one that holds.
        """
        entries = self.entries()
        for entry in entries:
            if entry.key == record.key:
                if record.kind != "champion" or entry is entries[-1]:
                    return entry
                self.remove(entry)
        number = 1 + max((int(entry.path.name[:12]) for entry in entries), default=0)
        path = self.folder / f"{number:012d}-{record.kind}-{record.key}.json"
        self._write(path, {"record": to_json(record), "refusals": 0})
        return Entry(path, record.key)

    def read(self, entry: Entry) -> AnyRecord:
        """Return a waiting record.

        Raises:
            TrackingError: If the file is damaged.
        """
        return from_json(self._load(entry)["record"])

    def remove(self, entry: Entry) -> None:
        """Forget a published record."""
        entry.path.unlink(missing_ok=True)

    def refused(self, entry: Entry, reason: str) -> bool:
        """Note that MLflow refused a record; return whether it was set aside for good.

        After `MAX_REFUSALS`, or where the file is damaged, it goes to `refused/` with the
        reason next to it, and no longer keeps anything waiting.
        """
        try:
            value = self._load(entry)
            value["refusals"] = int(value.get("refusals", 0)) + 1
            if value["refusals"] < MAX_REFUSALS:
                self._write(entry.path, value)
                return False
        except TrackingError as error:
            reason = f"{reason}\n{error}"
        folder = self.folder / "refused"
        make_dirs(folder)
        target = aside(folder, entry.path.name)
        entry.path.rename(target)
        atomic_write(target.with_name(f"{target.name}.reason.txt"), reason.encode("utf-8"))
        return True

    def _load(self, entry: Entry) -> dict[str, Any]:
        try:
            value = json.loads(entry.path.read_text("utf-8"))
        except ValueError as error:
            raise TrackingError("a spool file is damaged", where=entry.path) from error
        if not isinstance(value, dict) or not isinstance(value.get("record"), dict):
            raise TrackingError("a spool file is damaged", where=entry.path)
        return value

    def _write(self, path: Path, value: dict[str, Any]) -> None:
        text = json.dumps(value, sort_keys=True, allow_nan=True)
        atomic_write(path, text.encode("utf-8", "backslashreplace"))

    @contextmanager
    def lock(self, wait_s: float) -> Iterator[None]:
        """Hold the right to publish.

        Raises:
            RegistryUnavailableError: If another process holds it for longer than `wait_s`.
        """
        make_dirs(self.folder)
        with (self.folder / "lock").open("a+b") as handle:
            deadline = time.monotonic() + wait_s
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise RegistryUnavailableError(
                            "another process is publishing to MLflow", where=self.folder
                        ) from None
                    time.sleep(0.05)
            # Closing the file releases the lock, also when the process dies.
            yield
