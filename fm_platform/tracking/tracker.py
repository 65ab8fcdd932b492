"""What the stages use: log, and go on, whether the tracking server is there or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fm_platform.errors import RegistryUnavailableError, TrackingError
from fm_platform.store.models import ModelStore
from fm_platform.tracking.client import CircuitBreaker, Connection, is_remote
from fm_platform.tracking.entities import Published
from fm_platform.tracking.publish import Publisher
from fm_platform.tracking.records import (
    AnyRecord,
    ChampionRecord,
    DecisionRecord,
    EvaluationRecord,
    ModelRecord,
    TrainingRecord,
)
from fm_platform.tracking.spool import Spool

UI_URL_VARIABLE = "FM_MLFLOW_UI_URL"
DEFAULT_UI_URL = "http://127.0.0.1:5000"


@dataclass(frozen=True)
class SpoolReport:
    """What `publish_spool` did.

    Attributes:
        published: Key of the record -> what MLflow knows of it now.
        remaining: Records that still wait.
        refused: Records that MLflow refused three times, key -> reason; kept in `refused/`.
        reason: Why records still wait; empty otherwise.
    """

    published: Mapping[str, Published]
    remaining: int
    refused: Mapping[str, str]
    reason: str = ""


class Tracker:
    """Logs to MLflow over a tracking URI.

    No method that logs raises for a server that is away or refuses: the result waits in the
    spool (three refusals move it to `refused/`), and the answer says so. The added wait is
    bounded by `timeout_s` where the first question is not answered, and by about
    `5 * timeout_s` for a server that answers and then hangs; after that nobody asks for
    `retry_after_s`.

    Args:
        uri: `sqlite:///...` or `http(s)://...`.
        artifact_root: Folder of artifacts of a database file of our own.
        spool_dir: Folder of waiting records.
        timeout_s: Of one HTTP request (three are tried).
        retry_after_s: How long a server that was away is left alone.
        ui_url: Address of the MLflow pages; FM_MLFLOW_UI_URL, the server itself, or port 5000
            of this machine.
        models: Where the weights of models are; without it, in the folder that a record names.
        on_published: Told of each record that had waited, with what MLflow knows of it now.
    """

    def __init__(
        self,
        uri: str,
        artifact_root: Path,
        spool_dir: Path,
        *,
        timeout_s: float = 5.0,
        retry_after_s: float = 120.0,
        ui_url: str | None = None,
        models: ModelStore | None = None,
        on_published: Callable[[AnyRecord, Published], None] | None = None,
    ) -> None:
        self.models = models
        self._on_published = on_published
        self.uri = uri
        self.artifact_root = artifact_root
        self.spool = Spool(spool_dir)
        self.timeout_s = timeout_s
        self.ui_url = ui_url or os.environ.get(UI_URL_VARIABLE) or _default_ui(uri)
        self._breaker = CircuitBreaker(spool_dir / "unreachable.json", retry_after_s)

    def log_training(self, record: TrainingRecord) -> Published:
        """Log one trained expert as a run with parameters, loss curves and inputs."""
        return self._log(record)

    def log_merged_model(self, record: ModelRecord) -> Published:
        """Log a merged model, register it as a version of the project, alias `challenger`.

        The same recipe logged again is the same version.
        """
        return self._log(record)

    def log_evaluation(self, record: EvaluationRecord) -> Published:
        """Log an evaluation as a run with its table, report and pictures."""
        return self._log(record)

    def set_champion(self, project: str, recipe_hash: str, reason: str = "") -> Published:
        """Move the alias `champion` to the version of a recipe; it is no challenger any more.

        MLflow's alias mirrors the ledger's, which alone is compared before it is set.
        """
        return self._log(ChampionRecord(project, recipe_hash, reason))

    def log_decision(self, record: DecisionRecord) -> Published:
        """Write what was decided about a registered model to its version, with the numbers."""
        return self._log(record)

    def forget_model(self, project: str, recipe_hash: str) -> int:
        """Remove the weights of a merged model from MLflow; return the bytes freed here.

        Raises:
            RegistryUnavailableError: If MLflow does not answer, or somebody is publishing.
            TrackingError: If it refuses.
        """
        from fm_platform.tracking.forget import forget_model

        with self.spool.lock(self.timeout_s):
            return forget_model(self._connection(), self.artifact_root, project, recipe_hash)

    def forget_evaluation(self, project: str, recipe_hash: str) -> int:
        """Remove the files of an evaluation from MLflow; return the bytes freed here.

        Raises:
            RegistryUnavailableError: If MLflow does not answer, or somebody is publishing.
            TrackingError: If it refuses.
        """
        from fm_platform.tracking.forget import forget_evaluation

        with self.spool.lock(self.timeout_s):
            return forget_evaluation(self._connection(), self.artifact_root, project, recipe_hash)

    def compact(self) -> int:
        """Give unused pages of a database file of our own back to the disk; return the bytes.

        Raises:
            RegistryUnavailableError: If it is in use.
        """
        from fm_platform.tracking.forget import compact

        if not self.uri.startswith("sqlite:///"):
            return 0
        with self.spool.lock(self.timeout_s):
            return compact(Path(self.uri.removeprefix("sqlite:///")))

    def publish_spool(self, *, again: bool = True) -> SpoolReport:
        """Publish what waits, oldest first, each exactly once.

        Returns at once where nothing waits, without importing MLflow.

        Args:
            again: Whether a server that was away a moment ago is asked again.
        """
        waiting = self.spool.entries()
        away = None if again or not waiting else self._breaker.reason(self.uri)
        if not waiting or away is not None:
            return SpoolReport({}, len(waiting), {}, away or "")
        published: dict[str, Published] = {}
        refused: dict[str, str] = {}
        reason = ""
        try:
            with self.spool.lock(self.timeout_s):
                try:
                    self._drain(self._publisher(), published, refused)
                except RegistryUnavailableError as error:
                    self._breaker.open(self.uri, str(error.found))
                    reason = str(error)
        except RegistryUnavailableError as error:  # another process is publishing
            reason = str(error)
        return SpoolReport(published, len(self.spool.entries()), refused, reason)

    def _log(self, record: AnyRecord) -> Published:
        away = self._breaker.reason(self.uri)
        if away is not None:
            self.spool.add(record)
            return Published(spooled=True, reason=away)
        try:
            with self.spool.lock(self.timeout_s):
                return self._log_now(record)
        except RegistryUnavailableError as error:  # another process is publishing
            self.spool.add(record)
            return Published(spooled=True, reason=str(error))

    def _log_now(self, record: AnyRecord) -> Published:
        try:
            publisher = self._publisher()
            # Order matters: a champion can only be set after its model was registered.
            self._drain(publisher, {}, {})
            result = publisher.publish(record)
        except RegistryUnavailableError as error:
            self._breaker.open(self.uri, str(error.found))
            self.spool.add(record)
            return Published(spooled=True, reason=str(error))
        except TrackingError as error:
            aside = self.spool.refused(self.spool.add(record), str(error))
            return Published(spooled=not aside, reason=str(error))
        self._breaker.close()
        return result

    def _drain(
        self, publisher: Publisher, published: dict[str, Published], refused: dict[str, str]
    ) -> None:
        for entry in self.spool.entries():
            try:
                record = self.spool.read(entry)
                published[entry.key] = publisher.publish(record)
                if self._on_published is not None:  # before it is forgotten here
                    self._on_published(record, published[entry.key])
            except RegistryUnavailableError:
                raise
            except TrackingError as error:
                if self.spool.refused(entry, str(error)):
                    refused[entry.key] = str(error)
            else:
                self.spool.remove(entry)
                self._breaker.close()

    def _publisher(self) -> Publisher:
        return Publisher(self._connection(), self.artifact_root, self.ui_url, self.models)

    def _connection(self) -> Connection:
        # Three tries of the last call, plus this budget for those before it, bound the wait.
        return Connection(self.uri, self.timeout_s, budget_s=2 * self.timeout_s)


def _default_ui(uri: str) -> str:
    return uri if is_remote(uri) else DEFAULT_UI_URL
