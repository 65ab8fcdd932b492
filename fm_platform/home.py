"""Where a run writes: FM_HOME and nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fm_platform.errors import HomeError

ENVIRONMENT_VARIABLE = "FM_HOME"


@dataclass(frozen=True)
class Home:
    """The folder layout of FM_HOME.

    Example:
        >>> Home(Path("/srv/fm")).lake.as_posix()
        '/srv/fm/lake'
    """

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """Return the home named by FM_HOME, or `.fm` in the current folder."""
        return cls(Path(os.environ.get(ENVIRONMENT_VARIABLE, ".fm")).expanduser().resolve())

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
        return self.root / "mlflow"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.root / "dagster"

    @property
    def reports(self) -> Path:
        """HTML reports, one folder a version."""
        return self.root / "reports"

    @property
    def logs(self) -> Path:
        """What the servers of `fm ui` write, one file each."""
        return self.root / "logs"

    @property
    def ledger_url(self) -> str:
        """SQLAlchemy URL of the ledger: FM_LEDGER_URL, or SQLite in this folder."""
        return os.environ.get("FM_LEDGER_URL", f"sqlite:///{self.root / 'ledger.db'}")

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking URI: MLFLOW_TRACKING_URI, or SQLite in this folder."""
        return os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.mlflow / 'mlflow.db'}")

    def ensure(self) -> Home:
        """Create the folders and prove that they can be written.

        Raises:
            HomeError: If a folder cannot be made, is read-only, or the disk is full.
        """
        folders = (
            self.lake, self.models, self.cache, self.work, self.keys, self.mlflow,
            self.dagster, self.reports, self.logs,
        )  # fmt: skip
        probe = self.root / f".write-probe-{os.getpid()}"
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            self.keys.chmod(0o700)
            probe.write_bytes(b"\0" * 4096)
            probe.unlink()
        except OSError as error:
            raise HomeError(
                f"FM_HOME cannot be written: {error.strerror or error}",
                where=self.root,
                expected="a folder this user can write, with free space",
                next_step="free some space or set FM_HOME to another folder, then run again",
            ) from error
        return self
