"""What the history commands print. Everything from outside goes through `display.plain`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fm_platform.cli import render
from fm_platform.display import plain

if TYPE_CHECKING:
    from fm_platform.lineage.graph import Graph, Node
    from fm_platform.lineage.history import LogEntry

EMPTY = "nothing is built yet: fm run PROJECT"
STAGES = (
    "spec", "unit", "raw", "embeddings", "votes", "label_model", "weak_labels", "shingles",
    "cleaned", "activations", "replay", "start",
    "adapter", "merged_model", "evaluation",
)  # fmt: skip
_STATES = ("stale", "unbuilt", "replaced")


def stage_order(kind: str) -> int:
    """Return where a kind stands in the chain; unknown kinds come last."""
    return STAGES.index(kind) if kind in STAGES else len(STAGES)


# --- graphs ------------------------------------------------------------------------------------


def node_json(node: Node) -> dict[str, Any]:
    """Return a node as JSON values."""
    told = render.plain(node._asdict())
    told["reference"] = f"{node.label}#{node.number}"
    return dict(told)


def graph_json(graph: Graph, of: int | None = None) -> dict[str, Any]:
    """Return a graph as JSON values; `of` is the id of the version that was asked for."""
    return {
        "project": graph.project,
        "at": graph.at.isoformat() if graph.at else None,
        **({"of": of} if of is not None else {}),
        "nodes": [node_json(node) for node in graph.nodes],
        "edges": [list(edge) for edge in graph.edges],
    }


def graphs_text(graphs: Sequence[Graph], *, every: bool) -> str:
    """Return everything in use, a block for each project."""
    blocks = []
    for graph in graphs:
        states = Counter(node.state for node in graph.nodes)
        at = f" at {graph.at:%Y-%m-%d %H:%M:%S %Z}" if graph.at else ""
        head = f"{plain(graph.project)}{at}: {_versions(len(graph.nodes))} in use"
        head += f", {states['stale']} stale" if states["stale"] else ", none stale"
        if not graph.nodes:
            blocks.append(f"{plain(graph.project)}{at}: nothing was in use")
            continue
        blocks.append(f"{head}\n{_nodes_text(graph.nodes, every)}")
    return "\n\n".join(blocks) or EMPTY


def lineage_text(graph: Graph, of: int, up: bool, down: bool, every: bool) -> str:
    """Return a version, what it is made from and what is made from it."""
    node = graph.by_id[of]
    parts = [_headline(node)]
    for wanted, follow, title, nothing in (
        (up, graph.reads, "made from", "made from nothing in the ledger"),
        (down, graph.readers, "what was made from it", "nothing was made from it"),
    ):
        if wanted:
            found = [graph.by_id[i] for i in _reached(of, follow)]
            listed = _nodes_text(found, every)
            parts.append(f"{title} ({_versions(len(found))}):\n{listed}" if found else nothing)
    return "\n\n".join(parts)


def _versions(count: int) -> str:
    return "1 version" if count == 1 else f"{count:,} versions"


def _reached(start: int, follow: Mapping[int, Sequence[int]]) -> list[int]:
    found, todo = {start}, [start]
    while todo:
        for other in follow.get(todo.pop(), ()):
            if other not in found:
                found.add(other)
                todo.append(other)
    return sorted(found - {start})


def _headline(node: Node) -> str:
    words = [f"{node.label}#{node.number}", node.content_hash[:12], node.state]
    words += [f"[{alias}]" for alias in node.aliases]
    lines = ["  ".join(plain(word) for word in words)]
    if node.why:
        lines.append(f"  {plain(node.why, 400)}")
    return "\n".join(lines)


def _nodes_text(nodes: Iterable[Node], every: bool) -> str:
    ordered = sorted(nodes, key=lambda n: (stage_order(n.kind), n.name, n.partition or "", n.id))
    if every:
        rows = [
            (f"{n.label}#{n.number}", n.content_hash[:12], _count(n.rows), _state(n), n.why)
            for n in ordered
        ]
        return render.table(rows, ("version", "content", "rows", "state", "why"))
    groups: dict[tuple[str, str], list[Node]] = {}
    for node in ordered:
        groups.setdefault((node.kind, node.name), []).append(node)
    return render.table(
        [_group(kind, name, found) for (kind, name), found in groups.items()],
        ("artifact", "days", "n", "content", "rows", "state", "why"),
    )


def _group(kind: str, name: str, nodes: Sequence[Node]) -> tuple[object, ...]:
    days = sorted({node.partition for node in nodes if node.partition})
    span = "" if not days else days[0] if len(days) == 1 else f"{days[0]}..{days[-1]}"
    rows = [node.rows for node in nodes if node.rows is not None]
    states: Counter[str] = Counter(node.state for node in nodes)
    state = ", ".join(f"{states[s]} {s}" for s in _STATES if states[s]) or "fresh"
    if len(nodes) == 1:
        state = _state(nodes[0])
    causes = [node.why for node in nodes if node.state == "stale"]
    why = causes[0] if causes else ""
    if len(set(causes)) > 1:
        why += f" (and {len(set(causes)) - 1} other causes)"
    content = nodes[0].content_hash[:12] if len(nodes) == 1 else ""
    label = name if kind == name else f"{kind}/{name}"
    return (label, span, len(nodes), content, _count(sum(rows)) if rows else "", state, why)


def _state(node: Node) -> str:
    return " ".join([node.state, *(f"[{alias}]" for alias in node.aliases)])


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


# --- log ---------------------------------------------------------------------------------------


def log_text(entries: Sequence[LogEntry]) -> str:
    """Return one line an entry."""
    if not entries:
        return EMPTY
    rows = []
    for entry in entries:
        commit = (entry.git_commit or "")[:7] + ("+changes" if entry.git_dirty else "")
        rows.append(
            (
                f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.what, entry.name,
                entry.content_hash[:12], entry.actor, commit, entry.why,
            )
        )  # fmt: skip
    return render.table(rows, ("when (UTC)", "what", "version", "content", "asked by", "commit",
                               "why"))  # fmt: skip


# --- show --------------------------------------------------------------------------------------


def record_text(record: Mapping[str, Any]) -> str:
    """Return the record of a version, block by block."""
    aliases = "".join(f"  [{alias}]" for alias in record["aliases"])
    pinned = "  [pinned]" if record["pinned"] else ""
    head = f"{record['reference']}  {record['state']}{aliases}{pinned}"
    lines = [plain(head), *([f"  {plain(record['why'], 400)}"] if record["why"] else []), ""]
    lines += _pairs(_facts(record))
    blocks = ["\n".join(lines), _inputs_text(record["inputs"])]
    if record["tables"]:
        rows = [
            (name, t["table"], t["version"], t["partition"], t["rows"], t["content_hash"][:12])
            for name, t in record["tables"].items()
        ]
        head_row = ("kept in", "Delta table", "version", "partition", "rows", "content")
        blocks.append(render.table(rows, head_row))
    numbers = record["metrics"].get("numbers", {})
    if numbers:
        blocks.append("numbers\n" + "\n".join(_pairs(sorted(numbers.items()))))
    blocks += render.tables(record["metrics"].get("tables", {}))
    read_by = [reader["reference"] for reader in record["read_by"]]
    more = f" and {len(read_by) - 12} more" if len(read_by) > 12 else ""
    blocks.append("read by: " + (plain(", ".join(read_by[:12]), 1_000) + more or "nothing yet"))
    if record["decisions"]:
        taken = [
            (d["decided_at"][:19], d["kind"], d["actor"] or "", d["reason"])
            for d in record["decisions"]
        ]
        blocks.append(render.table(taken, ("decided", "what", "by", "why")))
    return "\n\n".join(blocks)


def _facts(record: Mapping[str, Any]) -> list[tuple[str, object]]:
    commit = record["git_commit"] or "unknown"
    if record["git_dirty"]:
        commit += " with uncommitted changes"
    built = record["built_with"]
    spans = [f"{u['since'][:19]} .. {(u['until'] or 'now')[:19]}" for u in record["in_use"]]
    packages = record["environment"].get("packages", {})
    modules = record["code"]["modules"]
    return [
        ("project", record["project"]),
        ("content", record["content_hash"]),
        ("recipe", record["recipe_hash"]),
        ("made", f"{record['created_at'][:19]} UTC in {record['duration_s']:.1f} s"),
        ("asked by", record["asked_by"]),
        ("in use", ", ".join(spans) or "never"),
        ("commit", commit),
        ("code", f"{record['code']['fingerprint'][:12]} ({len(modules)} modules)"),
        ("packages", ", ".join(f"{k} {v}" for k, v in packages.items()) or "unknown"),
        ("machine", built["machine"] or "unknown"),
        ("lock file", built["lock"] or "unknown"),
        ("seed", "none" if record["seed"] is None else record["seed"]),
        ("rows, bytes", f"{_count(record['rows']) or '-'}, {_count(record['bytes']) or '-'}"),
        *(
            [("removed", f"{record['removed_at'][:19]} UTC by fm gc: its recipe gives it back")]
            if record["removed_at"]
            else []
        ),
        ("Dagster run", record["dagster_run_id"] or "none"),
        ("MLflow run", record["mlflow_run_id"] or "none"),
    ]


def _pairs(pairs: Iterable[tuple[str, object]]) -> list[str]:
    listed = [(plain(key), plain(value, 400)) for key, value in pairs]
    width = max((len(key) for key, _ in listed), default=0)
    return [f"  {key.ljust(width)}  {value}" for key, value in listed]


def _inputs_text(inputs: Sequence[Mapping[str, Any]]) -> str:
    if not inputs:
        return "made from nothing but its configuration"
    rows = []
    for item in inputs:
        delta = item.get("delta")
        where = f"{delta['table']}@{delta['version']}" if delta else ""
        name = item["reference"] or "/".join(x for x in (item["name"], item["partition"]) if x)
        rows.append(
            (item["role"], name, item["part"] or "", item["content_hash"][:12], where)
        )  # fmt: skip
    return render.table(rows, ("made from", "version", "part", "content", "Delta"))


# --- trace -------------------------------------------------------------------------------------


def examples_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows to choose from."""
    if not rows:
        return (
            "no evaluation tells the predictions of single rows, so there is none to trace: "
            "fm run PROJECT evaluates a project that classifies"
        )
    listed = [
        (
            row["row_id"], row["source"], row["gold"], row["label"],
            f"{row['confidence']:.3f}", plain(row["text"], 60),
        )
        for row in rows
    ]  # fmt: skip
    head = ("row id", "source", "gold", "predicted", "confidence", "text")
    return render.table(listed, head) + "\n\nfm trace ROW_ID tells where an answer comes from"


