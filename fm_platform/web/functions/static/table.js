// The table of all functions, sorted by any of its columns.

import { count, h, s, say, show } from "/static/dom.js";

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;

// name, how it is sorted, how it is shown
const COLUMNS = [
  ["function", (row) => row.function, null],
  ["covers", (row) => row.coverage, (row) => percent(row.coverage)],
  ["overlap", (row) => row.overlap, (row) => percent(row.overlap)],
  ["conflict", (row) => row.conflict, (row) => percent(row.conflict)],
  ["estimated", (row) => row.estimated?.value ?? null, (row) => interval(row.estimated)],
  ["right on dev", (row) => row.dev?.value ?? null, (row) => onDev(row.dev)],
  ["worth", (row) => row.value?.log_loss ?? null, (row) => worth(row.value)],
  ["drift", (row) => row.drift[0]?.deviations ?? null, (row) => drift(row.drift[0])],
];
const TITLES = {
  covers: "share of rows with a vote", overlap: "share of rows on which another function votes, too",
  conflict: "share of rows on which another vote contradicts it",
  estimated: "how often the label model believes its votes right, with the 95 % interval",
  "right on dev": "how often its votes are right on dev gold rows, with the 95 % interval (Wilson)",
  worth: "rise of the label model's log loss on dev without it, nats a row",
  drift: "what changed most in the newest days",
};

export function tableView(report, state, act) {
  const rows = report.records
    .filter((record) => record.source === "all" && record.slice === "all")
    .map((record) => ({
      ...record,
      value: (report.values || []).find((one) => one.function === record.function) || null,
      drift: report.drift[record.function] || [],
      days: report.by_day[record.function] || [],
    }));
  const body = h("tbody");
  const heads = COLUMNS.map(([name], number) => h(number ? "th.n" : "th", { scope: "col", title: TITLES[name] },
    h("button", { type: "button", onclick: () => turn(name) }, name)));
  const table = h("table", h("caption.unseen", "Labeling functions; a column's button sorts by it"),
    h("thead", h("tr", heads, h("th", { scope: "col" }, "coverage by day"))), body);
  let [by, down] = parse(state.sort);

  function turn(name) {
    [by, down] = name === by ? [name, !down] : [name, name !== "function"];
    act.sorted(`${down ? "-" : ""}${by}`);
    fill();
    say(`sorted by ${by}, ${down ? "largest" : "smallest"} first`);
  }

  function fill() {
    const sort = COLUMNS.find(([name]) => name === by);
    heads.forEach((head, number) => {
      if (COLUMNS[number][0] === by) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const named = rows.filter((row) => row.function !== "*");
    if (sort) named.sort((one, other) => compare(sort[1](one), sort[1](other), down));
    show(body, [...named, ...rows.filter((row) => row.function === "*")].map(line));
  }

  function line(row) {
    const all = row.function === "*";
    return h(all ? "tr.sum" : "tr", all ? {} : { "data-function": row.function, class: state.function === row.function ? "open" : null },
      h("th", { scope: "row" }, all ? "all together"
        : h("button.name", { type: "button", title: row.function, onclick: () => act.open(row.function) }, row.function)),
      COLUMNS.slice(1).map(([name, , shown]) => h("td.n", all && ["worth", "drift", "right on dev"].includes(name) ? "" : shown(row))),
      h("td", spark(row.days, row.function)));
  }

  fill();
  return h("div.wide", { tabindex: "0", role: "region", "aria-label": "Table of the functions" }, table);
}

function parse(text) {
  const name = (text || "").replace(/^-/, "");
  return COLUMNS.some(([known]) => known === name) ? [name, text.startsWith("-")] : ["", false];
}

// What is not known comes last, whichever way it is sorted.
function compare(one, other, down) {
  if (one === null || other === null) return (one === null) - (other === null);
  const order = typeof one === "string" ? one.localeCompare(other) : one - other;
  return down ? -order : order;
}

export function interval(value) {
  return value ? [value.value.toFixed(3), " ", h("span.range", `${value.low.toFixed(2)}–${value.high.toFixed(2)}`)] : "–";
}

export function onDev(value) {
  if (!value || !value.n) return "–";
  return [`${count(value.right)}/${count(value.n)} `, h("span.range", `${value.low.toFixed(2)}–${value.high.toFixed(2)}`)];
}

export function worth(value) {
  if (!value || value.log_loss === null) return "–";
  return [h(value.high < 0 ? "span.down" : "span", signed(value.log_loss)), " ",
    h("span.range", `${signed(value.low)}..${signed(value.high)}`)];
}

function drift(change) {
  if (!change) return "";
  return `${change.source}: ${change.value} ${(100 * change.before).toFixed(0)} → ${(100 * change.after).toFixed(0)} %`;
}

const [WIDE, TALL] = [96, 22];

// Coverage of each day from 0 to the largest of them.
function spark(days, name) {
  if (days.length < 2) return "";
  const most = Math.max(...days.map((day) => day.coverage), 1e-9);
  const x = (k) => 1 + (k * (WIDE - 2)) / (days.length - 1);
  const y = (v) => TALL - 2 - (v / most) * (TALL - 4);
  const line = days.map((day, k) => `${k ? "L" : "M"}${x(k).toFixed(1)} ${y(day.coverage).toFixed(1)}`).join("");
  return s("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, class: "spark", role: "img",
    "aria-label": `coverage of ${name === "*" ? "all functions" : name} from ${percent(days[0].coverage)} to ${percent(days.at(-1).coverage)}` },
    s("path", { d: line }));
}
