"""Merge experts of a causal model into one dense folder, and prove that it computes what it should.

The mathematics is that of all merges: the exact dense updates of each adapter, tensor by tensor.
There is no head, and what is judged on dev rows is how likely the right answers are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.adapters import Adapter, read_adapter, require_one_family
from fm_platform.merging.examine import Pairs, layer_row
from fm_platform.merging.merge import (
    Base,
    MergeResult,
    merged_state,
    write_dense,
)
from fm_platform.merging.search import Candidate, DevSample, best, search_weights
from fm_platform.numerics import THREADS, reproducible
from fm_platform.spec.models import Merge

TOLERANCE = 1e-4
"""Of the largest logit: float32 rounds at every layer, and causal models have many."""
_PROBE_SHAPE = (2, 12)
UNMERGED = ("fisher", "regmean")
"""Methods that measure what an expert knows of classes."""


class _Judged:
    """Dev rows, seen through the one question that the search of weights asks of them."""

    def __init__(self, loss: Callable[[Any], float]) -> None:
        self.loss = loss


def merge_causal(
    base: Base,
    adapters: Mapping[str, Path],
    merge: Merge,
    out_dir: Path,
    *,
    loss: Callable[[Any], float] | None = None,
    seed: int = 0,
    threads: int = THREADS,
    on_progress: Callable[[int, int], None] | None = None,
) -> MergeResult:
    """Write a causal base + experts as one dense model that `from_pretrained` loads.

    Args:
        base: The causal base model that every adapter was trained on.
        adapters: Expert -> verified adapter folder.
        merge: Methods, density, and weights or None to search them by `loss`.
        out_dir: Folder to write; replaced.
        loss: Merged model -> its mean loss on dev pairs; None: there are none.
        seed: Of DARE and of the texts of the proof.
        threads: Of the computation; part of what makes the bits.
        on_progress: Told of the search.

    Raises:
        MergeRefusedError: If the adapters do not fit together, the dense model does not compute
            what PEFT computes (apart by 1e-4 of the largest logit or more), or no method can
            merge them.
        BaseModelError: If the base cannot be used.
    """
    with reproducible(threads):
        model = base.new_classifier((), seed)
        experts = [read_adapter(name, path) for name, path in sorted(adapters.items())]
        state = model.state_dict()
        require_one_family(experts, base.content_hash, (), state)
        changed = set(experts[0].delta_names())
        # what no expert changes stays where it is: a copy of it would be most of the memory
        dense = {n: t.clone() if n in changed else t for n, t in state.items()}
        gap = max(
            _proved(base, model, dense, expert, adapters[expert.name], seed) for expert in experts
        )

        def load(weights: Sequence[float], method: str = "linear") -> Any:
            model.load_state_dict(
                merged_state(dense, experts, weights, merge, method=method, seed=seed)
            )
            return model

        method, weights, tried, rows = _choose(load, experts, merge, loss, on_progress)
        load(weights, method)
        write_dense(model, base, out_dir)
    names = [expert.name for expert in experts]
    report = {"max_logit_difference": gap, **_layers(experts), "methods": rows, "search": tried}
    return MergeResult(out_dir, method, dict(zip(names, weights, strict=True)), report)


def _proved(
    base: Base, model: Any, dense: Mapping[str, Any], adapter: Adapter, path: Path, seed: int
) -> float:
    """Return how far base + adapter and its dense form are apart, in shares of the largest logit.

    Raises:
        MergeRefusedError: If it is `TOLERANCE` or more.
    """
    import torch
    from peft import PeftModel

    model.load_state_dict(merged_state(dense, [adapter], [1.0], Merge(method="linear")))
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, model.config.vocab_size, _PROBE_SHAPE, generator=generator)
    with torch.inference_mode():
        ours = model(input_ids=ids).logits
        peft = PeftModel.from_pretrained(
            base.new_classifier((), seed), str(path), local_files_only=True
        ).eval()
        theirs = peft(input_ids=ids).logits
    gap = float((ours - theirs).abs().max()) / max(1.0, float(theirs.abs().max()))
    if not gap < TOLERANCE:
        raise MergeRefusedError(
            f"adapter {adapter.name!r} merged at weight 1 is not that adapter",
            expected=f"logits equal within {TOLERANCE:g} of the largest",
            found=f"{gap:.2e} apart",
        )
    return gap


def _choose(
    load: Callable[..., Any],
    experts: Sequence[Adapter],
    merge: Merge,
    loss: Callable[[Any], float] | None,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[str, list[float], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return method, weights, the weights that were tried, and a row for each method."""
    names = [expert.name for expert in experts]
    methods: list[str] = [
        m for m in merge.candidates if m not in UNMERGED and (m != "slerp" or len(names) == 2)
    ]
    if not methods or (merge.weights is not None and set(merge.weights) != set(names)):
        raise MergeRefusedError(
            "these experts cannot be merged as declared",
            expected=f"a method for {len(names)} causal experts, and a weight for each or none",
            found=f"{', '.join(merge.candidates)}; weights {merge.weights}",
            next_step="declare merge.method: linear",
        )
    ways: list[tuple[float, str, list[float], Sequence[Candidate]]] = []
    for method in methods:
        tried: Sequence[Candidate] = ()
        if merge.weights is not None:
            weights = [merge.weights[name] for name in names]
        elif len(names) == 1 or loss is None:
            weights = [1.0 / len(names)] * len(names)
        else:
            sample = cast(DevSample, _Judged(loss))  # all that the search asks of it
            tried = search_weights(
                lambda w, m=method: load(w, m),  # type: ignore[misc]
                len(names), sample, merge, on_progress,
            )  # fmt: skip
            weights = list(best(tried, merge).weights)
        found = loss(load(weights, method)) if loss is not None else float("inf")
        ways.append((found, method, weights, tried))
    first = min(range(len(ways)), key=lambda i: ways[i][0])
    _, method, weights, tried = ways[first]
    searched = [
        {"answer_loss": round(c.loss, 6), **dict(zip(names, c.weights, strict=True))}
        for c in tried
    ]  # fmt: skip
    rows = [
        {"method": m, "answer_loss": round(value, 6),
         **{f"weight {n}": w for n, w in zip(names, told, strict=True)}}
        for value, m, told, _ in ways
        if loss is not None
    ]  # fmt: skip
    return method, weights, searched, rows


def _layers(experts: Sequence[Adapter]) -> dict[str, Any]:
    """Return what pulls where, in updates of the base."""
    rows, pairs = [], Pairs([expert.name for expert in experts])
    for name in experts[0].delta_names():
        updates = {expert.name: expert.delta(name) for expert in experts}
        rows.append(layer_row(name, updates))
        pairs.add(updates)
    mean = sum(float(row["sign_conflicts"]) for row in rows) / max(len(rows), 1)
    return {"sign_conflict_rate": round(mean, 4), "layers": rows, "pairs": pairs.rows()}