def trace_text(told: Mapping[str, Any]) -> str:
    """Return the way of one row, from the prediction down to the source file."""
    row = told["row"]
    blocks = [
        f"row {plain(row['row_id'])}\n"
        + "\n".join(
            _pairs(
                (key, row[key])
                for key in ("text", "source", "day", "split")
                if row.get(key) is not None
            )
        ),
        *_prediction_blocks(told),
        *(_label_blocks(told) if told["trained_on"] == "cleaned" else ()),
        *_origin_blocks(told),
    ]
    return "\n\n".join(blocks)


def _at(version: Mapping[str, Any] | None) -> str:
    if version is None:
        return "not built"
    return plain(f"{version['reference']}  {version['content_hash']}")


def _shares(probabilities: Mapping[str, float]) -> str:
    return plain(", ".join(f"{name} {share:.3f}" for name, share in probabilities.items()))


def _prediction_blocks(told: Mapping[str, Any]) -> list[str]:
    prediction, model = told["prediction"], told["model"]
    if prediction is None:
        split = plain(told["row"].get("split"))
        why = "this row is in no evaluation of this model"
        if told["trained_on"] == "raw":
            why = "the answers of a causal model are measured together, not row by row"
        elif split and split != "test":
            why = f"this is a {split} row, and evaluations ask about test rows only"
        first = f"prediction  none recorded: {why}"
    else:
        right = "right" if prediction["label"] == prediction["gold"] else "wrong"
        first = (
            f"prediction  {plain(prediction['label'])}  (gold {plain(prediction['gold'])}: {right})"
            f"\n  {_shares(prediction['probabilities'])}"
            f"\n  {plain(prediction['prediction_id'])}"
            f"\n  evaluation  {_at(prediction['evaluation'])}"
        )
    blocks = [first]
    if model is None:
        return [*blocks, "model  none is built"]
    names = "".join(f"  [{plain(alias)}]" for alias in model["aliases"])
    lines = [f"model  {_at(model)}{names}"]
    if model["base_model"]:
        lines.append(f"  base  {plain(model['base_model'])}")
    blocks.append("\n".join(lines))
    for adapter in told["adapters"]:
        days = sorted({part["day"] for part in adapter["trained_on"]})
        weight = "" if adapter["weight"] is None else f"  weight {adapter['weight']:g}"
        mine = "  <- this source" if adapter["reads_this_source"] else ""
        span = f"{days[0]}..{days[-1]}, {len(days)} days" if days else "no day"
        blocks.append(
            f"adapter  {_at(adapter)}{weight}{mine}\n"
            f"  trained on {told['trained_on']} rows of {plain(', '.join(adapter['sources']))}: "
            f"{plain(span)}"
        )
    return blocks


