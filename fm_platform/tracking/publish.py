"""Writing records to MLflow so that doing it twice, or half and then again, is doing it once.

Everything that is created carries the record's key as a tag and is searched by it first. What
was created twice because an answer was lost on its way is reduced to the first. A run that has
all it should have is tagged complete; without that tag it is filled up again, which changes
nothing that is already there (parameters, metrics with the record's own times, inputs).
"""

from __future__ import annotations

import functools
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from fm_platform.display import plain
from fm_platform.errors import FMError, RegistryUnavailableError, TrackingError
from fm_platform.store.models import ModelStore
from fm_platform.tracking.client import Connection, is_remote
from fm_platform.tracking.decided import publish_champion, publish_decision
from fm_platform.tracking.entities import (
    COMPLETE_TAG,
    DIGEST_CHARS,
    KEY_TAG,
    VALUE_CHARS,
    Published,
    dataset_inputs,
    file_name,
    points,
    run_name,
    tags,
)
from fm_platform.tracking.logged_model import write_model_folder
from fm_platform.tracking.moved import follow
from fm_platform.tracking.records import (
    CHALLENGER,
    AnyRecord,
    ChampionRecord,
    DecisionRecord,
    EvaluationRecord,
    ModelRecord,
    Record,
    record_key,
)

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

_BATCH = 500
_PARAMS_BATCH = 100


