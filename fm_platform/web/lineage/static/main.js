// The lineage page: what is looked at is in the address; everything else follows from it.

import { ask } from "./api.js";
import { $, count, h, plural, say, show } from "./dom.js";
import { diffView } from "./diff.js";
import { keysView } from "./keys.js";
import { Graph, STATES } from "./model.js";
import { refused } from "./parts.js";
import { recordView } from "./record.js";
import { Search } from "./search.js";
import { listen, set, state } from "./state.js";
import { startTheme } from "./theme.js";
import { Timeline } from "./timeline.js";
import { traceView } from "./trace.js";
import { View } from "./view.js";

const KEPT = 40;
const LOOK_EVERY_MS = 15000;
const page = { about: null, timeline: null, graph: null, kept: new Map(), first: null };
let worldAsked = new AbortController();
let panelAsked = new AbortController();

const view = new View({ open: pick, compare: (i) => compareWith(page.graph.ref(i)) });
const timeline = new Timeline((at) => set({ at }, { quiet: true }));
timeline.settled = () => page.loading;
const search = new Search({
  graph: () => page.graph,
  pick: (i) => open(page.graph.ref(i)),
  elsewhere: (text) => open(text),
  trace: (row) => set({ row, v: null, a: null, b: null, all: null }),
  light: (found) => view.light(found),
});

const act = {
  open,
  diff: (a, b, all = null) => set({ a, b, all, v: null, row: null }),
  choose: (ref) => {
    page.first = page.first ? null : ref;
    notice(page.first && h("p", "Choose the second version: click it, or find it by search. ",
      h("button", { type: "button", onclick: () => act.choose() }, "Never mind")));
    $("diff-with")?.setAttribute("aria-pressed", String(Boolean(page.first)));
  },
  comparing: () => Boolean(page.first),
  address: (v) => {
    const { project, branch, at } = state;
    const given = new URLSearchParams({
      project, ...(branch ? { branch } : {}), ...(at ? { at } : {}), v,
    });
    return `${location.origin}/?${given}`;
  },
};

function open(ref) {
  if (page.first && page.first !== ref) compareWith(ref);
  else set({ v: ref, a: null, b: null, all: null, row: null });
}

function pick(i) {
  if (i >= 0) open(page.graph.ref(i));
  else if (!page.first) close();
}

function compareWith(ref) {
  const first = page.first || (state.v !== ref && state.v) || state.b;
  page.first = null;
  notice(null);
  if (first && first !== ref) act.diff(first, ref);
  else open(ref);
}

function close() {
  set({ v: null, a: null, b: null, all: null, row: null });
}

function notice(content) {
  $("notice").hidden = !content;
  show($("notice"), content);
}

async function start() {
  startTheme(() => { view.recolour(); timeline.paint(); });
  keysView($("keys"));
  keys();
  try {
    page.about = await ask("about");
  } catch (error) {
    return notice(refused(error, start));
  }
  if (!page.about.projects.length) return empty();
  show($("project"), page.about.projects.map((name) => h("option", { value: name }, name)));
  $("project").addEventListener("change", () => elsewhere({ project: $("project").value, branch: null }));
  $("branch").addEventListener("change", () => {
    const named = $("branch").value;
    elsewhere({ branch: named === page.about.branch ? null : named });
  });
  if (!state.project) set({ project: page.about.projects[0] }, { quiet: true });
  listen(follow);
  setInterval(look, LOOK_EVERY_MS);
  return load();
}

function elsewhere(where) {
  set({ ...where, at: null, v: null, a: null, b: null, all: null, row: null });
}

// Main and the branches of the project; nothing where there are none.
function branches() {
  const named = page.about.branches.filter((one) => one.project === state.project).map((one) => one.name);
  const shown = state.branch || page.about.branch;
  const all = [...new Set(["main", ...named, shown])];
  $("branch").hidden = all.length < 2;
  show($("branch"), all.map((name) => h("option", { value: name }, name === "main" ? "main" : `branch ${name}`)));
  $("branch").value = shown;
}

function empty() {
  $("project").hidden = true;
  document.body.classList.add("empty");
  notice(h("div", h("h2", "No history yet"),
    h("p", "Everything that is built from now on will be here: every table, model and decision, at every moment."),
    h("p", "Begin with ", h("code", "make demo"), ", or ", h("code", "fm run PROJECT"), ".")));
}

