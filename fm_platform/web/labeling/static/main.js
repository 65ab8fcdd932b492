// The labeling page: one row, one key, written at once.

import { $, say, show, h } from "/shared/dom.js";
import { startTheme } from "/shared/theme.js";
import { keysOf, keysView, signOf } from "./keys.js";
import { Away, ask, tell } from "./talk.js";
import {
  drawChosen, drawClasses, drawDone, drawGuideline, drawLast, drawNotice, drawProgress, drawRow,
  drawVotes, drawWaiting, named,
} from "./view.js";

const RETRY_MS = 3000;
const POLL_MS = 600;
const page = {
  project: null, annotator: null, session: null, question: null, last: [], state: "wait",
  several: false, chosen: new Set(), busy: false, timer: 0, keys: kept("keys") !== "off",
};
const tab = tabName();

function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch { /* a browser may keep nothing */ }
}

// A tab keeps its name when it is loaded again: so it resumes at the row it showed.
function tabName() {
  let name = null;
  try {
    name = sessionStorage.getItem("tab");
  } catch { /* then it resumes at another row */ }
  name = name || [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16)).join("");
  try {
    sessionStorage.setItem("tab", name);
  } catch { /* see above */ }
  return name;
}

function given(more = {}) {
  return { project: page.project, annotator: page.annotator, tab, ...more };
}

function state(text, bad = false) {
  $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

// Run one thing at a time; while the server is away it is tried again: nothing is lost or twice.
async function once(what, does) {
  if (page.busy) return;
  page.busy = true;
  clearTimeout(page.timer);
  let told;
  try {
    told = await what();
    document.body.classList.remove("away");
    drawNotice(null);
  } catch (error) {
    page.busy = false;
    failed(error, () => once(what, does));
    return;
  }
  page.busy = false;
  does(told);
}

function failed(error, retry) {
  if (error instanceof Away) {
    document.body.classList.add("away");
    state("not saved yet", true);
    drawNotice({
      message: "The server does not answer.",
      next: "fm ui, or fm label open, starts it again. What you answered last is sent as soon as it is back.",
    }, retry);
    page.timer = setTimeout(retry, RETRY_MS);
    return;
  }
  if (!error.told) throw error;
  state("", true);
  drawNotice(error.told, error.status >= 500 ? retry : null);
  document.body.classList.add("ready");
  // answered in another tab: go on with the next row
  if (error.status === 409) once(() => ask("next", given()), (told) => take(told, false));
}

function take(told, quiet = true) {
  if (quiet) drawNotice(null);
  if (page.session.stamp !== told.stamp) {  // the project file says something else by now
    begin();
    return;
  }
  page.state = told.state;
  page.question = told.question;
  page.last = told.last;
  page.several = false;
  page.chosen = new Set();
  $("work").hidden = false;
  $("votes").open = false;
  show($("votes-text"));
  drawProgress(told.progress);
  drawLast(told.last, takeBack);
  drawChosen(false, page.chosen);
  drawRow(told.question, told.state);
  if (told.state === "wait") {
    drawWaiting(told.doing);
    page.timer = setTimeout(next, POLL_MS);
  } else if (told.state === "done") {
    drawDone(told.progress.skipped, again);
    say("Nothing is left to ask.");
  } else {
    say(`${$("state").textContent}. Next row: ${told.question.text.slice(0, 600)}`);
  }
  document.body.classList.toggle("ready", told.state !== "wait");
}

function next() {
  once(() => ask("next", given()), (told) => take(told));
}

function again() {
  once(() => tell("again", given()), (told) => take(told));
}

function answer(classes) {
  const question = page.question;
  if (!question || page.busy) return;
  const { guideline, interface_version, taxonomy_version } = page.session;
  state("saving …");
  const body = given({
    text_key: question.text_key, classes, guideline_version: guideline.version, interface_version,
    taxonomy_version,
  });
  once(() => tell("answer", body), (told) => {
    state(`saved: ${named(classes || [])}`);
    take(told);
  });
}

function skip() {
  if (!page.question) return;
  const key = page.question.text_key;
  once(() => tell("skip", given({ text_key: key })), (told) => {
    state("skipped");
    take(told);
  });
}

function takeBack(key) {
  once(() => tell("undo", given({ text_key: key })), (told) => {
    state("taken back");
    take(told);
    $("text").focus();
  });
}

function press(name, shift = false) {
  if (!page.question || page.busy) return;
  if (!page.several && !shift) {
    answer([name]);
    return;
  }
  page.several = true;
  if (!page.chosen.delete(name)) page.chosen.add(name);
  drawChosen(true, page.chosen);
  say(`${[...page.chosen].join(" or ") || "none"} chosen`);
}

function several(on) {
  if (!page.question) return;
  page.several = on;
  page.chosen = new Set();
  drawChosen(on, page.chosen);
}

function saveSeveral() {
  if (page.several && page.chosen.size) answer([...page.chosen]);
}

async function showVotes() {
  if (!$("votes").open || !page.question) return;
  const key = page.question.text_key;
  try {
    const told = await ask("votes", given({ text_key: key }));
    if (page.question && page.question.text_key === key) drawVotes(told);
  } catch (error) {
    show($("votes-text"), h("p.soft", error.told ? error.told.message : error.message));
  }
}

function toggle(id) {
  $(id).open = !$(id).open;
}

const ACTIONS = {
  m: () => several(!page.several), c: () => answer(null), s: skip,
  u: () => page.last.length && takeBack(page.last[0].text_key),
  v: () => page.question && toggle("votes"), g: () => toggle("guideline"),
  t: () => $("theme").click(), "?": () => help(),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || $("keys").open) return;
  if (!$("enter").hidden || event.target.closest("input, select, textarea")) return;
  const sign = signOf(event);
  const onButton = event.target.closest("button, summary, a");
  if (event.key === "Escape") several(false);
  else if (event.key === "Enter" && !onButton) saveSeveral();
  else if (page.keys && page.session) {
    const place = sign ? keysOf(page.session.classes).indexOf(sign) : -1;
    if (place >= 0) press(page.session.classes[place], event.shiftKey);
    else if (ACTIONS[event.key === "?" ? "?" : sign]) ACTIONS[event.key === "?" ? "?" : sign]();
    else return;
  } else return;
  event.preventDefault();
}

