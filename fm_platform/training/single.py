"""One text, one answer: what a caller waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fm_platform.training.data import readable_tokens

if TYPE_CHECKING:
    from fm_platform.training.predict import Classifier


def answer(classifier: Classifier, text: str, max_tokens: int) -> Any:
    """Return the class probabilities of one text, a tensor float32[k]."""
    import torch

    limit = min(max_tokens, readable_tokens(classifier.model.config, classifier.tokenizer))
    read = classifier.tokenizer([text], truncation=True, max_length=limit, return_tensors="pt")
    told = {name: read[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        return torch.softmax(classifier.model(**told).logits[0].float(), dim=-1)
