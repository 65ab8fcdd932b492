"""Merge experts into one dense model folder, and prove that it computes what it should."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.adapters import Adapter, read_adapter, require_one_family
from fm_platform.merging.methods import METHODS, linear, sign_conflict_rate
from fm_platform.merging.search import Candidate, search_weights
from fm_platform.numerics import THREADS, reproducible
from fm_platform.spec.models import Merge

TOLERANCE = 1e-5
_PROBE_SHAPES = ((4, 9), (3, 17), (2, 33))


class Base(Protocol):
    """What a merge needs of a base model."""

    @property
    def content_hash(self) -> str:
        """Hash of its files."""

    def new_classifier(self, classes: Sequence[str], seed: int) -> Any:
        """Return base + fresh head, float32, in evaluation mode."""

    def tokenizer(self) -> Any:
        """Return its tokenizer."""

    def tokenizer_files(self) -> list[Path]:
        """Return the files that make the tokenizer."""


@dataclass(frozen=True)
class MergeResult:
    """A merged model: its folder, the weights used, and the report.

    The report holds `max_logit_difference` (dense model against PEFT, over all adapters),
    `sign_conflict_rate`, `layers` (conflict rate and update norms per layer) and `search` (the
    weights that were tried and their expected log loss in nats; empty where none were).
    """

    directory: Path
    weights: dict[str, float]
    report: dict[str, Any]


def merge_experts(
    base: Base,
    adapters: Mapping[str, Path],
    merge: Merge,
    classes: Sequence[str],
    out_dir: Path,
    *,
    start: Path | None = None,
    dev: pa.Table | None = None,
    max_tokens: int = 128,
    seed: int = 0,
    threads: int = THREADS,
    on_progress: Callable[[int, int], None] | None = None,
) -> MergeResult:
    """Write base + experts as one dense model that `from_pretrained` loads.

    Args:
        base: The base model that every adapter was trained on.
        adapters: Expert -> verified adapter folder.
        merge: Method, density, and weights or None to search them on `dev`.
        classes: Class names, by index.
        out_dir: Folder to write; replaced.
        start: The adapter that every expert began from: experts are then merged as what each
            learned beyond it. Without it they are merged as updates of the base.
        dev: Cleaned dev rows with weak labels, for the search.
        max_tokens: Longer dev texts are cut.
        seed: Of the fresh head that the adapters' heads replace, and of the dev sample.
        threads: Of the computation; part of what makes the bits.
        on_progress: Told of the search.

    Raises:
        MergeRefusedError: If the adapters do not fit together, or the dense model does not
            compute what PEFT computes (1e-5 or more apart in a logit).
        BaseModelError: If the base cannot be used.
    """
    with reproducible(threads):
        model = base.new_classifier(classes, seed)
        experts = [read_adapter(name, path) for name, path in sorted(adapters.items())]
        origin = read_adapter("shared start", start) if start is not None else None
        dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        family = [*experts, origin] if origin else experts
        require_one_family(family, base.content_hash, classes, dense)
        gap = max(
            exactness(base, model, dense, expert, adapters[expert.name], origin, classes, seed)
            for expert in experts
        )

        def load(weights: Sequence[float]) -> Any:
            model.load_state_dict(merged_state(dense, experts, weights, merge, origin))
            return model

        weights, tried = _weights(load, experts, merge, base, dev, max_tokens, seed, on_progress)
        load([weights[expert.name] for expert in experts])
        _write(model, base, out_dir)
        report = {
            "max_logit_difference": gap,
            **_layers(experts, origin),
            "search": [
                {"log_loss": round(c.loss, 6), **dict(zip(weights, c.weights, strict=True))}
                for c in tried
            ],
        }
        return MergeResult(out_dir, weights, report)


def merged_state(
    dense: Mapping[str, Any],
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    merge: Merge,
    origin: Adapter | None = None,
) -> dict[str, Any]:
    """Return the dense tensors of the merge.

    With an origin: origin + method(expert - origin), heads linear. Without: base +
    method(expert - base), heads as their weighted mean, for a fresh head is no origin. Tensors
    are made one after another, so the work memory is bounded by the largest one.

    Args:
        dense: Tensors of base + fresh head; not changed.
        adapters: Experts of one family.
        weights: One per adapter.
        merge: Method and density.
        origin: What all experts began from.

    Raises:
        MergeRefusedError: If the method refuses the weights, or heads would have no value.
    """
    method = METHODS.get(merge.method)
    state = dict(dense)
    for name in adapters[0].delta_names():
        begun = dense[name] if origin is None else dense[name] + origin.delta(name)
        state[name] = begun + method(_updates(name, adapters, origin), weights, merge.density)
    heads = [adapter.head() for adapter in adapters]
    if origin is not None:
        for name, begun in origin.head().items():
            updates = [head[name].float() - begun.float() for head in heads]
            state[name] = begun.float() + linear(updates, weights, 1.0)
        return state
    total = sum(weights)
    if total == 0:
        raise MergeRefusedError("the merge weights sum to zero: the head would have no value")
    for name in sorted(heads[0]):
        values = [head[name].float() for head in heads]
        state[name] = linear(values, [weight / total for weight in weights], 1.0)
    return state


def _updates(name: str, adapters: Sequence[Adapter], origin: Adapter | None) -> list[Any]:
    if origin is None:
        return [adapter.delta(name) for adapter in adapters]
    begun = origin.delta(name)
    return [adapter.delta(name) - begun for adapter in adapters]


def exactness(
    base: Base,
    model: Any,
    dense: Mapping[str, Any],
    adapter: Adapter,
    path: Path,
    origin: Adapter | None,
    classes: Sequence[str],
    seed: int,
) -> float:
    """Return how far base + adapter in PEFT and its dense form are apart.

    The largest difference of a logit, divided by the largest logit where that is above 1.

    `model` is left with the adapter merged at weight 1.

    Raises:
        MergeRefusedError: If it is not below 1e-5.
    """
    import torch
    from peft import PeftModel

    one = Merge(method="linear")
    model.load_state_dict(merged_state(dense, [adapter], [1.0], one, origin))
    peft = PeftModel.from_pretrained(
        base.new_classifier(classes, seed), str(path), local_files_only=True
    ).eval()
    generator = torch.Generator().manual_seed(seed)
    gap = 0.0
    with torch.inference_mode():
        for shape in _PROBE_SHAPES:
            ids = torch.randint(0, model.config.vocab_size, shape, generator=generator)
            mask = torch.ones_like(ids)
            mask[-1, shape[1] // 2 :] = 0
            ours = model(input_ids=ids, attention_mask=mask).logits
            theirs = peft(input_ids=ids, attention_mask=mask).logits
            # float32 rounds in proportion to the size of a logit
            scale = max(1.0, float(theirs.abs().max()))
            gap = max(gap, float((ours - theirs).abs().max()) / scale)
    if not gap < TOLERANCE:
        raise MergeRefusedError(
            f"adapter {adapter.name!r} merged at weight 1 is not that adapter",
            expected=f"logits equal within {TOLERANCE:g}",
            found=f"{gap:.2e} apart",
        )
    return gap


def _weights(
    load: Callable[[Sequence[float]], Any],
    experts: Sequence[Adapter],
    merge: Merge,
    base: Base,
    dev: pa.Table | None,
    max_tokens: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, float], tuple[Candidate, ...]]:
    names = [expert.name for expert in experts]
    if merge.weights is not None:
        if set(names) != set(merge.weights):
            raise MergeRefusedError(
                "declared merge weights name other experts than there are",
                expected=", ".join(names),
                found=", ".join(sorted(merge.weights)),
                next_step="give every expert a weight in merge.weights, or none at all",
            )
        return {name: merge.weights[name] for name in names}, ()
    if len(names) == 1 or dev is None or dev.num_rows == 0:
        return dict.fromkeys(names, 1.0 / len(names)), ()
    tried = search_weights(load, len(names), dev, base.tokenizer(), merge, max_tokens, seed,
                           on_progress)  # fmt: skip
    best = min(tried, key=lambda candidate: candidate.loss)
    return dict(zip(names, best.weights, strict=True)), tried


def _write(model: Any, base: Base, out_dir: Path) -> None:
    """Write weights, configuration and the base's own tokenizer files.

    No folder of this machine goes into a model that travels.
    """
    shutil.rmtree(out_dir, ignore_errors=True)
    model.save_pretrained(str(out_dir))
    for path in base.tokenizer_files():
        shutil.copyfile(path, out_dir / path.name)
    path = out_dir / "config.json"
    settings = json.loads(path.read_text("utf-8"))
    settings.pop("_name_or_path", None)
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")


def _layers(experts: Sequence[Adapter], origin: Adapter | None) -> dict[str, Any]:
    """Return conflict rates and update norms per layer; updates are what is merged."""
    rows = []
    for name in experts[0].delta_names():
        updates = _updates(name, experts, origin)
        norms = {
            f"norm {expert.name}": round(float(update.norm()), 4)
            for expert, update in zip(experts, updates, strict=True)
        }
        conflicts = round(sign_conflict_rate(updates), 4)
        rows.append({"layer": name.removesuffix(".weight"), "sign_conflicts": conflicts, **norms})
    mean = sum(float(str(row["sign_conflicts"])) for row in rows) / max(len(rows), 1)
    return {"sign_conflict_rate": round(mean, 4), "layers": rows}