function help() {
  keysView($("keys"), page.session ? page.session.classes : [], page.keys, (on) => {
    page.keys = on;
    keep("keys", on ? "on" : "off");
    document.body.classList.toggle("keys-off", !on);
  });
  $("keys").showModal();
}

function enterName(names) {
  $("work").hidden = true;
  $("enter").hidden = false;
  $("name").value = page.annotator || kept("annotator") || "";
  $("name").focus();
  document.body.classList.add("ready");
  if (names.length === 0) {
    drawNotice({ message: "There is no project yet.", next: "fm init NAME --from FILE makes one" });
  }
}

function begin() {
  once(() => ask("session", { project: page.project, annotator: page.annotator }), (told) => {
    drawProjects(told.projects, told.project);
    if (!told.annotator) {
      enterName(told.projects);
      return;
    }
    Object.assign(page, { session: told, project: told.project, annotator: told.annotator });
    keep("annotator", told.annotator);
    $("enter").hidden = true;
    $("who").hidden = false;
    show($("who"), told.annotator);
    $("who").setAttribute("aria-label", `${told.annotator} labels: change`);
    const address = new URLSearchParams({ project: told.project, annotator: told.annotator });
    history.replaceState(null, "", `?${address}`);
    document.title = `Labeling ${told.project}`;
    drawClasses(told.classes, press);
    drawGuideline(told.guideline);
    const read = `${told.project} ${told.guideline.version}`;
    $("guideline").open = told.guideline.text !== "" && kept("guideline") !== read;
    keep("guideline", read);
    next();
  });
}

function drawProjects(names, now) {
  $("project").hidden = names.length < 1;
  show($("project"), names.map((name) => h("option", { value: name, selected: name === (now || page.project) }, name)));
}

function start() {
  const wanted = new URLSearchParams(location.search);
  page.project = wanted.get("project");
  page.annotator = wanted.get("annotator");
  document.body.classList.toggle("keys-off", !page.keys);
  startTheme(() => {});
  document.addEventListener("keydown", onKey);
  $("help").addEventListener("click", help);
  $("several").addEventListener("click", () => several(!page.several));
  $("save").addEventListener("click", saveSeveral);
  $("cannot").addEventListener("click", () => answer(null));
  $("skip").addEventListener("click", skip);
  $("undo").addEventListener("click", ACTIONS.u);
  $("votes").addEventListener("toggle", showVotes);
  $("who").addEventListener("click", () => enterName([page.project]));
  $("project").addEventListener("change", () => {
    page.project = $("project").value;
    if (page.annotator) begin();
  });
  $("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    page.annotator = $("name").value.trim();
    page.project = $("project").value || page.project;
    begin();
  });
  begin();
}

start();
