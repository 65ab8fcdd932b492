"""`fm reproduce`, as a person types it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.lineage import environment
from tests.universe.worlds import DAYS, World


@pytest.fixture
def world(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World.make(tmp_path)
    monkeypatch.setenv("FM_PROJECTS", str(made.root))
    made.run(DAYS[:1])
    return made


@pytest.fixture
def another_numpy(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Metadata of another version of a package, found before that of the installed one."""
    metadata = tmp_path / "site" / "numpy-9.9.9.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9.9\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    environment._fingerprint_of.cache_clear()
    yield f"numpy {np.__version__} then, 9.9.9 now"
    environment._fingerprint_of.cache_clear()


def test_every_hash_is_equal(world: World, fm: CliRunner) -> None:
    told = fm.invoke(app, ["reproduce", f"cleaned/{DAYS[0]}"])

    assert told.exit_code == 0, told.output
    assert "packages, processor and code are those of the record" in told.output
    assert "content hashes are those of the record" in told.output


def test_another_package_is_named_before_the_start(
    world: World, fm: CliRunner, another_numpy: str
) -> None:
    told = fm.invoke(app, ["reproduce", f"cleaned/{DAYS[0]}"])

    lines = told.output.splitlines()
    named = lines.index(f"not as it was: {another_numpy}")
    assert named < next(i for i, line in enumerate(lines) if line.startswith("[1/"))


def test_one_flipped_byte_in_a_stored_file_is_named(world: World, fm: CliRunner) -> None:
    (file,) = (world.home / "lake" / "small" / "raw").rglob("*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(data))

    told = fm.invoke(app, ["reproduce", f"cleaned/{DAYS[0]}"])

    assert told.exit_code == 1
    assert f"stored bytes damaged: raw/{DAYS[0]}#1" in told.output
    assert f"damaged in the store: raw/{DAYS[0]}#1" in told.output
