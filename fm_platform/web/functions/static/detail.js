// One function: its days, its sources and slices, the others beside it, its disputed rows.

import { count, h } from "/static/dom.js";
import { chart, table } from "/static/parts.js";
import { disputedList } from "./rows.js";
import { interval, onDev, worth } from "./table.js";

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const points = (days, key) => days.map((day) => [day.day, Number((100 * day[key]).toFixed(2)), day.day]);

export function detailView(report, name, act) {
  const days = report.by_day[name] || [];
  const records = report.records.filter((record) => record.function === name);
  const value = (report.values || []).find((one) => one.function === name);
  const advice = report.advice.filter((one) => one.function === name);
  const disputed = report.disputed.filter((row) => row.votes.some((vote) => vote.startsWith(`${name}: `)));
  return h("div.detail", { role: "region", "aria-label": `Function ${name}` },
    h("button.close", { type: "button", "aria-label": "Close", onclick: act.close }, "×"),
    h("h2", { tabindex: "-1" }, name),
    advice.length > 0 && h("ul.todo", advice.map((one) => h("li", one.text))),
    h("div.two",
      h("div", h("h3", "Coverage by day, %"), chart(points(days, "coverage"), null, { name: "coverage, %", open: () => {} })),
      h("div", h("h3", "Conflict by day, %"), chart(points(days, "conflict"), null, { name: "conflict, %", open: () => {} }))),
    value && h("p", "worth ", worth(value), value.dev_rows > 0 && h("span.soft",
      `; of ${count(value.dev_rows)} dev rows ${value.gained} are right only with it, ${value.lost} only without it; ` +
      `${percent(value.changed)} of all labels change without it`)),
    h("h3", "Sources and slices"),
    table(["source", "slice", "rows", "covers", "overlap", "conflict", "estimated", "right on dev", "votes"],
      records.map((r) => [r.source, r.slice, count(r.rows), percent(r.coverage), percent(r.overlap), percent(r.conflict),
        h("span", interval(r.estimated)), h("span", onDev(r.dev)),
        Object.entries(r.by_class).map(([label, n]) => `${label} ${count(n)}`).join(", ") || "–"])),
    (report.against[name] || []).length > 0 && [
      h("h3", "Beside other functions"),
      table(["function", "both vote", "contradict", "its part of the conflicts", "same where either votes"],
        report.against[name].map((one) => [
          h("button.ref", { type: "button", onclick: () => act.open(one.function) }, one.function),
          count(one.both), count(one.contradict), percent(one.share_of_conflicts), percent(one.same)]), 6)],
    (report.drift[name] || []).length > 0 && [
      h("h3", "Drift"),
      table(["source", "since", "answer", "before", "after", "deviations"], report.drift[name].map((one) => [
        one.source, one.since, one.value, percent(one.before), percent(one.after), one.deviations.toFixed(1)]))],
    disputed.length > 0 && [h("h3", "Disputed rows on which it votes"), disputedList(disputed)]);
}
