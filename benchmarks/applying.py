"""Labeling functions at work: a million rows, and an edit in a year of days.

    python -m benchmarks.applying [--quick] [--json] [--peers PYTHON] [--only rows|compiled|edit]

* `rows`: ten mixed functions on a million different rows, each side in a process of its own and
  one after the other: ours, a plain loop in Python, and Snorkel's applier for data frames (on a
  sample: its time grows with the rows alone). The votes must be the same.
* `compiled`: the same without the function that is Python on our side too: what it does costs
  the same everywhere.
* `edit`: one of twenty functions is edited in a history of 365 days.

The rows are real sentences (see `fm_platform.sources.corpora`), each with the first words of
another one so that no two are equal. `PYTHON` is an interpreter that has Snorkel
(`pip install '.[benchmarks]'` in an environment of its own); this one, if not given.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import applying_history
from benchmarks import applying_plain as plain
from fm_platform.home import Home
from fm_platform.labeling import labeling_function
from fm_platform.labeling.apply import BATCH_ROWS, apply_functions
from fm_platform.labeling.declared import compile_declared
from fm_platform.sources.corpora import FILES, _corpus, fetch
from fm_platform.spec.models import (
    KeywordFunction,
    LexiconFunction,
    LookupFunction,
    RegexFunction,
    RuleFunction,
)

ROWS, QUICK_ROWS = 1_000_000, 50_000
PEER_ROWS, QUICK_PEER_ROWS = 50_000, 5_000
DAYS, DAY_ROWS = 365, 2_000
QUICK_DAYS, QUICK_DAY_ROWS = 20, 500
Tell = Callable[[str], None]


def sentences() -> list[str]:
    """Return the real sentences of all corpora."""
    archive = fetch(Home.from_environment().cache)
    return [row[1] for corpus in FILES for row in _corpus(str(archive), corpus)]


def write_rows(path: Path, rows: int) -> None:
    """Write the rows, and beside them the lexicon and the things that functions know."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    texts = sentences()
    rng = np.random.default_rng(0)
    schema = pa.schema([("row_id", pa.string()), ("text", pa.string()), ("stars", pa.int64())])
    seen: set[int] = set()
    with pq.ParquetWriter(path, schema) as writer:
        done = 0
        while done < rows:
            n = min(BATCH_ROWS * 4, rows - done)
            picked: list[str] = []
            while len(picked) < n:
                one, two = (int(i) for i in rng.integers(len(texts), size=2))
                text = f"{texts[one]} {' '.join(texts[two].split()[:4])}"
                if hash(text) not in seen:
                    seen.add(hash(text))
                    picked.append(text)
            ids = [f"{i:032x}" for i in range(done, done + n)]
            stars = rng.integers(1, 6, size=n)
            writer.write_table(pa.table([ids, picked, stars], schema=schema))
            done += n
    weights = SentimentIntensityAnalyzer().lexicon
    # a knowledge base holds names, not the words that every text has
    cut = [plain._WORD.findall(text.lower()) for text in texts]
    often = Counter(word for words in cut for word in words)
    rare = sorted(word for word, times in often.items() if times <= 50 and len(word) > 3)
    pairs = sorted({
        f"{one} {two}" for words in cut for one, two in pairwise(words)
        if max(often[one], often[two]) <= 200
    })  # fmt: skip
    things = {
        listed[i]: int(i) % 3
        for listed in (rare, pairs)
        for i in sorted(rng.choice(len(listed), size=3000, replace=False).tolist())
    }
    known = {"lexicon": weights, "things": things}
    path.with_suffix(".json").write_text(json.dumps(known), "utf-8")


def our_functions(folder: Path, known: dict[str, Any]) -> list[Any]:
    """Return the same ten functions: nine declared, one in Python."""
    lines = [f"{word}\t{weight}" for word, weight in sorted(known["lexicon"].items())]
    (folder / "words.tsv").write_text("\n".join(lines), "utf-8")
    things = [f"{key}\t{plain.CLASSES[label]}" for key, label in sorted(known["things"].items())]
    (folder / "things.tsv").write_text("\n".join(["thing\tlabel", *things]), "utf-8")
    declared = [
        KeywordFunction(kind="keyword", name="praise", words=plain.PRAISE, label="positive"),
        KeywordFunction(kind="keyword", name="blame", words=plain.BLAME, label="negative"),
        KeywordFunction(kind="keyword", name="smiling", words=plain.SMILES, label="positive",
                        whole_words=False),
        RegexFunction(kind="regex", name="turned_down", pattern=plain.TURN, label="negative"),
        RegexFunction(kind="regex", name="loud", pattern=plain.LOUD, label="negative",
                      case_sensitive=True),
        LexiconFunction(kind="lexicon", name="opinion", file="words.tsv", above="positive",
                        below="negative", upper=plain.UPPER, lower=plain.LOWER),
        RuleFunction(kind="rule", name="few_words", column="word_count", operator="<",
                     value=plain.SHORT_WORDS, label="neutral"),
        RuleFunction(kind="rule", name="low_stars", column="stars", operator="<=",
                     value=plain.LOW_STARS, label="negative"),
        LookupFunction(kind="lookup", name="known", table="things.tsv", key_column="thing"),
    ]  # fmt: skip

    @labeling_function
    def shouting(row: Any) -> str | None:
        return "negative" if sum(map(str.isupper, row.text.split())) > plain.CAPITALS else None

    return [*(compile_declared(one, folder) for one in declared), shouting]


