from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fm_platform.errors import HomeError
from fm_platform.home import RESERVE_BYTES, Home
from tests.support.disk import full_disk


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


def test_ensure_reports_a_full_disk_and_leaves_no_probe(tmp_path: Path) -> None:
    with full_disk(tmp_path / "small", megabytes=1):
        with pytest.raises(HomeError, match=r"(?s)No space left.*next: free some space"):
            Home(tmp_path / "small" / "home").ensure()
        assert not list(tmp_path.glob("small/home/.write-probe*"))


def test_space_is_set_aside_once(tmp_path: Path) -> None:
    home = Home(tmp_path / "home").ensure()
    assert home.reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    before = home.reserve.stat().st_ino

    assert home.ensure().reserve.stat().st_ino == before


def test_threads_that_open_a_home_at_once_do_not_meet(tmp_path: Path) -> None:
    # the sensors of a project tick in threads of one process, and each opens the home
    home = Home(tmp_path).ensure()
    with ThreadPoolExecutor(8) as pool:
        for opened in pool.map(lambda _: home.ensure(), range(400)):
            assert opened is home
    assert list(tmp_path.glob(".write-probe*")) == []
