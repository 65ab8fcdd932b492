"""Writing records to MLflow so that doing it twice, or half and then again, is doing it once.

Everything that is created carries the record's key as a tag and is searched by it first. What
was created twice because an answer was lost on its way is reduced to the first. A run that has
all it should have is tagged complete; without that tag it is filled up again, which changes
nothing that is already there (parameters, metrics with the record's own times, inputs).
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from fm_platform.display import plain
from fm_platform.errors import TrackingError
from fm_platform.tracking.client import Connection, is_remote
from fm_platform.tracking.logged_model import write_model_folder
from fm_platform.tracking.records import (
    CHALLENGER,
    CHAMPION,
    AnyRecord,
    ChampionRecord,
    EvaluationRecord,
    ModelRecord,
    Record,
    TrainingRecord,
    record_key,
)

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

KEY_TAG = "fm.key"
COMPLETE_TAG = "fm.complete"
_BATCH = 500
_PARAMS_BATCH = 100
_VALUE_CHARS = 500
_DIGEST_CHARS = 32  # MLflow takes 36 at most; the whole hash stands in a tag


@dataclass(frozen=True)
class Published:
    """What MLflow knows of a record.

    Attributes:
        run_id: Run, or None (spooled, or a record without a run).
        model_id: Logged model, or None.
        version: Version of the registered model, or None.
        spooled: True where the record waits for the server.
        reason: Why it was spooled or refused; empty otherwise.
        links: Title -> address of the MLflow pages.
    """

    run_id: str | None = None
    model_id: str | None = None
    version: str | None = None
    spooled: bool = False
    reason: str = ""
    links: Mapping[str, str] = field(default_factory=dict)


class Publisher:
    """Publishes records over one connection.

    Args:
        connection: Open connection.
        artifact_root: Where artifacts of a database file of our own are kept; a server has its
            own place.
        ui_url: Address of the MLflow pages, for links.
    """

    def __init__(self, connection: Connection, artifact_root: Path, ui_url: str) -> None:
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
        if isinstance(record, ChampionRecord):
            return self._publish_champion(record)
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
                tags=_tags(record),
                run_name=_run_name(record),
            )
            found = self._runs(experiment, record.key)
        if not found:
            raise TrackingError("a run that was just created is not found", where=record.key)
        for twin in found[1:]:
            self._call("delete_run", twin.info.run_id)
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
            Param(name, plain(value, _VALUE_CHARS)) for name, value in sorted(record.params.items())
        ]
        for start in range(0, len(params), _PARAMS_BATCH):
            self._call("log_batch", run_id, params=params[start : start + _PARAMS_BATCH])
        if record.inputs:
            self._call("log_inputs", run_id, datasets=_dataset_inputs(record))
        judged = next((data for data in record.inputs if data.context == "evaluation"), None)
        tie = {
            "model_id": model_id,
            "dataset_name": judged.name if judged else None,
            "dataset_digest": judged.content_hash[:_DIGEST_CHARS] if judged else None,
        }
        points = _points(record)
        metrics = [
            Metric(name, float(value), record.started_ms + step, step, **tie, run_id=run_id)
            for name, step, value in points
            if math.isfinite(value)
        ]
        for start in range(0, len(metrics), _BATCH):
            self._call("log_batch", run_id, metrics=metrics[start : start + _BATCH])
        dropped = sorted({name for name, _, value in points if not math.isfinite(value)})
        if dropped:
            self._call(
                "set_tag", run_id, "fm.non_finite_metrics", ", ".join(dropped)[:_VALUE_CHARS]
            )

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
                (folder / Path(title).name).write_bytes(data)
            for title, file in record.files.items():
                if not Path(file).is_file():
                    raise TrackingError("a file of the evaluation is gone", where=file)
                shutil.copyfile(file, folder / Path(title).name)
            self._connection.upload(
                self._client.log_artifacts, run.info.run_id, str(folder), "evaluation"
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
                tags=_tags(record),
                params={k: plain(v, _VALUE_CHARS) for k, v in sorted(record.params.items())},
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
        tags = {"fm.content_hash": record.content_hash, "fm.recipe_hash": record.recipe_hash}
        source = Path(record.model_dir)
        location = urlsplit(model.artifact_location)
        if location.scheme in ("", "file") and not is_remote(self._connection.uri):
            target = Path(unquote(location.path))
            target.mkdir(parents=True, exist_ok=True)
            self._connection.upload(
                write_model_folder,
                source,
                target,
                task=record.task,
                model_id=model.model_id,
                run_id=run_id,
                tags=tags,
            )
            return
        # Next to the model store, so that hard links work and no weights are copied first.
        self._artifact_root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".upload-", dir=self._artifact_root) as name:
            write_model_folder(
                source,
                Path(name),
                task=record.task,
                model_id=model.model_id,
                run_id=run_id,
                tags=tags,
            )
            self._connection.upload(self._client.log_model_artifacts, model.model_id, name)

    def _find_model(self, experiment: str, key: str) -> LoggedModel | None:
        found = self._call(
            "search_logged_models", [experiment], filter_string=f"tags.`{KEY_TAG}` = '{key}'"
        )
        ordered = sorted(found, key=lambda model: (str(model.status) != "READY", model.model_id))
        for twin in ordered[1:]:
            self._call("delete_logged_model", twin.model_id)
        return ordered[0] if ordered else None

    def _model_output(self, run_id: str, model_id: str) -> None:
        from mlflow.entities import LoggedModelOutput

        outputs = self._call("get_run", run_id).outputs
        known = [output.model_id for output in outputs.model_outputs] if outputs else []
        if model_id not in known:
            self._call("log_outputs", run_id, [LoggedModelOutput(model_id, 0)])

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
                tags=_tags(record),
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
        if not self._call("search_registered_models", f"name = '{project}'"):
            try:
                self._call(
                    "create_registered_model",
                    project,
                    description=f"Merged models of the project {project}.",
                )
            except TrackingError:
                if not self._call("search_registered_models", f"name = '{project}'"):
                    raise

    def _find_version(self, project: str, key: str) -> ModelVersion | None:
        found: Sequence[ModelVersion] = self._call(
            "search_model_versions", f"name = '{project}' AND tags.`{KEY_TAG}` = '{key}'"
        )
        ordered = sorted(found, key=lambda version: int(version.version))
        for twin in ordered[1:]:
            self._call("delete_model_version", project, twin.version)
        return ordered[0] if ordered else None

    def _publish_champion(self, record: ChampionRecord) -> Published:
        key = record_key(ModelRecord.kind, record.project, record.recipe_hash)
        version = self._find_version(record.project, key)
        if version is None:
            raise TrackingError(
                "the champion is not registered",
                where=record.project,
                expected=f"a version with the tag {KEY_TAG} = {key}",
                next_step="log the merged model first",
            )
        name, number = record.project, str(version.version)
        self._call("set_registered_model_alias", name, CHAMPION, number)
        if record.reason:
            self._call(
                "set_model_version_tag", name, number, "fm.promotion", plain(record.reason, 500)
            )
        aliases: Mapping[str, Any] = self._call("get_registered_model", name).aliases
        if str(aliases.get(CHALLENGER)) == number:
            self._call("delete_registered_model_alias", name, CHALLENGER)
        link = self._link("models", name, "versions", number)
        return Published(version=number, links={"MLflow registered model": link})

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._connection.call(getattr(self._client, method), *args, **kwargs)

    def _link(self, *parts: object) -> str:
        return "/".join([self._ui_url, "#", *(quote(str(part), safe="") for part in parts)])


def _run_name(record: Record) -> str:
    if isinstance(record, TrainingRecord):
        return f"train {record.name}"
    return (
        f"{'merge' if isinstance(record, ModelRecord) else 'evaluate'} {record.content_hash[:12]}"
    )


def _tags(record: Record) -> dict[str, str]:
    tags = {name: plain(value, _VALUE_CHARS) for name, value in sorted(record.tags.items())}
    tags.update(
        {
            KEY_TAG: record.key,
            "fm.kind": record.kind,
            "fm.project": record.project,
            "fm.recipe_hash": record.recipe_hash,
            "fm.content_hash": record.content_hash,
        }
    )
    if isinstance(record, TrainingRecord):
        tags["fm.expert"] = record.name
    if isinstance(record, EvaluationRecord):
        tags["fm.model_recipe_hash"] = record.model_recipe_hash
    for data in record.inputs:
        tags[f"fm.input.{data.name}"[:250]] = data.content_hash
    return tags


def _points(record: Record) -> list[tuple[str, int, float]]:
    points = [(name, 0, value) for name, value in sorted(record.metrics.items())]
    if isinstance(record, TrainingRecord):
        for name, curve in sorted(record.history.items()):
            points += [(name, step, value) for step, value in curve]
    return points


def _dataset_inputs(record: Record) -> list[Any]:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for data in record.inputs:
        source = {**data.source, "content_hash": data.content_hash}
        profile = None if data.rows is None else json.dumps({"num_rows": data.rows})
        dataset = Dataset(
            name=data.name,
            digest=data.content_hash[:_DIGEST_CHARS],
            source_type="fm",
            source=json.dumps(source, sort_keys=True),
            profile=profile,
        )
        tags = [
            InputTag("mlflow.data.context", data.context),
            InputTag("fm.content_hash", data.content_hash),
        ]
        inputs.append(DatasetInput(dataset, tags))
    return inputs
