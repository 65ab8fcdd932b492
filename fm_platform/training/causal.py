"""Ask a causal language model how likely it finds some answers after a prompt.

Prompts are asked in batches of like lengths. What all of them begin with (instructions, examples)
is read once, and each prompt once however many answers are compared: an answer of several tokens
goes on from the memory of its prompt.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.errors import LabelingError
from fm_platform.numerics import reproducible
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import by_length, readable_tokens, token_batches
from fm_platform.training.loading import load_checked, load_tokenizer

Floats = npt.NDArray[np.float32]
_BATCH_TOKENS = 4096
_LEAST_SHARED = 8
"""Tokens that all prompts must begin with before reading them apart pays."""


@dataclass(frozen=True)
class CausalModel:
    """A causal language model in evaluation mode and its tokenizer."""

    model: Any
    tokenizer: Any

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids as a text begins: special tokens before it, none after it.

        What looks like a special token in a text is read as the characters that it is written
        with: rows are not trusted.
        """
        found: list[list[int]] = self.tokenizer(list(texts), split_special_tokens=True)["input_ids"]
        ends = {self.tokenizer.eos_token_id, self.tokenizer.sep_token_id} - {None}
        return [ids[:-1] if len(ids) > 1 and ids[-1] in ends else ids for ids in found]

    def continuation(self, prompt: str, words: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each answer word after a prompt and one space.

        Raises:
            LabelingError: If a word grows together with the end of the prompt.
        """
        before = self.tokens([prompt])[0]
        found = []
        for word, ids in zip(words, self.tokens([f"{prompt} {w}" for w in words]), strict=True):
            if ids[: len(before)] != before or len(ids) == len(before):
                raise LabelingError(
                    "an answer word and the end of its prompt are one token of the model",
                    found=repr(f"{prompt[-20:]} {word}"),
                    next_step="end the template with a colon or a question mark",
                )
            found.append(ids[len(before) :])
        return found

    @property
    def readable(self) -> int:
        """How many tokens it can read."""
        return readable_tokens(self.model.config, self.tokenizer)


@lru_cache(maxsize=2)
def load_causal(base: BaseModel) -> CausalModel:
    """Load a causal model once a process, in float32: many prompts ask the same one.

    Raises:
        LabelingError: If the folder is no causal language model, or is damaged.
    """
    model = load_checked(base.directory, "AutoModelForCausalLM", LabelingError)
    return CausalModel(model, load_tokenizer(base.directory, LabelingError))


def log_likelihoods(
    causal: CausalModel,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    on_batch: Callable[[list[int], Floats], None] | None = None,
) -> Floats:
    """Return the mean log probability of the tokens of each answer after each prompt.

    The mean and not the sum, so that a word of two tokens is not the less likely for it
    (length-normalised as in Brown et al. 2020, section 2.4). The last bits of a number depend on
    the prompts that share its batch.

    Args:
        causal: The model.
        prompts: n lists of token ids.
        answers: w lists of token ids.
        on_batch: Is told the positions of a batch and their float32[b, w] once they are known.

    Returns:
        float32[n, w], at most 0.
    """
    import torch

    out = np.zeros((len(prompts), len(answers)), np.float32)
    if not prompts:
        return out
    asker = _Asker(causal, answers)
    with reproducible(), torch.inference_mode():
        shared = asker.read(prompts)
        lengths = [len(prompt) - shared for prompt in prompts]
        for batch in token_batches(by_length(lengths), lengths, _BATCH_TOKENS):
            out[batch] = asker.ask([prompts[i][shared:] for i in batch])
            if on_batch is not None:
                on_batch(batch, out[batch])
    return out


class _Asker:
    """Asks one model the same answers after many prompts."""

    def __init__(self, causal: CausalModel, answers: Sequence[Sequence[int]]) -> None:
        self.model = causal.model
        self.answers = answers
        self.pad = causal.tokenizer.pad_token_id or 0
        self.takes = frozenset(inspect.signature(self.model.forward).parameters)
        self.longer = any(len(answer) > 1 for answer in answers)
        self.shared: list[int] = []
        self.memory: Any = None

    def read(self, prompts: Sequence[Sequence[int]]) -> int:
        """Read what all prompts begin with; return how many tokens that is."""
        import torch

        ordered = sorted(map(list, prompts))  # all begin with what the outermost two share
        first, last = ordered[0], ordered[-1]
        most = min(len(prompt) for prompt in prompts) - 1
        same = next((i for i in range(most) if first[i] != last[i]), most)
        window = getattr(self.model.config, "sliding_window", None)
        longest = max(len(prompt) for prompt in prompts)
        # padding lies between the shared part and the rest: a window that slides would count it
        slides = window is not None and longest >= window
        if len(prompts) > 1 and same >= _LEAST_SHARED and not slides:
            self.shared = list(first[:same])
            ids = torch.tensor([self.shared])
            self.memory = self.model(input_ids=ids, use_cache=True).past_key_values
        return len(self.shared)

    def ask(self, rests: Sequence[Sequence[int]]) -> Floats:
        """Return float32[b, w] for what follows the shared part of each prompt."""
        import torch

        rows, width, before = len(rests), max(map(len, rests)), len(self.shared)
        # padded on the left, so that every prompt ends in the last place
        ids = torch.full((rows, width), self.pad)
        mask = torch.ones((rows, before + width), dtype=torch.long)
        for i, rest in enumerate(rests):
            ids[i, width - len(rest) :] = torch.tensor(rest)
            mask[i, before : before + width - len(rest)] = 0
        memory = copy.deepcopy(self.memory)
        if memory is not None:
            memory.batch_repeat_interleave(rows)
        told = self._forward(ids, mask, memory, 1)
        first = told.logits[:, -1].float().log_softmax(-1)
        out = torch.empty((rows, len(self.answers)))
        for j, answer in enumerate(self.answers):
            total = first[:, answer[0]]
            if len(answer) > 1:
                total = total + self._rest(answer, mask, told.past_key_values)
            out[:, j] = total / len(answer)
        found: Floats = out.numpy()
        return found

    def _rest(self, answer: Sequence[int], mask: Any, memory: Any) -> Any:
        """Return the log probability of the tokens of an answer after its first."""
        import torch

        ids = torch.tensor([answer[:-1]]).expand(len(mask), -1)
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        logits = self._forward(ids, mask, copy.deepcopy(memory), ids.shape[1]).logits
        wanted = torch.tensor(answer[1:]).expand(len(ids), -1).unsqueeze(-1)
        each = logits[:, -ids.shape[1] :].float().log_softmax(-1).gather(-1, wanted)
        return each.squeeze(-1).sum(dim=1)

    def _forward(self, ids: Any, mask: Any, memory: Any, keep: int) -> Any:
        more: dict[str, Any] = {}
        if "position_ids" in self.takes:
            more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self.takes:  # the vocabulary is the largest layer by far
            more["logits_to_keep"] = keep
        return self.model(
            input_ids=ids, attention_mask=mask, past_key_values=memory,
            use_cache=self.longer or memory is not None, **more,
        )  # fmt: skip
