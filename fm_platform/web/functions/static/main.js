// The page of the labeling functions: what they do, what to do, and the rows to look at.

import { ask } from "/static/api.js";
import { $, count, h, plural, say, show } from "/static/dom.js";
import { refused } from "/static/parts.js";
import { startTheme } from "/static/theme.js";
import { detailView } from "./detail.js";
import { disputedView, uncoveredView } from "./rows.js";
import { tableView } from "./table.js";

const RANGES = [["", "all days"], ["7", "last 7 days"], ["28", "last 28 days"], ["90", "last 90 days"]];
const state = { project: "", branch: "", source: "", days: "", function: "", sort: "", report: null };
const KEYS = ["project", "branch", "source", "days", "function", "sort"];
let asked = 0;

function read() {
  const given = new URLSearchParams(location.search);
  for (const key of KEYS) state[key] = given.get(key) || "";
}

function write(push = false) {
  const given = new URLSearchParams();
  for (const key of KEYS) if (state[key]) given.set(key, state[key]);
  const address = `${location.pathname}${given.size ? `?${given}` : ""}`;
  history[push ? "pushState" : "replaceState"](null, "", address);
  const there = new URLSearchParams();
  for (const key of ["project", "branch"]) if (state[key]) there.set(key, state[key]);
  $("lineage").setAttribute("href", there.size ? `/?${there}` : "/");
}

async function load() {
  const mine = (asked += 1);
  document.body.classList.remove("ready");
  try {
    const about = await ask("about");
    choices("project", about.projects.map((name) => [name, name]), state.project);
    const report = await ask("functions", {
      project: state.project, branch: state.branch, source: state.source, days: state.days,
    });
    if (mine !== asked) return;
    state.report = report;
    draw();
  } catch (error) {
    if (mine !== asked) return;
    state.report = null;
    show($("report"), h("div.notice", h("h2", "Nothing to show"), refused(error, load)));
  }
  document.body.classList.add("ready");
}

function choices(id, pairs, now) {
  const select = $(id);
  select.hidden = pairs.length < 2;
  show(select, pairs.map(([value, name]) => h("option", { value, selected: value === now }, name)));
  select.value = now || (pairs[0] ? pairs[0][0] : "");
}

function draw() {
  const { report } = state;
  choices("source", [["", "all sources"], ...report.all_sources.map((name) => [name, name])], state.source);
  choices("since", RANGES, state.days);
  const whole = report.records.find((r) => r.function === "*" && r.source === "all" && r.slice === "all");
  const model = report.label_model;
  show($("report"),
    h("section.head",
      h("p", h("strong", plural(report.functions.length, "function")), ` on ${count(whole ? whole.rows : 0)} rows of `,
        report.source || "all sources", `, ${report.days[0]} to ${report.days.at(-1)}`),
      model && h("p.soft", `label model ${model.method} of ${model.day}`,
        model.accuracy !== null && `: right on ${percent(model.accuracy)} of ${count(model.dev_rows)} dev rows`),
      h("p.soft", report.values ? `worth: ${report.value_measure}`
        : "worth: not known yet; the next run of the last day, or fm label report, finds it")),
    h("section", h("h2", "What to do"), todo(report.advice)),
    h("section", { id: "detail" }),
    h("section", h("h2", "The functions"), tableView(report, state, { open, sorted })),
    disputedView(report.disputed),
    uncoveredView(report));
  detail();
  say(`${report.functions.length} functions, ${report.advice.length} things to do`);
}

function todo(advice) {
  if (!advice.length) return h("ul.todo", h("li.calm", "Nothing stands out."));
  return h("ul.todo", advice.map((one) => h("li", one.text, " ",
    one.function !== "*" && state.report.functions.includes(one.function)
      && h("button.more", { type: "button", onclick: () => open(one.function) }, "show"))));
}

// Opens a function; the one that is open is closed, and its row has the focus again.
function open(name) {
  const before = state.function;
  state.function = name === before ? "" : name;
  write(true);
  detail();
  for (const row of document.querySelectorAll("[data-function]")) {
    row.classList.toggle("open", row.dataset.function === state.function);
  }
  if (!state.function) {
    document.querySelector(`[data-function="${CSS.escape(before)}"] .name`)?.focus();
    return;
  }
  $("detail").scrollIntoView({ block: "nearest" });
  $("detail").querySelector("h2").focus();
}

function sorted(key) {
  state.sort = key;
  write();
}

function detail() {
  const known = state.report.functions.includes(state.function);
  const place = $("detail");
  place.hidden = !known;
  show(place, known && detailView(state.report, state.function, {
    open,
    close: () => open(state.function),
  }));
}

export function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}

for (const [id, key] of [["project", "project"], ["source", "source"], ["since", "days"]]) {
  $(id).addEventListener("change", () => {
    state[key] = $(id).value;
    if (key === "project") Object.assign(state, { source: "", days: "", function: "" });
    write(true);
    load();
  });
}
addEventListener("popstate", () => {
  read();
  load();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.function && state.report) open(state.function);
});
read();
startTheme(() => {});
load();