async function load() {
  $("project").value = state.project;
  branches();
  try {
    await loadHistory();
  } catch (error) {
    return notice(refused(error, load));
  }
  await draw();
  return panel();
}

function follow(changed) {
  if (changed.has("project") || changed.has("branch")) {
    page.kept.clear();
    view.whole();
    load();
    return;
  }
  if (changed.has("at")) {
    page.loading = draw().then(() => (state.v ? panel() : undefined));
  }
  if (["v", "a", "b", "all", "row"].some((key) => changed.has(key))) panel();
}

// The stops of the slider, and room for all that ever was.
async function loadHistory() {
  const of = JSON.stringify(here());
  const told = await ask("timeline", here());
  if (of !== JSON.stringify(here())) return;
  page.timeline = { ...told, of };
  timeline.load(told.moments);
}

function here() {
  return { project: state.project, branch: state.branch };
}

function moment() {
  return `${state.project} ${state.branch} ${state.at} ${page.about.stamp}`;
}

// The graph of the moment. One question at a time: while the slider runs, the moments that the
// server has not come to are left out, and what comes meanwhile is shown.
function draw() {
  timeline.show(state.at);
  page.late = Boolean(page.drawing);
  page.drawing ||= catchUp().finally(() => { page.drawing = null; });
  return page.drawing;
}

async function catchUp() {
  do {
    page.late = false;
    await drawMoment();
  } while (page.late);
}

async function drawMoment() {
  worldAsked.abort();
  const { signal } = (worldAsked = new AbortController());
  document.body.classList.remove("looking");
  const [key, where, at] = [moment(), JSON.stringify(here()), state.at];
  let graph = page.kept.get(key);
  if (!graph) {
    document.body.classList.add("waiting");
    try {
      graph = new Graph(await ask("graph", { ...here(), at }));
    } catch (error) {
      if (!page.late) notice(refused(error, draw));
      return;
    } finally {
      document.body.classList.remove("waiting");
    }
    page.kept.set(key, graph);
    if (page.kept.size > KEPT) page.kept.delete(page.kept.keys().next().value);
  }
  if (where !== JSON.stringify(here()) || page.timeline.of !== where) return;
  page.graph = graph;
  if (!page.first) notice(null);
  view.show(graph, widened(page.timeline, graph), timeline.since(at));
  summary(graph);
  mark();
  if (!at && !page.late) world(graph, signal);
}

// Now is also what the files of the project say: edits that nothing was built with yet.
async function world(graph, signal) {
  let told;
  document.body.classList.add("looking");
  try {
    told = await ask("world", here(), signal);
  } catch (error) {
    if (error.name !== "AbortError") say(error.message);
    return;
  } finally {
    if (!signal.aborted) document.body.classList.remove("looking");
  }
  if (page.graph !== graph) return;
  $("summary").title = told.note;
  if (!told.graph) return;
  page.graph = new Graph(told.graph);
  page.kept.set(moment(), page.graph);
  view.show(page.graph, widened(page.timeline, page.graph), timeline.since(state.at));
  summary(page.graph);
  mark();
  if (state.v) panel();
}

// Room for what was never built, too.
function widened(extent, graph) {
  const artifacts = [...extent.artifacts];
  const known = new Set(artifacts.map(({ kind, name }) => `${kind}\n${name}`));
  let last = -1;
  for (let i = 0; i < graph.size; i += 1) {
    const pair = graph.kind[i] * graph.names.length + graph.name[i];
    if (pair === last) continue;
    last = pair;
    const [kind, name] = [graph.kindOf(i), graph.nameOf(i)];
    if (known.has(`${kind}\n${name}`)) continue;
    known.add(`${kind}\n${name}`);
    artifacts.push({ kind, name, daily: graph.dayOf(i) !== null });
  }
  return { ...extent, artifacts, days: [...new Set([...extent.days, ...graph.days])].sort() };
}

function summary(graph) {
  const held = STATES.map(() => 0);
  for (const one of graph.state) held[one] += 1;
  const chip = (name, n, said) => n > 0 && h(`button.chip.${name}`, { type: "button", onclick: () => light(name), title: `Show what is ${name}` },
    h(`i.dot.${name}`), `${count(n)} ${said}`);
  show($("summary"), chip("fresh", held[0], "fresh"), chip("stale", held[1], "stale"),
    chip("unbuilt", held[2], "not built"), !graph.size && h("span.soft", "nothing was built yet"));
  document.title = `${state.project} · lineage`;
}

