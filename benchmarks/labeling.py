"""Label models side by side: ours, majority vote, Snorkel and crowd-kit, in one run.

    python -m benchmarks.labeling [--quick] [--json] [--peers PYTHON] [--million]

Votes are drawn with known truth in eight regimes, at 10 thousand and 100 thousand rows and, with
`--million`, at 1 million; 10 and 25 functions. All systems get the same votes and the same 100
gold rows, in the form in which they can use them: ours as dev gold rows, Snorkel as `Y_dev` (class
balance), Dawid-Skene as `true_labels`. Accuracy is that of the other rows. The ceiling is Bayes'
rule with the shares of every vote given class and copied vote, counted on the truth of all rows:
what can be told from such votes at all.

`--peers` is the interpreter of an environment with snorkel==0.10.0 and crowd-kit (the extra
`benchmarks-labeling`); without it only ours and majority vote run. Above 10 thousand rows every
system has a process of its own, so that peak memory is its own. No setting was fixed on these
generators: see `benchmarks.label_settings`. A last table varies strength, share and quality of
copies; it was not used to fix anything either.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Drawn = tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], dict[int, int]]
GOLD_ROWS = 100
OURS = ("fm_platform", "fm_platform without gold", "majority vote")
CEILING = "ceiling (knows the truth)"
NO_COST = {"fit_s": 0.0, "fit_cpu_s": 0.0, "predict_s": 0.0, "peak_mib": 0.0}
PEERS = (
    "snorkel",
    "snorkel 500 epochs, Y_dev",
    "crowd-kit DawidSkene",
    "crowd-kit OneCoinDawidSkene",
)
SLOW = ("crowd-kit DawidSkene", "crowd-kit OneCoinDawidSkene")
REGIMES = (
    "independent", "duplicated", "correlated", "broad", "adversarial", "imbalanced", "four classes",
    "one class each",
)  # fmt: skip


def draw(
    rows: int,
    functions: int,
    regime: str,
    seed: int,
    *,
    strength: float = 0.9,
    share: float = 0.4,
    copied: str = "worst",
) -> Drawn:
    """Return votes int8[n, m], truth int64[n], and which function copies which.

    Args:
        rows: n.
        functions: m.
        regime: One of `REGIMES`.
        seed: Of all draws.
        strength: Share of rows on which a copy says what the copied function says.
        share: Of the functions that are copies, the copied one included.
        copied: `worst`, `median` or `best` function.
    """
    rng = np.random.default_rng([seed, rows, functions, REGIMES.index(regime)])
    classes = 4 if regime in ("four classes", "one class each") else 2
    shares = {"imbalanced": [0.92, 0.08], "four classes": [0.4, 0.3, 0.2, 0.1],
              "one class each": [0.5, 0.3, 0.15, 0.05]}  # fmt: skip
    truth = rng.choice(classes, rows, p=shares.get(regime, [0.7, 0.3])).astype(np.int64)
    if regime == "one class each":
        return _one_class_each(rng, truth, functions), truth, {}
    accuracy = np.repeat(rng.uniform(0.55, 0.9, functions)[:, None], classes, axis=1)
    coverage = np.full(functions, 0.5)
    some = rng.permutation(functions)[: max(2, round(share * functions))]
    if regime == "broad":
        accuracy[some], coverage[some] = rng.uniform(0.5, 0.6, (len(some), 1)), 0.95
    elif regime == "adversarial":
        bad = some[: max(1, functions // 5)]
        accuracy[bad] = rng.uniform(0.2, 0.4, (len(bad), 1))
    elif regime == "imbalanced":
        accuracy = rng.uniform(0.6, 0.95, (functions, classes))
    votes = np.empty((rows, functions), np.int8)
    for j in range(functions):
        right = rng.random(rows) < accuracy[j, truth]
        wrong = (truth + rng.integers(1, classes, rows)) % classes
        voted = rng.random(rows) < coverage[j]
        votes[:, j] = np.where(voted, np.where(right, truth, wrong), -1)
    copies: dict[int, int] = {}
    if regime == "duplicated":
        order = np.argsort(accuracy[:, 0])
        first = order[{"worst": 0, "median": functions // 2, "best": functions - 1}[copied]]
        for j in [j for j in rng.permutation(functions) if j != first][: len(some) - 1]:
            same = rng.random(rows) < strength
            votes[same, j] = votes[same, first]
            copies[int(j)] = int(first)
    elif regime == "correlated":
        for part in np.array_split(some, 2):
            opinion = votes[:, part[0]]
            for j in part[1:]:
                same = (rng.random(rows) < 0.6) & (opinion >= 0) & (votes[:, j] >= 0)
                votes[same, j] = opinion[same]
                copies[int(j)] = int(part[0])
    return votes, truth, copies


def _one_class_each(
    rng: np.random.Generator, truth: npt.NDArray[np.int64], functions: int
) -> npt.NDArray[np.int8]:
    """Return votes of functions that know one class: most of what they say is right."""
    rows, classes = len(truth), int(truth.max()) + 1
    votes = np.full((rows, functions), -1, np.int8)
    for j in range(functions):
        own = truth == j % classes
        found = own & (rng.random(rows) < rng.uniform(0.2, 0.8))
        precision = rng.uniform(0.6, 0.95)
        mistaken = found.sum() * (1 - precision) / precision / max((~own).sum(), 1)
        votes[found | (~own & (rng.random(rows) < mistaken)), j] = j % classes
    return votes


def ceiling(drawn: Drawn, rest: npt.NDArray[np.int64]) -> float:
    """Return the accuracy of Bayes' rule on some rows, by shares counted on the truth of all."""
    votes, truth, copies = drawn
    k, said = int(truth.max()) + 1, votes.astype(np.int64) + 1
    scores = np.tile(np.log(np.bincount(truth, minlength=k) / len(truth)), (len(rest), 1))
    for j in range(votes.shape[1]):
        copied = said[:, copies[j]] if j in copies else np.zeros(len(said), np.int64)
        counts = np.zeros((k, k + 1, k + 1))
        np.add.at(counts, (truth, copied, said[:, j]), 1)
        shares = np.log((counts + 1e-3) / (counts + 1e-3).sum(axis=2, keepdims=True))
        scores += shares[:, copied[rest], said[rest, j]].T
    return float((scores.argmax(axis=1) == truth[rest]).mean())


