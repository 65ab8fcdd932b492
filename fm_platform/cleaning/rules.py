"""The declared cleaning rules. Each sees a day's rows and says which go, or how they change.

A rule is a function from rows and settings to `Verdicts`; it never drops anything itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.registry import Registry

_CONTROL = {c: None for c in range(32) if chr(c) not in "\t\n\r"} | {0x7F: None, 0xFEFF: None}


@dataclass(frozen=True)
class DayContext:
    """What a rule may know besides the rows.

    Attributes:
        classes: Class names, by index.
        seen: Text keys that stand in earlier days of the window, or in the test split.
        known: What was looked up outside the rows for this rule; None where nothing is.
        accepted: Ids of rows of which people accepted what this rule proposed.
    """

    classes: tuple[str, ...]
    seen: frozenset[str]
    known: Any = None
    accepted: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Relabel:
    """Another label for a row.

    Attributes:
        label: The class.
        probabilities: Of all classes, in their order.
        reason: Why.
        applied: Whether it is done; otherwise it is only proposed.
        effect: By how much a review of it is expected to move the model; only for ordering.
    """

    label: str
    probabilities: tuple[float, ...]
    reason: str
    applied: bool
    effect: float


@dataclass(frozen=True)
class Repair:
    """Another value for one metadata column of a row.

    Attributes:
        column: Which.
        before, after: The values, of the type of the column; None is a missing one.
        probability: Of the value after.
        reason: Why.
        applied: Whether it is done; otherwise it is only proposed.
        effect: By how much a review of it is expected to matter; only for ordering.
    """

    column: str
    before: Any
    after: Any
    probability: float
    reason: str
    applied: bool
    effect: float


@dataclass(frozen=True)
class Verdicts:
    """What a rule says of the rows.

    Attributes:
        remove: bool[n], rows that go.
        reasons: One reason for each removed row, in order.
        text: New texts of the rows that change, by position.
        befores: Value before of the removed rows, in order; None means the text.
        notes: Reasons of the changed texts, by position, where the rule has any.
        labels: Other labels, by position.
        repairs: Other values of metadata columns, by position.
    """

    remove: npt.NDArray[np.bool_]
    reasons: Sequence[str] = ()
    text: dict[int, str] = field(default_factory=dict)
    befores: Sequence[str] | None = None
    notes: Mapping[int, str] = field(default_factory=dict)
    labels: Mapping[int, Relabel] = field(default_factory=dict)
    repairs: Mapping[int, Sequence[Repair]] = field(default_factory=dict)

    def without(self, spared: npt.NDArray[np.bool_]) -> Verdicts:
        """Return the verdicts without those on the rows of a mask, bool[n]."""
        removed = np.flatnonzero(self.remove)
        left = [nth for nth, row in enumerate(removed.tolist()) if not spared[row]]
        return Verdicts(
            self.remove & ~spared,
            [self.reasons[nth] for nth in left],
            {row: text for row, text in self.text.items() if not spared[row]},
            None if self.befores is None else [self.befores[nth] for nth in left],
            self.notes,
            {row: other for row, other in self.labels.items() if not spared[row]},
            {row: listed for row, listed in self.repairs.items() if not spared[row]},
        )


RuleFunction = Callable[[pa.Table, Any, DayContext], Verdicts]
RULES: Registry[RuleFunction] = Registry("cleaning rule", "fm_platform.cleaning_rules")
_ELSEWHERE = {
    "label_noise": "noise_rule", "metadata_repair": "repair_rule", "near_duplicates": "near_rule",
    "pii": "pii", "text_quality": "quality_rule",
}  # fmt: skip
"""Rules in modules of their own: only what is declared is loaded, and counts as code."""


def rule_function(name: str) -> RuleFunction:
    """Return a rule by its name.

    Raises:
        RegistryError: If there is none.
    """
    if name in _ELSEWHERE:
        import_module(module_of(name))
    return RULES.get(name)


def module_of(name: str) -> str:
    """Return the module that a built-in rule is in."""
    return f"fm_platform.cleaning.{_ELSEWHERE.get(name, 'rules')}"


@RULES.register("normalize_text")
def normalize_text(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Unicode normal form, no control characters, one space for white space."""
    changed = {}
    for i, text in enumerate(rows["text"].to_pylist()):
        clean = " ".join(unicodedata.normalize(rule.form, text).translate(_CONTROL).split())
        if clean != text:
            changed[i] = clean
    return Verdicts(np.zeros(rows.num_rows, bool), text=changed)


