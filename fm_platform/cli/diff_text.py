"""`fm diff` for a terminal. Everything that comes from data goes through `display.plain`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fm_platform.cli.render import table
from fm_platform.display import plain
from fm_platform.evaluation.metrics import ALL
from fm_platform.stages.diff.records import (
    Answers,
    Cause,
    Diff,
    FunctionChange,
    PackageChange,
    RowsChange,
    SettingChange,
    Side,
    TensorChange,
    TensorsChange,
)

_TEXT_CHARS = 90
_CODE_CHARS = 180
_SIGNS = {"added": "+", "removed": "-", "relabeled": "~"}
_TENSORS_SHOWN = 12
_LINES_SHOWN = 60
_SETTINGS_SHOWN = 30
_LABELS_SHOWN = 8
_NAMED = 6
_IN_FULL = 2


def diff_text(told: Diff) -> str:
    """Return a comparison as text, the causes first."""
    blocks = [_head(told)]
    sections = (
        ("Causes", _causes(told.causes)),
        ("Labeling functions", _functions(told.functions)),
        ("Files of the project", _files(told)),
        ("Configuration", _settings(told.settings)),
        ("Packages and machine", _packages(told.packages)),
        ("Code of the platform", _code(told)),
        ("Rows", _rows(told.rows)),
        ("What it says", _settings(told.values)),
        ("Tensors", [] if told.tensors is None else _tensors(told.tensors)),
        *((_answers_title(answers), _answers(answers)) for answers in told.answers[:_IN_FULL]),
        ("Answers of other systems", _others(told.answers[_IN_FULL:])),
        ("Not compared", list(told.notes)),
    )
    for title, lines in sections:
        if lines:
            blocks.append("\n".join([title, *(f"  {line}".rstrip() for line in lines)]))
    return "\n\n".join(blocks)


def _head(told: Diff) -> str:
    rows = [_side("before", told.before), _side("after", told.after)]
    lines = [table(rows, ("", "version", "content", "made", "commit", "asked by"))]
    if told.same_content:
        again = "from the same recipe" if told.same_recipe else "from another recipe"
        lines.append(f"\nThe same content, {again}.")
    return "\n".join(lines)


def _side(title: str, side: Side) -> list[str]:
    commit = "-" if side.git_commit is None else side.git_commit[:10]
    commit += " (changed tree)" if side.git_dirty else ""
    made = f"{side.created_at:%Y-%m-%d %H:%M:%S}"
    return [title, side.reference, side.content_hash[:12], made, commit, side.asked_by]


def _span(days: Sequence[str]) -> str:
    if not days:
        return ""
    if len(days) == 1:
        return f" {days[0]}"
    return f" {days[0]}..{days[-1]} ({len(days)} days)"


def _causes(causes: Iterable[Cause]) -> list[str]:
    """Return each difference once, with all that it was found in and the way of the first."""
    together: dict[str, list[Cause]] = {}
    for cause in causes:
        together.setdefault(cause.what, []).append(cause)
    lines = []
    for what, found in together.items():
        if found[0].kind == "days":
            lines.append(plain(f"{what}:{_span(found[0].partitions)}", None))
            continue
        named = [f"{_artifact(cause)}{_span(cause.partitions)}" for cause in found[:_NAMED]]
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        lines.append(plain(f"{', '.join(named)}{more}: {what}", None))
        if len(found[0].path) > 1:
            lines.append("    " + plain(" > ".join(found[0].path), None))
    return lines


def _artifact(cause: Cause) -> str:
    return cause.name if cause.name == cause.kind else f"{cause.kind} {cause.name}"


def _functions(functions: Iterable[FunctionChange]) -> list[str]:
    lines = []
    for function in functions:
        moved = (
            f"{function.votes_changed:,} of {function.rows:,} votes differ"
            if function.rows
            else f"votes of {_count(function.days, 'day')}"
        )
        status = "the same, what it reads differs" if function.status == "same" else function.status
        lines.append(plain(f"{function.name}: {status}; {moved}"))
        if function.status != "same" and not function.recorded:
            lines.append("    its source was not recorded")
        elif function.status == "changed" and not function.source:
            lines.append("    its own lines are the same: what it uses changed")
        lines += _source(function.source)
    return lines


def _files(told: Diff) -> list[str]:
    """Return the project's files where nothing else shows what changed in them."""
    hidden = any(f.status == "changed" and not f.source for f in told.functions)
    if told.after.kind != "spec" and not hidden:
        return []
    lines = []
    for file in told.files:
        lines += [plain(f"{file.name}: {file.status}"), *_source(file.source)]
    return lines


