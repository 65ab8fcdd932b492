"""How a person declares the pairs of prompt and answer that a causal model learns from."""

from __future__ import annotations

from pydantic import Field, field_validator

from fm_platform.spec.labeling import template_fields
from fm_platform.spec.part import Name, Part


class Instruction(Part):
    """A row as prompt and answer; for projects whose `task` is `causal`.

    Attributes:
        template: The prompt, with the names of contract columns in braces.
        chat: Whether the prompt is what a user says in the chat template of the tokenizer.
        answer: The contract column that holds the answer.
        answer_tokens: Longest answer that is generated.
        generated_rows: Test rows of a source at most that answers are generated for.
    """

    template: str = Field(default="{text}\n", min_length=1)
    chat: bool = False
    answer: Name = "answer"
    answer_tokens: int = Field(default=64, ge=1, le=4096)
    generated_rows: int = Field(default=50, ge=0)

    @field_validator("template")
    @classmethod
    def _names_columns(cls, value: str) -> str:
        if not template_fields(value):
            raise ValueError("a template names a column in braces, e.g. {text}")
        return value

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the prompt, sorted."""
        return template_fields(self.template)
