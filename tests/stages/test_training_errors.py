"""What goes wrong in training: a clear error each time, and the last good version stays in use."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fm_platform.errors import (
    BaseModelError,
    CorruptArtifactError,
    NonFiniteLossError,
    TrainingError,
)
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import Expert
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.common import StageResult
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.predict import classifier
from fm_platform.stages.silent import why_left_out, with_rows
from fm_platform.training.loop import TrainingLoop
from fm_platform.training.predict import predict_probabilities
from fm_platform.workspace import Workspace
from tests.stages.small import Built
from tests.support.tiny_model import build_tiny_base

Change = Callable[..., LoadedProject]


@pytest.fixture
def other(built: Built, tmp_path: Path, request: pytest.FixtureRequest) -> Change:
    """The project in a folder of its own, with a seed of its own: what is built there is new."""
    folder = tmp_path / "project"
    shutil.copytree(built[1].directory, folder)

    def change(**fields: Any) -> LoadedProject:
        spec = built[1].spec
        training = spec.training.model_copy(update={"seed": 100 + len(request.node.name)})
        fields = {"training": training, **fields}
        return replace(built[1], spec=spec.model_copy(update=fields), directory=folder)

    return change


@pytest.fixture(autouse=True)
def last_good_version(built: Built) -> Iterator[None]:
    """Whatever happens, what was in use is in use, and answers."""
    ws, loaded, results = built
    yield
    used = ws.ledger.latest("small", "adapter", "mail")
    champion = ws.ledger.alias("small", "champion")
    assert used is not None
    assert champion is not None
    assert used.content_hash == results["mail"].version.content_hash
    assert champion.content_hash == results["merged"].version.content_hash
    assert predict_probabilities(classifier(ws, loaded, champion), ["good"]).shape == (1, 3)


def train(ws: Workspace, project: LoadedProject) -> StageResult:
    return build_adapter(ws, project, "mail", RunContext(), SilentReporter())


def test_a_loss_that_is_not_finite(
    built: Built, other: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainingLoop._losses
    monkeypatch.setattr(
        TrainingLoop, "_losses", lambda self, rows, batch: real(self, rows, batch) * math.nan
    )
    with pytest.raises(NonFiniteLossError, match="not finite"):
        train(built[0], other())


def test_out_of_memory_halves_the_batch_and_goes_on(
    built: Built, other: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrainingLoop._losses

    def losses(self: TrainingLoop, rows: Any, batch: Any) -> Any:
        if rows is self.rows and len(batch) > 3:
            raise torch.OutOfMemoryError("the device is full")
        return real(self, rows, batch)

    monkeypatch.setattr(TrainingLoop, "_losses", losses)
    result = train(built[0], other())

    assert int(result.metrics["batch_splits"]) > 1
    assert all(check.passed for check in result.checks)
    train(built[0], built[1])  # the one before is in use again


def test_another_list_of_classes(built: Built, other: Change) -> None:
    classes = ("bad", "neutral", "good")
    taxonomy = built[1].spec.taxonomy.model_copy(update={"classes": classes})

    with pytest.raises(TrainingError, match="another list of classes") as error:
        train(built[0], other(taxonomy=taxonomy))
    assert "good" in str(error.value)
    assert "positive" in str(error.value)


def test_a_tokenizer_that_knows_more_than_the_model(built: Built, other: Change) -> None:
    project = other()
    with (project.directory / "base" / "vocab.txt").open("a") as file:
        file.write("strange\nstranger\n")

    with pytest.raises(BaseModelError, match="the tokenizer is not the model's") as error:
        build_start(built[0], project, RunContext(), SilentReporter())
    assert "at most" in str(error.value)


def test_a_tokenizer_with_other_numbers_for_its_words(built: Built, other: Change) -> None:
    project = other()
    path = project.directory / "base" / "vocab.txt"
    words = path.read_text().splitlines()
    path.write_text("\n".join([*words[:-2], words[-1], words[-2]]) + "\n")

    with pytest.raises(TrainingError, match="another base model") as error:
        train(built[0], project)
    assert "retrain" in str(error.value)


def test_an_adapter_of_another_base(built: Built, other: Change) -> None:
    project = other()
    shutil.rmtree(project.directory / "base")
    build_tiny_base(project.directory / "base", seed=5)

    with pytest.raises(TrainingError, match="another base model"):
        train(built[0], project)


def test_an_expert_whose_sources_are_silent_changes_nothing(built: Built) -> None:
    ws, loaded, results = built
    phone = Expert(name="phone", sources=("phone",))
    spec = loaded.spec.model_copy(update={"experts": (*loaded.spec.experts, phone)})
    declared = replace(loaded, spec=spec)

    known = with_rows(ws, declared)

    assert why_left_out(ws, declared, "mail") is None
    assert "no row of phone to train on came through" in str(why_left_out(ws, declared, "phone"))
    merged = build_merged_model(ws, known, RunContext(), SilentReporter())
    assert (merged.reused, merged.version.id) == (True, results["merged"].version.id)


def test_an_adapter_file_that_was_tampered_with(built: Built, other: Change) -> None:
    ws, loaded, results = built
    version = results["mail"].version
    opened = ws.model_path(version) / "adapter_model.safetensors"  # what a merge would read
    alone = ws.models.unnamed(frozenset({version.content_hash}))
    stored = ws.models.objects.path(max(alone, key=ws.models.objects.size))
    for weights in (opened, stored):
        data = bytearray(weights.read_bytes())
        data[-3] ^= 1
        weights.unlink()  # they may be one file under two names
        weights.write_bytes(bytes(data))

    with pytest.raises(CorruptArtifactError):
        build_merged_model(ws, other(), RunContext(), SilentReporter())
    healed = train(ws, loaded)

    assert not healed.reused
    assert healed.version.content_hash == version.content_hash
