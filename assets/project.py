"""The component: one declared project in, Dagster definitions out."""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from assets.alerting import alert_sensors
from assets.automation import (
    automation_sensor,
    daily_job,
    daily_schedule,
    model_job,
    staleness_job,
    staleness_schedule,
)
from assets.coverage import coverage_checks
from assets.sensors import missing_days_sensor
from assets.stages.adapters import adapter_asset, start_asset
from assets.stages.causal import causal_assets
from assets.stages.cleaned import cleaned_asset
from assets.stages.evaluation import evaluation_asset
from assets.stages.merged_model import merged_model_asset
from assets.stages.raw import raw_asset
from assets.stages.watch import watch_asset
from assets.stages.weak_labels import weak_labels_asset
from assets.staleness import staleness_check
from assets.unit import unit_checks
from fm_platform.spec import ProjectSpec
from fm_platform.spec.load import LoadedProject, load_spec


class ContinuousTraining(dg.Component):
    """A project that is labeled, cleaned, trained, merged and evaluated as its data arrives.

    The attributes in `defs.yaml` are the fields of `fm_platform.spec.ProjectSpec`.
    """

    def __init__(self, project: LoadedProject) -> None:
        self.project = project

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return the library's own model: the schema of the attributes."""
        return ProjectSpec

    @classmethod
    def load(
        cls, attributes: BaseModel | None, context: dg.ComponentLoadContext
    ) -> ContinuousTraining:
        """Keep the validated spec.

        Raises:
            SpecError: If parts of the spec contradict each other; it names files and lines.
        """
        file = context.path / "defs.yaml"
        if not isinstance(attributes, ProjectSpec) or attributes.cross_problems():
            # Reads the file again for the line of every mistake.
            return cls(load_spec(file))
        return cls(LoadedProject(spec=attributes, directory=context.path, file=file))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the project's definitions."""
        return project_definitions(self.project)


def project_definitions(project: LoadedProject, *, watched: bool = True) -> dg.Definitions:
    """Return assets, checks, jobs, schedules and sensors of one project, without resources.

    Args:
        project: The project.
        watched: Whether the check that tells what is stale is among them. A run of chosen assets
            in this process does without: it would tell of what that run leaves out.
    """
    spec = project.spec
    assets = [
        raw_asset(project),
        *(causal_assets(project) if spec.task == "causal" else _classifier_assets(project)),
    ]
    days, staleness = daily_job(spec, watched=watched), staleness_job(spec)
    return dg.Definitions(
        assets=dg.with_source_code_references(assets),
        asset_checks=[
            *unit_checks(project),
            *coverage_checks(project),
            *([staleness_check(project)] if watched else []),
        ],
        jobs=[days, model_job(spec, watched=watched), *([staleness] if watched else [])],
        schedules=[
            daily_schedule(spec, days),
            *([staleness_schedule(spec, staleness)] if watched else []),
        ],
        sensors=[
            *(
                []
                if spec.alerts and spec.alerts.retrain == "on_alert"
                else [automation_sensor(spec)]
            ),
            missing_days_sensor(spec),
            *alert_sensors(project),
        ],
    )


def _classifier_assets(project: LoadedProject) -> list[dg.AssetsDefinition]:
    return [
        weak_labels_asset(project),
        cleaned_asset(project),
        watch_asset(project),
        start_asset(project),
        *(adapter_asset(project, expert.name) for expert in project.spec.experts),
        merged_model_asset(project),
        evaluation_asset(project),
    ]