def ours(path: Path, votes: Path, only: str) -> dict[str, Any]:
    """Label all rows with our functions, streaming from the file; `only` the `compiled` ones?"""
    known = json.loads(path.with_suffix(".json").read_text("utf-8"))
    functions = our_functions(path.parent, known)
    functions = [one for one in functions if one.compiled or only != "compiled"]
    begun, used = time.perf_counter(), time.process_time()
    batches = pq.ParquetFile(path).iter_batches(BATCH_ROWS)
    columns = apply_functions(functions, batches, plain.CLASSES, timeout_s=10.0)
    told = {
        "rows": len(columns[0].votes),
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - used,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    # the plain functions know no sets of classes
    np.save(votes, np.stack([np.maximum(column.votes, -1) for column in columns], axis=1))
    return told


def compare_rows(
    rows: int, peer_rows: int, peers: str, tell: Tell, only: str = "all"
) -> dict[str, Any]:
    """Return rows a second of each side, and whether the votes are the same.

    `only` says whether `all` ten functions are asked, or the nine that are `compiled`.
    """
    with tempfile.TemporaryDirectory(prefix="fm-applying-") as name:
        path = Path(name) / "rows.parquet"
        tell(f"writing {rows} rows")
        write_rows(path, rows)
        here = [sys.executable, "-m"]
        asked = {
            "ours": [*here, "benchmarks.applying", "--worker", str(path)],
            "loop": [*here, "benchmarks.applying_plain", "loop", str(path)],
            "snorkel": [peers, "-m", "benchmarks.applying_plain", "snorkel", str(path)],
        }
        found: dict[str, Any] = {}
        for who, words in asked.items():
            tell(f"{who} ...")
            limit = peer_rows if who == "snorkel" else rows
            votes = Path(name) / f"{who}.npy"
            done = subprocess.run(
                [*words, str(votes), str(limit), only], capture_output=True, text=True, check=False
            )
            if done.returncode:
                found[who] = {"error": done.stderr.strip().splitlines()[-1:]}
                continue
            told = json.loads(done.stdout.strip().splitlines()[-1])
            told["rows_per_s"] = told["rows"] / told["seconds"]
            told["rows_per_cpu_s"] = told["rows"] / told["cpu_seconds"]
            found[who] = {**told, "votes": np.load(votes)}
        mine = found["ours"].pop("votes")
        found["coverage"] = {"mean": float((mine >= 0).mean())}
        for who in ("loop", "snorkel"):
            if (theirs := found[who].pop("votes", None)) is not None:
                same = mine[: len(theirs)] == theirs
                found[who]["same_votes"] = bool(same.all())
                found[who]["different_votes"] = int((~same).sum())
                found[who]["times_slower"] = found["ours"]["rows_per_s"] / found[who]["rows_per_s"]
                found[who]["times_cpu"] = (
                    found["ours"]["rows_per_cpu_s"] / found[who]["rows_per_cpu_s"]
                )
    return found


def table(found: dict[str, Any]) -> str:
    """Return the comparison as text."""
    lines = [f"{'':10}{'rows':>10}{'rows/s':>12}{'rows/cpu-s':>12}{'peak MB':>9}"
             f"{'ours is':>10}{'by CPU':>9}  same votes"]  # fmt: skip
    for who in ("ours", "loop", "snorkel"):
        told = found[who]
        if "error" in told:
            lines.append(f"{who:10}not measured: {told['error']}")
            continue
        ratio = f"{told['times_slower']:.1f}x" if "times_slower" in told else ""
        by_cpu = f"{told['times_cpu']:.1f}x" if "times_cpu" in told else ""
        lines.append(
            f"{who:10}{told['rows']:>10,}{told['rows_per_s']:>12,.0f}"
            f"{told['rows_per_cpu_s']:>12,.0f}{told['peak_mb']:>9.0f}{ratio:>10}{by_cpu:>9}"
            f"  {told.get('same_votes', '')}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--only", choices=("rows", "compiled", "edit"))
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        print(json.dumps(ours(Path(asked.worker[0]), Path(asked.worker[1]), asked.worker[3])))
        return

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    found: dict[str, Any] = {}
    rows, peer = (QUICK_ROWS, QUICK_PEER_ROWS) if asked.quick else (ROWS, PEER_ROWS)
    for key, only in (("rows", "all"), ("compiled", "compiled")):
        if asked.only in (None, key):
            found[key] = compare_rows(rows, peer, asked.peers, tell, only)
            if not asked.json:
                print(f"{only} functions\n{table(found[key])}")
    if asked.only in (None, "edit"):
        days, rows = (QUICK_DAYS, QUICK_DAY_ROWS) if asked.quick else (DAYS, DAY_ROWS)
        found["edit"] = applying_history.compare(days, rows, sentences(), tell)
        if not asked.json:
            print(applying_history.table(found["edit"]))
    if asked.json:
        print(json.dumps(found, indent=1))
    sys.exit(int(any("error" in side for part in found.values() for side in part.values())))


if __name__ == "__main__":
    main()
