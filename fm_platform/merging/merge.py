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
from fm_platform.merging.search import search_weights
from fm_platform.spec.models import Merge

TOLERANCE = 1e-5
_PROBE_TOKENS = ((4, 9), (3, 17), (2, 33))


class Base(Protocol):
    """What a merge needs of a base model."""

    @property
    def location(self) -> str:
        """As declared."""

    @property
    def directory(self) -> Path:
        """Folder on this machine."""

    @property
    def content_hash(self) -> str:
        """Hash of its files."""


@dataclass(frozen=True)
class MergeResult:
    """A merged model: its folder, the weights used, and the report.

    The report holds `max_abs_logit_difference` (dense model against PEFT, over all adapters),
    `sign_conflict_rate` and `layers` (conflict rate and update norms per layer).
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
    dev: pa.Table | None = None,
    max_tokens: int = 128,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> MergeResult:
    """Write base + experts as one dense model that `from_pretrained` loads.

    Args:
        base: The base model that every adapter was trained on.
        adapters: Expert -> verified adapter folder.
        merge: Method, density, and weights or None to search them on `dev`.
        classes: Class names, by index.
        out_dir: Folder to write; replaced.
        dev: Cleaned dev rows with weak labels, for the search.
        max_tokens: Longer dev texts are cut.
        seed: Of the fresh head that the adapters' heads replace, and of the dev sample.
        on_progress: Told of the search.

    Raises:
        MergeRefusedError: If the adapters do not fit together, or the dense model does not
            compute what PEFT computes (more than 1e-5 in a logit).
    """
    read = [read_adapter(name, path) for name, path in sorted(adapters.items())]
    require_one_family(read, base.content_hash, classes)
    model = _dense(base, classes, seed)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gap = max(
        exactness(base, model, start, adapter, adapters[adapter.name], classes, seed)
        for adapter in read
    )
    weights = _weights(base, model, start, read, merge, dev, max_tokens, seed, on_progress)
    state = merged_state(start, read, [weights[a.name] for a in read], merge)
    model.load_state_dict(state)
    shutil.rmtree(out_dir, ignore_errors=True)
    model.save_pretrained(str(out_dir))
    _tokenizer(base).save_pretrained(str(out_dir))
    _portable_config(out_dir, base)
    return MergeResult(out_dir, weights, {"max_abs_logit_difference": gap, **_layers(read)})


def merged_state(
    start: Mapping[str, Any], adapters: Sequence[Adapter], weights: Sequence[float], merge: Merge
) -> dict[str, Any]:
    """Return the dense tensors: base + merged updates; heads as their weighted mean.

    Tensors are made one after another, so memory is bounded by the largest one.
    """
    method = METHODS.get(merge.method)
    total = sum(weights)
    if total == 0:
        raise MergeRefusedError("the merge weights sum to zero: the head would have no value")
    state = dict(start)
    for name in adapters[0].delta_names():
        updates = [adapter.delta(name) for adapter in adapters]
        state[name] = start[name] + method(updates, weights, merge.density)
    heads = [adapter.head() for adapter in adapters]
    for name in sorted(heads[0]):
        state[name] = linear(
            [head[name].float() for head in heads], [w / total for w in weights], 1.0
        )
    return state


def exactness(
    base: Base,
    model: Any,
    start: Mapping[str, Any],
    adapter: Adapter,
    path: Path,
    classes: Sequence[str],
    seed: int,
) -> float:
    """Return the largest logit difference between base + adapter in PEFT and its dense form.

    Raises:
        MergeRefusedError: If it is not below 1e-5.
    """
    import torch
    from peft import PeftModel

    model.load_state_dict(merged_state(start, [adapter], [1.0], Merge(method="linear")))
    generator = torch.Generator().manual_seed(seed)
    probes = [
        torch.randint(5, model.config.vocab_size, shape, generator=generator)
        for shape in _PROBE_TOKENS
    ]
    peft = PeftModel.from_pretrained(_dense(base, classes, seed), str(path)).eval()
    with torch.inference_mode():
        gap = max(
            float((model(input_ids=p).logits - peft(input_ids=p).logits).abs().max())
            for p in probes
        )
    if not gap < TOLERANCE:
        raise MergeRefusedError(
            f"adapter {adapter.name!r} merged at weight 1 is not that adapter",
            expected=f"logits equal within {TOLERANCE:g}",
            found=f"{gap:.2e}",
        )
    return gap


def _weights(
    base: Base,
    model: Any,
    start: Mapping[str, Any],
    adapters: Sequence[Adapter],
    merge: Merge,
    dev: pa.Table | None,
    max_tokens: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, float]:
    names = [adapter.name for adapter in adapters]
    if merge.weights is not None:
        missing = sorted(set(names) - set(merge.weights))
        if missing:
            raise MergeRefusedError(
                "declared merge weights leave out experts", found=", ".join(missing)
            )
        return {name: merge.weights[name] for name in names}
    if len(names) == 1 or dev is None or dev.num_rows == 0:
        return dict.fromkeys(names, 1.0 / len(names))

    def load(weights: Sequence[float]) -> Any:
        model.load_state_dict(merged_state(start, adapters, weights, merge))
        return model

    return search_weights(load, names, dev, _tokenizer(base), max_tokens, seed, on_progress)


def _dense(base: Base, classes: Sequence[str], seed: int) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForSequenceClassification.from_pretrained(
            str(base.directory),
            num_labels=len(classes),
            id2label=dict(enumerate(classes)),
            label2id={name: i for i, name in enumerate(classes)},
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
        ).eval()


def _tokenizer(base: Base) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        str(base.directory), local_files_only=True, trust_remote_code=False
    )


def _portable_config(folder: Path, base: Base) -> None:
    """Name the base as declared: no folder of this machine goes into a model that travels."""
    for file in ("config.json", "tokenizer_config.json"):
        path = folder / file
        if path.exists():
            settings = json.loads(path.read_text("utf-8"))
            for key in ("_name_or_path", "name_or_path"):
                if key in settings:
                    settings[key] = base.location
            path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")


def _layers(adapters: Sequence[Adapter]) -> dict[str, Any]:
    rows = []
    for name in adapters[0].delta_names():
        updates = [adapter.delta(name) for adapter in adapters]
        rows.append(
            {
                "layer": name.removesuffix(".weight"),
                "sign_conflicts": round(sign_conflict_rate(updates), 4),
                **{
                    f"norm {adapter.name}": round(float(update.norm()), 4)
                    for adapter, update in zip(adapters, updates, strict=True)
                },
            }
        )
    mean = sum(float(str(row["sign_conflicts"])) for row in rows) / max(len(rows), 1)
    return {"sign_conflict_rate": round(mean, 4), "layers": rows}
