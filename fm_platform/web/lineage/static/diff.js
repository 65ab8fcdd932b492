// What differs between two versions, from the cause down.

import { amount, count, h, plural, time, words } from "./dom.js";
import { facts, folded, hash, list, section, sourceDiff, table, value, versionLink } from "./parts.js";

export function diffView(diff, act, everything) {
  const same = diff.same_content ? "The content is the same, bit for bit." : null;
  return [
    h("div.head",
      h("p.kind", "what differs"),
      h("h2", words(diff.after.kind)),
      h("div.sides", side(diff.before, act, "before"), h("span.arrow", "→"), side(diff.after, act, "after")),
      same && h("p.same", same),
      h("div.actions",
        !everything && h("button", { type: "button", id: "read-contents", onclick: () => act.diff(diff.before.reference, diff.after.reference, "1") },
          "Compare rows, tensors and answers, too"),
        h("button", { type: "button", onclick: () => act.diff(diff.after.reference, diff.before.reference, everything) }, "The other way round"))),
    causes(diff, act),
    section("Labeling functions", diff.functions.map(changedFunction)),
    section("Files of the project", diff.files.map((file) => folded(`${file.name}: ${file.status}`, sourceDiff(file.source)))),
    diff.settings.length > 0 && section("Configuration", settings(diff.settings)),
    diff.packages.length > 0 && section("Packages", table(["package", "before", "after", "of"],
      diff.packages.map((p) => [p.name, value(p.before), value(p.after), p.artifacts.map(words).join(", ")]))),
    diff.code.length > 0 && section("Code of the platform", table(["module", "before", "after"],
      diff.code.map((c) => [c.module, hash(c.before) || "–", hash(c.after) || "–"]))),
    section("Rows", diff.rows.map(rows)),
    diff.tensors && section("Tensors", tensors(diff.tensors)),
    diff.values.length > 0 && section("What it says of itself", settings(diff.values)),
    section("Answers on gold rows", diff.answers.map(answers)),
    changes(diff, act),
    section("Not compared", diff.notes.map((note) => h("p", note))),
  ];
}

function side(told, act, name) {
  return h("div.side", h("span.soft", name), versionLink(told.reference, act.open),
    h("span.soft", time(told.created_at)), hash(told.content_hash));
}

function causes(diff, act) {
  if (!diff.causes.length) {
    return section("Causes", h("p.soft", diff.same_recipe ? "Both were made by the same recipe." : "Nothing recorded explains a difference."));
  }
  return section("Causes", diff.causes.map((cause) => h("div.cause",
    h("p", h("b", cause.kind === cause.name ? words(cause.name) : `${words(cause.kind)} ${cause.name}`), ` ${cause.what}`,
      cause.partitions.length > 0 && h("span.soft", ` (${plural(cause.partitions.length, "day")}: ${span(cause.partitions)})`)),
    cause.path.length > 1 && h("ol.path", cause.path.map((step) => h("li", versionLink(step, act.open)))))));
}

function span(days) {
  return days.length > 2 ? `${days[0]} – ${days.at(-1)}` : days.join(", ");
}

function changedFunction(one) {
  const title = `${one.name}: ${one.status}, ${count(one.votes_changed)} of ${count(one.rows)} votes differ on ${plural(one.days, "day")}`;
  const source = one.source.length ? sourceDiff(one.source)
    : h("p.soft", one.recorded ? "its source is the same" : "its source was not recorded");
  return h("details", { open: one.source.length > 0 }, h("summary", title), source);
}

function settings(changed) {
  return table(["setting", "before", "after"], changed.map((one) => [one.path, value(one.before), value(one.after)]));
}

function rows(change) {
  const counted = [["added", change.added], ["removed", change.removed], ["moved to another day", change.moved],
    ["another label", change.relabeled], ["edited", change.edited], ["other probabilities", change.reweighted]].filter(([, n]) => n);
  return h("div.rows", h("h4", words(change.table), h("span.soft", ` ${plural(change.partitions.length, "day")}, ${count(change.before_rows)} → ${count(change.after_rows)} rows`)),
    facts([...counted.map(([name, n]) => [name, count(n)]), ["mean shift", change.mean_shift === null ? null : amount(change.mean_shift)]]),
    change.labels.length > 0 && table(["from", "to", "rows"], change.labels.map((l) => [value(l.before), value(l.after), l.rows])),
    change.by_source.length > 1 && folded("By source", table(["source", "added", "removed", "relabeled"],
      change.by_source.map((b) => [b.source, b.added, b.removed, b.relabeled]))),
    change.examples.length > 0 && folded(plural(change.examples.length, "example"), list(change.examples, (row) => [
      h("span.soft", `${row.change} ${value(row.before)} → ${value(row.after)} `), h("q", row.text || row.row_id)])));
}

function tensors(told) {
  const most = [...told.tensors].sort((a, b) => (b.relative ?? b.norm) - (a.relative ?? a.norm));
  return [
    h("p", `${plural(told.tensors.length, "tensor")} of ${told.total} differ`,
      told.relative !== null && `, ${amount(100 * told.relative)} % of the norm`,
      told.form === "adapter" && ", as dense updates"),
    told.files.length > 0 && h("p.soft", `other files that differ: ${told.files.join(", ")}`),
    most.length > 0 && table(["tensor", "change", "norm", "relative", "rank"],
      most.map((t) => [t.name, t.status, t.norm, t.relative ?? "–", t.rank ?? "–"]), 10),
  ];
}

function answers(told) {
  const shown = told.metrics.map((m) => [
    `${m.metric} ${m.source}`, m.before ? m.before.value : "–", m.after ? m.after.value : "–",
    m.difference ? `${m.difference.value > 0 ? "+" : ""}${amount(m.difference.value)} (${amount(m.difference.low)} … ${amount(m.difference.high)})` : "–",
  ]);
  return h("div", h("h4", words(told.before_system), told.before_system !== told.after_system && ` → ${words(told.after_system)}`,
    h("span.soft", ` ${plural(told.common, "row")} in common`)),
    shown.length > 0 && table(["metric", "before", "after", "difference"], shown, 10),
    told.flips.length > 0 && table(["slice", "rows", "fixed", "broken", "other"],
      told.flips.map((f) => [f.source, f.rows, f.fixed, f.broken, f.other])),
    told.examples.length > 0 && folded(plural(told.examples.length, "flipped row"), list(told.examples, (row) => [
      h("span.soft", `${row.source}: gold ${row.gold}, ${value(row.before)} → ${value(row.after)} `), h("q", row.text || row.row_id)])));
}

function changes(diff, act) {
  if (!diff.changes.length) return null;
  return section("Everything that differs", folded(plural(diff.changes.length, "artifact"), list(diff.changes, (change) => {
    const said = [change.kind === change.name ? null : change.kind, change.name, change.partition].filter(Boolean).join("/");
    return [versionLink(change.after || change.before ? `#${change.after || change.before}` : null, act.open, said),
      change.own.length > 0 && h("span.soft", ` ${change.own.join("; ")}`)];
  }, 30)));
}
