"""Fingerprints of Python functions: what decides a vote counts, wherever it stands."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fm_platform.errors import FunctionImportError
from fm_platform.labeling.definition import columns_used
from fm_platform.labeling.load import load_functions
from fm_platform.spec.models import ProjectSpec

SPEC = ProjectSpec.model_validate(
    {
        "name": "small",
        "taxonomy": {"classes": ["bad", "good"]},
        "calendar": {"start": "2026-01-01"},
        "sources": [{"name": "main"}],
    }
)
HEAD = "from fm_platform.labeling import labeling_function\n"

EDITS = {
    "closure": ('''
        def make(word):
            @labeling_function(name="f")
            def f(row):
                return "bad" if word in row.text else None
            return f
        made = make({0!r})
    ''', "x", "y"),
    "default": ('''
        WORDS = ({0!r},)
        @labeling_function
        def f(row, words=WORDS):
            return "bad" if words[0] in row.text else None
    ''', "x", "y"),
    "method of a class": ('''
        class Judge:
            def bad(self, text):
                return {0!r} in text
        judge = Judge()
        @labeling_function
        def f(row):
            return "bad" if judge.bad(row.text) else None
    ''', "x", "y"),
    "helper of a method": ('''
        def has(text):
            return {0!r} in text
        class Judge:
            def bad(self, text):
                return has(text)
        @labeling_function
        def f(row):
            return "bad" if Judge().bad(row.text) else None
    ''', "x", "y"),
    "state of an object": ('''
        class Judge:
            def __init__(self, word):
                self.word = word
        judge = Judge({0!r})
        @labeling_function
        def f(row):
            return "bad" if judge.word in row.text else None
    ''', "x", "y"),
    "array": ('''
        import numpy as np
        weights = np.zeros(5000)
        weights[2500] = {0}
        @labeling_function(resources={{"weights": weights}})
        def f(row, weights):
            return "bad" if weights[len(row.text)] else None
    ''', 1, 2),
    "date": ('''
        from datetime import date
        LIMIT = date(2026, 1, {0})
        @labeling_function
        def f(row):
            return "bad" if row.day > LIMIT.isoformat() else None
    ''', 1, 2),
    "pattern": ('''
        import re
        BAD = re.compile({0!r})
        @labeling_function
        def f(row):
            return "bad" if BAD.search(row.text) else None
    ''', "x", "y"),
    "function in a map": ('''
        def bad(text):
            return {0!r} in text
        RULES = {{"bad": bad}}
        @labeling_function
        def f(row):
            return next((label for label, rule in RULES.items() if rule(row.text)), None)
    ''', "x", "y"),
    "decorated helper": ('''
        import functools
        def twice(inner):
            @functools.wraps(inner)
            def outer(text):
                return inner(text) and inner(text)
            return outer
        @twice
        def has(text):
            return {0!r} in text
        @labeling_function
        def f(row):
            return "bad" if has(row.text) else None
    ''', "x", "y"),
    "cached helper": ('''
        from functools import lru_cache
        @lru_cache(maxsize=None)
        def has(text):
            return {0!r} in text
        @labeling_function
        def f(row):
            return "bad" if has(row.text) else None
    ''', "x", "y"),
    "function without a file": ('''
        space = {{}}
        exec("def f(row): return 'bad' if {0!r} in row.text else None", space)
        g = labeling_function(space["f"])
    ''', "x", "y"),
}  # fmt: skip


def fingerprint(folder: Path, text: str, comment: str = "") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "labeling_functions.py").write_text(HEAD + textwrap.dedent(text) + comment)
    (function,) = load_functions(SPEC, folder)
    return function.fingerprint


@pytest.mark.parametrize(("template", "before", "after"), EDITS.values(), ids=list(EDITS))
def test_an_edit_that_may_change_a_vote_changes_the_fingerprint(
    tmp_path: Path, template: str, before: Any, after: Any
) -> None:
    first = fingerprint(tmp_path / "a", template.format(before))

    assert fingerprint(tmp_path / "b", template.format(before), "\n# a comment\n") == first
    assert fingerprint(tmp_path / "c", template.format(after)) != first


def test_another_function_of_the_file_does_not_count(tmp_path: Path) -> None:
    one = """
        @labeling_function
        def f(row):
            return "bad" if "x" in row.text else None
        def helper():
            return {0}
    """

    assert fingerprint(tmp_path / "a", one.format(1)) == fingerprint(tmp_path / "b", one.format(2))


def test_a_fingerprint_is_the_same_in_every_process(tmp_path: Path) -> None:
    text = HEAD + textwrap.dedent(EDITS["state of an object"][0]).format("x")
    text += "judge.words = {'b', 'a', 'c'}\njudge.itself = judge\n"
    (tmp_path / "labeling_functions.py").write_text(text)
    program = (
        "import sys; from pathlib import Path;"
        "from tests.labeling.test_definition import SPEC, load_functions;"
        "print(load_functions(SPEC, Path(sys.argv[1]))[0].fingerprint)"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip

    assert len(answers) == 1


def test_a_resource_that_cannot_be_hashed_is_refused(tmp_path: Path) -> None:
    text = """
        @labeling_function(resources={"judge": object()})
        def f(row, judge):
            return None
    """

    with pytest.raises(FunctionImportError, match=r"'judge'.*can be hashed"):
        fingerprint(tmp_path, text)


def reads_text(row: Any) -> bool:
    return bool(row.text)


def reads_two(row: Any) -> bool:
    return bool(row.text and row.stars)


def passes_on(row: Any) -> bool:
    return reads_text(row)


def looks_inside(row: Any) -> bool:
    return bool(row.text and getattr(row, "stars", 0))


def assigns(row: Any) -> bool:
    row.text = "x"
    return bool(row.text)


def sees_locals(row: Any) -> bool:
    return bool(row.text and locals())


@pytest.mark.parametrize(
    ("function", "expected"),
    [(reads_text, {"text"}), (reads_two, {"text", "stars"}), (passes_on, None),
     (looks_inside, None), (assigns, None), (sees_locals, None)],
)  # fmt: skip
def test_the_columns_a_function_reads(function: Any, expected: set[str] | None) -> None:
    assert columns_used(function) == expected
