"""`fm doctor`: is this installation sound?"""

from __future__ import annotations

import json
import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.tracking.spool import Spool

# Security floors, read on 2026-11-21: below them an advisory applies.
FLOORS = {
    "torch": (2, 10),
    "transformers": (5, 5),
    "mlflow": (3, 12),
    "starlette": (1, 3, 1),
    "pyarrow": (14, 0, 1),
    "pillow": (12, 2),
    "nltk": (3, 9, 3),
}
FREE_BYTES = 2 * 1024**3


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str


def examine() -> list[Check]:
    """Return all checks of this environment and FM_HOME."""
    return [*_versions(), _home(), _disk(), _daemon(), _pickle(), _spool()]


def _versions() -> list[Check]:
    checks = []
    for name, floor in sorted(FLOORS.items()):
        wanted = ".".join(map(str, floor))
        try:
            found = version(name)
        except PackageNotFoundError:
            checks.append(Check(f"version of {name}", True, "not installed"))
            continue
        numbers = tuple(int(part) for part in found.split("+")[0].split(".") if part.isdigit())
        checks.append(Check(f"version of {name}", numbers >= floor, f"{found} (floor {wanted})"))
    return checks


def _home() -> Check:
    home = Home.from_environment()
    try:
        home.ensure()
    except FMError as error:
        return Check("FM_HOME", False, str(error))
    return Check("FM_HOME", True, str(home.root))


def _disk() -> Check:
    root = Home.from_environment().root
    existing = next((p for p in (root, *root.parents) if p.exists()), root)
    free = shutil.disk_usage(existing).free
    return Check("free disk", free > FREE_BYTES, f"{free / 1024**3:.1f} GiB free, 2 wanted")


def _daemon() -> Check:
    path = Home.from_environment().dagster / "daemon.lock"
    try:
        holder = json.loads(path.read_text("utf-8"))
        os.kill(holder["pid"], 0)
    except (OSError, ValueError, KeyError):
        return Check("daemon", True, "not running (fm ui or fm daemon starts it)")
    return Check("daemon", True, f"running, process {holder['pid']}")


def _pickle() -> Check:
    allowed = os.environ.get("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false").lower() == "true"
    return Check("pickled models", not allowed, "allowed" if allowed else "refused")


def _spool() -> Check:
    waiting = len(Spool(Home.from_environment().mlflow / "spool").entries())
    detail = f"{waiting} record(s) wait for MLflow; the next run sends them" if waiting else "empty"
    return Check("MLflow spool", waiting == 0, detail)
