"""Datasets of OpenLineage events: named by project and table or artifact, not by a place.

A day of a table is a subset of it, named by its content hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from fm_platform import __version__
from fm_platform.lineage.records import ArtifactVersion, Input
from fm_platform.stages import tables
from fm_platform.stages.export.conformance import facet_key

PRODUCER = f"urn:fm_platform:{__version__}"
MODELS = frozenset({"start", "adapter", "merged_model", "label_model"})
_SCHEMAS: dict[str, pa.Schema] = {
    "gold": tables.GOLD, "quarantine": tables.QUARANTINE, "weak_labels": tables.WEAK_LABELS,
    "cleaned": tables.CLEANED, "predictions": tables.PREDICTIONS,
}  # fmt: skip
_SUMMARIES = frozenset({"exemplars", "seen"})


def inputs(namespace: str, version: ArtifactVersion) -> list[Any]:
    """Return one dataset for each table or artifact read, with the days and parts of it."""
    from openlineage.client.generated import base, base_subset_dataset, dataset_version_dataset

    read: dict[str, list[Input]] = {}
    for item in version.inputs:
        if not is_summary(item):
            read.setdefault(_read_name(item), []).append(item)
    found = []
    for name, items in read.items():
        facets = []
        if len(items) == 1:
            facets.append(
                facet(
                    dataset_version_dataset.DatasetVersionDatasetFacet,
                    datasetVersion=items[0].content_hash,
                )
            )
        parts = [
            base_subset_dataset.Partition(_dimensions(item), item.content_hash) for item in items
        ]
        subset = facet(
            base_subset_dataset.InputSubsetInputDatasetFacet,
            inputCondition=base_subset_dataset.PartitionSubsetCondition(parts),
        )
        found.append(
            base.InputDataset(
                namespace, f"{version.project}/{name}", facets=by_key(facets),
                inputFacets=by_key([subset]),
            )
        )  # fmt: skip
    return found


def outputs(namespace: str, version: ArtifactVersion) -> list[Any]:
    """Return the tables of a version, or the artifact itself."""
    refs = version.location.get("tables", {})
    if not refs:
        named = artifact_name(version.kind, version.name)
        return [_output(namespace, version, named, version.content_hash, version.rows, None)]
    return [
        _output(namespace, version, name, ref["content_hash"], ref["rows"], ref)
        for name, ref in sorted(refs.items())
    ]


def _output(
    namespace: str,
    version: ArtifactVersion,
    name: str,
    content_hash: str,
    rows: int | None,
    ref: Mapping[str, Any] | None,
) -> Any:
    from openlineage.client.generated import (
        base,
        base_subset_dataset,
        dataset_type_dataset,
        dataset_version_dataset,
        output_statistics_output_dataset,
        schema_dataset,
        storage_dataset,
    )

    kind = "TABLE" if ref is not None else "MODEL" if version.kind in MODELS else "FILE"
    facets = [
        facet(dataset_version_dataset.DatasetVersionDatasetFacet, datasetVersion=content_hash),
        facet(dataset_type_dataset.DatasetTypeDatasetFacet, datasetType=kind),
    ]
    if ref is not None:
        facets.append(
            facet(storage_dataset.StorageDatasetFacet, storageLayer="delta", fileFormat="parquet")
        )
    if name in _SCHEMAS:
        fields = [
            schema_dataset.SchemaDatasetFacetFields(f.name, str(f.type), ordinal_position=n)
            for n, f in enumerate(_SCHEMAS[name], start=1)
        ]
        facets.append(facet(schema_dataset.SchemaDatasetFacet, fields=fields))
    files = [] if ref is None else ref["files"]
    size = sum(file["bytes"] for file in files) if ref is not None else version.bytes
    written = [
        facet(
            output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
            rowCount=rows, size=size, fileCount=len(files) or None,
        )
    ]  # fmt: skip
    if version.partition is not None:
        part = base_subset_dataset.Partition({"day": version.partition}, content_hash)
        written.append(
            facet(
                base_subset_dataset.OutputSubsetOutputDatasetFacet,
                outputCondition=base_subset_dataset.PartitionSubsetCondition([part]),
            )
        )
    return base.OutputDataset(
        namespace, f"{version.project}/{name}", facets=by_key(facets),
        outputFacets=by_key(written),
    )  # fmt: skip


def facet(kind: type, **fields: Any) -> Any:
    """Return a facet with its producer."""
    return kind(**fields, producer=PRODUCER)


def by_key(facets: Sequence[Any]) -> dict[str, Any]:
    """Return facets under the names that the schema wants."""
    return {facet_key(type(facet)): facet for facet in facets}


def artifact_name(kind: str, name: str) -> str:
    """Return the name of the dataset that an artifact without tables is."""
    return kind if kind == name else f"{kind}/{name}"


def is_summary(item: Input) -> bool:
    """Whether an input stands for rows that no version holds as they are read."""
    return item.role in _SUMMARIES or (item.version_id is None and item.role == "gold")


def _read_name(item: Input) -> str:
    """Return the name of the dataset that an input is a part of."""
    if item.role == "gold":
        return "gold"
    kind = {"data": "cleaned", "dev": "cleaned", "champion": "merged_model"}.get(
        item.role, item.role
    )
    return artifact_name(kind, item.name)


def _dimensions(item: Input) -> dict[str, str]:
    told = {"role": item.role, "day": item.partition, "part": item.part}
    return {key: value for key, value in told.items() if value is not None}
