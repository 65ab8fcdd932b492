"""Which of several bases is taken, and what is told of the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fm_platform.errors import TrainingError
from fm_platform.spec.models import BaseModelSpec, DeclaredBase
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.choose_base import Candidate, ChosenBase, choose_base, model_bytes
from tests.support.tiny_model import (
    CLASSES,
    build_knowing_base,
    build_tiny_base,
    tiny_config,
    tiny_rows,
)

ROWS, DEV = tiny_rows(150), tiny_rows(80, 1, split="dev")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, BaseModel]:
    folder = tmp_path_factory.mktemp("bases")
    build_knowing_base(folder / "good", 5)
    build_knowing_base(folder / "twin", 5, seed=7)
    build_knowing_base(folder / "half", 3)
    build_knowing_base(folder / "blind", 0)
    return {
        name: resolve_base_model(BaseModelSpec(location=name), folder)
        for name in ("blind", "half", "good", "twin")
    }


def chosen(
    bases: Mapping[str, BaseModel],
    names: Sequence[str],
    folder: Path,
    past: Mapping[str, Sequence[float]] | None = None,
    **declared: Any,
) -> ChosenBase:
    settings = {"probe": "separability", "rows_per_source": 75, "epochs": 3, **declared}
    size = settings.pop("size_mb", None)
    return choose_base(
        ROWS, DEV, [Candidate(name, bases.get(name), "it is gone; bring it back")
                    for name in names],
        DeclaredBase.model_validate({"candidates": [{"location": n} for n in names], **settings}),
        tiny_config(), CLASSES, past or {}, folder, size,
    )  # fmt: skip


def row_of(found: ChosenBase, name: str) -> dict[str, Any]:
    return next(row for row in found.trials if row["candidate"] == name)


@pytest.mark.parametrize("probe", ["separability", "short_run"])
def test_the_base_that_tells_the_classes_apart_is_chosen(
    bases: dict[str, BaseModel], tmp_path: Path, probe: str
) -> None:
    found = chosen(bases, ["blind", "half", "good"], tmp_path, probe=probe)
    assert found.label == "good"
    assert [row["state"] for row in found.trials] == ["tried", "tried", "chosen"]
    agreements = [row["agreement"] for row in found.trials]
    assert agreements == sorted(agreements)  # each reject with its score, in the declared order
    assert row_of(found, "good")["logme"] > row_of(found, "blind")["logme"]
    assert "good was chosen" in found.told
    assert "against" in found.told

    again = chosen(bases, ["good", "half", "blind"], tmp_path / "again", probe=probe)
    seconds = {"cpu_seconds": None}
    for name in ("blind", "half", "good"):  # the same to the last digit, in any order
        assert row_of(again, name) | seconds == row_of(found, name) | seconds


def test_measured_models_decide_a_near_tie(bases: dict[str, BaseModel], tmp_path: Path) -> None:
    plain = chosen(bases, ["good", "twin"], tmp_path)
    loser = next(row["candidate"] for row in plain.trials if row["state"] == "tried")
    winner = plain.label
    margin = row_of(plain, winner)["agreement"] - row_of(plain, loser)["agreement"]
    assert 0 < margin < 0.2
    past = {
        bases[winner].content_hash: [6, -0.2],
        bases[loser].content_hash: [6, 0.2],
    }
    found = chosen(bases, ["good", "twin"], tmp_path, past)
    assert found.label == loser
    assert row_of(found, loser)["outcomes"] == 6
    assert row_of(found, loser)["mean_outcome"] == 0.2
    assert "12 measured models count as well" in found.told

    # a single outcome shifts less, and outcomes of one base alone shift nothing
    one = {name: [1, told[1] / 20] for name, told in past.items()}
    assert chosen(bases, ["good", "twin"], tmp_path, one, prior=50).label == winner
    alone = chosen(bases, ["good", "twin"], tmp_path, {bases[winner].content_hash: [9, -0.5]})
    assert alone.label == winner
    gap = row_of(alone, winner)["expected"] - row_of(alone, loser)["expected"]
    assert gap == pytest.approx(margin, abs=2e-6)


def test_what_is_expected_is_the_shrinkage_average(
    bases: dict[str, BaseModel], tmp_path: Path
) -> None:
    past = {bases["good"].content_hash: [4, 0.1], bases["half"].content_hash: [1, 0.3]}
    found = chosen(bases, ["good", "half", "blind"], tmp_path, past, prior=2)
    a = {name: row_of(found, name)["agreement"] for name in ("good", "half", "blind")}
    gap = (4 * (0.1 - a["good"]) + 1 * (0.3 - a["half"])) / 5
    expected = {
        "good": (2 * (a["good"] + gap) + 4 * 0.1) / 6,
        "half": (2 * (a["half"] + gap) + 0.3) / 3,
        "blind": a["blind"] + gap,
    }
    for name, value in expected.items():
        assert row_of(found, name)["expected"] == pytest.approx(value, abs=1e-5)


def test_a_candidate_that_cannot_be_read_is_named_and_the_others_compete(
    bases: dict[str, BaseModel], tmp_path: Path
) -> None:
    found = chosen(bases, ["lost", "half", "good"], tmp_path)
    assert found.label == "good"
    assert row_of(found, "lost")["state"] == "unreadable"
    assert row_of(found, "lost")["why"] == "it is gone; bring it back"
    assert "lost (unreadable)" in found.told
    with pytest.raises(TrainingError, match="no candidate") as refused:
        chosen(bases, ["lost", "gone"], tmp_path)
    assert "lost: it is gone" in str(refused.value)


def test_damaged_weights_leave_the_choice(bases: dict[str, BaseModel], tmp_path: Path) -> None:
    damaged = build_tiny_base(tmp_path / "damaged")
    settings = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps({**settings, "hidden_size": 32}))
    base = resolve_base_model(BaseModelSpec(location="damaged"), tmp_path)
    found = chosen({**bases, "damaged": base}, ["damaged", "good"], tmp_path)
    assert found.label == "good"
    assert row_of(found, "damaged")["state"] == "unreadable"
    assert (
        "weights do not fit" in row_of(found, "damaged")["why"]
        or "does not load" in row_of(found, "damaged")["why"]
    )


def test_size_and_length_rule_candidates_out(bases: dict[str, BaseModel], tmp_path: Path) -> None:
    short = build_tiny_base(tmp_path / "short", seed=3)
    settings = json.loads((short / "tokenizer_config.json").read_text())
    (short / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 8}))
    base = resolve_base_model(BaseModelSpec(location="short"), tmp_path)
    limit = model_bytes(bases["good"], CLASSES) / 1e6 + 1e-4
    found = chosen({**bases, "short": base}, ["short", "good"], tmp_path, size_mb=limit)
    assert found.label == "good"
    assert row_of(found, "short")["state"] == "ruled out"
    assert row_of(found, "short")["why"] == "it reads 8 tokens, training.max_tokens is 24"
    with pytest.raises(TrainingError, match="no candidate") as refused:
        chosen(bases, ["good", "half"], tmp_path, size_mb=limit / 2)
    assert "gate.constraints.size_mb" in str(refused.value)


def test_short_trainings_end_with_their_number(bases: dict[str, BaseModel], tmp_path: Path) -> None:
    found = chosen(
        bases, ["blind", "good", "half"], tmp_path, probe="short_run", trials=2, epochs=1
    )
    assert found.label == "good"
    assert row_of(found, "blind")["state"] == "not tried"
    assert row_of(found, "blind")["short_loss"] is None
    assert row_of(found, "half")["short_loss"] is not None


def test_without_rows_nothing_is_chosen(bases: dict[str, BaseModel], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="dev rows to judge by"):
        choose_base(
            ROWS, DEV.slice(0, 0), [Candidate("good", bases["good"])], DeclaredBase(),
            tiny_config(), CLASSES, {}, tmp_path,
        )  # fmt: skip
