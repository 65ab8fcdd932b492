"""Recipes of causal projects: adapters of raw pairs, the merged model, its evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from fm_platform.lineage.configs import Config
from fm_platform.lineage.fingerprints import (
    MODEL_PACKAGES,
    code_fingerprint,
    environment_fingerprint,
)
from fm_platform.lineage.records import Input, Readable, Recipe
from fm_platform.spec.evaluation import Leaks
from fm_platform.spec.models import Expert, ProjectSpec

CODE = {
    "adapter": ("fm_platform.training.instruct", "fm_platform.stages.causal"),
    "merged_model": ("fm_platform.merging.causal", "fm_platform.stages.causal_model"),
    "evaluation": ("fm_platform.stages.causal_evaluation",),
}
"""What computes the content of each kind of artifact of a causal project."""
_TRAINED_BY = (
    "method", "rank", "alpha", "expert_learning_rate", "max_rows", "max_dev_rows", "threads",
    "epochs", "batch_tokens", "max_tokens", "warmup_share", "weight_decay", "max_grad_norm",
    "evaluations_per_epoch", "patience", "seed",
)  # fmt: skip
_ASKED_BY = ("template", "chat", "answer", "answer_tokens")


def trained(spec: ProjectSpec) -> Config:
    """Return what matters to an adapter; its folder says how it is asked."""
    return {
        "task": "causal",
        "training": spec.training.model_dump(mode="json", include=set(_TRAINED_BY)),
        "instruction": spec.instruction.model_dump(mode="json", include=set(_ASKED_BY)),
    }


def merged(spec: ProjectSpec) -> Config:
    """Return what matters to a merged model."""
    same = {"max_tokens", "threads", "seed", "max_dev_rows"}
    return {
        "task": "causal",
        "merge": spec.merge.model_dump(mode="json", exclude={"max_loss"}),
        "training": spec.training.model_dump(mode="json", include=same),
        "instruction": spec.instruction.model_dump(mode="json", include=set(_ASKED_BY)),
    }


def evaluated(spec: ProjectSpec) -> Config:
    """Return what matters to an evaluation and its gate."""
    named = {"bootstrap_samples", "confidence_level", "seed"}
    named |= {"leaks"} if spec.evaluation.leaks != Leaks() else set()
    return {
        "task": "causal",
        "evaluation": spec.evaluation.model_dump(mode="json", include=named),
        "gate": {"tolerance": spec.gate.tolerance},
        "instruction": spec.instruction.model_dump(mode="json"),
        "max_tokens": spec.training.max_tokens,
    }


def adapter_recipe(
    spec: ProjectSpec, expert: Expert, raw: Sequence[Readable], base: str, chat: str
) -> Recipe:
    """Return the recipe of one expert: only the rows of its sources."""
    inputs = (*_rows(raw, expert.sources), *_base(base, chat))
    return _recipe(spec, "adapter", expert.name, inputs, trained(spec))


def merged_recipe(
    spec: ProjectSpec, adapters: Sequence[Readable], raw: Sequence[Readable], base: str, chat: str
) -> Recipe:
    """Return the recipe of the merged model; dev pairs choose the method and the weights."""
    rows = _rows(raw, sources_of(spec)) if chooses(spec) else ()
    inputs = (*(a.as_input("adapter") for a in adapters), *rows, *_base(base, chat))
    return _recipe(spec, "merged_model", "merged_model", inputs, merged(spec))


def chooses(spec: ProjectSpec) -> bool:
    """Whether there is anything to choose about a merge."""
    several = len(spec.experts) > 1 and spec.merge.weights is None
    return several or len(spec.merge.candidates) > 1


def evaluation_recipe(
    spec: ProjectSpec,
    model: Readable,
    adapters: Sequence[Readable],
    champion: Readable | None,
    raw: Sequence[Readable],
    base: str,
    chat: str,
) -> Recipe:
    """Return the recipe of an evaluation on the test pairs of the window."""
    inputs = (
        model.as_input("merged_model"),
        *(adapter.as_input("adapter") for adapter in adapters),
        *(() if champion is None else (champion.as_input("champion"),)),
        *_rows(raw, sources_of(spec)),
        *_base(base, chat),
    )
    return _recipe(spec, "evaluation", "evaluation", inputs, evaluated(spec))


def sources_of(spec: ProjectSpec) -> list[str]:
    """Return the sources that any expert learns from, sorted."""
    return sorted({name for expert in spec.experts for name in expert.sources})


def _rows(raw: Sequence[Readable], sources: Sequence[str]) -> tuple[Input, ...]:
    return tuple(
        day.as_input("raw", part=source)
        for day in raw
        for source in sorted(sources)
        if source in day.parts
    )


def _base(base: str, chat: str) -> tuple[Input, ...]:
    template = (Input("chat_template", "chat_template", None, chat),) if chat else ()
    return (Input("base_model", "base_model", None, base), *template)


def _recipe(
    spec: ProjectSpec, kind: str, name: str, inputs: tuple[Input, ...], config: Config
) -> Recipe:
    return Recipe(
        spec.name, kind, name, None, inputs, code_fingerprint(*CODE[kind]), config,
        environment_fingerprint(MODEL_PACKAGES, True), spec.training.seed,
    )  # fmt: skip
