"""Where a run writes: FM_HOME and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fm_platform.errors import HomeError

ENVIRONMENT_VARIABLE = "FM_HOME"
BRANCH_VARIABLE = "FM_BRANCH"
RESERVE_BYTES = 4 << 20
_PROBE_BYTES = 64 << 10
"""What SQLite wants beside a database before it opens it."""
MAIN = "main"
_BRANCH = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Home:
    """The folder layout of FM_HOME.

    Example:
        >>> Home(Path("/srv/fm")).lake.as_posix()
        '/srv/fm/lake'
    """

    root: Path
    branch: str | None = None

    @classmethod
    def from_environment(cls) -> Home:
        """Return the home named by FM_HOME, or `.fm` in the current folder.

        FM_BRANCH names the branch to look at; `main`, or none, is main.

        Raises:
            HomeError: If that cannot be the name of a branch.
        """
        root = Path(os.environ.get(ENVIRONMENT_VARIABLE, ".fm")).expanduser().resolve()
        return cls(root, branch_from_environment())

    @property
    def own(self) -> Path:
        """What a branch does not share: its checkout, Dagster and MLflow."""
        return self.root / "branches" / self.branch if self.branch else self.root

    @property
    def lake(self) -> Path:
        """Delta tables."""
        return self.root / "lake"

    @property
    def models(self) -> Path:
        """Content-addressed model folders."""
        return self.root / "models"

    @property
    def history(self) -> Path:
        """The ledger's rows as files that only grow; `fm ledger rebuild` reads them."""
        return self.root / "history"

    @property
    def cache(self) -> Path:
        """What can be made again: votes, fetched archives, embeddings."""
        return self.root / "cache"

    @property
    def answers(self) -> Path:
        """What models answered labeling functions: one file, by content."""
        return self.cache / "answers.db"

    @property
    def work(self) -> Path:
        """Unfinished work of running steps: checkpoints, staging folders."""
        return self.root / "work"

    @property
    def keys(self) -> Path:
        """Local secrets, readable by the owner only."""
        return self.root / "keys"

    @property
    def mlflow(self) -> Path:
        """MLflow's database, artifacts and the spool of unpublished results."""
        return self.own / "mlflow"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.own / "dagster"

    @property
    def reports(self) -> Path:
        """HTML reports, one folder a version."""
        return self.root / "reports"

    @property
    def logs(self) -> Path:
        """What the servers of `fm ui` write, one file each."""
        return self.own / "logs"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger: FM_LEDGER_URL, or SQLite in this folder."""
        return os.environ.get("FM_LEDGER_URL", f"sqlite:///{self.root / 'ledger.db'}")

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI: MLFLOW_TRACKING_URI, or SQLite in this folder.

        A branch has one of its own: it must not move the aliases of main.
        """
        if self.branch:
            return f"sqlite:///{self.mlflow / 'mlflow.db'}"
        return os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.mlflow / 'mlflow.db'}")

    @property
    def reserve(self) -> Path:
        """Space set aside: on a full disk `fm gc --apply` needs some to record what it removes."""
        return self.root / "reserve"

    def ensure(self) -> Home:
        """Create the folders, prove that they can be written, and set the reserve aside.

        Raises:
            HomeError: If a folder cannot be made, is read-only, or the disk is full.
        """
        self.prove()
        if not self.reserve.exists() and shutil.disk_usage(self.root).free > 2 * RESERVE_BYTES:
            self._write(RESERVE_BYTES, self.reserve)
        return self

    def prove(self) -> None:
        """Create the folders and prove that they can be written.

        Raises:
            HomeError: If a folder cannot be made, is read-only, or the disk is full.
        """
        folders = (
            self.lake, self.models, self.cache, self.work, self.keys, self.mlflow,
            self.dagster, self.reports, self.logs,
        )  # fmt: skip
        with self._words():
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            self.keys.chmod(0o700)
        self._write(_PROBE_BYTES, None)

    def _write(self, count: int, kept_as: Path | None) -> None:
        """Write so many bytes, and delete them again or keep them."""
        # sensors of one process tick in threads: each proves it with a file of its own
        probe = self.root / f".write-probe-{os.getpid()}-{threading.get_ident()}"
        with self._words():
            try:
                probe.write_bytes(bytes(count))
                if kept_as is not None:
                    probe.rename(kept_as)
            finally:
                probe.unlink(missing_ok=True)

    @contextmanager
    def _words(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise HomeError(
                f"FM_HOME cannot be written: {error.strerror or error}",
                where=self.root,
                expected="a folder this user can write, with free space",
                next_step="free some space or set FM_HOME to another folder, then run again",
            ) from error


def branch_name(name: str) -> str:
    """Return `name` if a branch can be called so: it becomes a folder and part of table names.

    Raises:
        HomeError: If not.
    """
    if not _BRANCH.fullmatch(name) or name.endswith(".") or name == MAIN:
        raise HomeError(
            "this cannot be the name of a branch",
            expected="a-z or 0-9, then a-z 0-9 . _ -, 40 at most, and not main",
            found=repr(name)[:60],
        )
    return name


def branch_from_environment() -> str | None:
    """Return the branch that FM_BRANCH names; None: main."""
    name = os.environ.get(BRANCH_VARIABLE, "")
    return None if name in ("", MAIN) else branch_name(name)