class Publisher:
    """Publishes records over one connection.

    Args:
        connection: Open connection.
        artifact_root: Where artifacts of a database file of our own are kept.
        ui_url: Address of the MLflow pages, for links.
        models: Where the weights are; without it, in the folder that a record names.
    """

    def __init__(
        self,
        connection: Connection,
        artifact_root: Path,
        ui_url: str,
        models: ModelStore | None = None,
    ) -> None:
        self._models = models
        self._connection = connection
        self._client = connection.client
        self._artifact_root = artifact_root
        self._ui_url = ui_url.rstrip("/")

    def publish(self, record: AnyRecord) -> Published:
        """Publish one record, or finish publishing it.

        Raises:
            RegistryUnavailableError: If the server does not answer; try again later.
            TrackingError: If MLflow refuses; trying again does not help.
        """
        self._connection.renew()
        try:
            if isinstance(record, ChampionRecord):
                return self._published(record.project, publish_champion(self, record))
            if isinstance(record, DecisionRecord):
                return self._published(record.project, publish_decision(self, record))
            return self._publish(record)
        except FMError:
            raise
        except OSError as error:  # a full disk below the artifacts or the temporary folder
            raise RegistryUnavailableError(
                "artifacts cannot be written", where=error.filename, found=str(error)
            ) from error

    def _publish(self, record: Record) -> Published:
        experiment = self._experiment(record.project)
        run = self._run(experiment, record)
        if run.data.tags.get(COMPLETE_TAG) != "true":
            if isinstance(record, ModelRecord):
                self._fill_model(experiment, run, record)
            elif isinstance(record, EvaluationRecord):
                self._fill_evaluation(experiment, run, record)
            else:
                self._fill(run, record)
            self._call("set_terminated", run.info.run_id, "FINISHED", record.ended_ms)
            self._call("set_tag", run.info.run_id, COMPLETE_TAG, "true")
        links = {"MLflow run": self._link("experiments", experiment, "runs", run.info.run_id)}
        if not isinstance(record, ModelRecord):
            return Published(run_id=run.info.run_id, links=links)
        model = self._find_model(experiment, record.key)
        version = self._find_version(record.project, record.key)
        if model is None or version is None:
            raise TrackingError(
                "the registered model of a finished run is gone", where=run.info.run_id
            )
        links["MLflow model"] = self._link("experiments", experiment, "models", model.model_id)
        links["MLflow registered model"] = self._link(
            "models", record.project, "versions", version.version
        )
        return Published(run.info.run_id, model.model_id, str(version.version), links=links)

    # Runs

    def _experiment(self, project: str) -> str:
        found = self._call("get_experiment_by_name", project)
        if found is None:
            location = None
            if not is_remote(self._connection.uri):
                location = (self._artifact_root / project).absolute().as_uri()
            try:
                return str(
                    self._call(
                        "create_experiment",
                        project,
                        artifact_location=location,
                        tags={"mlflow.experimentKind": "custom_model_development"},
                    )
                )
            except TrackingError:
                found = self._call("get_experiment_by_name", project)
                if found is None:
                    raise
        follow(self._connection.uri, self._artifact_root, str(found.artifact_location), project)
        if found.lifecycle_stage == "deleted":
            self._call("restore_experiment", found.experiment_id)
        return str(found.experiment_id)

    def _run(self, experiment: str, record: Record) -> Run:
        found = self._runs(experiment, record.key)
        if not found:
            self._call(
                "create_run",
                experiment,
                start_time=record.started_ms,
                tags=tags(record),
                run_name=run_name(record),
            )
            found = self._runs(experiment, record.key)
        if not found:
            raise TrackingError("a run that was just created is not found", where=record.key)
        if len(found) > 1:
            self._settled(
                lambda: [self._call("delete_run", twin.info.run_id) for twin in found[1:]],
                lambda: len(self._runs(experiment, record.key)) == 1,
            )
        return found[0]

    def _runs(self, experiment: str, key: str) -> list[Run]:
        runs = self._call("search_runs", [experiment], filter_string=f"tags.`{KEY_TAG}` = '{key}'")
        # A complete run stays even where a twin came first.
        return sorted(
            runs, key=lambda run: (run.data.tags.get(COMPLETE_TAG) != "true", run.info.run_id)
        )

    def _fill(self, run: Run, record: Record, model_id: str | None = None) -> None:
        from mlflow.entities import Metric, Param

        run_id = run.info.run_id
        params = [
            Param(name, plain(value, VALUE_CHARS)) for name, value in sorted(record.params.items())
        ]
        for start in range(0, len(params), _PARAMS_BATCH):
            self._call("log_batch", run_id, params=params[start : start + _PARAMS_BATCH])
        if record.inputs:
            self._call("log_inputs", run_id, datasets=dataset_inputs(record))
        judged = next((data for data in record.inputs if data.context == "evaluation"), None)
        tie = {
            "model_id": model_id,
            "dataset_name": judged.name if judged else None,
            "dataset_digest": judged.content_hash[:DIGEST_CHARS] if judged else None,
        }
        measured = points(record)
        metrics = [
            Metric(name, float(value), record.started_ms + step, step, **tie, run_id=run_id)
            for name, step, value in measured
            if math.isfinite(value)
        ]
        for start in range(0, len(metrics), _BATCH):
            self._call("log_batch", run_id, metrics=metrics[start : start + _BATCH])
        dropped = sorted({name for name, _, value in measured if not math.isfinite(value)})
        if dropped:
            self._call("set_tag", run_id, "fm.non_finite_metrics", ", ".join(dropped)[:VALUE_CHARS])

    def _fill_evaluation(self, experiment: str, run: Run, record: EvaluationRecord) -> None:
        key = record_key(ModelRecord.kind, record.project, record.model_recipe_hash)
        model = self._find_model(experiment, key)
        self._fill(run, record, model.model_id if model else None)
        with tempfile.TemporaryDirectory(prefix="fm-evaluation-") as name:
            folder = Path(name)
            table = json.dumps(record.table, indent=1, sort_keys=True)
            (folder / "results.json").write_text(table, "utf-8")
            (folder / "results.md").write_text(record.markdown, "utf-8")
            for title, data in record.images.items():
                (folder / file_name(title, ".png")).write_bytes(data)
            for title, file in record.files.items():
                if not Path(file).is_file():
                    raise TrackingError("a file of the evaluation is gone", where=file)
                shutil.copyfile(file, folder / file_name(title, Path(file).suffix))
            for path in sorted(folder.iterdir()):
                self._connection.upload(
                    self._client.log_artifact, run.info.run_id, str(path), "evaluation"
                )

    # Models

    def _fill_model(self, experiment: str, run: Run, record: ModelRecord) -> None:
        run_id = run.info.run_id
        model = self._find_model(experiment, record.key)
        if model is None:
            self._call(
                "create_logged_model",
                experiment,
                name=record.project,
                source_run_id=run_id,
                tags=tags(record),
                params={k: plain(v, VALUE_CHARS) for k, v in sorted(record.params.items())},
                model_type=record.task,
            )
            model = self._find_model(experiment, record.key)
        if model is None:
            raise TrackingError("a model that was just created is not found", where=record.key)
        if str(model.status) != "READY":
            self._upload_model(model, run_id, record)
            self._call("finalize_logged_model", model.model_id, "READY")
        self._fill(run, record, model.model_id)
        self._model_output(run_id, model.model_id)
        version = self._version(run_id, model, record)
        self._call("set_registered_model_alias", record.project, CHALLENGER, version.version)

    def _upload_model(self, model: LoggedModel, run_id: str, record: ModelRecord) -> None:
        labels = {"fm.content_hash": record.content_hash, "fm.recipe_hash": record.recipe_hash}
        location = urlsplit(model.artifact_location)
        # Next to the model store, so that hard links work.
        self._artifact_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".upload-", dir=self._artifact_root) as name:
            if location.scheme in ("", "file") and not is_remote(self._connection.uri):
                source = self._weights(record, Path(name) / "links")
                (target := Path(unquote(location.path))).mkdir(parents=True, exist_ok=True)
                write_model_folder(source, target, record.task, model.model_id, run_id, labels)
                return
            source = self._weights(record)
            write_model_folder(source, Path(name), record.task, model.model_id, run_id, labels)
            for path in sorted(Path(name).rglob("*")):
                if path.is_file():
                    folder = path.parent.relative_to(name).as_posix()
                    self._connection.upload(
                        self._client.log_model_artifact,
                        model.model_id,
                        str(path),
                        None if folder == "." else folder,
                    )

    def _weights(self, record: ModelRecord, links: Path | None = None) -> Path:
        """Return the folder of a model: links below `links`, or the whole files."""
        if self._models is None or record.content_hash not in self._models.hashes():
            return Path(record.model_dir)
        if links is None:
            return self._models.open(record.content_hash)
        self._models.export(record.content_hash, links)
        return links

    def _find_model(self, experiment: str, key: str) -> LoggedModel | None:
        where = f"tags.`{KEY_TAG}` = '{key}'"
        found = self._call("search_logged_models", [experiment], where)
        ordered = sorted(found, key=lambda model: (str(model.status) != "READY", model.model_id))
        for twin in ordered[1:]:
            self._settled(
                functools.partial(self._call, "delete_logged_model", twin.model_id),
                lambda: len(self._call("search_logged_models", [experiment], where)) == 1,
            )
        return ordered[0] if ordered else None

    def _model_output(self, run_id: str, model_id: str) -> None:
        from mlflow.entities import LoggedModelOutput

        def known() -> bool:
            outputs = self._call("get_run", run_id).outputs
            return bool(outputs) and model_id in [o.model_id for o in outputs.model_outputs]

        if not known():
            outputs = [LoggedModelOutput(model_id, 0)]
            self._settled(lambda: self._call("log_outputs", run_id, outputs), known)

    def _version(self, run_id: str, model: LoggedModel, record: ModelRecord) -> ModelVersion:
        found = self._find_version(record.project, record.key)
        if found is None:
            self._registered_model(record.project)
            # A database opened directly resolves models:/ addresses with the tracking URI of
            # the process, which is nobody's to set: it gets the folder itself.
            remote = is_remote(self._connection.uri)
            self._call(
                "create_model_version",
                record.project,
                f"models:/{model.model_id}" if remote else model.artifact_location,
                run_id=run_id,
                tags=tags(record),
                description=record.description or None,
                model_id=model.model_id,
                await_creation_for=0,
            )
            found = self._find_version(record.project, record.key)
        if found is None:
            raise TrackingError("a version that was just created is not found", where=record.key)
        # This is how the pages of MLflow find the versions of a logged model.
        named = json.dumps([{"name": record.project, "version": str(found.version)}])
        self._call("set_logged_model_tags", model.model_id, {"mlflow.modelVersions": named})
        return found

    def _registered_model(self, project: str) -> None:
        def there() -> bool:
            return bool(self._call("search_registered_models", f"name = '{project}'"))

        if not there():
            description = f"Merged models of the project {project}."
            self._settled(
                lambda: self._call("create_registered_model", project, description=description),
                there,
            )

    def _find_version(self, project: str, key: str) -> ModelVersion | None:
        where = f"name = '{project}' AND tags.`{KEY_TAG}` = '{key}'"
        found: Sequence[ModelVersion] = self._call("search_model_versions", where)
        ordered = sorted(found, key=lambda version: int(version.version))
        for twin in ordered[1:]:
            self._settled(
                functools.partial(self._call, "delete_model_version", project, twin.version),
                lambda: len(self._call("search_model_versions", where)) == 1,
            )
        return ordered[0] if ordered else None

    def _published(self, project: str, number: str) -> Published:
        link = self._link("models", project, "versions", number)
        return Published(version=number, links={"MLflow registered model": link})

    # What `tracking.decided` needs

    def call(self, method: str, *args: Any) -> Any:
        """Call the client."""
        return self._call(method, *args)

    def version_of(self, project: str, key: str) -> ModelVersion | None:
        """Return the registered version with a key, or None."""
        return self._find_version(project, key)

    def settled(self, act: Callable[[], Any], done: Callable[[], bool]) -> None:
        """Act; a refusal is fine where it is done already."""
        self._settled(act, done)

    def _settled(self, act: Callable[[], Any], done: Callable[[], bool]) -> None:
        """Act; a refusal is fine where it is done already.

        The client repeats a request whose answer was lost; the second one is then refused.
        """
        try:
            act()
        except RegistryUnavailableError:
            raise
        except TrackingError:
            if not done():
                raise

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._connection.call(getattr(self._client, method), *args, **kwargs)

    def _link(self, *parts: object) -> str:
        return "/".join([self._ui_url, "#", *(quote(str(part), safe="") for part in parts)])
