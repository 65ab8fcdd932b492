"""Runs and jobs of OpenLineage events: what the ledger knows beside inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from fm_platform.lineage.records import ArtifactVersion
from fm_platform.stages.diff.functions import source_of
from fm_platform.stages.diff.settings import ABSENT, leaves
from fm_platform.stages.export.datasets import MODELS, by_key, facet, is_summary

Describe = Callable[[str], Any]


def run_facets(
    namespace: str, version: ArtifactVersion, describe: Describe, *, ended: bool
) -> dict[str, Any]:
    """Return what is known of a run; checks only once it has ended."""
    from openlineage.client.generated import (
        execution_parameters_run,
        nominal_time_run,
        parent_run,
        processing_engine_run,
        tags_run,
        test_run,
    )

    facets = [
        facet(
            tags_run.TagsRunFacet,
            tags=[
                tags_run.TagsRunFacetFields(key, value, "fm_platform")
                for key, value in _tags(version)
            ],
        ),
        facet(
            processing_engine_run.ProcessingEngineRunFacet,
            version=_engine(version, describe), name="fm_platform",
        ),
    ]  # fmt: skip
    if _is_day(version.partition):
        day = date.fromisoformat(str(version.partition))
        facets.append(
            facet(
                nominal_time_run.NominalTimeRunFacet,
                nominalStartTime=f"{day}T00:00:00Z",
                nominalEndTime=f"{day + timedelta(days=1)}T00:00:00Z",
            )
        )
    if _is_uuid(version.dagster_run_id):
        facets.append(
            facet(
                parent_run.ParentRunFacet,
                run=parent_run.Run(str(version.dagster_run_id)),
                job=parent_run.Job(namespace, f"{version.project}.dagster"),
            )
        )
    parameters = [
        execution_parameters_run.ExecutionParameter(leaf.path, value=_text(leaf.after))
        for leaf in leaves(dict.fromkeys(version.config, ABSENT), version.config)
    ]
    if parameters:
        facets.append(
            facet(execution_parameters_run.ExecutionParametersRunFacet, parameters=parameters)
        )
    checks = version.metrics.get("checks", []) if ended else []
    if checks:
        tests = [
            test_run.TestExecution(
                check["name"], "pass" if check["passed"] else "fail",
                severity="error" if check.get("blocking", True) else "warn",
                description=check["description"],
            )
            for check in checks
        ]  # fmt: skip
        facets.append(facet(test_run.TestRunFacet, tests=tests))
    return by_key(facets)


def _tags(version: ArtifactVersion) -> Iterator[tuple[str, str]]:
    """Yield what else the ledger knows of a run; what it does not know is left out."""
    known: dict[str, Any] = {
        "recipe_hash": version.recipe_hash, "content_hash": version.content_hash,
        "version": version.number, "code": version.code, "environment": version.environment,
        "run_environment": version.run_environment, "seed": version.seed,
        "asked_by": version.asked_by, "git_commit": version.git_commit,
        "git_dirty": version.git_dirty, "mlflow_run_id": version.mlflow_run_id,
    }  # fmt: skip
    for key, value in known.items():
        if value is not None:
            yield key, str(value).lower() if isinstance(value, bool) else str(value)
    for item in version.inputs:
        if is_summary(item):
            yield f"summary.{item.role}", item.content_hash


def _engine(version: ArtifactVersion, describe: Describe) -> str:
    """Return the version of this platform that made a version, as far as it is recorded."""
    found = describe(version.run_environment) if version.run_environment else None
    packages = found.get("packages", {}) if isinstance(found, Mapping) else {}
    return str(packages.get("fm-platform") or version.git_commit or "unknown")


def job_facets(version: ArtifactVersion, describe: Describe) -> dict[str, Any]:
    """Return what kind of job makes a version, and the source of a labeling function."""
    from openlineage.client.generated import job_type_job, source_code_job

    kind = "MODEL" if version.kind in MODELS else "TASK"
    facets = [
        facet(
            job_type_job.JobTypeJobFacet, processingType="BATCH", integration="FM_PLATFORM",
            jobType=kind,
        )
    ]  # fmt: skip
    if version.kind == "votes":
        document = describe(str(version.config.get("function")))
        text = source_of(document)
        if text:
            python = isinstance(document, Mapping) and document.get("kind") in (
                "python",
                "batch",
            )
            facets.append(
                facet(
                    source_code_job.SourceCodeJobFacet,
                    language="python" if python else "yaml", sourceCode=text,
                )
            )  # fmt: skip
    return by_key(facets)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _is_day(partition: str | None) -> bool:
    try:
        return partition is not None and bool(date.fromisoformat(partition))
    except ValueError:
        return False


def _is_uuid(text: str | None) -> bool:
    try:
        return text is not None and bool(UUID(text))
    except ValueError:
        return False
