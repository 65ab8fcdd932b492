"""A project of two sources on a tiny base, with nine rows written by hand."""

from __future__ import annotations

from pathlib import Path

from fm_platform.spec.load import LoadedProject, load_spec
from tests.support.tiny_model import WORDS, build_tiny_base

SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: shop
  taxonomy: {classes: [negative, neutral, positive]}
  calendar: {start: 2024-01-01, end: 2024-01-04}
  sources:
    - {name: mail, options: {path: "mail-*.csv"}}
    - {name: chat, options: {path: "chat-*.csv"}}
  labeling:
    functions:
      - {kind: keyword, name: bad_words, words: [bad, awful, dull, poor, hate], label: negative}
      - {kind: keyword, name: flat_words, words: [table, street, paper, monday], label: neutral}
      - {kind: keyword, name: good_words, words: [good, great, lovely, fine], label: positive}
      - {kind: exemplars, name: nearest, per_source: false}
  base_model: {location: base}
  experts:
    - {name: mail, sources: [mail]}
    - {name: chat, sources: [chat]}
  training: {rank: 2, alpha: 4.0, learning_rate: 0.02, expert_learning_rate: 0.01, max_tokens: 24}
  gate: {tolerance: 0.01}
  unit: {at_least: 1.0, epochs: 20}
"""
NEAREST = "      - {kind: exemplars, name: nearest, per_source: false}\n"
ROWS = [
    f"the {word} {word} {filler},{label},"
    for label in ("negative", "neutral", "positive")
    for word, filler in zip(WORDS[label][:3], ("was", "it is", "and very"), strict=True)
]


def write_project(folder: Path, spec: str = SPEC, rows: list[str] | None = None) -> LoadedProject:
    """Write the project into `folder`, its base once."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "base").exists():
        build_tiny_base(folder / "base")
    for source in ("chat", "mail"):
        (folder / f"{source}-2024-01-01.csv").write_text("text\nsome row\n")
    (folder / "defs.yaml").write_text(spec)
    lines = ["text,label,source", *(ROWS if rows is None else rows)]
    (folder / "unit.csv").write_text("\n".join(lines) + "\n")
    return load_spec(folder / "defs.yaml")
