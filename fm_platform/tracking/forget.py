"""What retention takes out of MLflow: the weights of a model that nobody keeps.

The run with its parameters and metrics stays, and says that the weights are gone; registered
version and logged model go, so that nobody is offered a model without weights. A run that is
no longer marked complete is filled again should the same recipe be built once more.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fm_platform.tracking.client import Connection
from fm_platform.tracking.entities import COMPLETE_TAG, KEY_TAG
from fm_platform.tracking.records import ModelRecord, record_key

REMOVED = "no: fm gc removed the weights"


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
    key = record_key(ModelRecord.kind, project, recipe_hash)
    experiment = connection.call(client.get_experiment_by_name, project)
    if experiment is None:
        return 0
    where, freed = f"tags.`{KEY_TAG}` = '{key}'", 0
    for version in connection.call(client.search_model_versions, f"name = '{project}' AND {where}"):
        connection.call(client.delete_model_version, project, version.version)
    ids = [experiment.experiment_id]
    for run in connection.call(client.search_runs, ids, filter_string=where):
        connection.call(client.set_tag, run.info.run_id, COMPLETE_TAG, REMOVED)
    for model in connection.call(client.search_logged_models, ids, where):
        freed += _remove_files(model, artifact_root)
        connection.call(client.delete_logged_model, model.model_id)
    return freed


def _remove_files(model: Any, artifact_root: Path) -> int:
    location = urlsplit(str(model.artifact_location))
    folder = Path(unquote(location.path))
    local = location.scheme in ("", "file") and folder.is_dir()
    if not local or artifact_root.resolve() not in folder.resolve().parents:
        return 0
    freed = 0
    for path in folder.rglob("*"):
        told = path.lstat()
        freed += told.st_size if path.is_file() and told.st_nlink == 1 else 0
    shutil.rmtree(folder)
    return freed
