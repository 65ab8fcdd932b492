"""Per-tensor change against matrices of known norm and rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fm_platform.errors import MissingArtifactError
from fm_platform.stages.diff import tensors
from fm_platform.stages.diff.tensors import tensors_change


def dense(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.clone() for k, v in tensors.items()}, folder / "model.safetensors")
    return folder


def lora(folder: Path, b: torch.Tensor, a: torch.Tensor, alpha: float, head: torch.Tensor) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rank = a.shape[0]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    facts = {"base": "base", "base_content_hash": "b" * 64, "classes": ["x", "y"]}
    (folder / "fm_adapter.json").write_text(json.dumps(facts))
    prefix = "base_model.model."
    save_file(
        {
            f"{prefix}layer.lora_A.weight": a.contiguous(),
            f"{prefix}layer.lora_B.weight": b.contiguous(),
            f"{prefix}classifier.weight": head.contiguous(),
        },
        folder / "adapter_model.safetensors",
    )
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def noise(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator)


@pytest.mark.parametrize("rank", [1, 4, 8])
@pytest.mark.parametrize("shape", [(48, 32), (32, 96)])
def test_the_rank_of_a_merged_update_is_seen_through_rounding(
    tmp_path: Path, generator: torch.Generator, rank: int, shape: tuple[int, int]
) -> None:
    weight = noise(generator, *shape)
    update = 0.01 * noise(generator, shape[0], rank) @ noise(generator, rank, shape[1])
    before = dense(tmp_path / "a", {"w": weight, "same": weight})
    after = dense(tmp_path / "b", {"w": weight + update, "same": weight})

    told = tensors_change(before, after)

    (change,) = told.tensors
    assert (told.form, told.total, told.equal) == ("dense", 2, 1)
    assert (change.name, change.status, change.shape, change.rank) == ("w", "changed", shape, rank)
    assert change.norm == pytest.approx(float(update.norm()), rel=1e-4)
    assert change.relative == pytest.approx(float(update.norm() / weight.norm()), rel=1e-4)
    assert change.largest == pytest.approx(float(update.abs().max()), rel=1e-3)
    assert change.stable_rank is not None
    assert 1 <= change.stable_rank <= rank + 1e-3


@pytest.mark.parametrize("shape", [(50, 20), (20, 50), (7,), (3, 4, 5), (0, 4), ()])
def test_a_large_tensor_is_summed_in_pieces(
    tmp_path: Path,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
    shape: tuple[int, ...],
) -> None:
    one, two = noise(generator, *shape), noise(generator, *shape)
    folders = dense(tmp_path / "a", {"w": one}), dense(tmp_path / "b", {"w": two})
    whole = tensors_change(*folders)

    monkeypatch.setattr(tensors, "_ENTRIES_AT_ONCE", 3)
    pieces = tensors_change(*folders)

    assert pieces.norm == pytest.approx(whole.norm)
    assert pieces.norm == pytest.approx(float((two - one).norm()), rel=1e-5)
    for small, large in zip(pieces.tensors, whole.tensors, strict=True):
        assert (small.rank, small.largest) == (large.rank, large.largest)
        assert small.stable_rank == (
            None if large.stable_rank is None else pytest.approx(large.stable_rank)
        )


def test_a_zero_with_another_sign_is_not_equal_in_every_bit(tmp_path: Path) -> None:
    before = dense(tmp_path / "a", {"w": torch.tensor([0.0, 1.0])})
    after = dense(tmp_path / "b", {"w": torch.tensor([-0.0, 1.0])})

    (change,) = tensors_change(before, after).tensors

    assert (change.status, change.norm) == ("changed", 0.0)


def test_rounding_alone_has_no_rank(tmp_path: Path, generator: torch.Generator) -> None:
    weight = noise(generator, 64, 64)
    rounded = (weight * 1.1) / 1.1

    (change,) = tensors_change(
        dense(tmp_path / "a", {"w": weight}), dense(tmp_path / "b", {"w": rounded})
    ).tensors

    assert change.rank == 0
    assert change.relative is not None
    assert change.relative < 1e-6


def test_half_precision_is_compared_at_its_own_resolution(
    tmp_path: Path, generator: torch.Generator
) -> None:
    weight = noise(generator, 40, 40)
    update = 0.5 * noise(generator, 40, 2) @ noise(generator, 2, 40)
    before = dense(tmp_path / "a", {"w": weight.bfloat16()})
    after = dense(tmp_path / "b", {"w": (weight + update).bfloat16()})

    (change,) = tensors_change(before, after).tensors

    assert change.rank == 2


def test_new_gone_and_reshaped_tensors_are_named(tmp_path: Path) -> None:
    one = torch.ones(3, 2)
    before = dense(tmp_path / "a", {"head": one, "old": one, "kept": one})
    after = dense(tmp_path / "b", {"head": torch.ones(4, 2), "new": one, "kept": one})

    told = tensors_change(before, after)

    assert [(t.name, t.status) for t in told.tensors] == [
        ("head", "reshaped"), ("new", "new"), ("old", "gone"),
    ]  # fmt: skip
    assert (told.total, told.equal, told.norm) == (4, 1, 0.0)


def test_vectors_and_integers_have_no_rank(tmp_path: Path) -> None:
    before = dense(tmp_path / "a", {"bias": torch.zeros(3), "ids": torch.arange(4)})
    after = dense(tmp_path / "b", {"bias": torch.ones(3), "ids": torch.arange(4) + 1})

    bias, ids = tensors_change(before, after).tensors

    assert (bias.norm, bias.relative, bias.rank) == (pytest.approx(3**0.5), None, None)
    assert ids.norm == pytest.approx(2.0)


def test_other_files_that_differ_are_named_but_not_the_manifest(tmp_path: Path) -> None:
    folders = [dense(tmp_path / name, {"w": torch.ones(2)}) for name in "ab"]
    for name, folder in zip("ab", folders, strict=True):
        (folder / "README.md").write_text(name)
        (folder / "fm_manifest.json").write_text(name)
        (folder / "config.json").write_text("{}")
    (folders[1] / "more.txt").write_text("x")

    from fm_platform.store.manifest import MANIFEST

    for folder in folders:
        (folder / "fm_manifest.json").rename(folder / MANIFEST)
    told = tensors_change(*folders)

    assert told.files == ("README.md", "more.txt")
    assert told.equal == told.total == 1


def test_adapters_are_compared_by_their_updates_not_their_factors(
    tmp_path: Path, generator: torch.Generator
) -> None:
    b, a, head = noise(generator, 24, 2), noise(generator, 2, 16), noise(generator, 2, 16)
    turn = torch.tensor([[2.0, 1.0], [0.5, 3.0]])
    before = lora(tmp_path / "a", b, a, 4.0, head)
    same = lora(tmp_path / "b", b @ turn, torch.linalg.inv(turn) @ a, 4.0, head)

    (change,) = tensors_change(before, same).tensors

    assert change.name == "layer.weight"
    assert change.relative is not None
    assert change.relative < 1e-5
    assert change.rank == 0


def test_adapters_of_different_rank_are_compared(
    tmp_path: Path, generator: torch.Generator
) -> None:
    b, a, head = noise(generator, 24, 2), noise(generator, 2, 16), noise(generator, 2, 16)
    more_b, more_a = noise(generator, 24, 3), noise(generator, 3, 16)
    before = lora(tmp_path / "a", b, a, 4.0, head)
    after = lora(tmp_path / "b", more_b, more_a, 6.0, head + 1)
    expected = 2.0 * (more_b @ more_a) - 2.0 * (b @ a)

    told = tensors_change(before, after)

    classifier, layer = told.tensors if told.tensors[0].name < "d" else told.tensors[::-1]
    assert told.form == "adapter"
    assert layer.shape == (24, 16)
    assert layer.rank == 5
    assert layer.norm == pytest.approx(float(expected.norm()), rel=1e-5)
    assert layer.largest == pytest.approx(float(expected.abs().max()), rel=1e-5)
    assert classifier.name == "classifier.weight"


def test_an_equal_adapter_is_equal_in_every_bit(tmp_path: Path, generator: torch.Generator) -> None:
    b, a, head = noise(generator, 8, 2), noise(generator, 2, 8), noise(generator, 2, 8)
    told = tensors_change(
        lora(tmp_path / "a", b, a, 4.0, head), lora(tmp_path / "b", b, a, 4.0, head)
    )

    assert (told.total, told.equal, told.tensors) == (2, 2, ())


def test_a_folder_without_tensors_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingArtifactError, match="holds no tensors"):
        tensors_change(tmp_path / "empty", dense(tmp_path / "b", {"w": torch.ones(2)}))
