// What is seen: the row, the classes, the progress, the last answers. Texts are only ever texts.

import { $, count, h, plural, show } from "/shared/dom.js";
import { keysOf } from "./keys.js";

const LONG = 420;

export function named(classes) {
  return classes.length ? classes.join(" or ") : "cannot tell";
}

export function drawRow(question, state) {
  document.body.classList.toggle("done", state !== "row");
  const text = $("text");
  text.classList.toggle("idle", !question);
  text.classList.toggle("long", !!question && question.text.length > LONG);
  if (question) {
    show($("meta"), [question.source, question.day].filter(Boolean).join(" · "));
    text.textContent = question.text;
    text.scrollTop = 0;
    const n = question.numbers;
    show($("why"), h("span", "Why this row: ", question.why, "."), n && h("span", {
      title: "each between 0 and 1",
    }, ` Uncertainty ${n.uncertainty.toFixed(2)}, density ${n.density.toFixed(2)}, disagreement ${n.disagreement.toFixed(2)}.`));
    document.body.classList.remove("fresh-row");
    requestAnimationFrame(() => document.body.classList.add("fresh-row"));
  } else {
    show($("meta"));
    show($("why"));
  }
}

export function drawWaiting(doing) {
  show($("text"), "Choosing the rows that help most …", doing && h("p", doing));
}

export function drawDone(skipped, again) {
  show($("text"), h("p", "Nothing is left to ask: you have answered every row of the training window."),
    skipped > 0 && h("p", h("button", { id: "again", type: "button", onclick: again },
      `Ask the ${plural(skipped, "skipped row")} again`)),
    h("p.soft", "More rows come with the next day that is built."));
}

export function drawClasses(classes, press) {
  const keys = keysOf(classes);
  show($("classes"), classes.map((name, n) => h("button", {
    type: "button", "data-class": name, "aria-keyshortcuts": keys[n] || null,
    onclick: (event) => press(name, event.shiftKey),
  }, keys[n] && h("kbd", { "aria-hidden": "true" }, keys[n]), h("span", name.replaceAll("_", " ")))));
}

export function drawChosen(several, chosen) {
  $("several").setAttribute("aria-pressed", String(several));
  $("save").hidden = !several;
  $("save").disabled = chosen.size === 0;
  for (const button of $("classes").children) {
    if (several) button.setAttribute("aria-pressed", String(chosen.has(button.dataset.class)));
    else button.removeAttribute("aria-pressed");
  }
}

export function drawProgress({ today, answered, rows, left, skipped }) {
  const bar = $("bar");
  bar.hidden = rows === null;
  bar.max = Math.max(rows || 0, 1);
  bar.value = rows === null ? 0 : rows - left;
  const parts = [`${count(today)} today`, `${count(answered)} in all`];
  if (left !== null) parts.push(`${count(left)} of ${count(rows)} rows left`);
  if (skipped) parts.push(`${count(skipped)} skipped`);
  $("counts").textContent = parts.join(" · ");
}

export function drawLast(last, takeBack) {
  $("last").hidden = last.length === 0;
  $("undo").disabled = last.length === 0;
  show($("listed"), last.slice(0, 5).map((one) => h("li",
    h("span.what", named(one.classes)), h("span.text", { dir: "auto" }, one.text),
    h("button", { type: "button", "aria-label": `Take back: ${named(one.classes)}`,
      onclick: () => takeBack(one.text_key) }, "undo"))));
}

export function drawGuideline(guideline) {
  $("guideline-version").textContent = `version ${guideline.version}`;
  const changes = guideline.changes.filter((change) => change.reason);
  show($("guideline-text"), guideline.text || h("span.soft", "None is written: annotation.guideline.text in the project file."),
    changes.length > 0 && h("ul", changes.map((change) => h("li", `Version ${change.version}: ${change.reason}`))));
}

export function drawVotes(told) {
  show($("votes-text"), h("table", h("tbody",
    told.votes.map(({ function: name, classes }) => h("tr", h("th", { scope: "row" }, name),
      classes.length ? h("td", named(classes)) : h("td.none", "abstains"))),
    h("tr", h("th", { scope: "row" }, "label model"), h("td", told.label_model
      .map((one) => `${one.class} ${one.probability.toFixed(2)}`).join(", "))))));
}

export function drawNotice(told, retry) {
  $("notice").hidden = !told;
  if (!told) return;
  show($("notice"), h("p", h("strong", told.message)),
    told.expected && h("p", `Expected: ${told.expected}`), told.found && h("p", `Found: ${told.found}`),
    told.next && h("p", `Next: ${told.next}`),
    retry && h("p", h("button", { type: "button", onclick: retry }, "Try again")));
}
