"""Adapters: a base model, a shared start, one LoRA adapter per expert. Torch is imported late."""
