"""What a causal project wants of its models: the slots below `raw`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fm_platform.lineage import causal_recipes as recipes
from fm_platform.lineage.records import Head, Slot
from fm_platform.lineage.silent import with_rows
from fm_platform.lineage.wanting import Wanted

if TYPE_CHECKING:
    from fm_platform.lineage.wanted_models import ModelWants

_MERGED: Slot = ("merged_model", "merged_model", None)


def wanted_of_causal(wants: ModelWants) -> Iterator[Wanted]:
    """Yield the adapters, the merged model and the evaluation of a causal project."""
    width, last = wants.spec.training.window_days, wants._last("raw")
    raw = wants._have("raw", "raw", wants._window(last, width)) if last else []
    wants.spec = spec = with_rows(wants.spec, raw, wants.known)
    target: tuple[Slot, ...] = tuple(
        ("raw", "raw", day) for day in (wants._window(wants.days[-1], width) if wants.days else ())
    )
    slots: list[Slot] = [("adapter", expert.name, None) for expert in spec.experts]
    for expert, slot in zip(spec.experts, slots, strict=True):
        recipe = None
        if raw:
            base, chat = wants.probe.base(), wants.probe.chat()
            recipe = recipes.adapter_recipe(spec, expert, raw, base, chat)
        yield Wanted(slot, lambda: target, recipe)
    adapters = [head for slot in slots if (head := wants.heads.get(slot)) is not None]
    if len(adapters) < len(slots) or not raw:
        yield Wanted(_MERGED, lambda: slots)
        yield Wanted(("evaluation", "evaluation", None), lambda: (_MERGED,))
        return
    yield from _below(wants, adapters, raw, slots, target)


def _below(
    wants: ModelWants,
    adapters: list[Head],
    raw: list[Head],
    slots: list[Slot],
    target: tuple[Slot, ...],
) -> Iterator[Wanted]:
    spec, base, chat = wants.spec, wants.probe.base(), wants.probe.chat()
    wanted = recipes.merged_recipe(spec, adapters, raw, base, chat)
    yield Wanted(_MERGED, lambda: slots, wanted)
    model, recipe = wants.heads.get(_MERGED), None
    if model is not None:
        champion = wants.champion(model)
        recipe = recipes.evaluation_recipe(spec, model, adapters, champion, raw, base, chat)
    yield Wanted(("evaluation", "evaluation", None), lambda: (_MERGED, *target), recipe)
