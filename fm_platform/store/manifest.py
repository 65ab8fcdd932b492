"""The signed list of a model folder's files, written last: a folder without one is unfinished.

The signature (HMAC-SHA256, RFC 2104, with a key that only this installation has) makes a folder
whose files and manifest were both exchanged as refusable as one with a flipped bit.
"""

from __future__ import annotations

import hmac
import json
import secrets
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fm_platform.errors import CorruptArtifactError, MissingArtifactError, UnsafePathError
from fm_platform.hashing import canonical_json, fingerprint, sha256_file, sha256_hex
from fm_platform.store.files import atomic_write, safe_relative
from fm_platform.store.refs import FileRecord, ModelRef

MANIFEST = "manifest.json"
# Formats that run code when they are loaded, or are code.
_REFUSED = frozenset(
    {".bin", ".ckpt", ".dill", ".h5", ".hdf5", ".joblib", ".keras", ".mar", ".msgpack", ".npy",
     ".npz", ".pb", ".pickle", ".pk", ".pkl", ".pt", ".pt2", ".pth", ".ptl",
     ".dll", ".dylib", ".exe", ".py", ".pyc", ".pyd", ".pyo", ".sh", ".so",
     ".bz2", ".gz", ".tar", ".tgz", ".whl", ".xz", ".zip"}
)  # fmt: skip
_ZIP = b"PK\x03\x04"


def load_key(path: Path) -> bytes:
    """Return the signing key; 32 random bytes are made and kept (mode 0600) the first time."""
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        atomic_write(fresh, secrets.token_bytes(32), mode=0o600)
        try:
            path.hardlink_to(fresh)  # fails if another process was first: its key counts
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_bytes()


def scan(folder: Path) -> tuple[FileRecord, ...]:
    """Return path, hash and size of every file below `folder` but its manifest, sorted by path.

    Raises:
        UnsafePathError: For a symbolic link, device, unsafe name, or pickle-like file.
        MissingArtifactError: If there is no such folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise MissingArtifactError("not a folder", where=folder)
    found = []
    for path in sorted(folder.rglob("*")):
        name = safe_relative(path.relative_to(folder).as_posix(), "file name in a model folder")
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise UnsafePathError(
                "only plain files belong in a model folder", where=path,
                found="a symbolic link" if stat.S_ISLNK(mode) else "a special file",
            )  # fmt: skip
        if name == MANIFEST:
            continue
        refuse_pickle(path)
        found.append(FileRecord(name, sha256_file(path), path.stat().st_size))
    return tuple(sorted(found, key=lambda file: file.path))


def refuse_pickle(path: Path) -> None:
    """Refuse a file that could run code when loaded, by name and by its first bytes.

    Raises:
        UnsafePathError: For pickles, archives, code and formats that may hold them.
    """
    with path.open("rb") as handle:
        head = handle.read(9)
    if path.suffix.lower() == ".safetensors":
        why = None if head[8:9] == b"{" else "not a safetensors file"
    elif any(suffix.lower() in _REFUSED for suffix in path.suffixes):
        why = f"a {path.suffix} file"
    elif head.startswith(_ZIP) or (len(head) > 1 and head[0] == 0x80 and 1 < head[1] < 6):
        why = "a pickle or an archive, by its first bytes"
    else:
        why = None
    if why is not None:
        raise UnsafePathError(
            "a model folder must not hold files that can run code when loaded",
            where=path, found=why, expected="safetensors for tensors, JSON for the rest",
        )  # fmt: skip


def folder_hash(files: tuple[FileRecord, ...]) -> str:
    """Return the content hash of a folder: of [path, sha256, bytes] of its files."""
    return fingerprint(sorted([file.path, file.sha256, file.bytes] for file in files))


Layout = dict[str, dict[str, Any]]
"""Tensor file -> `header`: its text, `objects`: the SHA-256 of its tensors, in their order."""


def write_manifest(
    folder: Path,
    files: tuple[FileRecord, ...],
    identity: Mapping[str, str],
    key: bytes,
    layout: Layout | None = None,
) -> None:
    """Write the manifest, atomically.

    Args:
        folder: Where.
        files: All files of the model.
        identity: What the model is.
        key: Signs it.
        layout: Where the model is kept as objects; None: the files are in `folder`.
    """
    body: dict[str, Any] = {
        "format": 1 if layout is None else 2,
        "content_hash": folder_hash(files),
        "files": [asdict(file) for file in files],
        "identity": dict(sorted(identity.items())),
        "key_id": _key_id(key),
    }
    if layout is not None:
        body["tensors"] = layout
    body["signature"] = _sign(body, key)
    atomic_write(folder / MANIFEST, json.dumps(body, indent=1, sort_keys=True).encode() + b"\n")


@dataclass(frozen=True)
class Manifest:
    """What a signed manifest says.

    Attributes:
        ref: All files of the model.
        identity: What the model is.
        layout: Its tensor files, kept as objects; None for a folder with the files themselves.
    """

    ref: ModelRef
    identity: dict[str, str]
    layout: Layout | None = None


def read_manifest(folder: Path, key: bytes) -> Manifest:
    """Return what a signed manifest says.

    Raises:
        MissingArtifactError: If there is no manifest.
        CorruptArtifactError: If it is not whole or not signed with `key`.
    """
    path = folder / MANIFEST
    try:
        body = json.loads(path.read_bytes())
        signature = body.pop("signature")
        signed = hmac.compare_digest(str(signature).encode(), _sign(body, key).encode())
        ref = ModelRef.from_json(
            {**body, "bytes": sum(int(file["bytes"]) for file in body["files"])}
        )
        identity, key_id = dict(body["identity"]), body["key_id"]
        layout = {
            str(path): {"header": str(told["header"]), "objects": [str(o) for o in told["objects"]]}
            for path, told in body["tensors"].items()
        } if "tensors" in body else None  # fmt: skip
    except FileNotFoundError as error:
        raise MissingArtifactError("a model folder has no manifest", where=folder) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptArtifactError(
            "the manifest of a model is damaged", where=path, found=repr(error)[:200]
        ) from error
    if not signed:
        other_key = key_id != _key_id(key)
        raise CorruptArtifactError(
            "the manifest of a model is not signed by this installation", where=path,
            expected=f"key {_key_id(key)}", found=f"key {str(key_id)[:16]}",
            next_step="bring back the key file this store was made with" if other_key else None,
        )  # fmt: skip
    return Manifest(ref, identity, layout)


def _sign(body: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key, canonical_json(body).encode(), "sha256").hexdigest()


def _key_id(key: bytes) -> str:
    return sha256_hex(b"key id " + key)[:16]


def require_model(folder: Path) -> None:
    """Refuse a model that is not in the store.

    Raises:
        MissingArtifactError: If its folder is not there.
    """
    if not folder.is_dir():
        raise MissingArtifactError(
            "there is no such model in the store", where=folder,
            next_step="fm fsck --repair brings back what was moved aside and is whole again; "
            "fm rollback takes another champion",
        )  # fmt: skip
