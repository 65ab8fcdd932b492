"""What a merge did: how experts pull on each layer, and each task before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.methods import Layer, sign_conflict_rate, weighted_sum

Tensor = Any
# Two experts whose updates point this much the same way teach the same thing.
REDUNDANT = 0.95


@dataclass(frozen=True)
class Score:
    """How a model does on the weak dev rows of one source.

    Attributes:
        loss: Expected log loss in nats.
        accuracy: Expected share of right answers, 0 to 1.
        rows: How many rows.
    """

    loss: float
    accuracy: float
    rows: int


def layer_row(name: str, updates: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return conflict rate, interference and update norms of one layer.

    Interference is 1 - |sum of updates| / sum of |updates|: 0 where all pull one way, 1 where
    they cancel.
    """
    norms = {expert: float(update.norm()) for expert, update in updates.items()}
    total = sum(norms.values())
    together = float(weighted_sum(Layer(name, list(updates.values())), [1.0] * len(updates)).norm())
    return {
        "layer": name.removesuffix(".weight"),
        "sign_conflicts": round(sign_conflict_rate(list(updates.values())), 4),
        "interference": round(1 - together / total, 4) if total else 0.0,
        **{f"norm {expert}": round(norm, 4) for expert, norm in norms.items()},
    }


@dataclass
class Pairs:
    """Cosine of the whole updates of each pair of experts, summed up layer by layer."""

    names: Sequence[str]

    def __post_init__(self) -> None:
        self._dots: dict[tuple[str, str], float] = {}

    def add(self, updates: Mapping[str, Tensor]) -> None:
        """Take one more layer."""
        for one in self.names:
            for two in self.names:
                if one <= two:
                    dot = float((updates[one].double() * updates[two].double()).sum())
                    self._dots[one, two] = self._dots.get((one, two), 0.0) + dot

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each pair, the most alike first."""
        found: list[dict[str, Any]] = []
        if not self._dots:  # only heads were trained
            return found
        for one, two in combinations(sorted(self.names), 2):
            size = (self._dots[one, one] * self._dots[two, two]) ** 0.5
            cosine = self._dots[one, two] / size if size else 0.0
            found.append({
                "experts": f"{one}, {two}", "cosine": round(cosine, 4),
                "redundant": cosine >= REDUNDANT,
            })  # fmt: skip
        return sorted(found, key=lambda row: (-row["cosine"], row["experts"]))


def task_rows(
    alone: Mapping[str, Mapping[str, Score]],
    merged: Mapping[str, Score],
    sources: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """Return for each source its own expert before, the merge after, and the best expert.

    Args:
        alone: Expert -> source -> score.
        merged: Source -> score.
        sources: Expert -> the sources it was trained on.
    """
    found = []
    for source, after in sorted(merged.items()):
        owners = [expert for expert, own in sorted(sources.items()) if source in own]
        before = max((alone[o][source] for o in owners), key=lambda s: s.accuracy, default=None)
        best = max(sorted(alone), key=lambda expert: alone[expert][source].accuracy)
        found.append({
            "source": source, "rows": after.rows,
            "own expert": ", ".join(owners),
            "before": round(before.accuracy, 4) if before else None,
            "after": round(after.accuracy, 4),
            "lost": round(before.accuracy - after.accuracy, 4) if before else None,
            "best expert": best,
            "best": round(alone[best][source].accuracy, 4),
        })  # fmt: skip
    return found


def ensure_not_lost(rows: Sequence[Mapping[str, Any]], limit: float | None) -> None:
    """Refuse a merge that does worse than an expert on its own source by more than `limit`.

    Raises:
        MergeRefusedError: Naming each source that loses too much.
    """
    if limit is None:
        return
    over = [row for row in rows if row["lost"] is not None and row["lost"] > limit]
    if over:
        raise MergeRefusedError(
            "the merge forgets what an expert knew",
            expected=f"at most {limit:.3f} less accuracy on weak dev rows than each own expert",
            found="; ".join(
                f"{row['source']}: {row['before']:.3f} -> {row['after']:.3f}" for row in over
            ),
            next_step="try merge.method auto, declare weights, or raise merge.max_loss",
        )
