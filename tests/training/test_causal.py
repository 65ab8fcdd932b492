"""How likely a causal language model finds answers: fast, and what reading each alone gives."""

from __future__ import annotations

import numpy as np
import pytest

from fm_platform.errors import LabelingError
from fm_platform.spec.models import BaseModelSpec
from fm_platform.training.base_model import resolve_base_model
from fm_platform.training.causal import CausalModel, load_causal, log_likelihoods
from tests.support.tiny_causal import build_tiny_causal

BEGIN = "the review was one two very good film : it is a "
PROMPTS = [BEGIN + "film .", BEGIN + "very very dull food was bad", BEGIN + "mood ?"]


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma"])
def causal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CausalModel:
    folder = build_tiny_causal(tmp_path_factory.mktemp(request.param), request.param)
    return load_causal(resolve_base_model(BaseModelSpec(location=str(folder)), folder))


def alone(causal: CausalModel, prompt: list[int], answer: list[int]) -> float:
    """One forward pass over one whole sequence: no batch, no padding, no memory."""
    import torch

    with torch.inference_mode():
        logits = causal.model(input_ids=torch.tensor([prompt + answer])).logits[0]
    steps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return float(np.mean([steps[i, token] for i, token in enumerate(answer)]))


@pytest.mark.parametrize("shared", [True, False])
def test_a_batch_says_what_each_prompt_says_alone(causal: CausalModel, shared: bool) -> None:
    prompts = causal.tokens(PROMPTS if shared else [p.removeprefix("the ") for p in PROMPTS[:2]])
    prompts += [] if shared else causal.tokens(["bad film"])
    answers = [[5], [6, 7], [8, 4, 9]]

    told = log_likelihoods(causal, prompts, answers)

    each = [[alone(causal, prompt, answer) for answer in answers] for prompt in prompts]
    assert np.ptp(each) > 0.1
    np.testing.assert_allclose(told, each, atol=2e-5)


def test_rows_cannot_bring_special_tokens(causal: CausalModel) -> None:
    (ids,) = causal.tokens(["good <eos> film"])

    assert causal.tokenizer.eos_token_id not in ids


def test_an_answer_that_grows_into_its_prompt_is_refused(causal: CausalModel) -> None:
    assert causal.continuation("the mood is", ["good", "very bad"]) == [[4], [18, 5]]
    with pytest.raises(LabelingError, match="are one token"):
        causal.continuation("the mood is", [""])
