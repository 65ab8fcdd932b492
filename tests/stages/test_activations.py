"""A project with frozen layers: a retrain computes the states of new texts, and of damaged ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import status
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import SilentReporter
from fm_platform.stages.activations import Activations
from fm_platform.stages.adapters import build_start
from fm_platform.stages.models import training_days
from fm_platform.stages.probe import probe
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, Built

RUN, LOG = RunContext(), SilentReporter()


@pytest.fixture
def frozen(built: Built, tmp_path: Path) -> tuple[Workspace, LoadedProject]:
    """The small project with one frozen layer, in a home of its own that has its tables."""
    ws, loaded, _ = built
    shutil.copytree(ws.home.root, tmp_path / "home", symlinks=True)
    training = loaded.spec.training.model_copy(update={"frozen_layers": 1, "epochs": 1})
    spec = loaded.spec.model_copy(update={"training": training})
    return Workspace.open(Home(tmp_path / "home")), LoadedProject(
        spec, loaded.directory, loaded.file
    )


def computed(ws: Workspace) -> dict[str, int]:
    """Return day -> texts that were run through the frozen layers for the version in use."""
    held = ws.ledger.all_latest("small", kind="activations")
    return {str(v.partition): v.metrics["numbers"]["computed"] for v in held}


def test_the_states_are_artifacts_and_known_texts_are_not_computed_again(
    frozen: tuple[Workspace, LoadedProject],
) -> None:
    ws, loaded = frozen
    first = build_start(ws, loaded, RUN, LOG)
    counts = computed(ws)
    rows = {(r.kind, r.state) for r in status(ws.ledger, loaded.spec, probe(ws, loaded))}

    assert first.metrics["frozen_layers"] == 1
    assert set(counts) == set(DAYS)
    assert min(counts.values()) > 50
    assert {("activations", "fresh"), ("start", "fresh")} <= rows
    assert build_start(ws, loaded, RUN, LOG).reused

    # a day whose rows were cleaned another way: another input, the same texts
    day = training_days(ws, loaded.spec)[0]
    other = type(day)(**{**vars(day), "content_hash": "0" * 64})
    before = ws.ledger.latest("small", "activations", "below_1", DAYS[0])
    known = Activations(ws, loaded, RUN, LOG, 1).version(other)
    assert known.content_hash == before.content_hash
    assert known.metrics["numbers"]["computed"] == 0


def test_damaged_states_are_computed_again_and_the_model_is_the_same(
    frozen: tuple[Workspace, LoadedProject],
) -> None:
    ws, loaded = frozen
    first = build_start(ws, loaded, RUN, LOG)
    name = ws.states.hashes()[0]
    path = ws.states.root / name[:2] / f"{name}.states"
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 97):
        data[at] ^= 1
    path.write_bytes(bytes(data))
    ws.models.quarantine(first.version.content_hash)  # so that it must be trained again
    again = build_start(ws, loaded, RUN, LOG)

    assert not again.reused
    assert again.version.content_hash == first.version.content_hash
    assert not ws.states.open(name).damage()
    assert list((ws.states.root / "_damaged").iterdir())
