"""Addresses in Dagster and MLflow that show more of a version."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from fm_platform.errors import FMError
from fm_platform.lineage.records import ArtifactVersion

_RUN = re.compile(r"[0-9A-Za-z_-]{1,64}")
_BACKFILL = re.compile(r"[a-z]{8}")
# the asset that makes versions of a kind
_ASSETS = {
    "raw": "raw", "unit": "raw", "embeddings": "weak_labels", "votes": "weak_labels",
    "label_model": "weak_labels", "weak_labels": "weak_labels", "cleaned": "cleaned",
    "shingles": "cleaned",
    "activations": "shared_start", "replay": "shared_start",
    "start": "shared_start",
    "adapter": "adapters", "merged_model": "merged_model",
    "evaluation": "evaluation",
    "profile": "watch", "answers": "watch", "reference": "watch", "versus": "watch",
    "findings": "watch",
}  # fmt: skip


@dataclass(frozen=True)
class Links:
    """Where the other pages are; None: not served.

    Attributes:
        dagster: e.g. `http://127.0.0.1:3000`.
        mlflow: e.g. `http://127.0.0.1:3001`.
        lineage: e.g. `http://127.0.0.1:3002`.
        alerts: e.g. `http://127.0.0.1:3003`.
    """

    dagster: str | None = None
    mlflow: str | None = None
    lineage: str | None = None
    alerts: str | None = None

    def backfill(self, run: str | None) -> str | None:
        """Return the address of a backfill (eight letters) or of a run in Dagster."""
        if not self.dagster or not run or not _RUN.fullmatch(run):
            return None
        return f"{self.dagster}/runs/{'b/' if _BACKFILL.fullmatch(run) else ''}{run}"

    def version(self, project: str, reference: str) -> str | None:
        """Return the address of a version on the lineage page."""
        if not self.lineage:
            return None
        return f"{self.lineage}/?{urlencode({'project': project, 'v': reference})}"

    def alert(self, project: str, alert: str) -> str | None:
        """Return the address of an alert on the alerts page."""
        if not self.alerts:
            return None
        return f"{self.alerts}/?{urlencode({'project': project, 'alert': alert})}"

    def of(self, version: ArtifactVersion) -> list[dict[str, str]]:
        """Return title and address of every page that shows more of a version."""
        found = []
        asset = _ASSETS.get(version.kind)
        if self.dagster and version.dagster_run_id and _RUN.fullmatch(version.dagster_run_id):
            address = f"{self.dagster}/runs/{version.dagster_run_id}"
            found.append({"title": "Dagster run", "address": address})
        if self.dagster and asset:
            path = [version.project, asset, *([version.name] if asset == "adapters" else [])]
            address = f"{self.dagster}/assets/{'/'.join(quote(word, safe='') for word in path)}"
            if version.partition:
                address += f"?partition={quote(version.partition, safe='')}"
            found.append({"title": "Dagster asset", "address": address})
        if self.mlflow and version.mlflow_run_id and _RUN.fullmatch(version.mlflow_run_id):
            found.append({"title": "MLflow run", "address": f"/go/mlflow/{version.mlflow_run_id}"})
        return found

    def mlflow_run(self, run_id: str) -> str:
        """Return the address of a run's page: MLflow is asked for the experiment it belongs to.

        Raises:
            FMError: If MLflow does not answer, or does not know the run.
        """
        import httpx

        if self.mlflow is None or not _RUN.fullmatch(run_id):
            raise FMError("there is no such MLflow run", found=run_id[:80])
        try:
            answer = httpx.get(
                f"{self.mlflow}/api/2.0/mlflow/runs/get", params={"run_id": run_id}, timeout=10
            )
            answer.raise_for_status()
            experiment = str(answer.json()["run"]["info"]["experiment_id"])
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise FMError(
                "MLflow did not tell where this run is shown",
                where=self.mlflow,
                found=str(error)[:200],
                next_step="fm ui serves MLflow beside this page",
            ) from error
        return f"{self.mlflow}/#/experiments/{quote(experiment)}/runs/{run_id}"
