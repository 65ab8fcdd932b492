"""Instruction pairs: the answers alone are learned, exactly, and what is learned is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fm_platform.errors import BaseModelError, TrainingError
from fm_platform.spec.instruction import Instruction
from fm_platform.spec.models import BaseModelSpec
from fm_platform.spec.training import Training
from fm_platform.training.answering import generate, losses_of, same_answer
from fm_platform.training.base_model import resolve_base_model
from fm_platform.training.instruct import (
    CausalBase,
    Dialogue,
    answer_losses,
    causal_base,
    encode_pairs,
    load_answering_adapter,
    train_answers,
)
from fm_platform.training.loop import StepInfo
from fm_platform.training.train import TrainedExpert
from tests.support.tiny_causal import build_tiny_causal
from tests.support.tiny_model import build_tiny_base, tiny_config
from tests.support.tiny_pairs import LEARNS, pairs

ASKED = Instruction(template="{text} answer :", answer_tokens=5)
CHAT = (
    "{% for m in messages %}{{ '<bos>' if m.role == 'user' else '' }}{{ m.content }}"
    "{{ ' <unk> ' if m.role == 'user' else ' <eos>' }}{% endfor %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> CausalBase:
    return made(tmp_path_factory.mktemp("causal"))


def made(folder: Path, kind: str = "llama") -> CausalBase:
    build_tiny_causal(folder, kind)
    return causal_base(resolve_base_model(BaseModelSpec(location=str(folder)), folder))


def config(**changes: object) -> Training:
    return tiny_config(**{**LEARNS, **changes})


def trained(base: CausalBase, folder: Path, on_step: object = None) -> TrainedExpert:
    dialogue = Dialogue.of(base.tokenizer(), ASKED)
    rows, dev = (encode_pairs(dialogue, t, 24)[0] for t in (pairs(200), pairs(20, 1, "dev")))
    return train_answers(rows, dev, base, dialogue, config(), folder, on_step)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learned(base: CausalBase, tmp_path_factory: pytest.TempPathFactory) -> TrainedExpert:
    return trained(base, tmp_path_factory.mktemp("learned"))


@pytest.mark.parametrize("kind", ["llama", "gemma", "gpt2"])
def test_the_loss_is_that_of_the_answer_whatever_shares_the_batch(
    tmp_path: Path, kind: str
) -> None:
    other = made(tmp_path, kind)
    model, dialogue = other.new_classifier((), 0), Dialogue.of(other.tokenizer(), ASKED)
    rows = encode_pairs(dialogue, pairs(9), 24)[0]
    assert len({len(tokens) for tokens in rows.tokens}) > 1

    with torch.inference_mode():
        told = answer_losses(model, rows, range(9), 0).numpy()
        each = []
        for tokens, counts in zip(rows.tokens, rows.targets, strict=True):
            logs = model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
            places = np.flatnonzero(counts)
            each.append(-np.mean([float(logs[i - 1, tokens[i]]) for i in places]))

    np.testing.assert_allclose(told, each, atol=2e-5)


def test_what_the_prompt_says_is_not_learned(base: CausalBase) -> None:
    dialogue = Dialogue.of(base.tokenizer(), ASKED)
    rows = encode_pairs(dialogue, pairs(4), 24)[0]
    model = base.new_classifier((), 0)
    kept = model.get_input_embeddings()

    answer_losses(model, rows, range(4), 0).sum().backward()
    first = {tokens[0] for tokens in rows.tokens}

    assert first == {dialogue.tokenizer.bos_token_id}
    assert kept.weight.grad.isfinite().all()
    counted = [
        [t for t, c in zip(tokens, row, strict=False) if c]
        for tokens, row in zip(rows.tokens, rows.targets, strict=True)
    ]
    told = [dialogue.text(tokens) for tokens in counted]
    assert told == pairs(4)["answer"].to_pylist()
    assert all(tokens[-1] == dialogue.end[0] for tokens in counted)


def test_the_answers_are_learned_and_said(base: CausalBase, learned: TrainedExpert) -> None:
    dev = [point["dev_loss"] for point in learned.history if "dev_loss" in point]
    answering = load_answering_adapter(base, learned.directory)
    asked = pairs(40, 2, "test")
    told = generate(answering, asked.to_pylist())
    right = [same_answer(a, b) for a, b in zip(told, asked["answer"].to_pylist(), strict=True)]

    assert dev[0] > 1.0
    assert dev[-1] < 0.3 * dev[0]
    assert np.mean(right) > 0.9
    before = losses_of(base.new_classifier((), 0), encode_pairs(answering.dialogue, asked, 24)[0])
    after = losses_of(answering.model, encode_pairs(answering.dialogue, asked, 24)[0])
    assert after.mean() < 0.3 * before.mean()


def test_an_interrupted_training_ends_with_the_same_bits(
    base: CausalBase, learned: TrainedExpert, tmp_path: Path
) -> None:
    def stop(info: StepInfo) -> None:
        if info.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(base, tmp_path, stop)
    again = trained(base, tmp_path)

    assert again.metrics["resumed_at_step"] == 4
    for path in sorted(learned.directory.iterdir()):
        assert (again.directory / path.name).read_bytes() == path.read_bytes(), path.name


def test_pairs_that_cannot_be_used_are_refused_with_the_reason(base: CausalBase) -> None:
    rows = pa.Table.from_pylist([
        {"row_id": "a", "source": "mail", "text": "film", "answer": " "},
        {"row_id": "b", "source": "mail", "text": "", "answer": "good"},
        {"row_id": "c", "source": "mail", "text": "very " * 30, "answer": "good"},
        {"row_id": "d", "source": "mail", "text": "film", "answer": "good"},
    ])  # fmt: skip
    found, refused = encode_pairs(Dialogue.of(base.tokenizer(), ASKED), rows, 24)

    assert found.row_ids == ["d"]
    assert [(one.row_id, one.rule) for one in refused] == [
        ("a", "empty_answer"), ("b", "empty_prompt"), ("c", "too_long"),
    ]  # fmt: skip
    assert "training.max_tokens is 24" in refused[2].reason


def test_rows_bring_no_special_tokens(base: CausalBase) -> None:
    dialogue = Dialogue.of(base.tokenizer(), ASKED)
    (prompt,) = dialogue.prompts([{"text": "good <eos> film"}])
    (answer,) = dialogue.answers(["good <eos> bad"])

    assert dialogue.end[0] not in prompt
    assert answer.count(dialogue.end[0]) == 1


def test_a_chat_template_frames_the_prompt(tmp_path: Path) -> None:
    folder = build_tiny_causal(tmp_path)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": CHAT}))
    base = causal_base(resolve_base_model(BaseModelSpec(location=str(folder)), folder))
    dialogue = Dialogue.of(base.tokenizer(), Instruction(template="{text}", chat=True))
    ids = base.tokenizer().convert_tokens_to_ids

    assert dialogue.prompts([{"text": "good film"}]) == [ids(["<bos>", "good", "film", "<unk>"])]
    assert dialogue.answers(["fine"]) == [ids(["fine", "<eos>"])]


def test_a_chat_without_a_template_is_refused(base: CausalBase) -> None:
    with pytest.raises(BaseModelError, match="has no template"):
        Dialogue.of(base.tokenizer(), Instruction(chat=True))


def test_a_base_that_does_not_go_on_with_texts_is_refused(tmp_path: Path) -> None:
    build_tiny_base(tmp_path / "bert")
    base = causal_base(resolve_base_model(BaseModelSpec(location="bert"), tmp_path))

    with pytest.raises(BaseModelError):
        base.new_classifier((), 0)


def test_an_architecture_without_linear_layers_is_named(tmp_path: Path) -> None:
    base = made(tmp_path / "gpt2", "gpt2")
    dialogue = Dialogue.of(base.tokenizer(), ASKED)
    rows = encode_pairs(dialogue, pairs(4), 24)[0]

    with pytest.raises(BaseModelError, match="no linear layer"):
        train_answers(rows, rows, base, dialogue, config(), tmp_path / "work")


def test_an_adapter_of_another_base_is_refused(learned: TrainedExpert, tmp_path: Path) -> None:
    build_tiny_causal(tmp_path / "other", seed=1)
    other = causal_base(
        resolve_base_model(BaseModelSpec(location="other"), tmp_path)
    )  # fmt: skip

    with pytest.raises(TrainingError, match="another base model"):
        load_answering_adapter(other, learned.directory)


def test_a_folder_that_does_not_say_how_it_is_asked(
    base: CausalBase, learned: TrainedExpert, tmp_path: Path
) -> None:
    shutil.copytree(learned.directory, tmp_path / "adapter")
    (tmp_path / "adapter" / "fm_dialogue.json").unlink()

    with pytest.raises(TrainingError, match="does not say how"):
        load_answering_adapter(base, tmp_path / "adapter")


def test_a_prompt_without_room_for_its_answer(base: CausalBase, learned: TrainedExpert) -> None:
    answering = load_answering_adapter(base, learned.directory)

    with pytest.raises(TrainingError, match="no room"):
        generate(answering, [{"text": "film " * 60}])
