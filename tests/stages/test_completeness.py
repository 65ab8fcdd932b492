"""Every version says what it was made from, with what, when and by whom."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.view import record_of
from tests.stages.small import Built

OUTSIDE = {"source", "base_model", "gold", "exemplars", "seen", "file", "function", "taxonomy",
           "code", "environment"}  # fmt: skip
KINDS = (
    "spec", "raw", "votes", "label_model", "weak_labels", "cleaned", "start", "adapter",
    "merged_model", "evaluation",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_of_every_kind_is_complete(built: Built, kind: str) -> None:
    ws, _, _ = built
    versions = ws.ledger.versions("small", kind)
    assert versions
    for listed in versions:
        version = ws.ledger.get(listed.id)
        _inputs_are_versions(version)
        everything = ws.ledger.document(version.run_environment or "")
        assert everything is not None
        assert {"python", "machine", "lock", "packages"} <= set(everything)
        assert everything["lock"]
        if kind != "spec":
            assert isinstance(ws.ledger.document(version.code), Mapping)
            assert ws.ledger.document(version.environment)["packages"]
        assert version.duration_s >= 0
        assert version.bytes is not None or kind in ("label_model",)
        record = record_of(ws.ledger, version)
        assert record["state"] in ("fresh", "replaced")
        assert record["in_use"]


def _inputs_are_versions(version: ArtifactVersion) -> None:
    for item in version.inputs:
        # gold is a summary of rows to a label model, and a part of raw to an evaluation
        outside = item.role in OUTSIDE and (item.role, item.name) != ("gold", "raw")
        assert (item.version_id is None) == outside, item
        assert item.content_hash


def test_functions_and_sources_are_kept_under_their_hashes(built: Built) -> None:
    ws, _, _ = built
    for votes in ws.ledger.versions("small", "votes"):
        assert ws.ledger.document(votes.config["function"])["source"]
    for raw in ws.ledger.versions("small", "raw"):
        for item in ws.ledger.get(raw.id).inputs:
            (file,) = ws.ledger.document(item.content_hash)["files"]
            assert len(file["sha256"]) == 64


def test_tables_say_their_delta_version(built: Built) -> None:
    ws, _, results = built
    record = record_of(ws.ledger, ws.ledger.get(results["merged"].version.id))
    read = [item["delta"] for item in record["inputs"] if item["name"] == "cleaned"]
    assert read
    assert all(table["table"] == "small/cleaned" for table in read)
    assert {table["version"] for table in read} == {1, 2}


@pytest.mark.parametrize("name", ["mail", "chat", "merged", "evaluation"])
def test_models_and_evaluations_name_their_mlflow_run(built: Built, name: str) -> None:
    ws, _, results = built
    version = ws.ledger.get(results[name].version.id)
    assert version.mlflow_run_id is not None


def test_decisions_say_who_and_with_which_numbers(built: Built) -> None:
    ws, _, _ = built
    (decision,) = ws.ledger.decisions("small")
    assert (decision["kind"], decision["actor"]) == ("promotion", "person")
    assert decision["numbers"]["evaluation"]