def _source(source: Sequence[str]) -> list[str]:
    """Return a unified diff without the two lines that name its sides."""
    lines = [f"    {plain_code(line)}" for line in source[2 : _LINES_SHOWN + 2]]
    more = len(source) - 2 - _LINES_SHOWN
    return [*lines, f"    ... {more} more lines (--json)"] if more > 0 else lines


def plain_code(line: str) -> str:
    """Return a line of source with all its spaces, and otherwise inert."""
    words = line.expandtabs(4).split(" ")
    text = " ".join(plain(word, None) for word in words)
    return text if len(text) <= _CODE_CHARS else text[: _CODE_CHARS - 1] + "\u2026"


def _settings(settings: Sequence[SettingChange]) -> list[str]:
    lines = [
        plain(
            f"{s.path}: {_value(s.before)} -> {_value(s.after)}  ({', '.join(s.artifacts)})", None
        )
        for s in settings[:_SETTINGS_SHOWN]
    ]
    if len(settings) > _SETTINGS_SHOWN:
        lines.append(f"... {len(settings) - _SETTINGS_SHOWN} more (--json)")
    return lines


def _value(value: Any) -> str:
    return plain(f"{value:.6g}" if isinstance(value, float) else value, _TEXT_CHARS) or "-"


def _packages(packages: Iterable[PackageChange]) -> list[str]:
    lines = []
    for package in packages:
        weight = f"  (counts for {', '.join(package.artifacts)})" if package.artifacts else ""
        lines.append(
            plain(f"{package.name}: {package.before or '-'} -> {package.after or '-'}{weight}")
        )
    return lines


def _code(told: Diff) -> list[str]:
    lines = [plain(f"{code.module}  ({', '.join(code.artifacts)})") for code in told.code]
    first, second = told.before.git_commit, told.after.git_commit
    if lines and first and second and first != second:
        files = " ".join(
            code.module.replace(".", "/") + ".py"
            for code in told.code
            if code.module.startswith("fm_platform")
        )
        lines.append(f"see: git diff {first[:12]} {second[:12]} -- {files}".rstrip())
    return lines


def _rows(changes: Sequence[RowsChange]) -> list[str]:
    if not changes:
        return []
    head = ("table", "days", "rows", "", "added", "removed", "moved", "relabeled", "edited",
            "reweighted", "mean shift")  # fmt: skip
    cells = [
        (c.table, len(c.partitions), f"{c.before_rows:,}", f"-> {c.after_rows:,}", c.added,
         c.removed, c.moved, c.relabeled, c.edited, c.reweighted,
         "" if c.mean_shift is None else f"{c.mean_shift:.4f}")
        for c in changes
    ]  # fmt: skip
    lines = table(cells, head).splitlines()
    for change in changes:
        lines += ["", *_row_details(change)] if _row_details(change) else []
    return lines


def _row_details(change: RowsChange) -> list[str]:
    lines = []
    for one in change.labels[:_LABELS_SHOWN]:
        went = f"{one.before or 'none'} -> {one.after or 'none'}"
        lines.append(plain(f"{change.table}: {_count(one.rows, 'row')} {went}"))
    for count in change.by_source:
        lines.append(
            plain(
                f"{change.table} of {count.source}: {count.added:,} added, "
                f"{count.removed:,} removed, {count.relabeled:,} relabeled"
            )
        )
    for row in change.examples:
        label = row.after if row.change == "added" else row.before
        if row.change == "relabeled":
            label = f"{row.before or 'none'} -> {row.after or 'none'}"
        where = f"{_SIGNS[row.change]} {row.row_id[:12]} {row.source}: {label or 'none'}"
        lines.append(f"{plain(where, None)}  {plain(row.text, _TEXT_CHARS)}")
    return lines


