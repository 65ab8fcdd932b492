from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fm_platform.lineage import fingerprints
from fm_platform.lineage.fingerprints import code_closure, code_fingerprint, code_stands_still
from fm_platform.lineage.recipes import CODE

FILES = {
    "__init__.py": "",
    "math/__init__.py": "from fm_platform.math.sums import total\n"
    "from fm_platform.math.other import unused\n",
    "math/sums.py": 'def total(a, b):\n    "Add."\n    return a + b\n',
    "math/other.py": "unused = 1\n",
    "math/late.py": "from fm_platform.math import total\n",
    "stage.py": "from fm_platform.math import total\n"
    "from fm_platform.store import tables\n"
    "from typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    from fm_platform.shown import picture\n"
    "def run():\n    from fm_platform import lazy\n    return lazy.x\n",
    "lazy.py": "import heavy_package_that_is_not_installed\nx = 1\n",
    "shown.py": "picture = 1\n",
    "store/__init__.py": "",
    "store/tables.py": "rows = 1\n",
    "loop_a.py": "from fm_platform import loop_b\n",
    "loop_b.py": "from fm_platform import loop_a\n",
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package called fm_platform, found by name and never imported."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def file_of(name: str) -> Path | None:
        base = tmp_path.joinpath(*name.split(".")[1:])
        found = (base.with_suffix(".py"), base / "__init__.py")
        own = name.split(".")[0] == "fm_platform"
        return next((path for path in found if own and path.is_file()), None)

    monkeypatch.setattr(fingerprints, "_file_of", file_of)
    return tmp_path


def edit(path: Path, text: str) -> None:
    before = path.stat().st_mtime_ns
    path.write_text(text)
    while path.stat().st_mtime_ns == before:
        path.touch()


def test_closure_follows_what_computes_and_nothing_else(tree: Path) -> None:
    assert list(code_closure("fm_platform.stage")) == [
        "fm_platform.lazy", "fm_platform.math.sums", "fm_platform.stage",
    ]  # fmt: skip


def test_loops_end(tree: Path) -> None:
    assert list(code_closure("fm_platform.loop_a")) == ["fm_platform.loop_a", "fm_platform.loop_b"]


@pytest.mark.parametrize(
    "text",
    [
        'def total(a, b):\n    """Add two numbers."""\n    return a + b\n',
        '"""A module."""\n\n# why\ndef total(\n    a,\n    b,\n):\n    return (a + b)  # sum\n',
    ],
    ids=["docstring", "comments and formatting"],
)
def test_words_and_formatting_do_not_count(tree: Path, text: str) -> None:
    before = code_fingerprint("fm_platform.stage")
    edit(tree / "math" / "sums.py", text)

    assert code_fingerprint("fm_platform.stage") == before


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("math/sums.py", True),
        ("lazy.py", True),
        ("stage.py", True),
        ("math/__init__.py", False),
        ("math/other.py", False),
        ("store/tables.py", False),
        ("shown.py", False),
    ],
)
def test_code_counts_where_it_computes_content(tree: Path, name: str, counts: bool) -> None:
    before = code_fingerprint("fm_platform.stage")
    path = tree / name
    edit(path, path.read_text() + "extra = 2\n")

    assert (code_fingerprint("fm_platform.stage") != before) == counts


def test_each_operator_counts(tree: Path) -> None:
    before = code_fingerprint("fm_platform.stage")
    edit(tree / "math" / "sums.py", "def total(a, b):\n    return a - b\n")

    assert code_fingerprint("fm_platform.stage") != before


def test_file_is_parsed_once(tree: Path) -> None:
    code_fingerprint("fm_platform.stage")
    parsed = fingerprints._parsed.cache_info().misses
    code_fingerprint("fm_platform.stage")

    assert fingerprints._parsed.cache_info().misses == parsed


def test_code_stands_still_within_the_block(tree: Path) -> None:
    with code_stands_still():
        before = code_fingerprint("fm_platform.stage")
        edit(tree / "stage.py", "x = 1\n")
        assert code_fingerprint("fm_platform.stage") == before

    assert code_fingerprint("fm_platform.stage") != before


def test_order_of_modules_does_not_count(tree: Path) -> None:
    one = code_fingerprint("fm_platform.stage", "fm_platform.loop_a")

    assert code_fingerprint("fm_platform.loop_a", "fm_platform.stage") == one


def test_fingerprint_can_be_described(tree: Path) -> None:
    found = code_fingerprint("fm_platform.stage")

    assert fingerprints.described([found, "unknown"]) == [
        (found, "code", code_closure("fm_platform.stage"))
    ]


def test_missing_module_is_an_error(tree: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no module"):
        code_fingerprint("fm_platform.nothing")


def test_real_stages_are_read_without_importing_them() -> None:
    script = (
        "import sys\n"
        "from fm_platform.lineage import recipes\n"
        "for kind in recipes.CODE: recipes.code_version(kind)\n"
        "heavy = {'torch', 'transformers', 'peft', 'polars', 'deltalake', 'sklearn'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("kind", sorted(CODE))
def test_infrastructure_is_in_no_closure(kind: str) -> None:
    stored = [
        name
        for name in code_closure(*CODE[kind])
        if name.startswith(fingerprints._INFRASTRUCTURE) and name not in CODE[kind]
    ]

    assert stored == []
