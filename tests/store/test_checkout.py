from __future__ import annotations

import gc
from pathlib import Path

import pytest

from fm_platform.errors import HomeError
from fm_platform.store.models import ModelStore
from tests.store.models import make_model
from tests.support.disk import read_only


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    return make_model(tmp_path / "staged")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", tmp_path / "keys" / "manifest.key")


def test_a_checkout_that_is_there_opens_where_nothing_can_be_written(
    store: ModelStore, staged: Path, tmp_path: Path
) -> None:
    ref = store.publish(staged, {})
    other = store.publish(make_model(tmp_path / "other", 1), {})
    store.checkouts.drop(other.content_hash)

    with read_only(tmp_path / "models"):
        again = ModelStore(tmp_path / "models", tmp_path / "keys" / "manifest.key")
        assert (again.open(ref.content_hash) / "config.json").is_file()
        with pytest.raises(HomeError, match="the store cannot be written"):
            again.open(other.content_hash)


def test_what_clearing_the_checkouts_would_free_is_what_it_frees(
    staged: Path, tmp_path: Path
) -> None:
    store = ModelStore(tmp_path / "models", tmp_path / "keys" / "manifest.key")
    store.publish(staged, {})
    (store.checkouts.folder / ".abc-1").mkdir()
    (store.checkouts.folder / ".abc-1" / "half").write_bytes(b"half")

    again = ModelStore(tmp_path / "models", tmp_path / "keys" / "manifest.key")
    assert again.checkouts.unused_bytes() == 4  # the other one is open in this process
    del store
    gc.collect()
    told = again.checkouts.unused_bytes()

    assert told > 4
    assert again.checkouts.clear() == told
    assert again.checkouts.unused_bytes() == 0
