"""Days of shipped text with made metadata, and the shifts that are planted in them.

The text, its raters' labels, the votes of the text functions and the embeddings are those of a
finished demo. Columns are made for each row from its label and a seed. Two of them are read by
labeling functions (`rating`, `stars`), the others by nothing (`region`, `device`, `price`). The
live model is a linear probe on the frozen embeddings, trained on the weak labels of the reference
days: it stands in for the adapters, so that hundreds of trainings are possible. Like them it is
trained on some rows of these days and measured on the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import MissingArtifactError
from fm_platform.hashing import sha256_hex
from fm_platform.labeling.label_model import LabelModelFit, fit_label_model
from fm_platform.labeling.partial import from_table
from fm_platform.lineage import ArtifactVersion
from fm_platform.spec.models import LabelModelSpec
from fm_platform.stages import tables
from fm_platform.stages.common import SilentReporter
from fm_platform.stages.embeddings import Embeddings
from fm_platform.workspace import Workspace, find_project, run_context

CLASSES = ("negative", "neutral", "positive")
COLUMNS = ("device", "price", "rating", "region", "stars")
READS = {"rated_good": "rating", "rated_bad": "rating", "many_stars": "stars", "few_stars": "stars"}
NEW_SOURCE = "amazon"
SOURCES = ("movies", "nyt", "tweets")
FIRST = date(2026, 3, 2)
_NOT_COPIED = ("exemplars_of_source", "exemplars_text", "exemplars_text_and_votes")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Pool:
    """All rows there are. `foreign` holds the same kind of rows in another language."""

    text: Array
    source: Array
    gold: Array
    votes: Array
    vectors: Array
    functions: tuple[str, ...]
    foreign: Pool | None = None


@dataclass(frozen=True)
class Rows:
    """The rows of one day, before labeling."""

    text: Array
    source: Array
    gold: Array
    votes: Array
    vectors: Array
    rating: Array
    stars: Array
    region: Array
    device: Array
    price: Array
    dated: str = ""

    def take(self, rows: Array) -> Rows:
        """Return some of the rows, in that order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ROW_FIELDS})


_ROW_FIELDS = (
    "text", "source", "gold", "votes", "vectors", "rating", "stars", "region", "device", "price",
)  # fmt: skip


def load_pool(project: str = "sentiment") -> Pool:
    """Read the rows of a finished demo.

    Raises:
        MissingArtifactError: If there is none.
    """
    ws, loaded = Workspace.open(), find_project(project)
    raws = {
        str(v.partition): v for v in ws.ledger.all_latest(project, kind="raw") if v.name == "raw"
    }
    if not raws:
        raise MissingArtifactError("the demo is not built", next_step="make demo")
    embeddings = Embeddings(ws, loaded, run_context("person"), SilentReporter())
    parts = []
    for day in sorted(raws):
        weak = ws.ledger.latest(project, "weak_labels", "weak_labels", day)
        if weak is None:
            continue
        rows = tables.read(ws, raws[day], "raw", ["row_id", "source", "text"])
        gold = tables.read(ws, raws[day], "gold", ["row_id", "label"])
        spot = pc.index_in(rows["row_id"], value_set=gold["row_id"].combine_chunks())
        vectors = _vectors(ws, embeddings, raws[day], rows["row_id"].to_pylist())
        names = [n for n in weak.metrics["functions"] if n not in _NOT_COPIED]
        votes = []
        for name in names:
            version = ws.ledger.latest(project, "votes", name, day)
            assert version is not None
            votes.append(from_table(ws.columns.get(str(version.location["column"])))[0])
        label = gold["label"].take(spot.combine_chunks().fill_null(0))
        known = np.asarray(pc.is_valid(spot))
        parts.append(
            (
                np.array(rows["text"].to_pylist(), object)[known],
                np.array(rows["source"].to_pylist(), object)[known],
                np.array([CLASSES.index(x) for x in label.to_pylist()])[known],
                np.stack(votes, axis=1)[known],
                vectors[known],
            )
        )
    pool = Pool(*(np.concatenate(column) for column in zip(*parts, strict=True)), tuple(names))
    return replace(pool, foreign=_foreign(pool, embeddings))


