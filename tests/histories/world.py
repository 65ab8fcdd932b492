"""The world of the scripted project: its rows, its project file and functions, by phase."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from tests.support.tiny_model import FILLERS, WORDS, build_tiny_base

PROJECT = "shop"
FIRST_DAY = date(2026, 1, 1)
BASES = ("base_a", "base_b")
# What people say of a row. Until the split both kinds of joy are one class.
FINE_WORDS = {
    "negative": WORDS["negative"],
    "neutral": WORDS["neutral"],
    "glad": ("good", "lovely", "fine"),
    "thrilled": ("great", "love"),
}
_SHARES = {"negative": 0.34, "neutral": 0.3, "glad": 0.2, "thrilled": 0.16}


@dataclass(frozen=True)
class Declared:
    """What the project declares in one phase.

    Attributes:
        edited: Whether `good_words` knows all its words.
        split: Whether joy is two classes.
        mistaken: Whether `flat_words` votes on the words of bad rows.
        base: Folder of the base model.
    """

    edited: bool = False
    split: bool = False
    mistaken: bool = False
    base: str = BASES[0]


def day_name(number: int) -> str:
    """Return the date of day 1, 2, …

    Example:
        >>> day_name(20)
        '2026-01-20'
    """
    return (FIRST_DAY + timedelta(days=number - 1)).isoformat()


def write_bases(folder: Path) -> None:
    """Write both base models; they differ in their weights alone."""
    for seed, name in enumerate(BASES):
        build_tiny_base(folder / name, seed)


def write_day(folder: Path, number: int, rows_per_source: int) -> None:
    """Write the files of one day: mail from day 1, chat from day 6."""
    for index, source in enumerate(sources_on(number)):
        generator = np.random.default_rng([number, index])
        labels = generator.choice(list(_SHARES), size=rows_per_source, p=list(_SHARES.values()))
        lines = []
        for i, label in enumerate(labels.tolist()):
            told = FINE_WORDS[label][int(generator.integers(len(FINE_WORDS[label])))]
            around = [FILLERS[int(j)] for j in generator.integers(len(FILLERS), size=3)]
            text = " ".join([*around, told, told, f"{source}{number}n{i}"])
            lines.append(json.dumps({"text": text, "label": label}))
        path = folder / f"{source}-{day_name(number)}.jsonl"
        path.write_text("\n".join(lines) + "\n", "utf-8")


def sources_on(number: int) -> tuple[str, ...]:
    """Return the sources that bring rows on a day."""
    return ("mail", "chat") if number >= 6 else ("mail",)


def write_declared(folder: Path, declared: Declared, days: int, window_days: int) -> None:
    """Write project file and labeling functions."""
    joy = ["glad", "thrilled"] if declared.split else ["positive"]
    values = "" if declared.split else ", values: {glad: positive, thrilled: positive}"
    (folder / "defs.yaml").write_text(
        _SPEC.format(
            project=PROJECT, version=2 if declared.split else 1,
            classes=", ".join(["negative", "neutral", *joy]), values=values,
            start=FIRST_DAY, end=day_name(days), chat=day_name(6),
            bad=", ".join(WORDS["negative"]), base=declared.base, window=window_days,
        ),
        "utf-8",
    )  # fmt: skip
    (folder / "labeling_functions.py").write_text(_functions(declared), "utf-8")


def _functions(declared: Declared) -> str:
    words = (*FINE_WORDS["glad"], *FINE_WORDS["thrilled"])
    good = _FUNCTION.format(
        name="good_words", label="positive",
        words=", ".join(f'"{word}"' for word in (words if declared.edited else words[:3])),
    )  # fmt: skip
    if declared.split:
        good = "\n".join(
            _FUNCTION.format(
                name=f"{label}_words", label=label,
                words=", ".join(f'"{word}"' for word in FINE_WORDS[label]),
            )
            for label in ("glad", "thrilled")
        )  # fmt: skip
    flat_words = WORDS["negative"] if declared.mistaken else WORDS["neutral"]
    flat = _FUNCTION.format(
        name="flat_words", label="neutral",
        words=", ".join(f'"{word}"' for word in flat_words),
    )  # fmt: skip
    return f"{_MODULE}\n{flat}\n{good}"


_MODULE = '''\
"""Labeling functions of the scripted project."""

from fm_platform.labeling import labeling_function

'''
_FUNCTION = '''\

@labeling_function
def {name}(row):
    """Vote {label} where one of its words occurs."""
    return "{label}" if {{{words}}} & set(row.text.split()) else None
'''
_SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: {project}
  description: Is a message of a customer glad, angry or neither?
  taxonomy: {{version: {version}, classes: [{classes}]}}
  calendar: {{start: {start}, end: {end}}}
  gold: {{column: label, annotator: support_team{values}}}
  sources:
    - {{name: mail, options: {{path: "mail-*.jsonl"}}}}
    - {{name: chat, options: {{path: "chat-*.jsonl"}}, starts: {chat}}}
  labeling:
    functions:
      - {{kind: keyword, name: bad_words, words: [{bad}], label: negative}}
      - {{kind: exemplars, name: exemplars}}
    label_model: {{window_days: {window}}}
  cleaning:
    - {{rule: normalize_text}}
    - {{rule: length, min_chars: 3}}
    - {{rule: exact_duplicates, window_days: {window}}}
    - {{rule: confidence, minimum: 0.4}}
  base_model: {{location: {base}}}
  experts:
    - {{name: mail, sources: [mail]}}
    - {{name: chat, sources: [chat]}}
  training:
    rank: 2
    alpha: 4.0
    learning_rate: 0.01
    expert_learning_rate: 0.01
    batch_tokens: 256
    max_tokens: 24
    threads: 1
    probe_epochs: 10
    epochs: 2
    window_days: {window}
  merge: {{search_evaluations: 3, search_rows_per_source: 30}}
  evaluation: {{bootstrap_samples: 100, baselines: {{words: bad_words}}}}
"""
