"""Mistakes between the parts of a project: names that must exist elsewhere, or must not.

They are looked for in plain data, so that a file with wrong parts still shows the mistakes
between the right ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from importlib.metadata import entry_points
from typing import Any

from fm_platform.spec.labeling import template_fields

Location = tuple[str | int, ...]
Problem = tuple[Location, str]
"""Where in the spec, and what is wrong."""

BUILT_IN_CONNECTORS = ("delta", "files", "vader_corpora")
"""Names only: the spec imports no connector. A test holds them equal to the registry."""
CONNECTOR_GROUP = "fm_platform.sources"

SOURCE_WORDS = ("all", "dev", "gold", "test", "train")
"""Words that tables and reports use beside source names."""
COLUMN_WORDS = (
    "day", "gold_label", "gold_rater_labels", "key", "problem", "row_id", "source", "split",
    "text_key",
)  # fmt: skip
"""Columns that `raw` has anyway, or that a connector gives for another purpose."""
UNMERGED_METHODS = ("adalora", "bitfit", "dora", "ia3", "prompt")
"""Ways of training for callers of the library: a project merges what it trains."""
CAUSAL_METHODS = ("lora", "rslora")
CLASSIFIER_MERGES = ("fisher", "regmean")
DERIVED_COLUMNS = ("char_count", "source", "word_count")
"""Columns a declared labeling function may read without a contract for them."""


def cross_problems(data: Mapping[str, Any]) -> list[Problem]:
    """Return the mistakes between the parts of a project's plain data, in the order of the parts.

    Args:
        data: Fields of a `ProjectSpec`; parts of a wrong shape are left out.
    """
    sources = _mappings(data, "sources")
    experts = _mappings(data, "experts")
    found = [
        *_sources(sources, data),
        *_columns(data),
        *_twice("experts", experts, "expert"),
        *_functions(data),
        *_slices(data),
        *_cleaning(data),
        *_people(data),
        *_required(data),
        *_covered(data),
        *(_causal(data) if data.get("task") == "causal" else ()),
    ]
    names = _names(sources)
    for i, expert in experts:
        for j, name in enumerate(_sequence(expert.get("sources"))):
            if isinstance(name, str) and names and name not in names:
                found.append((("experts", i, "sources", j), unknown("source", name, names)))
    weights = _mapping(_mapping(data.get("merge")).get("weights"))
    known = _names(experts) or (["all"] if not data.get("experts") else [])
    for name in sorted(map(str, weights)):
        if known and name not in known:
            found.append((("merge", "weights", name), unknown("expert", name, known)))
    for j, name in enumerate(_sequence(_mapping(data.get("merge")).get("towards"))):
        if isinstance(name, str) and names and name not in names:
            found.append((("merge", "towards", j), unknown("source", name, names)))
    method = _mapping(data.get("training")).get("method")
    if method in UNMERGED_METHODS:
        told = f"{method} has no exact dense form to merge; lora, rslora, full, fish and head have"
        found.append((("training", "method"), told))
    if _mapping(data.get("merge")).get("method") == "slerp" and len(known) != 2:
        told = f"slerp merges two experts, and there are {len(known)}"
        found.append((("merge", "method"), told))
    return found


def unknown(what: str, value: str, allowed: Iterable[str]) -> str:
    """Return the message for a name that is not among the allowed ones."""
    return f"unknown {what} {value!r}{suggest(value, allowed)}"


def suggest(value: str, allowed: Iterable[str]) -> str:
    """Return what follows a complaint: the nearest allowed word, and all of them."""
    listed = [str(word) for word in allowed]
    if not listed:
        return ""
    close = difflib.get_close_matches(value, listed, n=1) or [
        word for word in listed if len(value) > 2 and word.startswith(value)
    ]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (allowed: {', '.join(listed)})"


def connector_names() -> list[str]:
    """Return the connectors that exist, those of installed plug-ins included; imports none."""
    return sorted({*BUILT_IN_CONNECTORS, *entry_points(group=CONNECTOR_GROUP).names})


def _sources(sources: Sequence[tuple[int, Mapping[str, Any]]], data: Mapping[str, Any]) -> Any:
    yield from _twice("sources", sources, "source")
    calendar = _mapping(data.get("calendar"))
    end = _date(calendar.get("end"))
    for i, source in sources:
        name, connector = source.get("name"), source.get("connector", "files")
        if name in SOURCE_WORDS:
            yield ("sources", i, "name"), f"a source cannot be called {name}: the word is taken"
        if isinstance(connector, str) and connector not in BUILT_IN_CONNECTORS:
            known = connector_names()
            if connector not in known:
                place = ("sources", i, "connector")
                yield place, unknown("source connector", connector, known)
        starts = _date(source.get("starts"))
        if starts is not None and end is not None and starts > end:
            yield ("sources", i, "starts"), f"{starts} lies after the calendar's end {end}"


def _columns(data: Mapping[str, Any]) -> Iterator[Problem]:
    columns = _mapping(_mapping(data.get("contract")).get("columns"))
    if columns and "text" not in columns:
        yield ("contract", "columns"), "a column called text is required"
    for name in columns:
        if name in COLUMN_WORDS:
            place: Location = ("contract", "columns", str(name))
            yield place, "a declared column cannot have this name: it is taken; use `rename`"
    gold = _mapping(data.get("gold")).get("column")
    if gold is not None and gold in columns:
        yield (
            ("gold", "column"),
            f"{gold!r} is a contract column as well: human labels are never carried with the text",
        )
    classes = _classes(data)
    values = _mapping(_mapping(data.get("gold")).get("values"))
    for value, name in values.items():
        if isinstance(name, str) and classes and name not in (*classes, *_former(data)):
            yield ("gold", "values", str(value)), unknown("class", name, classes)


def _people(data: Mapping[str, Any]) -> Iterator[Problem]:
    known = (*_classes(data), *_former(data))
    declared = _mapping(data.get("annotation"))
    for value, name in _mapping(declared.get("development")).items():
        if isinstance(name, str) and known and name not in known:
            yield ("annotation", "development", str(value)), unknown("class", name, known)
    for part in ("guideline", "interface"):
        for i, change in _mappings(_mapping(declared.get(part)), "changes"):
            for j, name in enumerate(_sequence(change.get("classes"))):
                if isinstance(name, str) and known and name not in known:
                    place: Location = ("annotation", part, "changes", i, "classes", j)
                    yield place, unknown("class", name, known)


def _functions(data: Mapping[str, Any]) -> Iterator[Problem]:
    functions = _mappings(_mapping(data.get("labeling")), "functions")
    place: Location = ("labeling", "functions")
    classes, former = _classes(data), _former(data)
    columns, readable = _contracted(data), _readable(data)
    for i, message in _repeated(functions, "labeling function"):
        yield (*place, i, "name"), message
    for i, function in functions:
        for field in ("label", "above", "below"):
            value = function.get(field)
            for name in (value,) if isinstance(value, str) else _sequence(value):
                if isinstance(name, str) and classes and name not in (*classes, *former):
                    yield (*place, i, field), unknown("class", name, classes)
        for field in ("answers", "examples"):
            for name in _mapping(function.get(field)):
                if classes and name not in (*classes, *former):
                    yield (*place, i, field, str(name)), unknown("class", str(name), classes)
        for name in _named_columns(function.get("template")):
            if columns and name not in (*columns, "source"):
                told = unknown("column", name, sorted({*map(str, columns), "source"}))
                yield (*place, i, "template"), told
        for field in ("values", "labels"):
            for value, name in _mapping(function.get(field)).items():
                if isinstance(name, str) and classes and name not in (*classes, *former):
                    yield (*place, i, field, str(value)), unknown("class", name, classes)
        column = function.get("column")
        if isinstance(column, str) and readable and column not in readable:
            yield (*place, i, "column"), unknown("column", column, readable)


def _required(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the classes that behaviour tests and constraints name and the taxonomy does not."""
    classes = _classes(data)
    tests = _mappings(_mapping(data.get("evaluation")), "behaviour")
    for i, message in _repeated(tests, "behaviour test"):
        yield ("evaluation", "behaviour", i, "name"), message
    named: list[tuple[Location, object]] = []
    for i, test in tests:
        place: Location = ("evaluation", "behaviour", i)
        named.append(((*place, "label"), test.get("label")))
        labels = test.get("labels")
        many = [labels] if isinstance(labels, str) else _sequence(labels)
        named += [((*place, "labels"), name) for name in many]
    constraints = _mapping(_mapping(data.get("gate")).get("constraints"))
    for i, ceiling in _mappings(constraints, "false_positives"):
        named.append((("gate", "constraints", "false_positives", i, "label"), ceiling.get("label")))
    slices = _names(_mappings(data, "slices"))
    for i, gap in _mappings(constraints, "largest_gap"):
        for j, name in enumerate(_sequence(gap.get("between"))):
            if name not in slices:
                hint = "" if slices else ": declare it under slices"
                spot: Location = ("gate", "constraints", "largest_gap", i, "between", j)
                yield spot, unknown("slice", str(name), slices) + hint
    for location, name in named:
        if isinstance(name, str) and classes and name not in classes:
            yield location, unknown("class", name, classes)


