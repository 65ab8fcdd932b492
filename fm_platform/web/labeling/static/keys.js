// Which key does what, and the page that tells it.

import { h, show } from "/shared/dom.js";

const TAKEN = "cgmstuv";
const LETTERS = [..."abdefhijklnopqrwxyz"].filter((letter) => !TAKEN.includes(letter));

// The key of each class: digits first, then letters that nothing else needs; later ones have none.
export function keysOf(classes) {
  const signs = [..."123456789", ...LETTERS];
  return classes.map((_, n) => signs[n] || "");
}

// The sign of a pressed key: a digit by its place, so that every keyboard has it, with Shift too.
export function signOf(event) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  return digit ? digit[1] : event.key.length === 1 ? event.key.toLowerCase() : event.key;
}

export function keysView(dialog, classes, on, change) {
  const list = [
    ...classes.map((name, n) => [keysOf(classes)[n] || "Tab", name]),
    ["Shift + key", "one of several classes; Enter saves them"],
    ["m", "several: then keys choose, Enter saves"],
    ["c", "cannot tell"], ["s", "skip: asked again after all others"],
    ["u", "take back your last answer"], ["v", "what the labeling functions say"],
    ["g", "the guideline"], ["t", "colours"], ["Esc", "not several after all; close"],
  ];
  const box = h("input", { type: "checkbox", id: "single", checked: on });
  box.addEventListener("change", () => change(box.checked));
  show(dialog,
    h("form", { method: "dialog" }, h("button.close", { "aria-label": "Close" }, "×")),
    h("h2", "Keys"),
    h("dl", list.map(([key, what]) => [h("dt", h("kbd", key)), h("dd", what)])),
    h("label", box, " single keys answer"),
    h("p.soft", "Without them every button is reached with Tab, and Enter or Space presses it."));
}
