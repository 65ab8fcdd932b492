"""The files that declare a project, put back as a recorded definition has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fm_platform.errors import FMError, UnsafePathError
from fm_platform.hashing import sha256_hex
from fm_platform.lineage.ledger import Ledger
from fm_platform.spec.load import load_spec
from fm_platform.stages.definition import project_files
from fm_platform.store.files import atomic_write, safe_relative


@dataclass(frozen=True)
class FileChange:
    """What is to be done with the files of a project.

    Attributes:
        write: Path in the project's folder -> text, of files that differ or are missing.
        remove: Paths of files that were not there then.
        before: Path -> text of every file that is written over or removed.
    """

    write: Mapping[str, str]
    remove: tuple[str, ...]
    before: Mapping[str, str]

    def __bool__(self) -> bool:
        return bool(self.write or self.remove)


def files_of(folder: Path) -> dict[str, str]:
    """Return path -> text of what declares a project, also where it has mistakes."""
    file = folder / "defs.yaml"
    if not file.is_file():
        return {}
    try:
        return project_files(load_spec(file))
    except FMError:  # word lists are not known then; modules and the file itself are
        return _texts(folder, ["defs.yaml", *(p.name for p in folder.glob("*.py"))])


def change_to(folder: Path, wanted: Mapping[str, str], known: Iterable[str] = ()) -> FileChange:
    """Return what makes the files of a folder those of a definition.

    Args:
        folder: The project's folder.
        wanted: Path -> text.
        known: More paths that belong to the declaration now.

    Raises:
        FMError: If a file in the way is no text.
    """
    for name in wanted:
        safe_relative(name, "file name in a definition")
    have = files_of(folder)
    have |= _texts(folder, {*wanted, *known} - have.keys())
    write = {name: text for name, text in wanted.items() if have.get(name) != text}
    remove = tuple(sorted(have.keys() - wanted.keys()))
    before = {name: have[name] for name in [*write, *remove] if name in have}
    return FileChange(write, remove, before)


def carry_out(ledger: Ledger, folder: Path, change: FileChange) -> dict[str, str]:
    """Write and remove the files; return path -> hash of what was there before.

    The ledger keeps the text of every file first: nothing that a person wrote is ever lost.
    """
    before = {}
    for name, text in sorted(change.before.items()):
        before[name] = sha256_hex(text.encode())
        ledger.remember(before[name], "file", {"name": name, "text": text})
    for name, text in sorted(change.write.items()):
        atomic_write(folder / name, text.encode())
    for name in change.remove:
        (folder / name).unlink(missing_ok=True)
    return before


def _texts(folder: Path, names: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in sorted(set(names)):
        path = folder / name
        if not path.is_file():
            continue
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UnsafePathError("a file of the project lies outside its folder", where=path)
        try:
            found[name] = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise FMError(
                "a file in the way is no text, and would be lost", where=path,
                next_step="move it away and run the command again",
            ) from None  # fmt: skip
    return found
