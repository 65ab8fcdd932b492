from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.metadata import artifact_metadata, data_version, link, scalar, table
from fm_platform.home import Home
from fm_platform.spec.load import LoadedProject
from tests.assets.conftest import stage_result

HOME = Home(Path("/srv/fm"))


def test_a_table_day_shows_what_people_look_for(project: LoadedProject) -> None:
    result = stage_result(
        metrics={"label_coverage": 0.9, "kept": 7},
        tables={"per class": [{"class": "praise", "rows": 4}, {"class": "complaint", "rows": 3}]},
        plot_png=b"\x89PNG",
        links={"MLflow run": "http://127.0.0.1:5000/#/runs/1"},
        location={"tables": {"raw": {"table": "shop/raw"}}},
    )

    shown = artifact_metadata(project.spec, "raw", result, HOME)

    assert shown["dagster/partition_row_count"] == dg.MetadataValue.int(7)
    assert shown["dagster/table_name"] == dg.MetadataValue.text("shop/raw")
    assert shown["dagster/uri"] == dg.MetadataValue.text("file:///srv/fm/lake/shop/raw")
    assert shown["content_hash"].value == result.version.content_hash
    assert shown["recipe_hash"].value == result.version.recipe_hash
    assert shown["reused"] == dg.MetadataValue.bool(False)
    assert shown["reason"] == dg.MetadataValue.text("first build")
    assert shown["label_coverage"] == dg.MetadataValue.float(0.9)
    assert shown["plot"].value.startswith("![plot](data:image/png;base64,")
    assert [r.data for r in shown["per class"].records] == result.tables["per class"]
    columns = [column.name for column in shown["dagster/column_schema"].schema.columns]
    assert {"row_id", "text", "split"} <= set(columns)


def test_a_model_is_shown_by_its_folder(project: LoadedProject) -> None:
    result = stage_result("merged_model", None, location={"model": "ab" * 32}, rows=None)

    shown = artifact_metadata(project.spec, "merged_model", result, HOME)

    assert shown["dagster/uri"].value == f"file:///srv/fm/models/ab/{'ab' * 32}"
    assert "dagster/row_count" not in shown


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "file:///etc/passwd", "x"],
)
def test_a_link_of_another_scheme_is_plain_text(address: str) -> None:
    assert link(address) == dg.MetadataValue.text(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:5000/#/x", "https://example.org"])
def test_a_web_link_is_a_link(address: str) -> None:
    assert link(address) == dg.MetadataValue.url(address)


def test_row_text_is_never_markdown(project: LoadedProject) -> None:
    beacon = "![x](http://evil.example/beacon.png)"
    result = stage_result(metrics={"worst": beacon}, tables={"rows": [{"text": beacon}]})

    shown = artifact_metadata(project.spec, "raw", result, HOME)

    assert not any(isinstance(value, dg.MarkdownMetadataValue) for value in shown.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_text(value: float) -> None:
    assert isinstance(scalar(value), dg.TextMetadataValue)


@given(
    st.lists(
        st.dictionaries(
            st.text(min_size=1, max_size=5),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=400),
            max_size=4,
        ),
        max_size=60,
    )
)
def test_any_small_table_can_be_shown(rows: list[dict[str, object]]) -> None:
    shown = table(rows)

    assert len(shown.records) <= 50
    for record in shown.records:
        json.dumps(record.data, allow_nan=False)
        assert all(len(cell) <= 300 for cell in record.data.values() if isinstance(cell, str))


def test_data_version_of_one_day_is_its_content_hash() -> None:
    result = stage_result()

    assert data_version({"2024-01-01": result}).value == result.version.content_hash


def test_data_version_of_a_range_changes_with_any_day() -> None:
    first, second = stage_result(day="2024-01-01"), stage_result(day="2024-01-02")

    both = data_version({"2024-01-01": first, "2024-01-02": second})

    assert both == data_version({"2024-01-02": second, "2024-01-01": first})
    assert both != data_version({"2024-01-01": first, "2024-01-02": first})
