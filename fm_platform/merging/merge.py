"""Merge experts into one dense model folder, and prove that it computes what it should."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.adapters import Adapter, read_adapter, require_one_family
from fm_platform.merging.choose import Choice, Choosing
from fm_platform.merging.decide import LEAST_ROWS
from fm_platform.merging.examine import Pairs, Score, ensure_not_lost, layer_row, task_rows
from fm_platform.merging.methods import METHODS, Layer, MergeMethod, Settings, weighted_sum
from fm_platform.merging.search import DevSample
from fm_platform.merging.similar import similar_weights, similarities, text_vectors
from fm_platform.numerics import THREADS, reproducible
from fm_platform.spec.models import Merge

TOLERANCE = 1e-5
_PROBE_SHAPES = ((4, 9), (3, 17), (2, 33))
# Expert -> tensor name -> what it knows there.
Knowledge = Mapping[str, Mapping[str, Any]]


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
    """A merged model: its folder, the method and weights used, and the report.

    The report holds `max_logit_difference` (dense model against PEFT, over all adapters),
    `gold_rows` (how many decided), `similar` (each expert's similarity, where it gave the
    weights), `sign_conflict_rate`, `layers` (conflicts, interference and update norms per layer),
    `pairs` (how alike the experts are), `tasks` (each source before and after), `methods` (what was
    tried and how it did) and `search` (the weights of the chosen way that were tried, and their
    expected log loss in nats). Without dev rows the last three are empty.
    """

    directory: Path
    method: str
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
    gold: pa.Table | None = None,
    sources: Mapping[str, Sequence[str]] | None = None,
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
        gold: Dev rows that people labeled, with sure probabilities: they decide whether what was
            found takes the place of equal weights. Sources with fewer than 20 do not count.
        sources: Expert -> the sources it was trained on: what it knows is measured there.
        max_tokens: Longer dev texts are cut.
        seed: Of the fresh head that the adapters' heads replace, of the dev sample, of DARE.
        threads: Of the computation; part of what makes the bits.
        on_progress: Told of the search.

    Raises:
        MergeRefusedError: If the adapters do not fit together, the dense model does not compute
            what PEFT computes (1e-5 or more apart in a logit), a method cannot merge them, or
            the merge loses more on a source than `merge.max_loss`.
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

        sample = None
        if dev is not None and dev.num_rows:
            sample = DevSample(
                dev, base.tokenizer(), merge.search_rows_per_source, max_tokens, seed
            )

        def load(
            weights: Sequence[float], method: str = "linear", knowledge: Knowledge | None = None
        ) -> Any:
            state = merged_state(
                dense, experts, weights, merge, origin, method=method, knowledge=knowledge,
                seed=seed,
            )  # fmt: skip
            model.load_state_dict(state)
            return model

        judged = _judging(gold, base.tokenizer(), max_tokens, seed)
        own = sources or {expert.name: () for expert in experts}
        alike: list[dict[str, Any]] = []
        if merge.search == "similar" and merge.weights is None and len(experts) > 1:
            model.load_state_dict(dense)
            weights, alike = _similar(model, sample, own, merge, seed)
            merge = merge.model_copy(update={"weights": weights})
        choosing = Choosing(
            load, experts, merge, sample, own, judged, origin is not None, seed, on_progress
        )
        chosen = choosing.choose()
        report = {
            "max_logit_difference": gap,
            "gold_rows": 0 if judged is None else len(judged.sources),
            "similar": alike,
            **_layers(experts, origin),
            **_tasks(choosing, chosen, own, merge),
        }
        load(list(chosen.weights.values()), chosen.method, choosing.knowledge(chosen.method))
        write_dense(model, base, out_dir)
        return MergeResult(out_dir, chosen.method, chosen.weights, report)


def merged_state(
    dense: Mapping[str, Any],
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    merge: Merge,
    origin: Adapter | None = None,
    *,
    method: str | None = None,
    knowledge: Knowledge | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the dense tensors of the merge.

    With an origin: origin + method(expert - origin). Without: base + method(expert - base), and
    heads as their weighted mean, for a fresh head is no origin. Heads are merged by the method
    where it weighs by what experts know, linearly otherwise; layers that were fine-tuned whole are
    merged by the method. Tensors are made one after another,
    so the work memory is bounded by the largest one.

    Args:
        dense: Tensors of base + fresh head; not changed.
        adapters: Experts of one family.
        weights: One per adapter.
        merge: Its density and rank, and its method where none is named.
        origin: What all experts began from.
        method: Name of the method.
        knowledge: What each expert knows, for methods that ask.
        seed: Of the method.

    Raises:
        MergeRefusedError: If the method refuses the weights, or heads would have no value.
    """
    compute = METHODS.get(method or merge.method)
    settings = Settings(merge.density, merge.rank, seed)
    state = dict(dense)

    def combine(name: str, updates: Sequence[Any], how: MergeMethod) -> Any:
        known = [knowledge[a.name][name] for a in adapters] if knowledge else []
        return how(Layer(name, updates, known), weights, settings)

    for name in adapters[0].delta_names():
        begun = dense[name] if origin is None else dense[name] + origin.delta(name)
        state[name] = begun + combine(name, _updates(name, adapters, origin), compute)
    heads = [adapter.head() for adapter in adapters]
    body = set(adapters[0].body())
    begins = {name: dense[name] for name in body} if origin is None else origin.head()
    known = knowledge[adapters[0].name] if knowledge is not None else {}
    for name, begun in begins.items():
        updates = [head[name].float() - begun.float() for head in heads]
        informed = known.get(name) is not None or (name in body and knowledge is None)
        state[name] = begun.float() + (
            combine(name, updates, compute) if informed
            else weighted_sum(Layer(name, updates), weights)
        )  # fmt: skip
    if origin is not None:
        return state
    total = sum(weights)
    if total == 0:
        raise MergeRefusedError("the merge weights sum to zero: the head would have no value")
    shares = [weight / total for weight in weights]
    for name in sorted(set(heads[0]) - body):
        state[name] = weighted_sum(Layer(name, [head[name].float() for head in heads]), shares)
    return state


