"""Labeling functions: votes, abstentions, failures and fingerprints."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fm_platform.errors import FunctionFailureError, FunctionImportError, LabelingError
from fm_platform.labeling import ABSTAIN, LabelingFunction, labeling_function
from fm_platform.labeling.apply import apply_function
from fm_platform.labeling.declared import compile_declared
from fm_platform.labeling.load import load_functions
from fm_platform.spec.models import (
    KeywordFunction,
    LexiconFunction,
    ProjectSpec,
    RegexFunction,
    RuleFunction,
)

CLASSES = ("bad", "good")
TEXTS = ["Good food", "bad food", "GOODS train", "so-so", "good and bad :)", ""]
WORDS = {"good": ["good"]}


def batch(texts: list[str], **columns: list[Any]) -> pa.RecordBatch:
    ids = [f"{i:032x}" for i in range(len(texts))]
    return pa.record_batch({"row_id": ids, "text": texts, **columns})


def votes(function: LabelingFunction, texts: list[str] = TEXTS, **columns: list[Any]) -> list[int]:
    return apply_function(function, [batch(texts, **columns)], CLASSES).votes.tolist()


def test_a_row_function_votes_or_abstains() -> None:
    @labeling_function
    def says_good(row: Any) -> str | None:
        return "good" if "good" in row.text.lower() else None

    assert says_good.name == "says_good"
    assert votes(says_good) == [1, ABSTAIN, 1, ABSTAIN, 1, ABSTAIN]


def test_a_batch_function_returns_an_expression() -> None:
    @labeling_function(batch=True, name="short")
    def short_texts(frame: Any) -> Any:
        import polars as pl

        return pl.when(pl.col("text").str.len_chars() < 7).then(pl.lit("bad"))

    assert votes(short_texts) == [ABSTAIN, ABSTAIN, ABSTAIN, 0, ABSTAIN, 0]


def test_a_raising_row_abstains_and_is_counted_without_its_text() -> None:
    @labeling_function()
    def first_letter(row: Any) -> str:
        return "good" if row.text[0] == "G" else "bad"

    column = apply_function(first_letter, [batch(TEXTS)], CLASSES)

    assert column.votes.tolist() == [1, 0, 1, 0, 0, ABSTAIN]
    assert column.failed_rows == 1
    assert column.first_failures == (f"{5:032x}: IndexError",)


@pytest.mark.parametrize("answer", ["ugly", 99, float("nan"), True, 1])
def test_an_unknown_class_names_function_and_allowed_classes(answer: object) -> None:
    @labeling_function()
    def wrong(row: Any) -> Any:
        return answer

    with pytest.raises(
        FunctionFailureError, match=r"(?s)'wrong'.*expected: bad, good, several of them, or None"
    ):
        votes(wrong)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (KeywordFunction(kind="keyword", name="k", words=("good",), label="good"),
         [1, -1, -1, -1, 1, -1]),
        (KeywordFunction(kind="keyword", name="k", words=("good",), label="good",
                         whole_words=False), [1, -1, 1, -1, 1, -1]),
        (KeywordFunction(kind="keyword", name="k", words=("good",), label="good",
                         case_sensitive=True), [-1, -1, -1, -1, 1, -1]),
        (KeywordFunction(kind="keyword", name="k", words=(":)", "so-so"), label="good"),
         [-1, -1, -1, 1, 1, -1]),
        (RegexFunction(kind="regex", name="r", pattern=r"^bad\b", label="bad"),
         [-1, 0, -1, -1, -1, -1]),
        (LexiconFunction(kind="lexicon", name="l", weights={"good": 1.0, "bad": -1.0},
                         above="good", below="bad"), [1, 0, -1, -1, -1, -1]),
        (RuleFunction(kind="rule", name="u", column="char_count", operator="<", value=6,
                      label="bad"), [-1, -1, -1, 0, -1, 0]),
        (RuleFunction(kind="rule", name="u", column="word_count", operator=">=", value=3,
                      label="good"), [-1, -1, -1, -1, 1, -1]),
    ],
    ids=lambda value: getattr(value, "kind", None),
)  # fmt: skip
def test_a_declared_function_votes_as_a_plain_loop_would(
    declared: Any, expected: list[int]
) -> None:
    assert votes(compile_declared(declared, Path())) == expected


def test_a_rule_looks_at_metadata() -> None:
    declared = RuleFunction(
        kind="rule", name="r", column="stars", operator="in", value=("4", "5"), label="good"
    )

    assert votes(compile_declared(declared, Path()), ["a", "b"], stars=["5", "1"]) == [1, ABSTAIN]


def test_a_rule_on_a_missing_column_lists_the_columns() -> None:
    declared = RuleFunction(
        kind="rule", name="r", column="stars", operator="==", value=1, label="good"
    )

    with pytest.raises(FunctionFailureError, match=r"(?s)expected: row_id, text"):
        votes(compile_declared(declared, Path()))


def test_a_pattern_that_polars_cannot_compile_is_refused() -> None:
    declared = RegexFunction(kind="regex", name="r", pattern=r"(?<=a)b", label="good")

    with pytest.raises(LabelingError, match="no look-around"):
        compile_declared(declared, Path())


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        (KeywordFunction(kind="keyword", name="k", words=("a",), label="good", column="stars"),
         "'k' does not fit.*Int64"),
        (LexiconFunction(kind="lexicon", name="k", weights={"a": 1}, above="good", below="bad",
                         column="stars"), "'k' does not fit.*Int64"),
        (LexiconFunction(kind="lexicon", name="k", weights={"a": 1}, above="good", below="bad",
                         column="none"), "'k' looks at a column"),
        (RuleFunction(kind="rule", name="k", column="text", operator="<", value=3, label="good"),
         "'k' does not fit.*String"),
    ],
)  # fmt: skip
def test_a_function_that_does_not_fit_its_column_says_so(declared: Any, problem: str) -> None:
    with pytest.raises(FunctionFailureError, match=f"(?s){problem}"):
        votes(compile_declared(declared, Path()), ["a"], stars=[1])


def test_case_is_ignored_beyond_ascii() -> None:
    for whole in (True, False):
        declared = KeywordFunction(
            kind="keyword", name="k", words=("ärger",), label="bad", whole_words=whole
        )
        assert votes(compile_declared(declared, Path()), ["ÄRGER!", "x"]) == [0, ABSTAIN]


def test_a_missing_text_abstains() -> None:
    declared = KeywordFunction(kind="keyword", name="k", words=("a",), label="good")
    rows = pa.record_batch({"row_id": ["1", "2"], "text": [None, "a"]})

    assert apply_function(compile_declared(declared, Path()), [rows], CLASSES).votes.tolist() == [
        ABSTAIN, 1
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["word\tnan", "word\tinf", "word 3"])
def test_a_bad_lexicon_file_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "words.tsv").write_text(f"fine\t1.5\n{line}\n")
    declared = LexiconFunction(
        kind="lexicon", name="l", file="words.tsv", above="good", below="bad"
    )

    with pytest.raises(LabelingError, match=r"words.tsv:2|not a finite number"):
        compile_declared(declared, tmp_path)


def test_a_changed_lexicon_file_changes_the_fingerprint(tmp_path: Path) -> None:
    declared = LexiconFunction(
        kind="lexicon", name="l", file="words.tsv", above="good", below="bad"
    )
    found = set()
    for weight in (1, 2):
        (tmp_path / "words.tsv").write_text(f"fine\t{weight}\n")
        found.add(compile_declared(declared, tmp_path).fingerprint)

    assert len(found) == 2


def test_a_function_that_always_raises_abstains_everywhere_and_names_three_rows() -> None:
    @labeling_function
    def broken(row: Any) -> str:
        raise ValueError(row.text)

    column = apply_function(broken, [batch(TEXTS), batch(TEXTS)], CLASSES)

    assert (column.votes == ABSTAIN).all()
    assert column.failed_rows == 2 * len(TEXTS)
    assert len(column.first_failures) == 3
    assert all(failure.endswith(": ValueError") for failure in column.first_failures)


def test_equal_texts_are_judged_once() -> None:
    seen: list[str] = []

    @labeling_function
    def says_good(row: Any) -> str | None:
        seen.append(row.text)
        return "good" if "good" in row.text else None

    assert votes(says_good, ["good", "x", "good"]) == [1, ABSTAIN, 1]
    assert seen == ["good", "x"]


def test_a_function_that_may_look_at_all_of_a_row_sees_every_row() -> None:
    seen: list[str] = []

    @labeling_function
    def by_id(row: Any) -> str | None:
        seen.append(vars(row)["row_id"])
        return None

    votes(by_id, ["same", "same"])

    assert len(seen) == 2


def test_a_failure_of_equal_texts_counts_every_row() -> None:
    @labeling_function
    def first_letter(row: Any) -> str:
        return "good" if row.text[0] == "G" else "bad"

    column = apply_function(first_letter, [batch(["", "G", ""])], CLASSES)

    assert (column.failed_rows, column.votes.tolist()) == (2, [ABSTAIN, 1, ABSTAIN])


def test_a_literal_of_a_batch_function_is_meant_for_every_row() -> None:
    @labeling_function(batch=True)
    def always(frame: Any) -> Any:
        import polars as pl

        return pl.lit("good")

    assert votes(always, ["a", "b"]) == [1, 1]


@pytest.mark.parametrize("answer", [["good"], None, ["good"] * 3])
def test_a_batch_function_must_answer_every_row(answer: Any) -> None:
    @labeling_function(batch=True)
    def short(frame: Any) -> Any:
        return answer

    with pytest.raises(FunctionFailureError, match=r"(?s)'short'.*expected: 2 answers"):
        votes(short, ["a", "b"])


@pytest.mark.parametrize("answer", [["good", "ugly"], [0.0, float("nan")], [["good"], ["ugly"]]])
def test_an_unknown_class_of_a_batch_function_is_refused(answer: Any) -> None:
    @labeling_function(batch=True)
    def wrong(frame: Any) -> Any:
        return answer

    with pytest.raises(FunctionFailureError, match=r"'wrong' returned an unknown class"):
        votes(wrong, ["a", "b"])


def test_a_batch_function_that_raises_abstains_and_is_counted() -> None:
    @labeling_function(batch=True)
    def broken(frame: Any) -> Any:
        return frame["no such column"]

    column = apply_function(broken, [batch(["a", "b"])], CLASSES)

    assert (column.failed_rows, column.votes.tolist()) == (2, [ABSTAIN, ABSTAIN])
    assert column.first_failures[0] == f"{0:032x}: ColumnNotFoundError"


def test_only_functions_can_be_decorated() -> None:
    with pytest.raises(LabelingError, match="partial"):
        labeling_function(functools.partial(str, "x"))


MODULE = """
from fm_platform.labeling import labeling_function

