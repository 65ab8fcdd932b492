// The record of one version.

import { bytes, count, h, plural, seconds, show, time, words } from "./dom.js";
import { chart, copy, facts, folded, hash, list, outside, section, table, value, versionLink } from "./parts.js";

export function recordView(record, act) {
  return [
    head(record, act),
    state(record, act),
    decisions(record),
    alerts(record),
    numbers(record, act),
    measured(record.metrics),
    made(record),
    inputs(record, act),
    readers(record, act),
    versions(record, act),
    storage(record),
    recipe(record),
    links(record),
  ];
}

function head(record, act) {
  const earlier = record.versions.some((other) => other.number < record.number);
  return h("div.head",
    h("p.kind", words(record.kind)),
    h("h2", record.kind === record.name ? words(record.name) : record.name,
      record.partition && h("span.day", record.partition), h("span.number", `#${record.number}`)),
    h("p.tags", h(`span.state.${record.state}`, record.state),
      record.aliases.map((alias) => h("span.alias", alias)), hash(record.content_hash)),
    h("div.actions",
      earlier && h("button", { type: "button", id: "diff-before", onclick: () => act.diff("", record.reference) },
        "What changed since the version before"),
      h("button", { type: "button", id: "diff-with", "aria-pressed": String(act.comparing()), onclick: () => act.choose(record.reference) },
        "Compare with …"),
      h("button", { type: "button", onclick: (event) => copy(act.address(record.reference), event.currentTarget) },
        "Copy the address")));
}

function state(record, act) {
  if (record.state === "fresh" || !record.why) return null;
  const title = record.state === "stale" ? "Why it is stale" : record.state === "unbuilt" ? "Why it is not built"
    : record.state === "later" ? "Not yet" : "Not in use";
  return section(title,
    h(record.state === "stale" ? "p.why" : "p.why.calm", record.why),
    record.path.length > 0 && h("ol.path", record.path.map((step) => h("li", versionLink(step.reference, act.open)))));
}

function numbers(record, act) {
  const { series } = record;
  if (!series.numbers.length) return null;
  const drawn = h("div");
  const draw = (name) => show(drawn, chart(
    series.points.map((point) => [point.label, point.values[name], point.id]), record.id, { name, open: act.open }));
  const choice = h("select", { "aria-label": "Number", onchange: (event) => draw(event.target.value) },
    series.numbers.map((name) => h("option", { value: name }, words(name))));
  // a number that tells something first: one that is not always the same
  const told = series.numbers.filter((name) => !/duration|per_second|bytes/.test(name));
  const best = told.find((name) => name === "merged_all/f1_weighted");
  const varied = best || told.find((name) => new Set(series.points.map((point) => point.values[name]).filter((v) => v !== undefined)).size > 1);
  choice.value = varied || series.numbers[0];
  draw(choice.value);
  const own = series.points.find((point) => point.id === record.id)?.values || {};
  const rows = series.numbers.filter((name) => name in own).map((name) => [words(name), own[name]]);
  return section(series.over === "days" ? "Over days" : "Over versions", choice, drawn,
    rows.length > 1 && folded(`All ${plural(rows.length, "number")}`, table(["number", "value"], rows, 60)));
}

// Small tables and checks that were recorded with the version.
function measured(metrics) {
  const tables = Object.entries(metrics.tables || {}).filter(([, rows]) => Array.isArray(rows) && rows.length);
  const checks = (metrics.checks || []).filter((check) => check && check.name);
  return section("Measured",
    checks.map((check) => h(`p.check.${check.passed ? "passed" : "failed"}`,
      h("b", check.passed ? "✓ " : "✗ "), words(check.name), check.description && h("span.soft", ` ${check.description}`))),
    tables.map(([name, rows]) => {
      const columns = Object.keys(rows[0]);
      return folded(`${words(name)}: ${rows.length}`,
        table(columns.map(words), rows.map((row) => columns.map((key) => (typeof row[key] === "number" ? row[key] : value(row[key]))))));
    }));
}

function made(record) {
  const spans = record.in_use.map((use) => `${time(use.since)} – ${use.until ? time(use.until) : "now"}`);
  return section("Made", facts([
    ["when", time(record.created_at)],
    ["took", seconds(record.duration_s)],
    ["asked by", record.asked_by],
    ["rows", record.rows === null ? null : count(record.rows)],
    ["size", record.bytes === null ? null : bytes(record.bytes)],
    ["code", record.git_commit && [hash(record.git_commit), record.git_dirty ? " with changes that no commit holds" : ""]],
    ["seed", record.seed],
    ["in use", spans.length ? spans.map((span) => h("div", span)) : "never"],
  ]));
}

// Inputs by role: days of one artifact are one line that opens.
function inputs(record, act) {
  if (!record.inputs.length) return section("Made from", h("p.soft", "nothing recorded before it"));
  const roles = new Map();
  for (const item of record.inputs) {
    const key = `${item.role}\n${item.name}\n${item.part || ""}`;
    if (!roles.has(key)) roles.set(key, []);
    roles.get(key).push(item);
  }
  const line = (item) => [
    versionLink(item.reference, act.open, item.reference || `${item.role} ${item.name}`),
    " ", hash(item.content_hash),
    item.delta && h("span.soft", ` Delta version ${item.delta.version}`)];
  return section("Made from", [...roles.values()].map((items) => {
    const [first] = items;
    const title = `${words(first.role)}${first.name !== first.role ? ` ${first.name}` : ""}${first.part ? `, part ${first.part}` : ""}`;
    if (items.length === 1) return h("div.input", h("span.role", title), h("div", line(first)));
    const days = items.map((item) => item.partition).filter(Boolean).sort();
    const said = days.length ? `${title}: ${plural(days.length, "day")}, ${days[0]} – ${days.at(-1)}` : `${title}: ${items.length}`;
    return folded(said, list(items, line, 40));
  }));
}