def _updates(name: str, adapters: Sequence[Adapter], origin: Adapter | None) -> list[Any]:
    if not adapters[0].delta_names():  # fine-tuned whole
        wholes = [adapter.head()[name].float() for adapter in adapters]
        if origin is None:  # how far they are from their mean: the base is not at hand
            mean = weighted_sum(Layer(name, wholes), [1.0 / len(wholes)] * len(wholes))
            return [whole - mean for whole in wholes]
        return [whole - origin.head()[name].float() for whole in wholes]
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


def write_dense(model: Any, base: Base, out_dir: Path) -> None:
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
    """Return what pulls where; updates are what is merged."""
    rows, pairs = [], Pairs([expert.name for expert in experts])
    for name in [*experts[0].delta_names(), *experts[0].body()]:
        values = _updates(name, experts, origin)
        updates = {expert.name: value for expert, value in zip(experts, values, strict=True)}
        rows.append(layer_row(name, updates))
        pairs.add(updates)
    mean = sum(float(row["sign_conflicts"]) for row in rows) / max(len(rows), 1)
    return {"sign_conflict_rate": round(mean, 4), "layers": rows, "pairs": pairs.rows()}


def _judging(gold: pa.Table | None, tokenizer: Any, max_tokens: int, seed: int) -> DevSample | None:
    """Return the gold rows of sources that have enough of them."""
    if gold is None or not gold.num_rows:
        return None
    counts = Counter(gold["source"].to_pylist())
    enough = sorted(source for source, rows in counts.items() if rows >= LEAST_ROWS)
    rows = gold.filter(pc.is_in(gold["source"], value_set=pa.array(enough, pa.string())))
    if not rows.num_rows:
        return None
    return DevSample(rows, tokenizer, rows.num_rows, max_tokens, seed)


def _similar(
    model: Any,
    sample: DevSample | None,
    sources: Mapping[str, Sequence[str]],
    merge: Merge,
    seed: int,
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the weights of similar experts, and a row for each with its similarity.

    Raises:
        MergeRefusedError: If there are no texts to compare, or none is alike enough.
    """
    if sample is None:
        raise MergeRefusedError(
            "merge.search similar compares texts of dev rows, and there are none",
            next_step="take another search, or give the project some more days",
        )
    vectors = text_vectors(model, sample)
    found = similarities(vectors, sample.sources.tolist(), sources, merge.towards, seed)
    weights = similar_weights(found, merge.similarity)
    rows = [
        {"expert": name, "similarity": round(value, 4), "weight": weights[name]}
        for name, value in found.items()
    ]
    return weights, rows


def _tasks(
    choosing: Choosing, chosen: Choice, sources: Mapping[str, Sequence[str]], merge: Merge
) -> dict[str, Any]:
    """Return each source before and after, and what was tried.

    Raises:
        MergeRefusedError: If a source loses too much.
    """
    if not chosen.scores:
        return {"tasks": [], "methods": [], "search": []}
    alone: dict[str, Mapping[str, Score]] = choosing.alone()
    tasks = task_rows(alone, chosen.scores, sources)
    ensure_not_lost(tasks, merge.max_loss)
    return {
        "tasks": tasks,
        "methods": choosing.tried_methods(),
        "search": [
            {
                "log_loss": round(candidate.loss, 6),
                **dict(zip(chosen.weights, candidate.weights, strict=True)),
            }
            for candidate in chosen.tried
        ],
    }
