// The signs of the graph and the keys.

import { h, show } from "./dom.js";

const SIGNS = [
  ["fresh", "made from what is in use"],
  ["new", "came into use at this moment"],
  ["stale", "made from something else than is in use: a notch, or the word"],
  ["unbuilt", "wanted, not built: an outline"],
  ["replaced", "another version is in use: a broken line"],
  ["champion", "the model in use: a crown"],
];
const KEYS = [
  ["/", "search"], ["g", "into the graph"], ["← ↑ → ↓", "from version to version"],
  ["Enter", "open the record"], ["Shift Enter", "compare with what is open"],
  ["+  −  0", "closer, farther, everything"], ["[  ]", "a moment back, forward"],
  ["p", "play the history"], ["n", "now"], ["d", "what changed since the version before"],
  ["c", "compare with …"], ["t", "colours"], ["Esc", "close"],
];

export function keysView(dialog) {
  show(dialog,
    h("form", { method: "dialog" }, h("button.close", { "aria-label": "Close" }, "×")),
    h("h2", "Signs"),
    h("dl", SIGNS.map(([name, said]) => [h("dt", h(`i.dot.${name}`), ` ${name}`), h("dd", said)])),
    h("p.soft", "Each column is a stage, each row a day, each cell a version. What has no days is a card. ",
      "A pale band leads from the days that a model read to the model."),
    h("h2", "Keys"),
    h("dl", KEYS.map(([key, said]) => [h("dt", h("kbd", key)), h("dd", said)])),
    h("p.soft", "With a pointer: click opens, Shift and click compares, drag or the wheel moves, Ctrl and the wheel zooms."));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}
