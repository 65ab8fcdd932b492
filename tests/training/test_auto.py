"""The choice of how to train: by trials on weak dev labels, the same again, every reject told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fm_platform.errors import TrainingError
from fm_platform.spec.training import Auto, Training
from fm_platform.training import auto
from fm_platform.training.auto import Chosen, choose_training
from fm_platform.training.base_model import BaseModel
from tests.support.tiny_model import CLASSES, tiny_config, tiny_rows

ROWS, DEV = tiny_rows(96), tiny_rows(48, 1, split="dev")
GOLD = tiny_rows(40, 2, split="dev")


def config(**changes: Any) -> Training:
    declared = {"ranks": (1, 4), "rates": (0.1, 1.0), "trials": 5, **changes}
    return tiny_config(method="auto", full_learning_rate=1e-2, auto=Auto.model_validate(declared))


def vectors(ids: Sequence[str]) -> Any:
    return np.array([[int(row[-4:]) % 7 + 1, int(row[-4:]) % 5 + 1] for row in ids], np.float32)


def choose(
    base: BaseModel, folder: Path, before: Any = None, gold: Any = None, **changes: Any
) -> Chosen:
    return choose_training(
        ROWS, DEV, base, config(**changes), CLASSES, folder, before, None, vectors, gold
    )


@pytest.fixture(scope="module")
def chosen(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Chosen:
    return choose(base, tmp_path_factory.mktemp("search"))


def test_every_method_is_tried_and_the_least_loss_is_chosen(chosen: Chosen) -> None:
    losses = {
        row["method"]: row["dev_loss"] for row in chosen.trials if row["dev_loss"] is not None
    }
    best = [row for row in chosen.trials if row["state"] == "chosen"]

    assert {row["method"] for row in chosen.trials[:4]} == {"lora", "rslora", "full", "head"}
    assert len(chosen.trials) == 5
    assert len(best) == 1
    assert best[0]["dev_loss"] == min(losses.values())
    assert chosen.settings["method"] == best[0]["method"]
    assert f"{best[0]['method']}" in chosen.told
    assert Training.model_validate({**config().model_dump(by_alias=True), **chosen.settings})


def test_the_same_search_gives_the_same_answer(
    chosen: Chosen, base: BaseModel, tmp_path: Path
) -> None:
    again = choose(base, tmp_path)

    assert again.settings == chosen.settings
    assert [(r["method"], r["dev_loss"]) for r in again.trials] == [
        (r["method"], r["dev_loss"]) for r in chosen.trials
    ]


def test_a_search_begins_with_what_was_chosen_before(base: BaseModel, tmp_path: Path) -> None:
    before = {"method": "rslora", "rank": 4, "learning_rate": 1e-3, "frozen_layers": 0}
    found = choose(base, tmp_path, before, trials=2, methods=("head", "rslora"))

    assert [(r["method"], r["rank"], r["rate"]) for r in found.trials] == [
        ("rslora", 4, 0.1), ("head", None, 1.0),
    ]  # fmt: skip


def test_losses_weights_and_subsets_are_tried_where_declared(
    base: BaseModel, tmp_path: Path
) -> None:
    found = choose(
        base, tmp_path, methods=("head",), ranks=(4,), rates=(1.0,), trials=4,
        losses=("soft", "generalised"), weights=("none", "confidence"), subsets=(1.0, 0.5),
    )  # fmt: skip
    best = next(row for row in found.trials if row["state"] == "chosen")

    assert [(r["loss"], r["weights"], r["subset"]) for r in found.trials] == [
        ("soft", "none", 1.0), ("generalised", "none", 1.0), ("soft", "confidence", 1.0),
        ("soft", "none", 0.5),
    ]  # fmt: skip
    assert {name: found.settings[name] for name in ("loss", "weights", "subset")} == {
        name: best[name] for name in ("loss", "weights", "subset")
    }
    assert found.trials[0]["dev_loss"] != found.trials[1]["dev_loss"]
    assert f"{best['loss']} loss, weights {best['weights']}, " in found.told


def test_a_project_that_declares_no_such_choice_gets_none(chosen: Chosen) -> None:
    assert not {"loss", "weights", "subset"} & set(chosen.settings)
    assert {(r["loss"], r["weights"], r["subset"]) for r in chosen.trials} == {("soft", "none", 1)}
    assert not any("gold_accuracy" in row for row in chosen.trials)


def test_gold_rows_are_shown_beside_and_judge_where_declared(
    base: BaseModel, tmp_path: Path
) -> None:
    weak = choose(base, tmp_path / "weak", gold=GOLD, trials=2, methods=("head", "full"))
    gold = choose(
        base, tmp_path / "gold", gold=GOLD, trials=2, methods=("head", "full"), judge="gold"
    )

    accuracies = [row["gold_accuracy"] for row in weak.trials]
    assert all(0 <= value <= 1 for value in accuracies)
    assert "log loss on weak dev labels" in weak.told
    assert [row["gold_accuracy"] for row in gold.trials] == accuracies
    best = next(row for row in gold.trials if row["state"] == "chosen")
    assert best["gold_accuracy"] == max(accuracies)
    assert "accuracy on gold dev rows" in gold.told


def test_gold_rows_must_be_there_to_judge(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="needs dev rows that people labeled"):
        choose(base, tmp_path, judge="gold")


def test_a_loss_that_is_not_finite_is_a_reject_and_no_end(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = auto._JudgedLoop._losses

    def losses(self: Any, rows: Any, batch: Any) -> Any:
        broken = self.config.method == "full" and rows is self.rows
        return real(self, rows, batch) * (float("nan") if broken else 1.0)

    monkeypatch.setattr(auto._JudgedLoop, "_losses", losses)
    found = choose(base, tmp_path, trials=2, methods=("full", "head"))

    assert [(r["method"], r["state"]) for r in found.trials] == [
        ("full", "failed"), ("head", "chosen"),
    ]  # fmt: skip
    assert "not finite" in found.trials[0]["why"]
    with pytest.raises(TrainingError, match="no way to train succeeded"):
        choose(base, tmp_path, trials=1, methods=("full",))


def test_what_the_minutes_do_not_allow_is_said(base: BaseModel, tmp_path: Path) -> None:
    found = choose(base, tmp_path, minutes=1e-9)

    assert (len(found.trials), found.left_out) == (1, 4)
    assert "4 trials were left out" in found.told


def test_without_dev_rows_nothing_is_chosen(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="dev rows to judge by"):
        choose_training(ROWS, DEV.slice(0, 0), base, config(), CLASSES, tmp_path)