def _vectors(ws: Workspace, embeddings: Embeddings, raw: ArtifactVersion, ids: list[str]) -> Array:
    """Return the embeddings in use of a day; they are made only where there are none."""
    made = ws.ledger.latest(raw.project, "embeddings", "embeddings", raw.partition)
    if made is None:
        return embeddings.matrix(raw, ids)
    table = ws.columns.get(str(made.location["column"]))
    assert table["row_id"].to_pylist() == ids
    return tables.matrix(table["embedding"])


_WORDS = (
    "the:der a:ein an:ein of:von to:zu is:ist it:es that:dass this:dieser was:war with:mit "
    "but:aber i:ich you:du we:wir they:sie he:er she:sie my:mein his:sein her:ihr their:ihre "
    "its:sein are:sind be:sein been:gewesen have:haben has:hat had:hatte will:wird "
    "would:würde can:kann could:könnte all:alle one:eins so:so if:wenn at:bei by:durch "
    "from:aus as:als on:auf for:für and:und not:nicht or:oder in:in good:gut great:großartig "
    "bad:schlecht best:beste like:mögen love:liebe hate:hasse very:sehr more:mehr "
    "most:meisten no:kein what:was who:wer when:wann there:dort out:heraus about:über "
    "just:nur than:als up:auf some:einige into:hinein even:sogar only:nur time:zeit "
    "people:leute new:neu film:film movie:film work:arbeit make:machen get:bekommen well:gut "
    "much:viel too:auch any:irgendein which:welche were:waren do:tun does:tut did:tat how:wie "
    "these:diese them:ihnen product:ware battery:batterie phone:telefon easy:einfach "
    "use:benutzen problem:problem better:besser never:nie always:immer first:erste after:nach "
    "over:über because:weil also:auch other:andere us:uns our:unser your:dein me:mich him:ihn "
    "should:sollte may:darf story:geschichte characters:figuren funny:lustig way:weg "
    "little:klein years:jahre "
)
_GERMAN = dict(pair.split(":") for pair in _WORDS.split())


def _foreign(pool: Pool, embeddings: Embeddings) -> Pool:
    """Return 240 rows of each source, word by word in German, as the base model reads them.

    No text function knows a word of it: all abstain.
    """
    from fm_platform.training.embed import embed

    generator = np.random.default_rng(5)
    rows = np.concatenate(
        [
            generator.choice(np.flatnonzero(pool.source == name), 240, replace=False)
            for name in SOURCES
        ]
    )
    ending = ("ung", "lich", "keit", "en", "isch")

    def german(text: str) -> str:
        said = []
        for word in text.lower().split():
            known = _GERMAN.get(word.strip(".,!?;:'\""))
            if known is None and word.isalpha() and len(word) > 4:
                known = word[:-1].replace("th", "sch").replace("y", "ie") + ending[len(word) % 5]
            said.append(known or word)
        return " ".join(said)

    text = np.array([german(one) for one in pool.text[rows]], object)
    vectors = embed(embeddings.base, text.tolist())
    votes = np.full((len(rows), pool.votes.shape[1]), -1, np.int8)
    return Pool(text, pool.source[rows], pool.gold[rows], votes, vectors, pool.functions)


def draw(pool: Pool, rng: np.random.Generator, sizes: dict[str, int], day: str) -> Rows:
    """Return one day of rows of each source, with made columns."""
    rows = np.concatenate(
        [rng.choice(np.flatnonzero(pool.source == s), n, replace=False) for s, n in sizes.items()]
    )
    gold = pool.gold[rows]
    n = len(rows)
    told = rng.random(n) < 0.75  # how often the column tells the class
    seen = np.where(told, gold, rng.integers(0, 3, n))
    again = np.where(rng.random(n) < 0.75, gold, rng.integers(0, 3, n))
    stars = np.clip(np.round(1 + 2 * again + rng.normal(0, 0.7, n)), 1, 5)
    return Rows(
        pool.text[rows], pool.source[rows], gold, pool.votes[rows], pool.vectors[rows],
        np.array(["bad", "mixed", "good"], object)[seen], stars,
        np.array(["east", "north", "south", "west"], object)[
            rng.choice(4, n, p=[0.2, 0.4, 0.25, 0.15])
        ],
        np.array(["desktop", "phone", "tablet"], object)[rng.choice(3, n, p=[0.35, 0.55, 0.1])],
        rng.lognormal(3.0, 0.6, n), day,
    )  # fmt: skip