def _label_blocks(told: Mapping[str, Any]) -> list[str]:
    cleaned, weak = told["cleaned"], told["weak_labels"]
    at = _at(cleaned) if "reference" in cleaned else ""
    lines = [f"cleaned  {at}", f"  {plain(cleaned['what'])}"]
    lines += [
        f"  {'removed' if rule['removed'] else 'changed'} by {plain(rule['rule'])}: "
        f"{plain(rule['reason'])}"
        for rule in cleaned.get("rules", ())
    ]
    blocks = ["\n".join(lines)]
    if weak is None:
        return [*blocks, "weak labels  none: this day is not labeled"]
    blocks.append(
        f"weak labels  {_at(weak)}\n  {plain(weak['label'] or 'no label')}: "
        f"{_shares(weak['probabilities'])}\n  label model  {_at(told['label_model'])}"
    )
    voted = [vote for vote in told["votes"] if vote["vote"] is not None]
    silent = [vote for vote in told["votes"] if vote["vote"] is None]
    for vote in voted:
        source = vote["source"] or "its source was not recorded when it voted"
        text = "\n".join(f"    {_code(line)}" for line in source.splitlines())
        blocks.append(
            f"vote  {plain(vote['function'])}: {plain(vote['vote'])}  {_at(vote)}\n"
            f"  function {plain(vote['fingerprint'])}\n{text}"
        )
    if silent:
        rows = [(v["function"], v["content_hash"][:12], v["fingerprint"][:12]) for v in silent]
        blocks.append(render.table(rows, ("abstained", "votes", "function")))
    return blocks


def _code(line: str) -> str:
    """Return a line of source with the spaces it begins with."""
    spaces = len(line) - len(line.lstrip(" "))
    return " " * min(spaces, 40) + plain(line, 160)


def _origin_blocks(told: Mapping[str, Any]) -> list[str]:
    raw, source = told["raw"], told["source"]
    lines = [f"raw  {_at(raw)}", f"  {plain(raw['table'])} at Delta version {raw['delta_version']}"]
    lines += [f"  {plain(file['path'])}  sha256 {plain(file['sha256'])}" for file in raw["files"]]
    blocks = ["\n".join(lines)]
    if source is not None:
        lines = [f"source  {plain(source['name'])}  {plain(source['content_hash'])}"]
        lines.append(f"  connector {plain(source['connector'])}")
        lines += [
            f"  {plain(file['path'])}  sha256 {plain(file['sha256'])}"
            for file in source["files"] or ()
        ]
        blocks.append("\n".join(lines))
    if told["definition"] is not None:
        blocks.append(f"declared by  {_at(told['definition'])}")
    return blocks
