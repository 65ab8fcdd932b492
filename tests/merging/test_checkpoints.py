"""Whole checkpoints merged as a stream, against the same sums in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.checkpoints import Checkpoint, merge_checkpoints
from fm_platform.merging.methods import METHODS, Layer, Settings

SHAPES = {"embed": (7, 4), "layer.weight": (4, 4), "layer.bias": (4,), "scale": ()}


def model(folder: Path, seed: int, dtype: torch.dtype = torch.float32) -> Path:
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    tensors = {n: torch.randn(s, generator=generator).to(dtype) for n, s in SHAPES.items()}
    save_file({**tensors, "steps": torch.tensor([3, 4])}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    return folder


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [model(tmp_path / f"m{i}", i) for i in range(3)]


@pytest.mark.parametrize("method", ["linear", "ties", "dare", "svd"])
@pytest.mark.parametrize("from_base", [False, True])
def test_the_stream_gives_what_memory_gives(
    models: list[Path], tmp_path: Path, method: str, from_base: bool
) -> None:
    base = model(tmp_path / "base", 9) if from_base else None
    weights, settings = [0.5, 0.3, 0.4], Settings(density=0.5, rank=2, seed=1)
    done = merge_checkpoints(models, weights, tmp_path / "out", base=base, method=method,
                             settings=settings, shard_bytes=130)  # fmt: skip

    assert (done.tensors, done.copied) == (4, 1)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    opened, loaded = Checkpoint(tmp_path / "out"), [load_file(m / "model.safetensors")
                                                    for m in models]  # fmt: skip
    for name in SHAPES:
        begun = load_file(base / "model.safetensors")[name] if base else torch.zeros(SHAPES[name])
        updates = [tensors[name] - begun for tensors in loaded]
        wanted = begun + METHODS.get(method)(Layer(name, updates), weights, settings)
        assert torch.allclose(opened.read(name), wanted, atol=1e-6), name
    assert opened.read("steps").tolist() == [3, 4]
    assert (tmp_path / "out" / "config.json").is_file()


def test_one_file_is_read_by_everybody(models: list[Path], tmp_path: Path) -> None:
    merge_checkpoints(models[:1], [1.0], tmp_path / "out")

    ours, theirs = (load_file(f / "model.safetensors") for f in (tmp_path / "out", models[0]))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_half_precision_is_summed_in_full(tmp_path: Path) -> None:
    halves = [model(tmp_path / f"h{i}", i, torch.bfloat16) for i in range(2)]
    merge_checkpoints(halves, [0.5, 0.5], tmp_path / "out")

    found = load_file(tmp_path / "out" / "model.safetensors")["embed"]
    first, second = (load_file(h / "model.safetensors")["embed"].float() for h in halves)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, ((first * 0.5) + (second * 0.5)).bfloat16())


def refused(match: str, models: list[Path], out: Path, **settings: object) -> None:
    with pytest.raises(MergeRefusedError, match=match):
        merge_checkpoints(models, [1 / len(models)] * len(models), out, **settings)  # type: ignore[arg-type]
    assert not [p for p in out.parent.iterdir() if p.name.startswith((".out", "out"))]


def test_what_does_not_fit_is_refused_and_leaves_nothing(
    models: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    refused("needs|knows", models, out, method="regmean")
    (tmp_path / "none").mkdir()
    refused("holds no model", [tmp_path / "none"], out)
    file = models[1] / "model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "embed": torch.zeros(9, 4)}, file)
    refused(r"different architectures[\s\S]*embed: \(9, 4\)", models, out)
    save_file({**tensors, "steps": torch.tensor([0, 4])}, file)
    refused("whole numbers", models, out)
    save_file({**tensors, "scale": torch.tensor(float("nan"))}, file)
    refused("not finite", models, out)
    file.write_bytes(b"not a model at all")
    refused("no safetensors file", models, out)
    (tmp_path / "here").mkdir()
    with pytest.raises(MergeRefusedError, match="there already"):
        merge_checkpoints(models[:1], [1.0], tmp_path / "here")


def test_an_index_names_only_its_own_folder(models: list[Path], tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    index = {"weight_map": {"embed": "../m0/model.safetensors"}}
    (odd / "model.safetensors.index.json").write_text(json.dumps(index))

    refused("files elsewhere", [odd], tmp_path / "out")
