from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fm_platform.errors import CorruptArtifactError, MissingArtifactError, UnsafePathError
from fm_platform.hashing import fingerprint, sha256_file
from fm_platform.store.manifest import MANIFEST, folder_hash, load_key, scan, write_manifest
from fm_platform.store.models import ModelRef, ModelStore
from tests.store.models import flip_bit, make_model, object_file
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
    found = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    assert sorted(found) == sorted([*names, MANIFEST])
    assert [[n, sha256_file(folder / n), (folder / n).stat().st_size] for n in names] == hashes
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
def test_a_changed_model_does_not_open(
    store: ModelStore, staged: Path, tmp_path: Path, change: str
) -> None:
    other = store.publish(make_model(tmp_path / "other", seed=9), {})
    ref = store.publish(staged, {})
    folder = store.path(ref.content_hash)
    store.checkouts.clear()
    if change == "extra":
        (folder / "generation_config.json").write_text("{}")
    elif change == "missing":
        object_file(store, ref.content_hash, "config.json").unlink()
    elif change == "swap":  # whole and signed, but another model
        shutil.rmtree(folder)
        shutil.copytree(store.path(other.content_hash), folder)
    elif change == "no manifest":
        (folder / MANIFEST).unlink()
    else:
        (tmp_path / "keys" / "manifest.key").unlink()
        store = ModelStore(store.root, tmp_path / "keys" / "manifest.key")

    with pytest.raises(CorruptArtifactError):
        store.verify(ref.content_hash)
    if change != "extra":  # what lies beside a manifest harms no checkout
        store.checkouts.drop(ref.content_hash)
        with pytest.raises(CorruptArtifactError):
            store.open(ref.content_hash)


def test_a_damaged_tensor_is_named_and_set_aside_when_published_again(
    store: ModelStore, staged: Path, tmp_path: Path
) -> None:
    ref = store.publish(staged, {})
    part = "adapter_model.safetensors: layer.2.weight"
    path = object_file(store, ref.content_hash, part)
    flip_bit(path, np.random.default_rng(0))
    damaged = path.read_bytes()

    with pytest.raises(CorruptArtifactError, match=r"layer\.2\.weight is damaged"):
        store.verify(ref.content_hash)
    again = store.publish(make_model(tmp_path / "again"), {})

    assert again == ref
    store.verify(ref.content_hash)
    evidence = store.root / "_damaged" / ref.content_hash
    assert part in json.loads((evidence / "damage.json").read_text())["problems"][0]
    assert (evidence / "objects" / path.name).read_bytes() == damaged


def test_a_damaged_object_that_models_share_is_replaced_by_the_next_publisher(
    store: ModelStore, staged: Path, tmp_path: Path
) -> None:
    first = store.publish(staged, {})
    shared = object_file(store, first.content_hash, "tokenizer/")
    shared.write_bytes(b"{}")

    second = store.publish(make_model(tmp_path / "second", seed=2), {})

    store.verify(second.content_hash)
    store.verify(first.content_hash)  # the same object: healed
    assert (store.root / "_damaged" / "_objects" / shared.name).read_bytes() == b"{}"


def test_a_changed_checkout_is_made_again(store: ModelStore, staged: Path) -> None:
    ref = store.publish(staged, {})
    folder = store.open(ref.content_hash)
    whole = (folder / "config.json").read_bytes()
    (folder / "config.json").write_text("{}")
    (folder / "extra.json").write_text("{}")

    again = store.open(ref.content_hash)

    assert (again / "config.json").read_bytes() == whole
    assert not (again / "extra.json").exists()
    store.verify(ref.content_hash)


def test_a_model_that_is_not_there(store: ModelStore) -> None:
    with pytest.raises(MissingArtifactError):
        store.open("0" * 64)
    with pytest.raises(MissingArtifactError):
        store.quarantine("0" * 64)


