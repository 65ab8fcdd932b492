"""Labeling functions that take too long or end Python, and failing batches."""

from __future__ import annotations

import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fm_platform.labeling import ABSTAIN, labeling_function
from fm_platform.labeling.apply import apply_function, apply_functions
from fm_platform.labeling.watch import PATIENCE, CallTimeoutError, Watch

CLASSES = ("bad", "good")
ENDLESS = re.compile(r"(a+)+$")


def batch(texts: list[str]) -> pa.RecordBatch:
    return pa.record_batch(
        {"row_id": [f"{i:032x}" for i in range(len(texts))], "text": pa.array(texts, pa.string())}
    )


def test_a_pattern_that_backtracks_for_ever_is_interrupted_and_the_row_counted() -> None:
    @labeling_function
    def endless(row: Any) -> str:
        return "good" if ENDLESS.match(row.text) else "bad"

    rows = [batch(["aaa", "a" * 60 + "!", "b"])]

    column = apply_function(endless, rows, CLASSES, timeout_s=0.05)

    assert column.votes.tolist() == [1, ABSTAIN, 0]
    assert column.first_failures == (f"{1:032x}: CallTimeoutError",)


def test_a_function_cannot_hold_up_its_interruption() -> None:
    @labeling_function
    def stubborn(row: Any) -> str:
        try:
            while True:
                pass
        except Exception:
            return "good"

    assert apply_function(stubborn, [batch(["a"])], CLASSES, timeout_s=0.02).failed_rows == 1


def test_after_too_many_late_calls_the_rest_is_not_asked() -> None:
    asked: list[str] = []

    @labeling_function
    def slow(row: Any) -> str:
        asked.append(row.text)
        time.sleep(1)
        return "good"

    column = apply_function(slow, [batch([str(i) for i in range(50)])], CLASSES, timeout_s=0.004)

    assert len(asked) == PATIENCE
    assert column.failed_rows == 50


def test_outside_the_main_thread_a_late_call_is_judged_when_it_is_over() -> None:
    found: list[type[BaseException]] = []

    def work() -> None:
        watch = Watch(limit_s=0.01)
        with watch.set(), pytest.raises(CallTimeoutError) as told:
            watch.call(time.sleep, 0.15)
        found.append(told.type)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert found == [CallTimeoutError]


@pytest.mark.parametrize("thread", ["main", "another"])
def test_a_call_that_waits_a_little_on_a_busy_machine_is_not_late(thread: str) -> None:
    answered: list[str] = []

    def work() -> None:
        watch = Watch(limit_s=0.02)
        with watch.set():
            answered.append(watch.call(lambda _: time.sleep(0.08) or "good", None))

    if thread == "main":
        work()
    else:
        other = threading.Thread(target=work)
        other.start()
        other.join()

    assert answered == ["good"]


def test_a_library_that_is_imported_by_the_first_call_is_not_left_half_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "import time",
        "end = time.process_time() + 0.3",
        "while time.process_time() < end: pass",
        "answer = 'good'",
    ]
    (tmp_path / "slow_to_import.py").write_text("\n".join(lines), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    @labeling_function
    def lazy(row: Any) -> str:
        import slow_to_import

        return str(slow_to_import.answer) if row.text else "bad"

    column = apply_function(lazy, [batch(["a", "", "b"])], CLASSES, timeout_s=0.03)

    assert column.votes.tolist() == [1, 0, 1]
    assert column.failed_rows == 0


def test_only_the_failing_rows_of_a_batch_function_abstain() -> None:
    @labeling_function(batch=True)
    def parsed(frame: Any) -> Any:
        return ["good" if int(text) > 1 else "bad" for text in frame["text"]]

    column = apply_function(parsed, [batch(["1", "2", "three", "4", "5"])], CLASSES)

    assert column.votes.tolist() == [0, 1, ABSTAIN, 1, 1]
    assert column.first_failures == (f"{2:032x}: ValueError",)


@pytest.mark.parametrize("batches", [False, True])
def test_a_function_that_ends_python_abstains_on_that_row_and_is_counted(batches: bool) -> None:
    def answer(text: str) -> str:
        return sys.exit("enough") if text == "b" else "good"

    @labeling_function
    def quits(row: Any) -> str:
        return answer(row.text)

    @labeling_function(batch=True)
    def quits_a_batch(frame: Any) -> list[str]:
        return [answer(text) for text in frame["text"]]

    asked = quits_a_batch if batches else quits
    column = apply_function(asked, [batch(["a", "b", "c"])], CLASSES, timeout_s=5)

    assert column.votes.tolist() == [1, ABSTAIN, 1]
    assert column.first_failures == (f"{1:032x}: SystemExit",)


def test_an_interruption_by_a_person_ends_the_votes() -> None:
    @labeling_function
    def stopped(row: Any) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_function(stopped, [batch(["a"])], CLASSES)


def test_many_functions_in_one_pass_vote_as_each_alone_whatever_the_threads() -> None:
    from fm_platform.labeling.declared import compile_declared
    from fm_platform.spec.models import KeywordFunction, RuleFunction

    @labeling_function
    def short(row: Any) -> str | None:
        return "bad" if len(row.text) < 3 else None

    functions = [
        short,
        compile_declared(
            KeywordFunction(kind="keyword", name="k", words=("good",), label="good"), Path()
        ),
        compile_declared(
            RuleFunction(
                kind="rule", name="r", column="char_count", operator=">", value=5, label="bad"
            ),
            Path(),
        ),
    ]
    rows = [batch([f"good {i}" if i % 3 else "no" for i in range(part)]) for part in (7, 1, 0, 20)]
    alone = [apply_function(function, rows, CLASSES).votes.tolist() for function in functions]

    for threads in (1, 4):
        together = apply_functions(functions, rows, CLASSES, threads=threads)
        assert [column.votes.tolist() for column in together] == alone