def _covered(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the classes and slices that coverage names and that are not there."""
    classes, declared = _classes(data), _mapping(data.get("coverage"))
    slices = _names(_mappings(data, "slices"))
    for name in _mapping(declared.get("classes")):
        if classes and name not in classes:
            yield ("coverage", "classes", str(name)), unknown("class", str(name), classes)
    for part, needs in _mapping(declared.get("slices")).items():
        place: Location = ("coverage", "slices", str(part))
        if part not in slices:
            hint = "" if slices else ": declare it under slices"
            yield place, unknown("slice", str(part), slices) + hint
        for name in _mapping(needs):
            if classes and name not in classes:
                yield (*place, str(name)), unknown("class", str(name), classes)


def _causal(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what a project of prompts and answers names and has not, or declares in vain."""
    columns, declared = _contracted(data), _mapping(data.get("instruction"))
    answer = declared.get("answer", "answer")
    if isinstance(answer, str) and answer not in columns:
        yield ("instruction", "answer"), unknown("column", answer, sorted(map(str, columns)))
    for name in _named_columns(declared.get("template")):
        if name not in (*columns, "source"):
            told = unknown("column", name, sorted({*map(str, columns), "source"}))
            yield ("instruction", "template"), told
    training, merge = _mapping(data.get("training")), _mapping(data.get("merge"))
    if training.get("method", "lora") not in CAUSAL_METHODS:
        told = f"a causal model is trained by {' or '.join(CAUSAL_METHODS)}"
        yield ("training", "method"), told
    for name in ("frozen_layers", "continue"):
        if training.get(name):
            yield ("training", name), "causal models are trained in full depth, from their base"
    for name, usual in (("loss", "soft"), ("weights", "none"), ("subset", 1)):
        if training.get(name, usual) != usual:
            yield ("training", name), "it is about the classes of weak labels"
    if training.get("narrow_gap"):
        yield ("training", "narrow_gap"), "every answer counts the same in a causal training"
    if merge.get("method") in CLASSIFIER_MERGES:
        yield ("merge", "method"), f"{merge['method']} measures what experts know of classes"
    if merge.get("search") == "similar":
        yield ("merge", "search"), "similar compares texts as an encoder of a classifier sees them"
    if merge.get("max_loss") is not None:
        yield ("merge", "max_loss"), "it is about the accuracy of classes"
    if _mapping(data.get("base_model")).get("candidates"):
        told = "candidates are judged by classes of texts: a causal project declares one base"
        yield ("base_model", "candidates"), told
    if any(_mapping(_mapping(data.get("gate")).get("constraints")).values()):
        yield ("gate", "constraints"), "they are about the answers of a classifier"
    if data.get("alerts"):
        yield ("alerts",), "the days of a causal project are not watched"
    if _mapping(data.get("gate")).get("canary"):
        yield ("gate", "canary"), "the days of a causal project are not watched, so nothing ends it"
    if data.get("unit"):
        yield ("unit",), "a causal project labels nothing that a unit set could expect"


def _named_columns(template: Any) -> tuple[str, ...]:
    """Return the columns that a template names; none where it is no template."""
    try:
        return template_fields(template) if isinstance(template, str) else ()
    except ValueError:  # told where it is declared
        return ()


def _slices(data: Mapping[str, Any]) -> Iterator[Problem]:
    declared, readable = _mappings(data, "slices"), _readable(data)
    yield from _twice("slices", declared, "slice")
    for i, one in declared:
        column = one.get("column")
        if isinstance(column, str) and readable and column not in readable:
            yield ("slices", i, "column"), unknown("column", column, readable)
        if one.get("name") == "all":
            yield ("slices", i, "name"), "'all' is the name of all rows; choose another"


def _cleaning(data: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the columns that a repair of metadata names and the contract does not."""
    contract = _mapping(_mapping(data.get("contract")).get("columns"))
    known = sorted({*map(str, contract), "source"} - {"text"})
    for i, rule in _mappings(data, "cleaning"):
        if rule.get("rule") != "metadata_repair" or not contract:
            continue
        place: Location = ("cleaning", i)
        named: list[tuple[Location, object]] = [
            ((*place, "columns", str(name)), name) for name in _mapping(rule.get("columns"))
        ]
        evidence = enumerate(_sequence(rule.get("evidence")))
        named += [((*place, "evidence", j), name) for j, name in evidence]
        for j, one in _mappings(rule, "dependencies"):
            given = enumerate(_sequence(one.get("given")))
            named += [((*place, "dependencies", j, "given", n), name) for n, name in given]
        for location, name in named:
            if isinstance(name, str) and name not in known:
                yield location, unknown("column", name, known)


def _readable(data: Mapping[str, Any]) -> list[str]:
    """Return the columns that a function or a slice may look at; none where that is not known."""
    columns = _contracted(data)
    return sorted({"text", *map(str, columns), *DERIVED_COLUMNS}) if columns else []


def _contracted(data: Mapping[str, Any]) -> Mapping[str, Any]:
    contract = data.get("contract")
    return _mapping(_mapping(contract).get("columns")) if contract else {"text": None}


def _twice(
    part: str, items: Sequence[tuple[int, Mapping[str, Any]]], what: str
) -> Iterator[Problem]:
    for i, message in _repeated(items, what):
        yield (part, i, "name"), message


def _repeated(
    items: Sequence[tuple[int, Mapping[str, Any]]], what: str
) -> Iterator[tuple[int, str]]:
    seen: set[str] = set()
    for i, item in items:
        name = item.get("name")
        if isinstance(name, str):
            if name in seen:
                yield i, f"{what} {name!r} is named more than once"
            seen.add(name)


def _names(items: Iterable[tuple[int, Mapping[str, Any]]]) -> list[str]:
    return [item["name"] for _, item in items if isinstance(item.get("name"), str)]


def _classes(data: Mapping[str, Any]) -> list[str]:
    named = _sequence(_mapping(data.get("taxonomy")).get("classes"))
    return [name for name in named if isinstance(name, str)]


def _former(data: Mapping[str, Any]) -> list[str]:
    """Return the classes that were renamed, merged or split, and so still mean something."""
    found: list[Any] = []
    for change in _sequence(_mapping(data.get("taxonomy")).get("changes")):
        found += [
            *_mapping(_mapping(change).get("rename")),
            *_mapping(_mapping(change).get("split")),
        ]
        for olds in _mapping(_mapping(change).get("merge")).values():
            found += _sequence(olds)
    return [name for name in found if isinstance(name, str)]


def _mappings(data: Mapping[str, Any], part: str) -> list[tuple[int, Mapping[str, Any]]]:
    items = enumerate(_sequence(data.get(part)))
    return [(i, item) for i, item in items if isinstance(item, Mapping)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _date(value: Any) -> date | None:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            return None
    return value if isinstance(value, date) else None
