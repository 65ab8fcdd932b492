"""Ask a causal model that was fine-tuned: its answers, and how likely it finds the right ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.errors import TrainingError
from fm_platform.numerics import reproducible
from fm_platform.training.data import Encoded, by_length, readable_tokens, token_batches
from fm_platform.training.instruct import Answering, answer_losses, left_padded

Floats = npt.NDArray[np.float32]
_BATCH_TOKENS = 2048


def losses_of(model: Any, rows: Encoded, pad_id: int = 0) -> Floats:
    """Return the mean negative log likelihood of each row's answer, float32[n], nats a token."""
    import torch

    out = np.zeros(len(rows), np.float32)
    lengths = [len(tokens) for tokens in rows.tokens]
    with reproducible(), torch.inference_mode():
        for batch in token_batches(by_length(lengths), lengths, _BATCH_TOKENS):
            out[batch] = answer_losses(model, rows, batch, pad_id).cpu().numpy()
    return out


def generate(
    answering: Answering,
    rows: Sequence[Mapping[str, str]],
    answer_tokens: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Return the likeliest answer to each row, token by token (greedy), up to its end.

    Args:
        answering: The model.
        rows: Column -> text, for every column of the template.
        answer_tokens: Tokens of an answer at most; None: as declared.
        on_progress: Told of answered and all rows.

    Raises:
        TrainingError: If a prompt leaves no room for an answer.
    """
    import torch

    model, dialogue = answering.model, answering.dialogue
    most = answer_tokens or dialogue.instruction.answer_tokens
    prompts = dialogue.prompts(rows)
    limit = readable_tokens(model.config, dialogue.tokenizer)
    longest = max(map(len, prompts), default=0)
    if longest + most > limit:
        raise TrainingError(
            "a prompt leaves no room for its answer",
            expected=f"at most {limit - most} tokens beside an answer of {most}",
            found=f"{longest} tokens", next_step="shorten the prompt, or ask for a shorter answer",
        )  # fmt: skip
    out = [""] * len(prompts)
    device, done = next(model.parameters()).device, 0
    pad = dialogue.tokenizer.pad_token_id
    pad = dialogue.end[0] if pad is None else pad
    lengths = [len(prompt) + most for prompt in prompts]
    with reproducible(), torch.inference_mode():
        for batch in token_batches(by_length(lengths), lengths, _BATCH_TOKENS):
            none = np.zeros((len(batch), longest), np.float32)
            ids, mask, _ = left_padded([prompts[i] for i in batch], none)
            ids = ids.masked_fill(mask == 0, pad).to(device)
            told = model.generate(
                input_ids=ids, attention_mask=mask.to(device), max_new_tokens=most,
                do_sample=False, num_beams=1, eos_token_id=dialogue.end[0], pad_token_id=pad,
                temperature=None, top_p=None, top_k=None,
            )  # fmt: skip
            for i, tokens in zip(batch, told[:, ids.shape[1] :].tolist(), strict=True):
                out[i] = dialogue.text(tokens)
            done += len(batch)
            if on_progress is not None:
                on_progress(done, len(prompts))
    return out


def same_answer(told: str, wanted: str) -> bool:
    """Whether two answers say the same but for white space.

    Example:
        >>> same_answer("A good  film.", "A good film. ")
        True
    """
    return told.split() == wanted.split()
