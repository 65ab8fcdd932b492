"""The catalogue names exactly the columns that the stages write."""

from __future__ import annotations

import pytest

from assets.columns import column_lineage, column_schema
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables


@pytest.mark.parametrize("stage", ["raw", "weak_labels", "cleaned"])
def test_schema_names_the_columns_of_the_table(project: LoadedProject, stage: str) -> None:
    written = {
        "raw": tables.raw_schema(project.spec),
        "weak_labels": tables.WEAK_LABELS,
        "cleaned": tables.CLEANED,
    }[stage]
    schema = column_schema(project.spec, stage)

    assert schema is not None
    assert sorted(column.name for column in schema.columns) == sorted(written.names)


@pytest.mark.parametrize("stage", ["weak_labels", "cleaned", "evaluation"])
def test_lineage_starts_from_columns_that_exist(project: LoadedProject, stage: str) -> None:
    schema, lineage = column_schema(project.spec, stage), column_lineage(project.spec, stage)

    assert schema is not None
    assert lineage is not None
    assert set(lineage.deps_by_column) <= {column.name for column in schema.columns}
    for deps in lineage.deps_by_column.values():
        for dep in deps:
            upstream = column_schema(project.spec, dep.asset_key.path[-1])
            names = [c.name for c in upstream.columns] if upstream else ["model"]
            assert dep.column_name in names
