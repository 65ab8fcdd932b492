// The list, the alert that is open, and what a person says of it. The address says what is shown.

import { ask, Refused } from "/shared/api.js";
import { $, h, plural, say, show, words } from "/shared/dom.js";
import { startTheme } from "/shared/theme.js";
import { alertView } from "./panel.js";

const EVERY_MS = 10_000;
const now = { project: "", alert: "", every: false, alerts: [], stamp: "", token: "" };
const ASKED = {
  accept: ["Accept this as the new normal", "The same shift is silent from now on."],
  snooze: ["Snooze", "Nobody is told and nothing is done for some days."],
  raise: ["Take it for graver", "One step graver than its impact says, now and later."],
  lower: ["Take it for less grave", "One step less grave than its impact says, now and later."],
  approve: ["Approve", "The sensor starts it at its next tick."],
};

function read() {
  const given = new URLSearchParams(location.search);
  now.project = given.get("project") || now.project;
  now.alert = given.get("alert") || "";
  now.every = given.get("all") === "1";
}

function address(alert) {
  const given = new URLSearchParams({ project: now.project });
  if (alert) given.set("alert", alert);
  if (now.every) given.set("all", "1");
  return `?${given}`;
}

function go(alert, keep = false) {
  history[keep ? "replaceState" : "pushState"](null, "", address(alert));
  now.alert = alert;
  return draw();
}

function refused(error) {
  const told = error.told || { message: String(error.message || error) };
  return h("div.refused", { role: "alert" }, h("strong", told.message),
    [told.found, told.expected, told.next].filter(Boolean).map((line) => h("p", line)));
}

function shown() {
  return now.alerts.filter((one) => now.every || one.id === now.alert || (one.open && one.severity !== "record"));
}

function drawList() {
  const entry = (one) => h("a", {
    href: address(one.id), class: one.open ? "" : "closed", "aria-current": String(one.id === now.alert),
    onclick: (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      go(one.id);
    },
  }, h(`span.grave.${one.severity}`, { title: one.severity }), h("span", one.title),
  h("span.meta", [one.severity, words(one.state), one.points ? `${one.points.toFixed(1)} points` : ""].filter(Boolean).join(" · ")));
  const open = shown().filter((one) => one.open && one.severity !== "record");
  const rest = shown().filter((one) => !open.includes(one));
  const hidden = now.alerts.length - shown().length;
  show($("list"),
    open.length > 0 && [h("h2", "Open"), open.map(entry)],
    !open.length && h("div.empty", h("b", "Nothing is open"),
      now.alerts.length ? `${plural(now.alerts.length, "alert")} came and ${now.alerts.length === 1 ? "is" : "are"} closed or only recorded.`
        : "No day differed from what the champion was trained on in a way that it cares about."),
    rest.length > 0 && [h("h2", "Closed and recorded"), rest.map(entry)],
    hidden > 0 && !now.every && h("div.empty", h("button", { type: "button", onclick: () => $("every").click() }, `Show ${hidden} more`)));
}

let drawn = 0;

async function draw() {
  const mine = ++drawn; // an answer that comes after a later question is not shown
  document.body.classList.toggle("one", Boolean(now.alert));
  drawList();
  const panel = $("panel");
  if (!now.alert) {
    show(panel, now.alerts.length ? h("p.empty", "Choose an alert: j and k, or a click.") : "");
    document.title = "Alerts";
    return;
  }
  try {
    const alert = await ask("alert", { project: now.project, id: now.alert });
    if (mine !== drawn) return;
    panel.dataset.alert = alert.id;
    show(panel, alertView(alert, { ask: (what, repair) => question(alert, what, repair), back: () => go("") }));
    document.title = `${alert.title} – Alerts`;
  } catch (error) {
    if (mine !== drawn) return;
    show(panel, h("button.back", { type: "button", onclick: () => go("") }, "‹ all alerts"), refused(error));
  }
}

async function load() {
  const told = await ask("list", { project: now.project });
  now.project = told.project;
  now.alerts = told.alerts;
  const { policy } = told;
  $("policy").textContent = !policy.declared ? "this project declares no alerts: nothing runs by itself"
    : policy.automatic.length ? `${policy.automatic.join(" and ")} by itself from ${policy.least} on, ${policy.runs_per_day} a day at most`
      : "every repair waits for approval";
  if (!now.alert && innerWidth > 760) {
    const first = shown()[0];
    if (first) {
      now.alert = first.id;
      history.replaceState(null, "", address(first.id));
    }
  }
  await draw();
}

