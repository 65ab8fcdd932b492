"""S6: a name never leads out of its folder. S4: what could run code is not taken in."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest

from fm_platform.errors import UnsafePathError
from fm_platform.store.files import safe_name, safe_relative
from fm_platform.store.models import ModelStore
from fm_platform.store.refs import FileRecord, TableRef
from fm_platform.store.tables import Commit, TableStore
from tests.store.models import make_model
from tests.store.rows import SCHEMA, make_rows

UNSAFE = [
    "", ".", "..", "../x", "..\\x", "/etc/passwd", "a/../b", "./a", "a//b", "a/", "a\0b", "a\nb",
    " a", "a b", "a\\b", "C:\\x", "~root", "-rf", ".hidden", "x.", "CON", "con", "NUL.txt",
    "Aux.json", "COM1", "lpt9.log", "é", "\u202etxt", "%2e%2e", "a%00", "a" * 201, "a" * 300,
    "$(x)", "a;b", "a|b", "*", "?",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_unsafe_names_are_refused_everywhere(tmp_path: Path, name: str) -> None:
    lake = TableStore(str(tmp_path / "lake"))
    arguments = [("t", "day", name), ("t", name, "d1")]
    if "/" not in name or name.strip("./") != name or ".." in name or "//" in name:
        arguments.append((name, "day", "d1"))
    for table, column, value in arguments:
        with pytest.raises(UnsafePathError):
            lake.write_partition(
                table, SCHEMA, [make_rows("d1", 1, 1)], column=column, value=value,
                commit=Commit("a", 1, {}),
            )  # fmt: skip
    with pytest.raises(UnsafePathError):
        safe_name(name)
    with pytest.raises(UnsafePathError):
        lake.verify(TableRef("t", "day", "d1", 1, "", 0, (FileRecord(f"../{name}", "", 0),)))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["a", "2026-01-01", "raw-2026-01-01", "a_b.c", "v=1", "0af3", "a" * 200, "console"]
)
def test_safe_names_pass(name: str) -> None:
    assert safe_name(name) == name
    assert safe_relative(f"{name}/{name}") == f"{name}/{name}"


@pytest.mark.parametrize(
    "name", ["../../x", "..", "0" * 63, "0" * 63 + "G", "0" * 65, "/" * 64, "A" * 64]
)
def test_content_hashes_are_hex_only(tmp_path: Path, name: str) -> None:
    store = ModelStore(tmp_path / "models", tmp_path / "key")

    for call in (store.open, store.verify, store.quarantine):
        with pytest.raises(UnsafePathError):
            call(name)


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe", "name", "dangling link", "empty"])
def test_folders_with_strange_entries_are_refused(tmp_path: Path, kind: str) -> None:
    store = ModelStore(tmp_path / "models", tmp_path / "key")
    staged = make_model(tmp_path / "staged")
    if kind == "link":
        (staged / "x.json").symlink_to(tmp_path / "staged" / "config.json")
    elif kind == "folder link":
        (staged / "folder").symlink_to("/etc", target_is_directory=True)
    elif kind == "dangling link":
        (staged / "x.json").symlink_to("/nowhere")
    elif kind == "pipe":
        os.mkfifo(staged / "x.json")
    elif kind == "name":
        (staged / "a b.json").write_text("{}")
    else:
        staged = tmp_path / "empty"
        staged.mkdir()

    with pytest.raises(UnsafePathError):
        store.publish(staged, {})

    assert store.hashes() == []
    assert staged.exists()


class Poison:
    """Runs code when unpickled."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.sentinel),))


def poisoned(sentinel: Path, *, as_zip: bool = False) -> bytes:
    import pickle  # to make the poison, never to load it

    data = pickle.dumps(Poison(sentinel))
    if not as_zip:
        return data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin", "model.pt", "model.pkl", "optimizer.pt", "rng_state.pth",
        "training_args.bin", "vectors.npy", "deep/er/state.joblib", "MODEL.PT", "a.pkl.json",
        "weights.dat", "config.json", "model.safetensors", "modeling.py", "weights.bin.index",
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_zip", [False, True])
def test_pickle_like_files_are_refused_and_never_run(
    tmp_path: Path, name: str, as_zip: bool
) -> None:
    store = ModelStore(tmp_path / "models", tmp_path / "key")
    staged = make_model(tmp_path / "staged")
    (staged / name).parent.mkdir(parents=True, exist_ok=True)
    (staged / name).write_bytes(poisoned(tmp_path / "sentinel", as_zip=as_zip))

    with pytest.raises(UnsafePathError, match="run code"):
        store.publish(staged, {})

    assert store.hashes() == []
    assert not (tmp_path / "sentinel").exists()


def test_a_pickle_that_appears_later_is_not_served(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models", tmp_path / "key")
    ref = store.publish(make_model(tmp_path / "staged"), {})
    for folder in (store.path(ref.content_hash), store.open(ref.content_hash)):
        (folder / "optimizer.pt").write_bytes(poisoned(tmp_path / "sentinel"))

    assert not (store.open(ref.content_hash) / "optimizer.pt").exists()
    with pytest.raises(Exception, match="run code"):
        store.verify(ref.content_hash)

    assert not (tmp_path / "sentinel").exists()
