from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from fm_platform.errors import CorruptArtifactError, MissingArtifactError, UnsafePathError
from fm_platform.hashing import fingerprint, sha256_file
from fm_platform.store.manifest import MANIFEST, load_key
from fm_platform.store.models import ModelRef, ModelStore
from tests.store.models import make_model
from tests.support.kill import Ready, moments, run_and_kill


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models", tmp_path / "keys" / "manifest.key")


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    return make_model(tmp_path / "staged")


def test_a_published_folder_opens(store: ModelStore, staged: Path) -> None:
    names = sorted(p.relative_to(staged).as_posix() for p in staged.rglob("*") if p.is_file())
    hashes = [[name, sha256_file(staged / name), (staged / name).stat().st_size] for name in names]

    ref = store.publish(staged, {"recipe": "r1"})
    folder = store.open(ref.content_hash)

    assert not staged.exists()
    assert folder == store.root / ref.content_hash[:2] / ref.content_hash
    assert [file.path for file in ref.files] == names
    assert ref.content_hash == fingerprint(hashes)
    assert ref.bytes == sum(int(str(size)) for _, _, size in hashes)
    assert ModelRef.from_json(json.loads(json.dumps(ref.to_json()))) == ref
    assert store.identity(ref.content_hash) == {"recipe": "r1"}
    assert store.hashes() == [ref.content_hash]


def test_equal_content_is_stored_once(store: ModelStore, tmp_path: Path) -> None:
    first = store.publish(make_model(tmp_path / "a"), {"recipe": "r1"})
    manifest = (store.open(first.content_hash) / MANIFEST).read_bytes()

    second = store.publish(make_model(tmp_path / "b"), {"recipe": "r2"})

    assert second == first
    assert not (tmp_path / "b").exists()
    assert (store.open(first.content_hash) / MANIFEST).read_bytes() == manifest


def test_a_published_folder_can_be_copied_and_published_again(
    store: ModelStore, staged: Path, tmp_path: Path
) -> None:
    ref = store.publish(staged, {})
    copy = tmp_path / "copy"
    shutil.copytree(store.open(ref.content_hash), copy)

    assert store.publish(copy, {}) == ref


@pytest.mark.parametrize("change", ["extra", "missing", "swap", "no manifest", "other key"])
def test_a_changed_folder_does_not_open(
    store: ModelStore, staged: Path, tmp_path: Path, change: str
) -> None:
    other = store.publish(make_model(tmp_path / "other", seed=9), {})
    ref = store.publish(staged, {})
    folder = store.path(ref.content_hash)
    if change == "extra":
        (folder / "generation_config.json").write_text("{}")
    elif change == "missing":
        (folder / "config.json").unlink()
    elif change == "swap":  # whole and signed, but another model
        shutil.rmtree(folder)
        shutil.copytree(store.path(other.content_hash), folder)
    elif change == "no manifest":
        (folder / MANIFEST).unlink()
    else:
        (tmp_path / "keys" / "manifest.key").unlink()
        store = ModelStore(store.root, tmp_path / "keys" / "manifest.key")

    with pytest.raises(CorruptArtifactError):
        store.open(ref.content_hash)


def test_a_damaged_model_is_set_aside_when_published_again(
    store: ModelStore, staged: Path, tmp_path: Path
) -> None:
    ref = store.publish(staged, {})
    (store.path(ref.content_hash) / "config.json").write_text("{}")

    again = store.publish(make_model(tmp_path / "again"), {})

    assert again == ref
    store.verify(ref.content_hash)
    report = json.loads((store.root / "_damaged" / ref.content_hash / "damage.json").read_text())
    assert "config.json" in report["problems"][0]


def test_a_model_that_is_not_there(store: ModelStore) -> None:
    with pytest.raises(MissingArtifactError):
        store.open("0" * 64)
    with pytest.raises(MissingArtifactError):
        store.quarantine("0" * 64)


def test_a_model_moves_in_from_another_disk(
    store: ModelStore, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.rename
    failed: list[Path] = []

    def rename(self: Path, target: Path) -> Path:
        if self == staged and not failed:
            failed.append(self)
            raise OSError(18, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    ref = store.publish(staged, {})

    store.verify(ref.content_hash)
    assert failed
    assert not staged.exists()


def test_the_key_is_private_and_stays(tmp_path: Path) -> None:
    key = load_key(tmp_path / "keys" / "manifest.key")

    assert len(key) == 32
    assert load_key(tmp_path / "keys" / "manifest.key") == key
    assert (tmp_path / "keys" / "manifest.key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "keys") == ["manifest.key"]


def publish_serially(ready: Ready, root: str) -> None:
    store = ModelStore(Path(root) / "models", Path(root) / "keys" / "manifest.key")
    ready()
    first = len(store.hashes()) + 1
    for seed in range(first, first + 100_000):
        staged = Path(root) / f"staged-{os.getpid()}-{seed}"
        store.publish(make_model(staged, seed=seed), {"seed": str(seed)})


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_a_killed_publisher_leaves_no_half_model(tmp_path: Path, count: int) -> None:
    store = ModelStore(tmp_path / "models", tmp_path / "keys" / "manifest.key")
    for moment in moments(7, count, longest_s=0.05):
        run_and_kill(
            publish_serially, (str(tmp_path),), moment, progress=lambda: len(store.hashes())
        )
        for content_hash in store.hashes():
            store.verify(content_hash)


def test_a_link_is_refused(store: ModelStore, staged: Path) -> None:
    (staged / "secret.json").symlink_to("/etc/hostname")

    with pytest.raises(UnsafePathError, match="plain files"):
        store.publish(staged, {})

    assert store.hashes() == []
