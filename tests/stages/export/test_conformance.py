"""What the OpenLineage schema does not allow is found, with its path."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.stages.export.conformance import facet_key, problems

SPEC = "https://openlineage.io/spec"
VALID: dict[str, Any] = {
    "eventTime": "2026-01-01T00:00:00Z",
    "eventType": "COMPLETE",
    "producer": "urn:test:1",
    "schemaURL": f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent",
    "job": {"namespace": "n", "name": "j"},
    "run": {
        "runId": "0190a3f0-0000-7000-8000-000000000000",
        "facets": {
            "nominalTime": {
                "_producer": "urn:test:1",
                "_schemaURL": f"{SPEC}/facets/1-0-1/NominalTimeRunFacet.json"
                "#/$defs/NominalTimeRunFacet",
                "nominalStartTime": "2026-01-01T00:00:00Z",
            }
        },
    },
    "outputs": [
        {
            "namespace": "n",
            "name": "d",
            "outputFacets": {
                "outputStatistics": {
                    "_producer": "urn:test:1",
                    "_schemaURL": f"{SPEC}/facets/1-0-2/OutputStatisticsOutputDatasetFacet.json"
                    "#/$defs/OutputStatisticsOutputDatasetFacet",
                    "rowCount": 3,
                }
            },
        }
    ],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the valid event with one value set, or taken away by `...`."""
    event = copy.deepcopy(VALID)
    place: Any = event
    *steps, last = path.split(".")
    for step in steps:
        place = place[int(step)] if step.isdigit() else place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return event


def test_a_valid_event_has_no_problem() -> None:
    assert problems(VALID) == []


NOMINAL = "run.facets.nominalTime"
STATISTICS = "outputs.0.outputFacets.outputStatistics"


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("eventTime", ..., "eventTime: missing"),
        ("producer", ..., "producer: missing"),
        ("run.runId", ..., "run.runId: missing"),
        ("job", ..., "job: missing"),
        (f"{NOMINAL}._producer", ..., "_producer: missing"),
        (f"{NOMINAL}.nominalStartTime", ..., "nominalStartTime: missing"),
        ("eventTime", "2026-01-01", "no time with an offset"),
        ("eventTime", "2026-01-01T00:00:00", "no time with an offset"),
        ("run.runId", "not-a-uuid", "is no UUID"),
        ("producer", "me", "is no URI"),
        ("eventType", "FINISHED", "is no EventType"),
        ("job", "j", "job: not an object"),
        ("outputs", {}, "outputs: not a list"),
        ("extra", 1, "extra: not in the schema of RunEvent"),
        (f"{NOMINAL}.extra", 1, "not in the schema of NominalTimeRunFacet"),
        (f"{STATISTICS}.rowCount", "3", "str instead of int"),
        (f"{STATISTICS}.rowCount", True, "bool instead of int"),
        (f"{STATISTICS}.rowCount", None, "null"),
        (f"{NOMINAL}._schemaURL", "https://example.org", "no facet of OpenLineage"),
        ("schemaURL", "https://example.org", "no event of OpenLineage"),
        ("run.facets.other", VALID["run"]["facets"]["nominalTime"], "belongs under 'nominalTime'"),
        (
            "outputs.0.outputFacets.nominalTime",
            VALID["run"]["facets"]["nominalTime"],
            "is no OutputDatasetFacet",
        ),
    ],
)
def test_a_broken_event_names_the_place(path: str, value: Any, expected: str) -> None:
    found = problems(changed(path, value))

    assert any(expected in problem for problem in found), found


def paths(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in paths(v, f"{path}.{k}" if path else k)]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in paths(v, f"{path}.{i}")]
    return [path]


@given(st.sampled_from(paths(VALID)), st.sampled_from([[], {}, 1.5, None]))
@settings(max_examples=60, deadline=None)
def test_no_leaf_can_take_another_type_unseen(path: str, value: Any) -> None:
    assert problems(changed(path, value))


def test_facets_are_named_as_the_schema_names_them() -> None:
    from openlineage.client import facet_v2 as f

    assert facet_key(f.nominal_time_run.NominalTimeRunFacet) == "nominalTime"
    assert facet_key(f.processing_engine_run.ProcessingEngineRunFacet) == "processing_engine"
    assert facet_key(f.dataset_version_dataset.DatasetVersionDatasetFacet) == "version"
    assert facet_key(f.schema_dataset.SchemaDatasetFacet) == "schema"
    assert facet_key(f.source_code_job.SourceCodeJobFacet) == "sourceCode"
    assert facet_key(f.base_subset_dataset.InputSubsetInputDatasetFacet) == "subset"
    assert facet_key(f.sql_job.SQLJobFacet) == "sql"
