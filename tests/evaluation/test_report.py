"""The report shows data and predictions; a hostile row cannot run or fetch anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fm_platform.errors import EvaluationError
from fm_platform.evaluation.report import inert_string, write_report

CLASSES = ["negative", "neutral", "positive"]
BREAKOUT = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def rows(n: int, seed: int, sources: list[str] | None = None) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "row_id": [f"{seed}-{i}" for i in range(n)],
            "text": [BREAKOUT + " word" * int(k) for k in rng.integers(1, 20, n)],
            "source": rng.choice(sources or ["tweets", "movies"], n),
            "stars": rng.integers(1, 5, n),
            "verified": rng.random(n) < 0.5,
            "target": rng.choice(CLASSES, n),
            "prediction": rng.choice(CLASSES, n),
            "confidence": rng.random(n),
        }
    )


class Scripts(HTMLParser):
    """Collects script blocks and event attributes as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.images = 0
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.images += tag == "img"
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def seen(path: Path) -> tuple[int, int, int]:
    parser = Scripts()
    parser.feed(path.read_text("utf-8"))
    return parser.scripts, parser.images, len(parser.handlers)


def test_hostile_values_and_names_add_no_script(tmp_path: Path) -> None:
    plain = write_report(rows(60, 0), rows(50, 1), tmp_path / "plain.html")
    hostile_sources = ["tweets", BREAKOUT, "![x](https://evil.example/p.png)"]
    hostile = [
        rows(60, seed, hostile_sources).append_column(BREAKOUT, pa.array(np.arange(60.0)))
        for seed in (0, 1)
    ]
    report = write_report(hostile[0], hostile[1], tmp_path / "hostile.html")

    assert seen(report.path) == seen(plain.path)
    page = report.path.read_text("utf-8")
    assert "owned" in page
    assert not re.search(r"<[^\u200b]{0,3}script>document", page)
    assert "<img src=x" not in page
    assert "](https://evil" not in page
    assert " word word" not in page
    assert "connect-src 'none'" in page[:2000]
    assert (report.reference_rows, report.current_rows) == (60, 60)


@pytest.mark.slow
def test_sampling_is_bounded_and_small_tables_work(tmp_path: Path) -> None:
    report = write_report(rows(500, 0), rows(3, 1), tmp_path / "r.html", max_rows=100)

    assert (report.reference_rows, report.current_rows) == (100, 3)
    assert report.bytes == report.path.stat().st_size


@pytest.mark.slow
def test_without_predictions_only_data_is_reported(tmp_path: Path) -> None:
    reference = rows(50, 0).drop_columns(["prediction"])

    assert write_report(reference, rows(50, 1), tmp_path / "r.html").bytes > 100_000


def test_empty_and_unrelated_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="rows on both sides"):
        write_report(rows(0, 0), rows(5, 1), tmp_path / "r.html")
    with pytest.raises(EvaluationError, match="no column in common"):
        write_report(pa.table({"a": [1]}), pa.table({"b": [1]}), tmp_path / "r.html")


def test_inert_string_opens_no_tag_and_no_markdown_image() -> None:
    shown = inert_string("![a](https://b) " + BREAKOUT)

    assert "<s" not in shown
    assert "</" not in shown
    assert "![" not in shown
    assert "](" not in shown


def answers(target: str, prediction: str) -> pa.Table:
    """Return ten rows per letter: the first letters of classes, repeated."""
    target, prediction = target * 10, prediction * 10
    return pa.table(
        {
            "text": [f"row {i}" for i in range(len(target))],
            "target": list(target),
            "prediction": list(prediction),
        }
    )


@pytest.mark.parametrize(
    ("reference", "current", "judged"),
    [
        (("abc", "abc"), ("abc", "acb"), True),
        (("ab", "ab"), ("ab", "bb"), True),  # a task of two classes, one of them never answered
        (("ab", "ba"), ("ab", "ab"), True),
        (("abc", "abb"), ("abc", "abc"), False),  # a model that answers two of three classes
        (("aba", "aba"), ("abc", "abc"), False),
        (("aaa", "aaa"), ("abc", "aaa"), False),  # training rows of one class only
        (("abc", "aaa"), ("abc", "aaa"), True),
        (("aaa", "aaa"), ("aaa", "aaa"), True),
    ],
)
def test_every_number_of_answered_classes_has_a_report(
    tmp_path: Path, reference: tuple[str, str], current: tuple[str, str], judged: bool
) -> None:
    report = write_report(answers(*reference), answers(*current), tmp_path / "r.html")

    assert ("Confusion Matrix" in report.path.read_text("utf-8")) is judged
