"""Random causal language models of a few thousand parameters, with a vocabulary of their own."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = (
    "good", "bad", "fine", "dull", "film", "food", "the", "a", "was", "is", "it", "review",
    "mood", "answer", "very", "one", "two", ":", "?", ".", "N/A",
)  # fmt: skip
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")


def build_tiny_causal(directory: Path, kind: str = "llama", seed: int = 0) -> Path:
    """Write config.json, model.safetensors and a tokenizer of whole words.

    Args:
        directory: Where to.
        kind: `llama`, `gpt2` (absolute positions) or `gemma` (a window that slides).
        seed: Of the weights.
    """
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    vocabulary = {word: i for i, word in enumerate((*SPECIAL, *WORDS))}
    common = {"vocab_size": len(vocabulary), "initializer_range": 0.5, "tie_word_embeddings": True}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 1, "intermediate_size": 32, "head_dim": 8}  # fmt: skip
    config = {
        "llama": lambda: transformers.LlamaConfig(
            **common, **sizes, max_position_embeddings=64),
        "gpt2": lambda: transformers.GPT2Config(
            **common, n_embd=16, n_layer=2, n_head=2, n_positions=64),
        "gemma": lambda: transformers.Gemma3TextConfig(
            **common, **sizes, max_position_embeddings=64, sliding_window=48,
            sliding_window_pattern=2),
    }[kind]()  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    file = directory / "config.json"
    plain = {k: v for k, v in json.loads(file.read_text()).items() if not k.startswith("_")}
    file.write_text(json.dumps(plain))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocabulary["<bos>"])]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", model_max_length=64,
    ).save_pretrained(directory)  # fmt: skip
    return directory