function readers(record, act) {
  if (!record.read_by.length) return section("What was made from it", h("p.soft", "nothing yet"));
  const kinds = new Map();
  for (const item of record.read_by) {
    const [kind] = item.reference.split(/[/#]/);
    if (!kinds.has(kind)) kinds.set(kind, []);
    kinds.get(kind).push(item);
  }
  return section("What was made from it", [...kinds].map(([kind, items]) => {
    const lines = list(items, (item) => versionLink(item.reference, act.open), 40);
    return items.length > 6 ? folded(`${words(kind)}: ${items.length}`, lines)
      : h("div.input", h("span.role", words(kind)), h("div", lines));
  }));
}

function versions(record, act) {
  if (record.versions.length < 2) return null;
  const newest = [...record.versions].reverse();
  return section("Versions", list(newest, (other) => [
    other.id === record.id ? h("b", `#${other.number}`) : versionLink(other.reference, act.open, `#${other.number}`),
    " ", h("span.soft", time(other.created_at)), " ", hash(other.content_hash),
    other.id !== record.id && h("button.small", {
      type: "button", onclick: () => act.diff(...ordered(other, record)),
    }, "diff")], 6));
}

function ordered(one, other) {
  return one.number < other.number ? [one.reference, other.reference] : [other.reference, one.reference];
}

// What gates and people decided about it, and which names it was given and lost.
function decisions(record) {
  const taken = record.decisions.map((one) => ({ at: one.decided_at, what: one.kind, why: one.reason, who: one.actor }));
  const moves = record.moves.map((move) => ({
    at: move.set_at, what: move.here ? `${move.alias}: this version` : `${move.alias}: another version`,
    why: taken.some((one) => one.why === move.reason) ? "" : move.reason, who: move.actor,
  }));
  const told = [...taken, ...moves].sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  return section("Decisions", told.length > 0 && list(told.reverse(), (one) => h(one.what === "refusal" ? "div.taken.refusal" : "div.taken",
    h("b", one.what), one.why && ` ${one.why}`, " ", h("span.soft", [one.who, time(one.at)].filter(Boolean).join(", "))), 6));
}

// Alerts that it was made for, came of, or tells of: what was wrong, and whether it helped.
function alerts(record) {
  const told = record.alerts || [];
  return section("Alerts", told.length > 0 && list(told, (one) => h("div.taken",
    h("b", words(one.state)), " ", one.title, one.outcome && h("div", one.outcome),
    h("div.soft", [`${one.role} alert ${one.id}`, time(one.at)].join(", "),
      one.link && [" ", outside({ title: "the alert", address: one.link })])), 6));
}

function storage(record) {
  const tables = Object.entries(record.tables).map(([name, ref]) => h("div.input",
    h("span.role", name), h("div", `${ref.table}, Delta version ${ref.version}, ${ref.partition}, ${count(ref.rows)} rows `, hash(ref.content_hash),
      ref.files.length > 0 && folded(plural(ref.files.length, "file"),
        list(ref.files, (file) => [h("code", file.path), " ", hash(file.sha256), h("span.soft", ` ${bytes(file.bytes)}`)])))));
  const model = record.model && h("div.input", h("span.role", "model"), h("div", hash(String(record.model))));
  const parts = Object.entries(record.parts);
  return section("Stored", tables, model,
    parts.length > 0 && folded(plural(parts.length, "part"), list(parts, ([name, hashed]) => [name, " ", hash(hashed)], 40)));
}

function recipe(record) {
  const packages = Object.entries(record.environment.packages || {});
  const installed = Object.entries(record.built_with.packages || {});
  const modules = Object.entries(record.code.modules || {});
  return section("Recipe",
    facts([["recipe hash", hash(record.recipe_hash)], ["code", hash(record.code.fingerprint)],
      ["environment", hash(record.environment.fingerprint)],
      ["Python", record.built_with.python], ["machine", record.built_with.machine || record.built_with.platform],
      ["lock", record.built_with.lock && hash(record.built_with.lock)]]),
    Object.keys(record.config).length > 0 && folded("Configuration", h("pre.source", { tabindex: "0" }, JSON.stringify(record.config, null, 2))),
    modules.length > 0 && folded(`Code: ${plural(modules.length, "module")}`,
      list(modules, ([name, told]) => [h("code", name), " ", typeof told === "string" ? hash(told) : value(told)], 60)),
    packages.length > 0 && folded(`Packages that count: ${packages.length}`,
      list(packages, ([name, version]) => `${name} ${value(version)}`, 60)),
    installed.length > 0 && folded(`Everything installed: ${installed.length}`,
      list(installed, ([name, version]) => `${name} ${value(version)}`, 400)));
}

function links(record) {
  const runs = [["Dagster run", record.dagster_run_id], ["MLflow run", record.mlflow_run_id]];
  const shown = record.links.map((link) => h("p", outside(link)));
  return section("Elsewhere", shown.length ? shown
    : facts(runs.map(([name, id]) => [name, id && h("code", id)])));
}
