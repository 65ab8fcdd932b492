"""A model written out as links: no bytes are copied, and any reader of checkpoints opens it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fm_platform.errors import CorruptArtifactError
from fm_platform.store.models import ModelStore
from tests.store.models import flip_bit, make_model, object_file


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", tmp_path / "key")


def test_every_tensor_is_a_linked_shard(store: ModelStore, tmp_path: Path) -> None:
    ref = store.publish(make_model(tmp_path / "staged"), {})
    whole = load_file(store.open(ref.content_hash) / "adapter_model.safetensors")

    store.export(ref.content_hash, tmp_path / "out")

    index = json.loads((tmp_path / "out" / "adapter_model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in whole.values())
    assert set(index["weight_map"]) == set(whole)
    for tensor, shard in index["weight_map"].items():
        path = tmp_path / "out" / shard
        assert np.array_equal(load_file(path)[tensor], whole[tensor])
        assert path.stat().st_nlink == 2
    assert (tmp_path / "out" / "tokenizer" / "tokenizer.json").stat().st_nlink == 2


def test_a_damaged_model_is_not_written_out(store: ModelStore, tmp_path: Path) -> None:
    ref = store.publish(make_model(tmp_path / "staged"), {})
    flip_bit(object_file(store, ref.content_hash), np.random.default_rng(0))

    with pytest.raises(CorruptArtifactError):
        store.export(ref.content_hash, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_links_are_not_allowed_bytes_are_copied(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = store.publish(make_model(tmp_path / "staged"), {})

    def refuse(*_args: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    store.export(ref.content_hash, tmp_path / "out")

    assert (tmp_path / "out" / "config.json").stat().st_nlink == 1