GOOD = ("good",)

def helper(text):
    return {test}

@labeling_function(resources={{"words": {words}}})
def one(row, words):
    {comment}
    return "good" if helper(row.text) and GOOD else None
"""


def fingerprint_of(folder: Path, **parts: str) -> str:
    folder.mkdir(exist_ok=True)
    given = {"test": "'good' in text", "words": "('a',)", "comment": "# nothing", **parts}
    (folder / "labeling_functions.py").write_text(MODULE.format(**given))
    return load_functions(project(), folder)[0].fingerprint


def project(**labeling: Any) -> ProjectSpec:
    return ProjectSpec.model_validate(
        {
            "name": "small",
            "taxonomy": {"classes": list(CLASSES)},
            "calendar": {"start": "2026-01-01"},
            "sources": [{"name": "main"}],
            "labeling": labeling,
        }
    )


def test_the_fingerprint_follows_what_decides_the_votes_and_nothing_else(tmp_path: Path) -> None:
    before = fingerprint_of(tmp_path / "a")

    assert fingerprint_of(tmp_path / "b", comment='"""A docstring."""') == before
    assert fingerprint_of(tmp_path / "c", test="'fine' in text") != before
    assert fingerprint_of(tmp_path / "d", words="('a', 'b')") != before


def test_a_module_that_does_not_import_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "labeling_functions.py").write_text("x = 1\nraise RuntimeError('no')\n")

    with pytest.raises(FunctionImportError, match=r"(?s)labeling_functions.py:2.*RuntimeError: no"):
        load_functions(project(), tmp_path)


def test_a_module_with_a_syntax_error_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "labeling_functions.py").write_text("x = 1\ndef (:\n")

    with pytest.raises(FunctionImportError, match=r"labeling_functions.py:2"):
        load_functions(project(), tmp_path)


def test_a_module_that_exits_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    (tmp_path / "labeling_functions.py").write_text("import sys\nsys.exit(0)\n")

    with pytest.raises(FunctionImportError, match="SystemExit"):
        load_functions(project(), tmp_path)


def test_a_declared_module_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FunctionImportError, match=r"(?s)is not there.*functions_of_mine.py"):
        load_functions(project(module="functions_of_mine.py"), tmp_path)


def test_two_functions_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labeling_functions.py").write_text(MODULE.format(
        test="True", words="()", comment="pass"))  # fmt: skip
    declared = {"kind": "keyword", "name": "one", "words": ["x"], "label": "bad"}

    with pytest.raises(LabelingError, match="share a name: one"):
        load_functions(project(functions=[declared]), tmp_path)


def test_a_project_without_functions_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabelingError, match=r"(?s)no labeling function.*next: declare one"):
        load_functions(project(), tmp_path)


def test_many_batches_give_one_column_in_order() -> None:
    @labeling_function
    def says_good(row: Any) -> str | None:
        return "good" if "good" in row.text else None

    column = apply_function(says_good, [batch(["good"]), batch(["x", "good"])], CLASSES)

    assert column.votes.tolist() == [1, ABSTAIN, 1]
    assert column.votes.dtype == np.int8