// --- what a person says ---------------------------------------------------------------------

function question(alert, what, repair) {
  const [title, why] = ASKED[what];
  const reason = h("textarea", { name: "reason", rows: 3, required: what !== "approve", "aria-label": "Reason", placeholder: "Why, in a few words" });
  const days = what === "snooze" && h("input", { name: "days", type: "number", min: 1, max: 365, value: 7, "aria-label": "Days" });
  const trouble = h("div");
  const send = async (event) => {
    event.preventDefault();
    try {
      await tell({ project: now.project, id: alert.id, what, reason: reason.value, ...(days ? { days: Number(days.value) } : {}), ...(repair ? { repair: repair.number } : {}) });
      $("answer").close();
      say(`${words(what)}: recorded`);
      await load();
      $("panel").focus();
    } catch (error) {
      show(trouble, refused(error));
    }
  };
  show($("answer"), h("form", { onsubmit: send }, h("h2", { id: "answer-title" }, repair ? `${title}: ${repair.title}` : title),
    h("p.soft", why), reason, days && h("label", "days", days), trouble,
    h("div.buttons", h("button", { type: "button", onclick: () => $("answer").close() }, "Cancel"),
      h("button.first", { type: "submit" }, title))));
  $("answer").showModal();
  reason.focus();
}

async function tell(said) {
  const answer = await fetch("/api/act", {
    method: "POST", headers: { "content-type": "application/json", "x-fm-token": now.token }, body: JSON.stringify(said),
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(told.error || { message: told.refused || "the server refused it" }, answer.status);
}

// --- keys, theme, news ------------------------------------------------------------------------

function step(by) {
  const listed = shown();
  if (!listed.length) return;
  const at = listed.findIndex((one) => one.id === now.alert);
  const next = listed[Math.min(Math.max(at + by, 0), listed.length - 1)];
  go(next.id, true).then(() => document.querySelector('#list a[aria-current="true"]')?.focus());
}

const KEYS = { j: () => step(1), k: () => step(-1), Escape: () => go(""), t: () => $("theme").click(), a: () => $("every").click(), "?": () => $("help").click() };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (/^(input|textarea|select)$/i.test(event.target.tagName) && event.key !== "Escape") return;
  KEYS[event.key]?.();
});

async function news() {
  try {
    const about = await ask("about");
    document.body.classList.remove("away");
    now.token = about.token;
    if (about.stamp !== now.stamp && !document.querySelector("dialog[open]")) {
      now.stamp = about.stamp;
      await load();
    }
  } catch {
    document.body.classList.add("away");
  }
  setTimeout(news, EVERY_MS);
}

async function start() {
  read();
  startTheme(() => {});
  $("every").checked = now.every;
  $("every").addEventListener("change", () => {
    now.every = $("every").checked;
    go(now.alert, true);
  });
  $("help").addEventListener("click", () => {
    show($("keys"), h("h2", "Keys"), h("dl", [["j, k", "next and previous alert"], ["Esc", "close it"], ["a", "also closed ones"], ["t", "colours"]]
      .map(([key, what]) => [h("dt", h("kbd", key)), h("dd", what)])), h("form", { method: "dialog" }, h("button", "Close")));
    $("keys").showModal();
  });
  addEventListener("popstate", () => { read(); draw(); });
  try {
    const about = await ask("about");
    now.token = about.token;
    now.stamp = about.stamp;
    if (!about.projects.length) throw new Refused({ message: "There is no project yet.", next: "fm init, or make demo" }, 404);
    await load();
    show($("project"), about.projects.map((name) => h("option", { value: name, selected: name === now.project }, name)));
    $("project").addEventListener("change", (event) => { now.project = event.target.value; now.alert = ""; history.pushState(null, "", address("")); load(); });
  } catch (error) {
    show($("panel"), refused(error));
    document.body.classList.add("one");
  }
  document.body.classList.add("ready");
  setTimeout(news, EVERY_MS);
}

start();
