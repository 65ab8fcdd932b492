"""The card of a real small model: complete, from the ledger, and an error where it cannot be."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from fm_platform.errors import FMError, TrackingError
from fm_platform.evaluation.metrics import Interval
from fm_platform.evaluation.table import EvaluationRow, EvaluationTable
from fm_platform.lineage.records import ArtifactVersion, RunContext
from fm_platform.stages.definition import record_definition
from fm_platform.stages.export.card import limits, model_card
from fm_platform.tracking.model_card import base_card, languages
from fm_platform.workspace import Workspace
from tests.stages.small import Built

BASE_CARD = "---\nlicense: mit\nlanguage: en\n---\n# A base\n"


@pytest.fixture
def base(built: Built) -> Iterator[Path]:
    """The folder of the base model, with a card of its own."""
    folder = built[1].directory / "base"
    (folder / "README.md").write_text(BASE_CARD)
    yield folder
    (folder / "README.md").unlink(missing_ok=True)


@pytest.fixture
def model(built: Built) -> ArtifactVersion:
    """The merged model, as a git checkout with a description would have made it."""
    version = built[2]["merged"].version
    return replace(
        version, git_commit="f" * 40, git_dirty=True,
        config={**version.config, "description": "Tells moods apart."},
    )  # fmt: skip


def card(built: Built, model: ArtifactVersion) -> str:
    return model_card(built[0], model, built[1].directory)


def missing(built: Built, model: ArtifactVersion) -> str:
    with pytest.raises(TrackingError, match="not known") as error:
        card(built, model)
    return str(error.value)


def test_the_card_names_data_experts_numbers_and_code(
    built: Built, base: Path, model: ArtifactVersion
) -> None:
    text = card(built, model)
    data = ModelCard(text).data

    assert (data.license, data.language, data.base_model) == ("mit", ["en"], "base")
    scores = {(r.dataset_name, r.metric_name): r.metric_value for r in data.eval_results}
    rows = built[2]["evaluation"].version.metrics["evaluation"]["rows"]
    mine = next(r for r in rows if (r["system"], r["source"]) == ("merged_model", "all"))
    assert scores["all sources", "accuracy"] == mine["accuracy"]["value"]
    for day in ("2026-01-01", "2026-01-02"):
        version = built[0].ledger.latest("small", "cleaned", "cleaned", day)
        assert version is not None
        assert version.content_hash in text
    for name in ("mail", "chat"):
        assert built[2][name].version.content_hash[:12] in text
    assert "good\\_words" in text
    assert "f" * 40 + " with changes that no commit holds" in text
    assert str(built[1].directory) not in text


def test_the_same_history_gives_the_same_card(
    built: Built, base: Path, model: ArtifactVersion
) -> None:
    assert card(built, model) == card(built, model)


def test_every_missing_field_is_named_with_where_it_comes_from(
    built: Built, model: ArtifactVersion
) -> None:
    bare = replace(model, git_commit=None, config={**model.config, "description": " "})

    told = missing(built, bare)

    for expected in (
        "license: base_model.license in the project file",
        "language: a language rule under cleaning",
        "git_commit: a build from a git checkout",
        "description: description in the project file",
    ):
        assert expected in told


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"metrics": {}}, "experts"),
        ({"inputs": ()}, "inputs"),
        ({"config": {}}, "merge_method"),
        ({"content_hash": "0" * 64}, "evaluation"),
    ],
)
def test_a_record_with_a_gap_makes_no_card(
    built: Built, base: Path, model: ArtifactVersion, change: dict[str, Any], name: str
) -> None:
    assert f"\n    {name}: " in missing(built, replace(model, **change))


def test_a_model_older_than_the_first_definition_makes_no_card(
    built: Built, base: Path, model: ArtifactVersion
) -> None:
    early = replace(model, created_at=model.created_at.replace(year=2020))

    assert "\n    taxonomy_version: " in missing(built, early)


def test_the_card_of_another_base_model_is_not_believed(
    built: Built, base: Path, model: ArtifactVersion
) -> None:
    kept = (base / "config.json").read_text()
    (base / "config.json").write_text(kept.replace('"vocab_size"', ' "vocab_size"'))
    try:
        told = missing(built, model)
    finally:
        (base / "config.json").write_text(kept)

    assert "license" in told


def test_a_base_model_that_is_gone_leaves_the_licence_unknown(
    built: Built, base: Path, model: ArtifactVersion, tmp_path: Path
) -> None:
    shutil.move(base, tmp_path / "away")
    try:
        told = missing(built, model)
    finally:
        shutil.move(tmp_path / "away", base)

    assert "license" in told


def test_a_licence_declared_after_the_model_was_made_counts(
    built: Built, model: ArtifactVersion
) -> None:
    ws, loaded, _ = built
    declared = loaded.spec.base_model.model_copy(update={"license": "apache-2.0"})
    later = replace(loaded, spec=loaded.spec.model_copy(update={"base_model": declared}))
    record_definition(ws, later, RunContext())
    try:
        told = missing(built, model)
    finally:
        record_definition(ws, loaded, RunContext())

    assert "language: " in told
    assert "license: " not in told
    assert "license: " in missing(built, model)


def test_only_a_merged_model_has_a_card(built: Built) -> None:
    with pytest.raises(FMError, match="only a merged model"):
        card(built, built[2]["mail"].version)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BASE_CARD, {"license": "mit", "language": "en"}),
        ("# no metadata\n", {}),
        ("---\n- a list\n---\n", {}),
        ("---\nlicense: [\n---\n", {}),
        ("", {}),
    ],
)
def test_metadata_of_a_base_model_is_read_or_empty(
    tmp_path: Path, text: str, expected: dict[str, Any]
) -> None:
    (tmp_path / "README.md").write_text(text)

    found = base_card(tmp_path)

    assert {k: found[k] for k in expected} == expected
    assert expected or not found.get("license")


def test_languages_come_from_the_base_model_where_no_rule_says_otherwise() -> None:
    assert languages(None, {"language": ["de", "en"]}) == ("de", "en")
    assert languages(None, {"language": "de"}) == ("de",)
    assert languages(None, {}) == ()


def row(system: str, source: str, low: float, value: float, high: float) -> EvaluationRow:
    interval = Interval(value, low, high)
    return EvaluationRow(system, source, 100, interval, interval, interval, None, None)


def test_known_failures_are_those_beyond_the_intervals() -> None:
    table = EvaluationTable(
        (
            row("merged_model", "all", 0.68, 0.70, 0.72),
            row("merged_model", "weak", 0.55, 0.60, 0.65),
            row("merged_model", "unsure", 0.60, 0.66, 0.75),
            row("vader", "weak", 0.70, 0.72, 0.75),
            row("vader", "unsure", 0.70, 0.72, 0.75),
            row("human", "unsure", 0.90, 0.92, 0.95),
        )
    )

    told = limits(table)

    assert len(told) == 2
    assert told[0].startswith("It is weaker on weak than on average")
    assert told[1].startswith("On weak vader is better: 0.720 against 0.600")
    assert limits(EvaluationTable(table.rows[3:])) == ()


def test_the_card_in_the_model_folder_says_what_is_not_known(built: Built) -> None:
    ws: Workspace = built[0]
    data = ModelCard((ws.model_path(built[2]["merged"].version) / "README.md").read_text()).data

    assert (data.license, data.language) == ("unknown", ["und"])
