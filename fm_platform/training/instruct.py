"""Prompts and answers as tokens, and a causal model that learns the answers alone.

Supervised fine-tuning on instruction pairs (Wei et al. 2021, arXiv 2109.01652); what counts in
the loss are the tokens of the answer and the token that ends it, never those of the prompt.
Each pair counts the same, whatever the length of its answer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fm_platform.errors import BaseModelError, TrainingError
from fm_platform.numerics import reproducible
from fm_platform.spec.instruction import Instruction
from fm_platform.spec.training import Training
from fm_platform.training.adapter import load_peft, save_adapter
from fm_platform.training.base_model import BaseModel
from fm_platform.training.data import Encoded, readable_tokens
from fm_platform.training.loading import load_checked, load_tokenizer
from fm_platform.training.loop import OnStep, TrainingLoop
from fm_platform.training.train import TrainedExpert

DIALOGUE = "fm_dialogue.json"
CHAT_TEMPLATE = "chat_template.jinja"
_PROMPT, _ANSWER = "What the prompt says.", "What the answer says."


@dataclass(frozen=True)
class CausalBase(BaseModel):
    """A base model that goes on with a text."""

    def new_classifier(self, classes: Sequence[str], seed: int) -> Any:
        """Return the causal model in float32, in evaluation mode; it has no head of classes.

        Raises:
            BaseModelError: If a tensor is missing, unexpected or not finite.
        """
        return load_checked(self.directory, "AutoModelForCausalLM", BaseModelError)

    def tokenizer_files(self) -> list[Path]:
        """Return the files that make the tokenizer and its chat template, sorted."""
        chat = [p for p in [self.directory / CHAT_TEMPLATE] if p.is_file()]
        return sorted([*super().tokenizer_files(), *chat])


def causal_base(base: BaseModel) -> CausalBase:
    """Return a base model as a causal one."""
    return CausalBase(
        base.location, base.directory, base.content_hash, base.revision, base.hidden_size
    )


@dataclass(frozen=True)
class Dialogue:
    """How rows become prompts and answers of one tokenizer.

    What looks like a special token in a row is read as the characters that it is written with:
    rows are not trusted.

    Attributes:
        tokenizer: Of the model.
        instruction: What is declared.
        before: Tokens before every prompt.
        after: Tokens between a prompt and its answer.
        end: Tokens that end an answer.
    """

    tokenizer: Any
    instruction: Instruction
    before: tuple[int, ...]
    after: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any, instruction: Instruction) -> Dialogue:
        """Return the dialogue that is declared.

        Raises:
            BaseModelError: If the tokenizer has no chat template, or none that holds a prompt as
                it is, or no token that ends a text.
        """
        eos = tokenizer.eos_token_id
        if eos is None:
            raise BaseModelError(
                "the tokenizer of the base model has no token that ends an answer",
                next_step="name one in tokenizer_config.json: eos_token",
            )
        if not instruction.chat:
            first = tokenizer([""])["input_ids"][0]
            ends = {eos, tokenizer.sep_token_id}
            return cls(tokenizer, instruction, tuple(i for i in first if i not in ends), (), (eos,))
        before, after, end = _frame(tokenizer)
        closing = _ids(tokenizer, [end.strip()], special=True)[0] if end.strip() else [eos]
        return cls(
            tokenizer, instruction, tuple(_ids(tokenizer, [before], special=True)[0]),
            tuple(_ids(tokenizer, [after], special=True)[0]), tuple(closing),
        )  # fmt: skip

    def prompts(self, rows: Sequence[Mapping[str, str]]) -> list[list[int]]:
        """Return the tokens of each row's prompt."""
        texts = [self.instruction.template.format(**row) for row in rows]
        return [[*self.before, *ids, *self.after] for ids in _ids(self.tokenizer, texts)]

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the tokens of each answer and of its end."""
        return [[*ids, *self.end] for ids in _ids(self.tokenizer, texts)]

    def text(self, tokens: Sequence[int]) -> str:
        """Return the text of an answer, up to its end."""
        stop = self.end[0]
        kept = list(tokens)[: list(tokens).index(stop)] if stop in tokens else list(tokens)
        return str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip()

    def save(self, directory: Path) -> None:
        """Write beside a model how it is asked."""
        facts = self.instruction.model_dump(mode="json", exclude={"generated_rows"})
        (directory / DIALOGUE).write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def load_dialogue(directory: Path, tokenizer: Any) -> Dialogue:
    """Return how the model in a folder is asked.

    Raises:
        TrainingError: If the folder does not say.
    """
    try:
        facts = json.loads((directory / DIALOGUE).read_text("utf-8"))
        return Dialogue.of(tokenizer, Instruction.model_validate(facts))
    except (OSError, ValueError) as error:
        raise TrainingError(
            "the folder does not say how its causal model is asked",
            where=directory.name, expected=DIALOGUE, found=str(error)[:200],
        ) from error  # fmt: skip


def _ids(tokenizer: Any, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
    if not texts:
        return []
    found: list[list[int]] = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=not special
    )["input_ids"]
    return found


def _frame(tokenizer: Any) -> tuple[str, str, str]:
    """Return what the chat template writes before a prompt, after it, and after an answer."""
    if not getattr(tokenizer, "chat_template", None):
        raise BaseModelError(
            "instruction.chat is declared, and the tokenizer of the base model has no template",
            next_step="leave instruction.chat out, or take a base model that was made for chats",
        )
    asked = [{"role": "user", "content": _PROMPT}]
    told = [*asked, {"role": "assistant", "content": _ANSWER}]
    begun = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template(told, tokenize=False)
    if begun.count(_PROMPT) != 1 or whole.count(_ANSWER) != 1:
        raise BaseModelError(
            "the chat template of the base model changes what a prompt or an answer says",
            next_step="leave instruction.chat out",
        )
    before, after = begun.split(_PROMPT)
    return before, after, whole.split(_ANSWER)[1]


@dataclass(frozen=True)
class Refused:
    """A pair that is not learned from, and why."""

    row_id: str
    source: str
    rule: str
    reason: str


def encode_pairs(
    dialogue: Dialogue, rows: pa.Table, max_tokens: int
) -> tuple[Encoded, list[Refused]]:
    """Return pairs as tokens, and those that cannot be used.

    A pair is never cut: a model that learns from half an answer learns to stop there.

    Args:
        dialogue: How they are written.
        rows: Columns row_id, source, those of the template and the answer.
        max_tokens: Of prompt, answer and end together.

    Returns:
        Encoded with `targets` float32[n, longest]: 1 at tokens of the answer and its end, else 0.
    """
    names = dialogue.instruction.columns
    answer = [text or "" for text in rows[dialogue.instruction.answer].to_pylist()]
    records = [
        {name: "" if row[name] is None else str(row[name]) for name in names}
        for row in rows.select(sorted({*names})).to_pylist()
    ]
    ids, sources = rows["row_id"].to_pylist(), rows["source"].to_pylist()
    kept: list[int] = []
    refused: list[Refused] = []
    asked, told = dialogue.prompts(records), dialogue.answers(answer)
    for i, (prompt, reply) in enumerate(zip(asked, told, strict=True)):
        size = len(prompt) + len(reply)
        if not answer[i].strip():
            refused.append(Refused(ids[i], sources[i], "empty_answer", "the answer is empty"))
        elif not prompt or not any(value.strip() for value in records[i].values()):
            refused.append(Refused(ids[i], sources[i], "empty_prompt", "the prompt is empty"))
        elif size > max_tokens:
            why = f"prompt and answer are {size} tokens, training.max_tokens is {max_tokens}"
            refused.append(Refused(ids[i], sources[i], "too_long", why))
        else:
            kept.append(i)
    longest = max((len(asked[i]) + len(told[i]) for i in kept), default=0)
    counts = np.zeros((len(kept), longest), np.float32)
    for at, i in enumerate(kept):
        counts[at, len(asked[i]) : len(asked[i]) + len(told[i])] = 1.0
    tokens = [[*asked[i], *told[i]] for i in kept]
    return Encoded([ids[i] for i in kept], tokens, counts, [sources[i] for i in kept]), refused


def answer_losses(model: Any, rows: Encoded, batch: Sequence[int], pad_id: int) -> Any:
    """Return the mean negative log likelihood of each row's answer, float32[b], nats a token.

    Rows are padded on the left, so that only the last places, where the answers are, are held
    against the vocabulary: it is the largest layer of a small model by far.
    """
    import torch

    device = next(model.parameters()).device
    ids, mask, counts = left_padded([rows.tokens[i] for i in batch], rows.targets[list(batch)])
    ids, mask, counts = ids.to(device), mask.to(device), counts.to(device)
    if pad_id:
        ids = ids.masked_fill(mask == 0, pad_id)
    kept = ids.shape[1] - int(counts.any(dim=0).nonzero()[0]) + 1
    logits = last_logits(model, ids, mask, kept)[:, :-1]
    wanted, counted = ids[:, 1 - kept :], counts[:, 1 - kept :] > 0
    each = torch.nn.functional.cross_entropy(
        logits[counted].float(), wanted[counted], reduction="none"
    )
    which = counted.nonzero()[:, 0]
    sums = torch.zeros(len(ids), device=device).index_add(0, which, each)
    return sums / counted.sum(dim=1)


def left_padded(tokens: Sequence[Sequence[int]], counts: Any) -> tuple[Any, Any, Any]:
    """Return ids and mask int64[b, w] and counts float32[b, w], all ending in the last place."""
    import torch

    width = max(map(len, tokens))
    ids = torch.zeros((len(tokens), width), dtype=torch.long)
    mask, moved = torch.zeros_like(ids), torch.zeros((len(tokens), width))
    for i, row in enumerate(tokens):
        ids[i, width - len(row) :] = torch.tensor(row)
        mask[i, width - len(row) :] = 1
        moved[i, width - len(row) :] = torch.from_numpy(counts[i, : len(row)])
    return ids, mask, moved


def last_logits(model: Any, ids: Any, mask: Any, kept: int) -> Any:
    """Return the logits of the last `kept` places, float[b, kept, vocabulary]."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    takes = inspect.signature(inner.forward).parameters
    more: dict[str, Any] = {"use_cache": False} if "use_cache" in takes else {}
    if "position_ids" in takes:
        more["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if "logits_to_keep" in takes:
        more["logits_to_keep"] = kept
    return model(input_ids=ids, attention_mask=mask, **more).logits[:, -kept:]


class AnswerLoop(TrainingLoop):
    """The training loop, with the loss of the answers."""

    def _losses(self, rows: Encoded, batch: Sequence[int]) -> Any:
        torch = self.torch
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return answer_losses(self.model, rows, batch, self.pad_id)


def new_causal_peft(base: CausalBase, config: Training) -> Any:
    """Return a causal base + fresh LoRA on all linear layers but the one over the vocabulary.

    Raises:
        BaseModelError: If the base cannot be used, or has no linear layer.
    """
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    model = base.new_classifier((), config.seed)
    output = model.get_output_embeddings()
    names = sorted(
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not output
    )
    if not names:
        raise BaseModelError(
            "the base model has no linear layer that LoRA could adapt",
            where=base.location, found=type(model).__name__,
            next_step="take a base model of another architecture, e.g. a Llama or a Gemma",
        )  # fmt: skip
    lora = LoraConfig(
        task_type=TaskType.CAUSAL_LM, r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=0.0, target_modules=names, use_rslora=config.method == "rslora",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return get_peft_model(model, lora).eval()


def load_causal_peft(base: CausalBase, adapter: Path) -> Any:
    """Return a causal base + adapter; errors as of `load_peft`."""
    return load_peft(base, adapter, (), 0, trainable=False)


def train_answers(
    rows: Encoded,
    dev: Encoded,
    base: CausalBase,
    dialogue: Dialogue,
    config: Training,
    workdir: Path,
    on_step: OnStep | None = None,
) -> TrainedExpert:
    """Train LoRA on pairs; what makes a training exact, interruptible and safe is as for all.

    Args:
        rows: Pairs to learn, see `encode_pairs`.
        dev: Pairs for early stopping; may be none.
        base: The causal base model.
        dialogue: How the pairs were written.
        config: Hyper-parameters; the rate is that of experts.
        workdir: Belongs to this training alone; an interrupted one resumes from it.
        on_step: Told of every step.

    Raises:
        NonFiniteLossError: At the first loss or gradient that is not finite.
        TrainingError: If there are no pairs, or they may be longer than the base reads.
        BaseModelError: If the base cannot be used.
    """
    if len(rows) == 0:
        raise TrainingError(
            "there are no pairs to train on", next_step="see the quarantine table: why not?"
        )
    with reproducible(config.threads):
        model = new_causal_peft(base, config)
        limit = readable_tokens(model.config, dialogue.tokenizer)
        if config.max_tokens > limit:
            raise TrainingError(
                "training.max_tokens is more than the base model reads",
                expected=f"at most {limit}", found=config.max_tokens,
            )  # fmt: skip
        loop = AnswerLoop(
            model, rows, dev, config, learning_rate=config.expert_learning_rate,
            pad_id=dialogue.tokenizer.pad_token_id or 0, workdir=workdir, on_step=on_step,
        )  # fmt: skip
        loop.run()
        directory = workdir / "adapter"
        save_adapter(model, directory, base, ())
        dialogue.save(directory)
    return TrainedExpert(directory, loop.metrics(), loop.history)


@dataclass(frozen=True)
class Answering:
    """A causal model in evaluation mode, and how it is asked."""

    model: Any
    dialogue: Dialogue


def load_answering(directory: Path) -> Answering:
    """Load a dense causal model from a folder of safetensors, without network or foreign code.

    Raises:
        TrainingError: If tensors are missing, unexpected or not finite, or the folder does not
            say how it is asked.
    """
    model = load_checked(directory, "AutoModelForCausalLM", TrainingError)
    return Answering(model, load_dialogue(directory, load_tokenizer(directory, TrainingError)))


def load_answering_adapter(base: CausalBase, directory: Path) -> Answering:
    """Load a causal base + adapter.

    Raises:
        TrainingError: If the adapter belongs to another base, or is damaged.
    """
    return Answering(
        load_causal_peft(base, directory), load_dialogue(directory, base.tokenizer())
    )  # fmt: skip
