"""The shipped corpora: all rows, gold as in the paper, clear errors without the archive."""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from fm_platform.cleaning.contracts import check_batch
from fm_platform.errors import SourceFormatError, SourceUnavailableError
from fm_platform.hashing import sha256_file
from fm_platform.sources import corpora
from fm_platform.sources.connectors import CONNECTORS, Connector, connect, options_problems
from fm_platform.sources.ingest import Ingest
from fm_platform.spec.checks import BUILT_IN_CONNECTORS
from fm_platform.spec.load import LoadedProject, load_spec

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = os.environ.get(corpora.ARCHIVE_VARIABLE)

TRUTH = "1\t2.2\tfine: a\ttab\n2\t-0.2\tso so\n3\t0.19\tmeh\n4\t-3\tbad \n"
RATINGS = "1\t2.2\t0.5\t[3, 0, -1]\n2\t-0.2\t1\t[0, 0]\n4\t-3\t1\t[-3]\n"


@pytest.fixture
def sentiment() -> LoadedProject:
    return load_spec(ROOT / "assets" / "defs" / "sentiment" / "defs.yaml")


def connectors(project: LoadedProject, cache: Path) -> dict[str, Connector]:
    return {
        s.name: connect(s, project.spec, project.directory, cache) for s in project.spec.sources
    }


def tar(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"some-folder/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of the same shape with four sentences a corpus, that counts as the right one."""
    inner = {}
    for name in corpora.FILES.values():
        inner[f"{name}_GroundTruth.txt"] = TRUTH.encode() + b"5\t0\tcaf\xe9\n"
        inner[f"{name}_anonDataRatings.txt"] = RATINGS.encode()
    path = tmp_path / "small.tar.gz"
    path.write_bytes(tar({corpora.INNER: tar(inner)}))
    monkeypatch.setenv(corpora.ARCHIVE_VARIABLE, str(path))
    monkeypatch.setattr(corpora, "ARCHIVE_SHA256", sha256_file(path))
    return path


def test_gold_and_raters_follow_the_paper(small: Path, sentiment: LoadedProject) -> None:
    movies = connectors(sentiment, small.parent)["movies"]

    rows = [row for day in movies.days() for batch in movies.read(day) for row in batch.to_pylist()]

    found = {row["key"]: row for row in rows}
    assert {k: r["gold_label"] for k, r in found.items()} == {
        "1": "positive", "2": "negative", "3": "neutral", "4": "negative", "5": "neutral",
    }  # fmt: skip
    assert found["1"]["text"] == "fine: a\ttab"
    assert found["1"]["gold_rater_labels"] == ["positive", "neutral", "negative"]
    assert found["3"]["gold_rater_labels"] is None
    assert found["5"]["text"] == "caf\ufffd"


@pytest.mark.parametrize(
    ("mean", "label"),
    [(0.2, "positive"), (0.19, "neutral"), (-0.19, "neutral"), (-0.2, "negative"), (4, "positive")],
)
def test_thresholds_are_on_the_scaled_mean(mean: float, label: str) -> None:
    assert corpora.gold_label(mean) == label


def test_the_order_of_arrival_is_the_same_every_time(small: Path, sentiment: LoadedProject) -> None:
    def keys() -> list[list[str]]:
        nyt = connectors(sentiment, small.parent)["nyt"]
        return [[k for b in nyt.read(d) for k in b["key"].to_pylist()] for d in nyt.days()]

    assert keys() == keys()
    assert sorted(key for day in keys() for key in day) == ["1", "2", "3", "4", "5"]


def test_another_archive_is_refused(small: Path, sentiment: LoadedProject) -> None:
    small.write_bytes(small.read_bytes() + b"\0")

    with pytest.raises(SourceFormatError, match=r"(?s)not the one that was declared.*expected"):
        list(connectors(sentiment, small.parent)["nyt"].read("2026-01-07"))


def test_no_network_is_a_clear_error_that_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sentiment: LoadedProject
) -> None:
    monkeypatch.delenv(corpora.ARCHIVE_VARIABLE, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")

    with pytest.raises(SourceUnavailableError, match=r"(?s)could not be fetched.*next: check") as e:
        list(connectors(sentiment, tmp_path)["nyt"].read("2026-01-07"))

    assert e.value.retryable


def test_a_named_archive_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(corpora.ARCHIVE_VARIABLE, str(tmp_path / "none.tar.gz"))

    with pytest.raises(SourceUnavailableError, match=r"(?s)not there.*none.tar.gz"):
        corpora.fetch(tmp_path)


def test_what_a_day_holds_is_known_without_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sentiment: LoadedProject
) -> None:
    monkeypatch.setenv(corpora.ARCHIVE_VARIABLE, str(tmp_path / "none.tar.gz"))
    found = connectors(sentiment, tmp_path)

    ids = {name: [c.content_id(day) for day in c.days()] for name, c in found.items()}

    assert len({i for days in ids.values() for i in days}) == 14 + 12 + 10 + 8


def test_the_spec_knows_the_names_of_all_built_in_connectors(sentiment: LoadedProject) -> None:
    assert options_problems(sentiment.spec) == []
    assert set(BUILT_IN_CONNECTORS) <= set(CONNECTORS.names())
    built_in = [n for n in CONNECTORS.names() if CONNECTORS.get(n).__module__.startswith("fm_")]  # type: ignore[attr-defined]
    assert sorted(built_in) == list(BUILT_IN_CONNECTORS)


def test_mistakes_in_settings_are_told_with_all_others(tmp_path: Path) -> None:
    from fm_platform.errors import SpecError
    from fm_platform.spec.load import parse_spec

    text = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {classes: [bad]}
  calendar: {start: 2026-01-01}
  sources:
    - {name: one, connector: vader_corpora, options: {corpus: films}}
    - {name: two, options: {path: x.csv, text_colum: body}}
    - {name: three, options: {format: csv}}
"""
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "defs.yaml", [options_problems])

    assert [p.line for p in caught.value.problems] == [4, 7, 8, 9]
    told = str(caught.value)
    assert "did you mean 'text_column'?" in told
    assert "sources[0].options.corpus: Input should be 'tweets', 'movies', 'amazon' or" in told
    assert "sources[2].options.path: is required" in told


@pytest.mark.skipif(not ARCHIVE or not Path(ARCHIVE).is_file(), reason="no local archive")
def test_all_sentences_arrive_and_none_is_refused(tmp_path: Path, sentiment: LoadedProject) -> None:
    came: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    unrated = refused = 0
    for name, connector in connectors(sentiment, tmp_path).items():
        for day in connector.days():
            for part in Ingest(sentiment.spec, day, check_batch).source(name, connector.read(day)):
                came[name] += len(part.rows)
                refused += len(part.quarantine)
                unrated += sum(row["rater_labels"] is None for row in part.gold)
                labels.update(str(row["label"]) for row in part.gold)

    assert came == {"tweets": 4200, "movies": 10605, "amazon": 3708, "nyt": 5190}
    assert sum(labels.values()) == sum(came.values()) == 23_703
    assert (refused, unrated) == (0, 1)
    assert labels == {"negative": 10_191, "neutral": 1_931, "positive": 11_581}