def functions(pool: Pool) -> tuple[str, ...]:
    """Return the names of all labeling functions, in the order of `votes_of`."""
    return (*pool.functions, *READS)


def votes_of(rows: Rows) -> Array:
    """Return the votes of the text functions and of the rules on columns."""

    def rule(hit: Array, label: int) -> Array:
        return np.where(hit, label, -1).astype(np.int8)

    numbers = np.asarray(rows.stars, float)
    rules = (
        rule(rows.rating == "good", 2), rule(rows.rating == "bad", 0),
        rule(numbers >= 4, 2), rule(numbers <= 2, 0),
    )  # fmt: skip
    return np.column_stack([rows.votes, *rules]).astype(np.int8)


def fit_labels(days: list[Rows]) -> LabelModelFit:
    """Return the label model of some days, chosen on 150 rows that people labeled."""
    votes = np.concatenate([votes_of(day) for day in days])
    sources = np.concatenate([day.source for day in days]).tolist()
    gold = np.concatenate([day.gold for day in days])
    dev = np.random.default_rng(0).choice(len(gold), 150, replace=False)
    return fit_label_model(votes, sources, dev, gold[dev], 3, LabelModelSpec(per_source=False))


def fit_probe(days: list[Rows], labels: list[Array], most: int = 4_000) -> Any:
    """Return the live model: a linear probe on the embeddings, trained on weak labels."""
    from sklearn.linear_model import LogisticRegression

    vectors = np.concatenate([day.vectors for day in days])
    targets = np.concatenate([found.argmax(axis=1) for found in labels])
    if len(vectors) > most:
        kept = np.random.default_rng(0).choice(len(vectors), most, replace=False)
        vectors, targets = vectors[kept], targets[kept]
    return LogisticRegression(C=3.0, max_iter=200).fit(vectors, targets)


def told_by(probe: Any, vectors: Array) -> Array:
    """Return the live model's probabilities, float[n, 3]: 0 for a class that no label had."""
    told = np.zeros((len(vectors), len(CLASSES)))
    if len(vectors):
        told[:, probe.classes_] = probe.predict_proba(vectors)
    return told


def ids_of(rows: Rows, seed: int) -> list[str]:
    """Return the ids of the rows of a day."""
    return [sha256_hex(f"{seed}/{rows.dated}/{i}".encode())[:32] for i in range(len(rows.text))]


def trained(rows: Rows, seed: int) -> Array:
    """Return which half of the rows of a reference day the live model is trained on, bool[n]."""
    return np.array([int(one[8:12], 16) < 32_768 for one in ids_of(rows, seed)], bool)


def to_table(rows: Rows, labels: Array, seed: int, train: Array | None = None) -> pa.Table:
    """Return one day as the platform's stages would hand it to `measure_day`."""
    votes = votes_of(rows)
    ids = ids_of(rows, seed)
    # people label 30 %: any rows, not those that a sample takes first
    people = np.array([int(one[4:8], 16) / 65_536 < 0.3 for one in ids], bool)
    side = np.zeros(len(ids), bool) if train is None else train
    labeled = (votes >= 0).any(axis=1)
    names = np.array(CLASSES, object)
    return pa.table(
        {
            "row_id": ids,
            "split": np.where(side, "train", "test").tolist(),
            "source": pa.array(rows.source, pa.string()),
            "text": pa.array(rows.text, pa.string()),
            "text_key": [sha256_hex(str(one).lower().encode())[:32] for one in rows.text],
            "rating": pa.array(rows.rating, pa.string()),
            "region": pa.array(rows.region, pa.string()),
            "device": pa.array(rows.device, pa.string()),
            "stars": pa.array(np.asarray(rows.stars, float), from_pandas=True),
            "price": pa.array(np.asarray(rows.price, float), from_pandas=True),
            "votes": tables.lists(votes, pa.int8()),
            "label": pa.array(np.where(labeled, names[labels.argmax(axis=1)], None), pa.string()),
            "confidence": pa.array(labels.max(axis=1), pa.float32()),
            "gold": pa.array(np.where(people, names[rows.gold], None), pa.string()),
        }
    )


# --- shifts: each takes the rows of a day and gives those that came instead ----------------------

Shift = Callable[[Pool, Rows, np.random.Generator, float], Rows]