def test_a_model_from_another_disk(
    store: ModelStore, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self == staged:
            raise OSError(18, "Invalid cross-device link")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    ref = store.publish(staged, {})

    assert not staged.exists()
    assert (store.open(ref.content_hash) / "config.json").is_file()


def old_folder(store: ModelStore, staged: Path) -> str:
    """Put a model where older versions of the store kept it: as a folder of its files."""
    files = scan(staged)
    write_manifest(staged, files, {"recipe": "old"}, load_key(store._key_file))
    target = store.path(folder_hash(files))
    target.parent.mkdir(parents=True)
    staged.rename(target)
    return target.name


def test_a_folder_of_an_older_version_opens_and_is_packed(
    store: ModelStore, staged: Path, tmp_path: Path
) -> None:
    content_hash = old_folder(store, staged)
    assert store.open(content_hash) == store.path(content_hash)
    assert store.publish(make_model(tmp_path / "again"), {}).content_hash == content_hash

    saved = store.pack(content_hash)

    assert saved == 0 - sum(p.stat().st_size for p in store.objects.root.rglob("*.*")) + sum(
        file.bytes for file in store.ref(content_hash).files
    )
    assert [path.name for path in store.path(content_hash).iterdir()] == [MANIFEST]
    assert store.identity(content_hash) == {"recipe": "old"}
    names = [path.name for path in store.open(content_hash).iterdir()]
    assert "adapter_model.safetensors" in names
    assert store.pack(content_hash) == 0


def test_a_damaged_folder_of_an_older_version_is_not_packed(
    store: ModelStore, staged: Path
) -> None:
    content_hash = old_folder(store, staged)
    (store.path(content_hash) / "config.json").write_text("{}")

    with pytest.raises(CorruptArtifactError, match=r"config\.json"):
        store.pack(content_hash)
    with pytest.raises(CorruptArtifactError):
        store.open(content_hash)


def test_an_interrupted_packing_is_finished(
    store: ModelStore, staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content_hash = old_folder(store, staged)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_args, **_kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.pack(content_hash)
    store.verify(content_hash)

    store.pack(content_hash)

    assert [path.name for path in store.path(content_hash).iterdir()] == [MANIFEST]
    store.open(content_hash)


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


# --- what models share, and what is removed ------------------------------------------------------


def object_bytes(store: ModelStore) -> int:
    return sum(store.objects.size(name) for name in store.objects.names())


def variant(folder: Path, changed: int) -> Path:
    """Write a model of ten tensors of 1 MiB of which `changed` alone differs from the others."""
    folder.mkdir(parents=True)
    tensors = {f"layer.{n}": np.full(262_144, n, np.float32) for n in range(10)}
    tensors["layer.3"] = np.full(262_144, 100 + changed, np.float32)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text("{}")
    return folder


def test_a_variant_costs_its_changed_tensors(store: ModelStore, tmp_path: Path) -> None:
    first = store.publish(variant(tmp_path / "a", 0), {})
    before = object_bytes(store)
    for changed in range(1, 4):
        store.publish(variant(tmp_path / "b", changed), {})

    grown = object_bytes(store) - before
    assert before > 10 * 2**20
    assert 3 * 2**20 < grown < 3.01 * 2**20
    assert first.bytes > 10 * 2**20
    assert len(store.hashes()) == 4


def test_objects_are_named_by_their_sha256_and_any_reader_opens_them(
    store: ModelStore, staged: Path
) -> None:
    ref = store.publish(staged, {})

    objects = store.objects_of(ref.content_hash)

    assert set(objects) == {
        "adapter_config.json", "config.json", "tokenizer/tokenizer.json",
        *(f"adapter_model.safetensors: layer.{n}.weight" for n in range(4)),
    }  # fmt: skip
    for part, name in objects.items():
        path = store.objects.path(name)
        assert path.stem == sha256_file(path)
        if path.suffix == ".safetensors":
            (tensor,) = load_file(path)
            assert part == f"adapter_model.safetensors: {tensor}"


def test_removing_a_model_keeps_what_others_need(store: ModelStore, tmp_path: Path) -> None:
    first = store.publish(variant(tmp_path / "a", 0), {})
    second = store.publish(variant(tmp_path / "b", 1), {})
    leftover = store.root / "_incoming" / "0123"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_bytes(b"left by a kill")

    assert store.unnamed() == []
    assert len(store.unnamed(frozenset({first.content_hash}))) == 1
    store.remove(first.content_hash)
    freed = store.sweep()

    assert 2**20 < freed < 1.01 * 2**20
    assert store.hashes() == [second.content_hash]
    assert not leftover.exists()
    store.checkouts.clear()
    store.open(second.content_hash)
    with pytest.raises(MissingArtifactError):
        store.open(first.content_hash)
    with pytest.raises(MissingArtifactError):
        store.remove(first.content_hash)


def test_nothing_is_swept_while_a_manifest_cannot_be_read(
    store: ModelStore, tmp_path: Path
) -> None:
    first = store.publish(variant(tmp_path / "a", 0), {})
    second = store.publish(variant(tmp_path / "b", 1), {})
    store.remove(first.content_hash)
    (store.path(second.content_hash) / MANIFEST).write_text("{}")
    before = store.objects.names()

    with pytest.raises(CorruptArtifactError):
        store.sweep()
    assert store.objects.names() == before


def test_few_checkouts_stay_and_none_that_is_in_use(tmp_path: Path) -> None:
    key = tmp_path / "key"
    writer, reader = (ModelStore(tmp_path / "models", key) for _ in range(2))
    refs = [writer.publish(make_model(tmp_path / "s", seed=n), {}) for n in range(8)]
    used = reader.open(refs[0].content_hash)
    for handle in writer.checkouts._held.values():  # as when its process ends
        handle.close()

    reader.open(refs[1].content_hash)

    there = {path.name for path in writer.checkouts.folder.iterdir() if path.is_dir()}
    assert len(there) <= 6
    assert {refs[0].content_hash, refs[1].content_hash} <= there
    assert (used / "config.json").is_file()


def open_serially(ready: Ready, root: str, content_hash: str) -> None:
    store = ModelStore(Path(root) / "models", Path(root) / "keys" / "manifest.key")
    ready()
    while True:
        store.checkouts.drop(content_hash)
        store.open(content_hash)


def test_a_killed_checkout_leaves_no_half_folder(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models", tmp_path / "keys" / "manifest.key")
    ref = store.publish(variant(tmp_path / "staged", 0), {})
    for moment in moments(3, 5, most_progress=0, longest_s=0.05):
        run_and_kill(
            open_serially, (str(tmp_path), ref.content_hash), moment, progress=lambda: 0
        )  # fmt: skip
        folder = store.checkouts.path(ref.content_hash)
        assert not folder.exists() or {p.name for p in folder.iterdir()} == {
            "config.json", "model.safetensors", MANIFEST,
        }  # fmt: skip
    store.open(ref.content_hash)
    store.checkouts.clear()
    assert [path for path in store.checkouts.folder.iterdir() if path.is_dir()] in (
        [], [store.checkouts.path(ref.content_hash)],
    )  # fmt: skip
