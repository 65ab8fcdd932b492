from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fm_platform.lineage import environment as env
from fm_platform.lineage.environment import (
    environment,
    environment_fingerprint,
    git_state,
    last_change,
    machine_type,
    packages,
    relevant_environment,
)


def test_packages_have_versions_or_a_dash() -> None:
    found = packages(["pyarrow", "no-such-package-here"])

    assert list(found) == ["no-such-package-here", "pyarrow"]
    assert found["no-such-package-here"] == "-"
    assert found["pyarrow"][0].isdigit()


def test_fingerprint_names_what_matters() -> None:
    tables = environment_fingerprint(env.TABLE_PACKAGES)
    models = environment_fingerprint(env.MODEL_PACKAGES, machine=True)

    assert set(relevant_environment(tables) or {}) == {"python", "packages"}
    assert (relevant_environment(models) or {})["machine"] == machine_type()
    assert tables == environment_fingerprint(tuple(reversed(env.TABLE_PACKAGES)))
    assert tables != environment_fingerprint(env.TABLE_PACKAGES, machine=True)


def test_package_version_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment_fingerprint(["pyarrow"])
    monkeypatch.setattr(env, "version", lambda _name: "0.0.1")
    env._fingerprint_of.cache_clear()
    changed = environment_fingerprint(["pyarrow"])
    env._fingerprint_of.cache_clear()

    assert changed != before


def test_everything_installed_is_listed_as_json() -> None:
    found = environment()

    assert json.loads(json.dumps(found)) == found
    assert (
        found["packages"]["typing-extensions"]
        == packages(["typing_extensions"])["typing_extensions"]
    )
    assert len(found["lock"]) == 64


def test_git_state_tells_commit_and_changes(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    assert git_state(tmp_path / "nowhere") == (None, None)
    git("init")
    assert git_state(tmp_path) == (None, None)
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-m", "first")
    commit, dirty = git_state(tmp_path)
    assert (len(commit or ""), dirty) == (40, False)
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == (commit, True)


def test_the_last_change_of_a_folder_is_told(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(tmp_path), *words],
            check=True, capture_output=True,
        )  # fmt: skip

    folder, other = tmp_path / "a", tmp_path / "b"
    folder.mkdir()
    other.mkdir()
    assert last_change(folder) == ""
    git("init")
    (folder / "x").write_text("1")
    assert last_change(folder) == " in uncommitted changes"
    git("add", "-A")
    git("commit", "-m", "one")
    first = git_state(tmp_path)[0]
    (other / "y").write_text("1")
    git("add", "-A")
    git("commit", "-m", "two")

    assert first is not None
    assert last_change(folder) == f" at commit {first[:7]}"
    (folder / "x").write_text("2")
    assert last_change(folder) == " in uncommitted changes"
    assert last_change(other) != " in uncommitted changes"