def new_source(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    n = int(len(rows.text) * 1.5 * size)
    more = draw(pool, rng, {NEW_SOURCE: min(n, 3_000)}, rows.dated)
    joined = {f: np.concatenate([getattr(rows, f), getattr(more, f)]) for f in _ROW_FIELDS}
    return replace(rows, **joined)


def _swap(name: str, one: str, other: str) -> Shift:
    def shift(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
        column = getattr(rows, name).copy()
        hit = rng.random(len(column)) < size
        column[hit & (getattr(rows, name) == one)] = other
        column[hit & (getattr(rows, name) == other)] = one
        return replace(rows, **{name: column})

    return shift


def _scaled(name: str, factor: float) -> Shift:
    def shift(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
        column = np.asarray(getattr(rows, name), float)
        hit = rng.random(len(column)) < size
        return replace(rows, **{name: np.where(hit, column * factor, column)})

    return shift


def nulls(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    column = rows.rating.copy()
    # Evidently stops at a column without any value: some stay
    column[rng.random(len(column)) < 0.8 * size] = None
    return replace(rows, rating=column)


def truncated(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    keep = (rows.source != "movies") | (rng.random(len(rows.text)) < 1 - 0.9 * size)
    return rows.take(np.flatnonzero(keep))


def language(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    assert pool.foreign is not None
    other = np.flatnonzero(pool.foreign.source == "tweets")
    hit = np.flatnonzero((rows.source == "tweets") & (rng.random(len(rows.text)) < size))
    hit = hit[: len(other)]
    chosen = rng.choice(other, len(hit), replace=False)
    changed = {}
    for name in ("text", "gold", "votes", "vectors"):
        changed[name] = getattr(rows, name).copy()
        changed[name][hit] = getattr(pool.foreign, name)[chosen]
    return replace(rows, **changed)


def labels_moved(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    """In two sources the negative rows become many: others go, and some stay."""
    moved = np.isin(rows.source, ("movies", "tweets"))
    drop = moved & (rows.gold != 0) & (rng.random(len(rows.text)) < 0.8 * size)
    return rows.take(np.flatnonzero(~drop))


def function_broken(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    votes = rows.votes.copy()
    hit = rng.random(len(votes)) < size
    votes[hit, list(pool.functions).index("vader")] = 2
    return replace(rows, votes=votes)


def concept(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    """People judge the other way round in one region."""
    hit = (rows.region == "north") & (rng.random(len(rows.gold)) < size)
    return replace(rows, gold=np.where(hit, 2 - rows.gold, rows.gold))


def flood(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    own = np.flatnonzero(rows.source == "nyt")
    few = rng.choice(own, 3, replace=False)
    copies = rng.choice(few, int(len(own) * 2 * size))
    return rows.take(np.concatenate([np.arange(len(rows.text)), copies]))


def late(pool: Pool, rows: Rows, rng: np.random.Generator, size: float) -> Rows:
    return rows.take(np.arange(0))


@dataclass(frozen=True)
class Planted:
    """One shift and what an alert about it must name first."""

    name: str
    shift: Shift
    kinds: tuple[str, ...]
    names: tuple[str, ...]


SHIFTS = (
    Planted("new source", new_source, ("source_came",), (NEW_SOURCE,)),
    Planted("category swapped", _swap("rating", "good", "bad"), ("value",), ("rating",)),
    Planted("category swapped, unused", _swap("region", "north", "west"), ("value",), ("region",)),
    Planted("range shifted", _scaled("stars", 2.0), ("range",), ("stars",)),
    Planted("range shifted, unused", _scaled("price", 2.0), ("range",), ("price",)),
    Planted("nulls", nulls, ("nulls",), ("rating",)),
    Planted("source truncated", truncated, ("volume", "source_gone"), ("movies",)),
    Planted("language", language, ("language",), ("tweets", "language", "text")),
    Planted("label distribution", labels_moved, ("labels",), ("label", "labels")),
    Planted("function broken", function_broken, ("function",), ("vader",)),
    Planted("concept", concept, ("concept",), ("region",)),
    Planted("duplicate flood", flood, ("duplicates",), ("nyt", "text", "duplicates")),
    Planted("late day", late, ("volume", "source_gone"), ("all",)),
)


def day_name(i: int) -> str:
    """Return the i-th day."""
    return (FIRST + timedelta(days=i)).isoformat()
