"""What functions that ask a model are told by a stage, and what they tell back."""

from __future__ import annotations

from typing import Any

from fm_platform.labeling.asking import ASKS_MODELS, AskingContext
from fm_platform.labeling.functions import LabelingContext, LabelingFunction
from fm_platform.stages.common import Reporter
from fm_platform.workspace import Workspace


def asking_context(
    ws: Workspace, function: LabelingFunction, day: str, log: Reporter
) -> LabelingContext:
    """Return where a function that asks a model finds what was answered before."""
    if function.kind not in ASKS_MODELS:
        return LabelingContext()

    def on_progress(done: int, total: int) -> None:
        log.progress(f"asking {day}", done, total, function.name)

    return AskingContext(answers=ws.home.answers, on_progress=on_progress)


def questions(context: LabelingContext) -> dict[str, Any]:
    """Return how many questions were asked and how many were answered before; {} for others."""
    return {"answers": context.tally.to_json()} if isinstance(context, AskingContext) else {}