def measured(
    folder: Path, systems: tuple[str, ...], peers: str | None, drawn: Drawn
) -> Iterator[dict[str, Any]]:
    """Yield what each system made of the votes: accuracy, seconds, peak memory."""
    votes, truth, _ = drawn
    gold = np.random.default_rng(0).choice(len(truth), GOLD_ROWS, replace=False)
    rest = np.setdiff1d(np.arange(len(truth)), gold)
    np.savez(folder / "in.npz", votes=votes, gold=gold, labels=truth[gold], k=truth.max() + 1)
    yield {"system": CEILING, "accuracy": ceiling(drawn, rest), "note": "", **NO_COST}
    worker = Path(__file__).with_name("labeling_worker.py")
    for together in _processes(systems, alone=len(truth) > 10_000):
        interpreter = sys.executable if together[0] in OURS else peers
        if interpreter is None:
            continue
        done = subprocess.run(
            [interpreter, str(worker), str(folder), *together],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{together} failed:\n{done.stderr[-2000:]}")
        for number, line in enumerate(done.stdout.splitlines()[-len(together) :]):
            labels = np.load(folder / f"out-{number}.npy").argmax(axis=1)
            yield {
                **json.loads(line),
                "system": together[number],
                "accuracy": float((labels[rest] == truth[rest]).mean()),
            }


def _processes(systems: tuple[str, ...], *, alone: bool) -> list[list[str]]:
    """Return which systems share a process: those of a library where the votes are few."""
    if alone:
        return [[system] for system in systems]
    library = {system: "ours" if system in OURS else system.split()[0] for system in systems}
    return [[s for s in systems if library[s] == name] for name in dict.fromkeys(library.values())]


def compare(
    sizes: list[tuple[int, int]],
    regimes: tuple[str, ...],
    seeds: int,
    peers: str | None,
    tell: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Return one record per size, regime, seed and system."""
    records = []
    for rows, functions in sizes:
        for regime in regimes:
            for seed in range(seeds if rows <= 10_000 else 1):
                tell(f"{rows} x {functions} {regime}, seed {seed}")
                systems = OURS + PEERS
                if rows >= 1_000_000:  # minutes: once, for the time
                    once = regime == "independent"
                    systems = tuple(s for s in systems if s not in SLOW or
                                    (once and s == "crowd-kit DawidSkene"))  # fmt: skip
                with tempfile.TemporaryDirectory(prefix="fm-labeling-") as name:
                    drawn = draw(rows, functions, regime, seed)
                    for record in measured(Path(name), systems, peers, drawn):
                        tell(f"    {record['system']}: {100 * record['accuracy']:.2f} % in "
                             f"{record['fit_s']:.3f} s (cpu {record['fit_cpu_s']:.3f}), "
                             f"{record['peak_mib']:.0f} MiB {record['note']}")  # fmt: skip
                        records.append(
                            {"rows": rows, "functions": functions, "regime": regime,
                             "seed": seed, **record}
                        )  # fmt: skip
    return records


def sweep(
    grid: list[tuple[float, float, str]], peers: str | None, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return accuracies over strength, share and quality of copies, 10 thousand rows x 10."""
    systems = tuple(s for s in OURS + PEERS if s != "crowd-kit OneCoinDawidSkene")
    records = []
    for strength, share, copied in grid:
        tell(f"copies: strength {strength}, share {share}, of the {copied}")
        drawn = draw(10_000, 10, "duplicated", 7, strength=strength, share=share, copied=copied)
        with tempfile.TemporaryDirectory(prefix="fm-labeling-") as name:
            found = {
                r["system"]: r["accuracy"] for r in measured(Path(name), systems, peers, drawn)
            }
        tell("    " + ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items()))
        records.append({"strength": strength, "share": share, "copied": copied, **found})
    return records


def table(records: list[dict[str, Any]]) -> list[str]:
    """Return lines: one per size and regime, with the mean over seeds of every system."""
    lines = []
    keys = sorted({(r["rows"], r["functions"], REGIMES.index(r["regime"])) for r in records})
    for rows, functions, position in keys:
        regime = REGIMES[position]
        own = [
            r
            for r in records
            if (r["rows"], r["functions"], r["regime"]) == (rows, functions, regime)
        ]
        lines.append(f"{rows:>8} x {functions} {regime}")
        accuracy = {}
        for system in dict.fromkeys(r["system"] for r in own):
            mine = [r for r in own if r["system"] == system]
            mean = {key: float(np.mean([r[key] for r in mine]))
                    for key in ("accuracy", "fit_s", "fit_cpu_s", "peak_mib")}  # fmt: skip
            accuracy[system] = mean["accuracy"]
            told = ", ".join(sorted({r["note"] for r in mine if r.get("note")}))
            lines.append(
                f"    {system:<28} {100 * mean['accuracy']:6.2f} %   fit {mean['fit_s']:8.3f} s "
                f"(cpu {mean['fit_cpu_s']:8.3f})   {mean['peak_mib']:6.0f} MiB  {told}"
            )
        ours, others = accuracy["fm_platform"], [accuracy[s] for s in PEERS if s in accuracy]
        gap = 100 * (ours - max(others)) if others else float("nan")
        lines.append(
            f"    ours - best peer {gap:+.2f}, ours - majority vote "
            f"{100 * (ours - accuracy['majority vote']):+.2f}, "
            f"ours - ceiling {100 * (ours - accuracy[CEILING]):+.2f}"
        )
    return lines


def ratios(records: list[dict[str, Any]]) -> list[str]:
    """Return how many times faster ours is fitted than each peer, by size, as ranges."""
    lines = []
    for rows, functions in sorted({(r["rows"], r["functions"]) for r in records}):
        for peer in PEERS:
            found = []
            for regime in REGIMES:
                own = {r["system"]: r for r in records if r["regime"] == regime and
                       (r["rows"], r["functions"]) == (rows, functions)}  # fmt: skip
                if peer in own:
                    ours = own["fm_platform"]
                    found.append((own[peer]["fit_s"] / ours["fit_s"],
                                  own[peer]["fit_cpu_s"] / ours["fit_cpu_s"]))  # fmt: skip
            if found:
                wall, cpu = zip(*found, strict=True)
                lines.append(
                    f"{rows:>8} x {functions} {peer:<28} wall {min(wall):6.1f} to {max(wall):6.1f}"
                    f"   cpu {min(cpu):6.1f} to {max(cpu):6.1f}"
                )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 thousand rows, one seed")
    parser.add_argument("--million", action="store_true", help="1 million rows as well")
    parser.add_argument("--peers", help="interpreter with snorkel and crowd-kit")
    parser.add_argument("--only", choices=REGIMES, action="append", help="this regime")
    parser.add_argument("--sizes", help="e.g. 10000x10,1000000x25")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    wanted = [10_000] if asked.quick else [10_000, 100_000]
    wanted += [1_000_000] if asked.million else []
    sizes = [(rows, functions) for rows in wanted for functions in (10, 25)]
    if asked.sizes:
        sizes = [(int(a), int(b)) for a, b in (s.split("x") for s in asked.sizes.split(","))]
    regimes = tuple(asked.only or REGIMES)
    records = compare(sizes, regimes, 1 if asked.quick else 3, asked.peers, tell)
    strengths = (0.6, 0.9) if asked.quick else (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    grid = [(strength, share, copied) for share in ((0.4,) if asked.quick else (0.3, 0.4, 0.6))
            for strength in strengths for copied in ("worst", "median", "best")]  # fmt: skip
    swept = [] if asked.only or asked.sizes else sweep(grid, asked.peers, tell)
    if asked.json:
        print(json.dumps({"regimes": records, "copies": swept}, indent=1))
        return
    print("\n".join(table(records)))
    print("\nhow many times faster ours is fitted")
    print("\n".join(ratios(records)))
    if swept:
        print("\ncopies (10 thousand rows x 10 functions): accuracy in %")
        for record in swept:
            told = "  ".join(f"{name} {100 * record[name]:.1f}" for name in (CEILING, *OURS, *PEERS)
                             if name in record)  # fmt: skip
            print(f"  strength {record['strength']}, share {record['share']}, "
                  f"of the {record['copied']}: {told}")  # fmt: skip


if __name__ == "__main__":
    main()
