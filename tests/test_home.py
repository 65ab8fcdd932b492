from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fm_platform.errors import HomeError
from fm_platform.home import Home


def test_ensure_makes_every_folder_and_leaves_no_probe(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").ensure()

    assert home.lake.is_dir()
    assert home.keys.stat().st_mode & 0o077 == 0
    assert not list(home.root.glob(".write-probe*"))


def test_from_environment_reads_fm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FM_HOME", str(tmp_path))

    assert Home.from_environment().root == tmp_path


def test_ensure_names_the_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(HomeError, match=r"(?s)FM_HOME cannot be written.*where: .*file.*next:"):
        Home(tmp_path / "file").ensure()


@pytest.mark.skipif(not Path("/dev/full").exists() or os.geteuid() != 0, reason="needs root")
def test_ensure_reports_a_full_disk(tmp_path: Path) -> None:
    import subprocess

    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], check=False,
        capture_output=True,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip("no right to mount a tmpfs")
    try:
        filler = mount / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(b"x" * 200_000)
        with pytest.raises(HomeError, match=r"(?s)No space left.*next: free some space"):
            Home(mount / "home").ensure()
    finally:
        subprocess.run(["umount", str(mount)], check=False)


def test_threads_that_open_a_home_at_once_do_not_meet(tmp_path: Path) -> None:
    # the sensors of a project tick in threads of one process, and each opens the home
    home = Home(tmp_path).ensure()
    with ThreadPoolExecutor(8) as pool:
        for opened in pool.map(lambda _: home.ensure(), range(400)):
            assert opened is home
    assert list(tmp_path.glob(".write-probe*")) == []
