"""Small real histories: tables, columns, models and a ledger, without a project."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors.numpy import save_file

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.home import Home
from fm_platform.lineage.records import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.stages import tables
from fm_platform.workspace import Workspace

AT = datetime(2026, 3, 1, tzinfo=timezone.utc)


def open_world(root: Path) -> Workspace:
    return Workspace.open(Home(root / "home"))


def recipe_of(
    kind: str,
    name: str,
    day: str | None,
    made_from: Sequence[ArtifactVersion],
    salt: int,
    project: str = "shop",
) -> Recipe:
    return Recipe(
        project, kind, name, day, tuple(v.as_input("from") for v in made_from), "c" * 64,
        {"salt": salt}, "e" * 64,
    )  # fmt: skip


def add(
    ws: Workspace,
    kind: str,
    name: str,
    day: str | None = None,
    made_from: Sequence[ArtifactVersion] = (),
    salt: int = 0,
    project: str = "shop",
    content: int | None = None,
) -> ArtifactVersion:
    """Build one version for real: `raw`, `cleaned` are tables, `votes`, `embeddings` columns.

    Args:
        content: What the bytes depend on; `salt` without it.
    """
    recipe = recipe_of(kind, name, day, made_from, salt, project)
    seed = salt if content is None else content

    def compute(lease: object) -> Produced:
        if kind in ("raw", "cleaned", "predictions"):
            part = day or recipe.hash[:16]
            data = pa.table({"row_id": [f"{kind}{day}{seed}-{i}" for i in range(4)],
                             "day": [part] * 4})  # fmt: skip
            ref = tables.write(ws, recipe, lease, kind, data, value=part)  # type: ignore[arg-type]
            return Produced(ref.content_hash, tables.location({kind: ref}), rows=4, bytes=100)
        if kind in ("votes", "embeddings"):
            key = ws.columns.put(pa.table({kind[:4]: [seed, seed + 1]}))
            return Produced(key, {"column": key}, rows=2, bytes=10)
        staged = ws.home.work / f"staged-{recipe.hash[:8]}"
        shutil.rmtree(staged, ignore_errors=True)  # left over by a writer that was killed
        staged.mkdir(parents=True)
        shared = {f"layer.{n}": np.full(50, n, np.float32) for n in range(3)}
        save_file(shared | {"own": np.full(50, 100 + seed, np.float32)}, staged / "m.safetensors")
        (staged / "config.json").write_text("{}")
        report = ws.models.publish(staged, {"recipe_hash": recipe.hash})
        (ws.home.reports / report.content_hash[:16]).mkdir(parents=True, exist_ok=True)
        (ws.home.reports / report.content_hash[:16] / "plot.png").write_bytes(b"png")
        return Produced(report.content_hash, {"model": report.content_hash}, bytes=report.bytes)

    return tables.build(ws, recipe, compute, RunContext("test")).version


def is_there(ws: Workspace, version: ArtifactVersion) -> bool:
    """Whether every byte of a version verifies."""
    try:
        ws.verify(ws.ledger.get(version.id))
    except (CorruptArtifactError, MissingArtifactError):
        return False
    return True


def disk_bytes(folder: Path) -> int:
    """Return the bytes of all files, hard links once."""
    seen: dict[int, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            told = path.stat()
            seen[told.st_ino] = told.st_size
    return sum(seen.values())
