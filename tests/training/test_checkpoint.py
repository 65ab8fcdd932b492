"""A checkpoint is whole and of this training, or it is not used."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fm_platform.training import checkpoint

FILES = ("manifest.json", "state.json", "state.safetensors")


def write(folder: Path, step: int = 1) -> None:
    checkpoint.save(folder, {"a": torch.full((3,), float(step))}, {"step": step, "x": 0.1}, "me")


def test_round_trip(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step)

    found = checkpoint.load(tmp_path, "me")

    assert found is not None
    assert found[1] == {"step": 2, "x": 0.1}
    assert found[0]["a"].tolist() == [2.0, 2.0, 2.0]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_there_is_none(tmp_path: Path) -> None:
    assert checkpoint.load(tmp_path, "me") is None


def test_a_checkpoint_of_another_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path)

    assert checkpoint.load(tmp_path, "other") is None
    assert "another training" in caplog.text


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("position", [0, 0.5, 0.99])
def test_a_flipped_bit_is_seen(
    tmp_path: Path, name: str, position: float, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    path = tmp_path / "checkpoint" / name
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 4
    path.write_bytes(bytes(data))

    assert checkpoint.load(tmp_path, "me") is None
    assert "checkpoint not used" in caplog.text


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_seen(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    (tmp_path / "checkpoint" / name).unlink()

    assert checkpoint.load(tmp_path, "me") is None


def test_a_kill_between_the_renames_leaves_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "checkpoint").rename(tmp_path / ".checkpoint.old")

    found = checkpoint.load(tmp_path, "me")
    assert found is not None
    assert found[1]["step"] == 1

    write(tmp_path, 2)
    found = checkpoint.load(tmp_path, "me")
    assert found is not None
    assert found[1]["step"] == 2


def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 1)
    shutil.copytree(tmp_path / "checkpoint", tmp_path / ".checkpoint.old")
    write(tmp_path / "x", 2)
    shutil.rmtree(tmp_path / "checkpoint")
    shutil.copytree(tmp_path / "x" / "checkpoint", tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "state.json").write_text("{}")

    found = checkpoint.load(tmp_path, "me")
    assert found is not None
    assert found[1]["step"] == 1