@RULES.register("length")
def length(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Remove texts shorter or longer than the bounds, in characters."""
    chars = pc.utf8_length(rows["text"]).to_numpy()
    remove = (chars < rule.min_chars) | (chars > rule.max_chars)
    reasons = [
        f"{n} characters, allowed {rule.min_chars} to {rule.max_chars}" for n in chars[remove]
    ]
    return Verdicts(remove, reasons)


@RULES.register("language")
def language(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Remove texts that are confidently in a language that is not allowed."""
    identifier = _identifier()
    remove = np.zeros(rows.num_rows, bool)
    reasons = []
    for i, text in enumerate(rows["text"].to_pylist()):
        if len(text) < rule.min_chars:
            continue
        found, confidence = identifier.classify(text)
        if found not in rule.allowed and confidence >= rule.minimum_confidence:
            remove[i] = True
            reasons.append(f"language {found} ({confidence:.2f}), not {', '.join(rule.allowed)}")
    return Verdicts(remove, reasons)


@cache
def _identifier() -> Any:
    """Return the model of languages, loaded once a process: it takes most of a second."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@RULES.register("exact_duplicates")
def exact_duplicates(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Remove rows whose text came before: on an earlier day, in the test split, or today."""
    today: set[str] = set()
    remove = np.zeros(rows.num_rows, bool)
    reasons = []
    for i, key in enumerate(rows["text_key"].to_pylist()):
        if key in context.seen or key in today:
            remove[i] = True
            where = "on an earlier day or in the test rows" if key in context.seen else "today"
            reasons.append(f"the same text stands {where}")
        today.add(key)
    return Verdicts(remove, reasons)


@RULES.register("confidence")
def confidence(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Remove rows without any vote, and rows whose weak label is not sure enough."""
    sure = rows["confidence"].to_numpy()
    labeled = rows["labeled"].to_numpy()
    remove = ~labeled | (sure < rule.minimum)
    reasons = [
        f"confidence {sure[i]:.2f}, at least {rule.minimum:.2f} wanted"
        if labeled[i]
        else "no labeling function votes"
        for i in np.flatnonzero(remove)
    ]
    return Verdicts(remove, reasons)


@RULES.register("class_balance")
def class_balance(rows: pa.Table, rule: Any, context: DayContext) -> Verdicts:
    """Cap each class of a source and split at `max_ratio` times its rarest class."""
    labels = np.array(rows["label"].to_pylist(), dtype=object)
    groups = np.array(
        [f"{s}/{p}" for s, p in zip(rows["source"].to_pylist(), rows["split"].to_pylist(),
                                    strict=True)], dtype=object
    )  # fmt: skip
    sure = rows["confidence"].to_numpy()
    remove = np.zeros(rows.num_rows, bool)
    caps: dict[int, int] = {}
    for group in sorted(set(groups)):
        inside = groups == group
        counts = [int((inside & (labels == name)).sum()) for name in context.classes]
        present = [n for n in counts if n]
        cap = max(rule.floor, int(min(present, default=0) * rule.max_ratio))
        for name, count in zip(context.classes, counts, strict=True):
            if count > cap:
                members = np.flatnonzero(inside & (labels == name))
                # the least sure go first; equal ones by position, which is by row id
                order = members[np.lexsort((members, -sure[members]))]
                for row in order[cap:]:
                    remove[row] = True
                    caps[int(row)] = cap
    reasons = [f"class {labels[i]} is capped at {caps[int(i)]}" for i in np.flatnonzero(remove)]
    return Verdicts(remove, reasons)
