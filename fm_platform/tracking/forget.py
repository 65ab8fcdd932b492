"""What retention takes out of MLflow: weights and reports of what nobody keeps.

The run with its parameters and metrics stays, and says what is gone; registered version and
logged model go, so that nobody is offered a model without weights. A run that is no longer marked
complete is filled again should the same recipe be built once more.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fm_platform.errors import RegistryUnavailableError
from fm_platform.tracking.client import Connection
from fm_platform.tracking.entities import COMPLETE_TAG, KEY_TAG
from fm_platform.tracking.records import EvaluationRecord, ModelRecord, record_key

REMOVED = "no: fm gc removed the weights"
REMOVED_REPORT = "no: fm gc removed the report"


def forget_model(
    connection: Connection, artifact_root: Path, project: str, recipe_hash: str
) -> int:
    """Remove logged model, its artifacts and the registered version of a recipe.

    Args:
        connection: To MLflow.
        artifact_root: Files are deleted below this folder only; a server deletes its own.
        project: Experiment and registered model.
        recipe_hash: Of the merged model.

    Returns:
        The bytes freed on this disk; 0 where MLflow knew nothing of it.

    Raises:
        RegistryUnavailableError: If MLflow does not answer.
        TrackingError: If it refuses.
    """
    client = connection.client
    where = _tagged(ModelRecord.kind, project, recipe_hash)
    experiment = connection.call(client.get_experiment_by_name, project)
    if experiment is None:
        return 0
    freed, files = 0, _Files(artifact_root, experiment)
    for version in connection.call(client.search_model_versions, f"name = '{project}' AND {where}"):
        connection.call(client.delete_model_version, project, version.version)
    ids = [experiment.experiment_id]
    for run in connection.call(client.search_runs, ids, filter_string=where):
        connection.call(client.set_tag, run.info.run_id, COMPLETE_TAG, REMOVED)
    for model in connection.call(client.search_logged_models, ids, where):
        freed += files.remove(str(model.artifact_location))
        connection.call(client.delete_logged_model, model.model_id)
    return freed


def forget_evaluation(
    connection: Connection, artifact_root: Path, project: str, recipe_hash: str
) -> int:
    """Remove the files of an evaluation's run: report, pictures, table. Its metrics stay.

    Args:
        connection: To MLflow.
        artifact_root: Files are deleted below this folder only; a server deletes its own.
        project: Experiment.
        recipe_hash: Of the evaluation.

    Returns:
        The bytes freed on this disk; 0 where MLflow knew nothing of it.

    Raises:
        RegistryUnavailableError: If MLflow does not answer.
        TrackingError: If it refuses.
    """
    client = connection.client
    experiment = connection.call(client.get_experiment_by_name, project)
    if experiment is None:
        return 0
    freed, files = 0, _Files(artifact_root, experiment)
    where = _tagged(EvaluationRecord.kind, project, recipe_hash)
    ids = [experiment.experiment_id]
    for run in connection.call(client.search_runs, ids, filter_string=where):
        connection.call(client.set_tag, run.info.run_id, COMPLETE_TAG, REMOVED_REPORT)
        freed += files.remove(str(run.info.artifact_uri))
    return freed


def compact(database: Path) -> int:
    """Give the pages of MLflow's own SQLite file that nothing uses back; return the bytes.

    Raises:
        RegistryUnavailableError: If somebody is writing or reading for longer than 5 s.
    """
    if not database.is_file():
        return 0
    connection = sqlite3.connect(database, timeout=5.0, isolation_level=None)
    try:
        (unused,) = connection.execute("PRAGMA freelist_count").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        if unused:
            connection.execute("VACUUM")
        return int(unused) * int(size)
    except sqlite3.OperationalError as error:
        raise RegistryUnavailableError(
            "MLflow's database is in use", where=database, found=str(error),
            next_step="run fm gc --apply again when it is not",
        ) from error  # fmt: skip
    finally:
        connection.close()


def _tagged(kind: str, project: str, recipe_hash: str) -> str:
    return f"tags.`{KEY_TAG}` = '{record_key(kind, project, recipe_hash)}'"


class _Files:
    """Folders of artifacts of one experiment on this disk, also where the home was moved since.

    MLflow records whole paths. What it recorded below the folder of the experiment lies below
    `artifact_root/<experiment>` now.
    """

    def __init__(self, artifact_root: Path, experiment: Any) -> None:
        self._root = artifact_root.resolve()
        self._recorded = _local(str(experiment.artifact_location))
        self._now = self._root / str(experiment.name)

    def remove(self, location: str) -> int:
        """Delete a folder below the artifacts of this home; return the bytes, each file once."""
        folder = _local(location)
        if folder is None or self._recorded is None:
            return 0
        if self._root not in folder.resolve().parents:
            if self._recorded not in folder.parents:
                return 0
            folder = self._now / folder.relative_to(self._recorded)
        if not folder.is_dir() or self._root not in folder.resolve().parents:
            return 0
        freed = 0
        for path in folder.rglob("*"):
            told = path.lstat()
            freed += told.st_size if path.is_file() and told.st_nlink == 1 else 0
        shutil.rmtree(folder)
        if folder.name == "artifacts" and not any(folder.parent.iterdir()):
            folder.parent.rmdir()
        return freed


def _local(location: str) -> Path | None:
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None