let litState = null;
function light(name) {
  litState = litState === name ? null : name;
  const wanted = STATES.indexOf(name);
  const found = new Set();
  page.graph.state.forEach((one, i) => { if (one === wanted) found.add(i); });
  view.light(litState ? found : null);
}

// Mark in the graph what the panel shows.
function mark() {
  const { graph } = page;
  if (!graph) return;
  const [first, second] = page.shown || [];
  view.select(first ? graph.find(first) : -1, second ? graph.find(second) : -1);
}

async function panel() {
  const box = $("panel");
  panelAsked.abort();
  const { signal } = (panelAsked = new AbortController());
  const wanted = state.row || state.b || state.v;
  document.body.classList.toggle("with-panel", Boolean(wanted));
  box.hidden = !wanted;
  if (!wanted) {
    page.shown = null;
    show(box);
    return mark();
  }
  page.shown = state.b ? [state.b, state.a] : state.v ? [state.v] : null;
  mark();
  const again = box.dataset.of !== `${state.row} ${state.a} ${state.b} ${state.v}`;
  if (again) inPanel(h("p.wait", state.all ? "Reading rows, tensors and answers …" : "Reading the record …"));
  try {
    const content = await told(signal);
    box.dataset.of = `${state.row} ${state.a} ${state.b} ${state.v}`;
    inPanel(content);
    if (again) box.scrollTop = 0;
    mark();
  } catch (error) {
    if (error.name === "AbortError") return undefined;
    inPanel(refused(error, error.status === 404 ? null : panel));
  }
  return undefined;
}

async function told(signal) {
  const at = { ...here(), at: state.at };
  if (state.row) return traceView(await ask("trace", { ...at, row: state.row }, signal), act);
  if (state.b) {
    const diff = await ask("diff", { ...at, a: state.a, b: state.b, all: state.all }, signal);
    page.shown = [diff.after.reference, diff.before.reference];
    return diffView(diff, act, state.all);
  }
  const record = await ask("record", { ...at, ref: state.v }, signal);
  page.shown = [record.reference];
  const i = page.graph ? page.graph.find(record.reference) : -1;
  if (i >= 0 && record.state !== page.graph.stateOf(i)) {
    Object.assign(record, { state: page.graph.stateOf(i), why: page.graph.whyOf(i), path: [] });
  }
  if (state.v !== record.reference && !state.v.includes("@")) {
    state.v = record.reference;
    set({}, { quiet: true, rewrite: true });
  }
  return recordView(record, act);
}

function inPanel(content) {
  show($("panel"),
    h("button.close", { type: "button", "aria-label": "Close", title: "Close  Esc", onclick: close }, "×"), content);
}

// New versions while the page is open: the present moves on, the past stays.
async function look() {
  if (document.hidden) return;
  let now;
  try {
    now = await ask("about");
  } catch {
    return document.body.classList.add("away");
  }
  document.body.classList.remove("away");
  if (now.stamp === page.about.stamp) return undefined;
  page.about = now;
  branches();
  await loadHistory();
  say("new versions");
  return state.at ? timeline.show(state.at) : draw();
}

function keys() {
  $("help").addEventListener("click", () => $("keys").showModal());
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    if (event.key === "Escape") {
      if (page.first) act.choose();
      else close();
      return;
    }
    if (/^(input|select|textarea)$/i.test(event.target.tagName) && event.target.id !== "slider") return;
    const does = {
      "/": () => $("search").focus(), "[": () => timeline.step(-1), "]": () => timeline.step(1),
      n: () => timeline.go(timeline.moments.length - 1), p: () => timeline.play(),
      g: () => $("over").focus(), "?": () => $("keys").showModal(), t: () => $("theme").click(),
      c: () => state.v && act.choose(state.v), d: () => state.v && act.diff("", state.v),
    }[event.key];
    if (!does || !page.timeline) return;
    event.preventDefault();
    does();
  });
}

Object.assign(window, { lineagePage: { view, page, state, timeline, search } });
await start();
document.body.classList.add("ready");
requestAnimationFrame(() => performance.mark("drawn"));
say(page.graph ? plural(page.graph.size, "version") : "");