def _tensors(told: TensorsChange) -> list[str]:
    changed = len(told.tensors)
    files = [plain(f"other files that differ: {', '.join(told.files)}", None)] if told.files else []
    if not changed:
        return [f"all {told.total} are equal in every bit", *files]
    whole = f"; all together {told.relative:.2%} of the norm" if told.relative is not None else ""
    what = "updates of adapters, scaling * B @ A" if told.form == "adapter" else "dense weights"
    lines = [f"{changed} of {told.total} differ{whole} ({what})"]
    ranked = sorted(told.tensors, key=lambda t: (-(t.relative or 0.0), -t.norm, t.name))
    if ranked:
        head = ("tensor", "shape", "", "norm", "relative", "largest", "rank", "stable rank")
        cells = [_tensor(change) for change in ranked[:_TENSORS_SHOWN]]
        lines += table(cells, head).splitlines()
    if changed > _TENSORS_SHOWN:
        lines.append(f"... {changed - _TENSORS_SHOWN} more, less changed (--json)")
    return [*lines, *files]


def _tensor(change: TensorChange) -> tuple[str, ...]:
    return (
        change.name,
        "x".join(map(str, change.shape)),
        "" if change.status == "changed" else change.status,
        f"{change.norm:.4g}",
        "" if change.relative is None else f"{change.relative:.2%}",
        "" if change.largest is None else f"{change.largest:.3g}",
        "" if change.rank is None else f"{change.rank}",
        "" if change.stable_rank is None else f"{change.stable_rank:.1f}",
    )


def _answers_title(told: Answers) -> str:
    system = told.after_system
    if told.before_system != system:
        system = f"{told.before_system} -> {system}"
    return plain(f"Answers of {system} on {told.common:,} gold rows that both were evaluated on")


def _answers(told: Answers) -> list[str]:
    shown = ("f1_weighted", "accuracy")
    cells = []
    for change in told.metrics:
        if change.metric in shown or (change.source == ALL and change.metric == "log_loss"):
            cells.append(
                (
                    change.source, change.metric, _number(change.before), _number(change.after),
                    _difference(change.difference), change.rows or "",
                )
            )  # fmt: skip
    lines = []
    if cells:
        head = ("slice", "metric", "before", "after", "difference on common rows", "rows")
        lines += [*table(cells, head).splitlines(), ""]
    counts = [(f.source, f.rows, f.fixed, f.broken, f.other) for f in told.flips]
    if counts:
        lines += table(counts, ("slice", "rows", "fixed", "broken", "wrong otherwise")).splitlines()
    for flip in told.examples:
        verdict = "broken" if flip.before == flip.gold else "other"
        verdict = "fixed" if flip.after == flip.gold else verdict
        said = f"{flip.before or 'none'} -> {flip.after or 'none'}, gold {flip.gold}"
        where = f"{verdict} {flip.row_id[:12]} {flip.day} {flip.source}: {said}"
        lines.append(f"{plain(where, None)}  {plain(flip.text, _TEXT_CHARS)}")
    return lines


def _others(told: Sequence[Answers]) -> list[str]:
    """Return one line a system: of an evaluation there are many."""
    cells = []
    for answers in told:
        overall = [m for m in answers.metrics if (m.source, m.metric) == (ALL, "f1_weighted")]
        flips = next((f for f in answers.flips if f.source == ALL), None)
        for change in overall:
            cells.append(
                (
                    change.system, _number(change.before), _number(change.after),
                    _difference(change.difference), answers.common,
                    flips.fixed if flips else "", flips.broken if flips else "",
                )
            )  # fmt: skip
    if not cells:
        return []
    head = (
        "system",
        "before",
        "after",
        "difference in F1 on common rows",
        "rows",
        "fixed",
        "broken",
    )
    return table(cells, head).splitlines()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value['value']:.4f}"


def _difference(value: Any) -> str:
    if value is None:
        return ""
    return f"{value['value']:+.4f} ({value['low']:+.4f}..{value['high']:+.4f})"
