// Search: versions of this moment at once, the whole history by Enter.

import { $, h, plural, say, show } from "./dom.js";

const SHOWN = 10;
const ROW = /^(pred-[0-9a-f]{4,64}-)?[0-9a-f]{32}$/;

export class Search {
  constructor({ graph, pick, elsewhere, trace, light }) {
    Object.assign(this, { graph, pick, elsewhere, trace, light });
    this.box = $("search");
    this.list = $("found");
    this.at = -1;
    this.box.addEventListener("input", () => this.look());
    this.box.addEventListener("focus", () => this.look());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("blur", () => setTimeout(() => this.close(), 150));
  }

  look() {
    const text = this.box.value.trim().toLowerCase();
    const graph = this.graph();
    this.choices = [];
    if (!text || !graph) {
      this.light(null);
      return this.close();
    }
    const hits = matches(graph, text);
    this.light(hits.length ? new Set(hits) : null);
    this.choices = hits.slice(0, SHOWN).map((i) => ({
      act: () => this.pick(i),
      shown: [h(`i.dot.${graph.stateOf(i)}`), h("span", graph.label(i)),
        h("span.soft", ` #${graph.number[i]} · ${graph.hash[i].slice(0, 8)}`),
        graph.aliasesOf(i).map((alias) => h("span.alias", alias))],
    }));
    const typed = this.box.value.trim();
    if (ROW.test(text)) {
      this.choices.unshift({ act: () => this.trace(text), shown: ["Trace this row to its source"] });
    }
    this.choices.push({
      act: () => this.elsewhere(typed),
      shown: [h("span.soft", hits.length > SHOWN ? `${plural(hits.length, "version")} lit in the graph · `
        : hits.length ? "" : "nothing like it at this moment · ",
        "look in the whole history for "), h("span", `“${typed}”`)],
    });
    this.at = 0;
    say(`${plural(hits.length, "version")} found`);
    return this.draw();
  }

  draw() {
    show(this.list, this.choices.map((choice, k) => h("li", {
      role: "option", id: `found-${k}`, "aria-selected": String(k === this.at),
      onpointerdown: (event) => { event.preventDefault(); this.take(k); },
    }, choice.shown)));
    this.list.hidden = !this.choices.length;
    this.box.setAttribute("aria-expanded", String(!this.list.hidden));
    this.box.setAttribute("aria-activedescendant", `found-${this.at}`);
    this.list.children[this.at]?.scrollIntoView({ block: "nearest" });
  }

  key(event) {
    const n = this.choices?.length || 0;
    if (event.key === "Escape") {
      this.box.value = "";
      this.light(null);
      this.close();
      $("over").focus();
    } else if (!n) return;
    else if (event.key === "ArrowDown") this.at = (this.at + 1) % n;
    else if (event.key === "ArrowUp") this.at = (this.at + n - 1) % n;
    else if (event.key === "Enter") return void this.take(this.at);
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (n && event.key !== "Escape") this.draw();
  }

  take(k) {
    const choice = this.choices[k];
    this.close();
    this.light(null);
    this.box.blur();
    choice.act();
  }

  close() {
    this.list.hidden = true;
    this.box.setAttribute("aria-expanded", "false");
    if (!this.box.value.trim()) this.light(null);
  }
}

// Nodes of which label, hash or alias holds all words; exact beginnings first, newest first.
function matches(graph, text) {
  const said = text.split(/\s+/);
  const found = [];
  for (let i = 0; i < graph.size; i += 1) {
    const aliases = graph.aliasesOf(i);
    const all = `${graph.ref(i)} ${graph.kindOf(i).replaceAll("_", " ")} ${graph.stateOf(i)} ${aliases.join(" ")} ${graph.decidedOf(i)?.[0] || ""}`.toLowerCase();
    const hash = graph.hash[i];
    if (!said.every((word) => all.includes(word) || (word.length > 3 && hash.startsWith(word.slice(0, 16))))) continue;
    const rank = aliases.includes(text) ? 0 : hash.startsWith(text) ? 1
      : graph.label(i).toLowerCase() === text ? 2 : graph.dayOf(i) === null ? 3 : 4;
    found.push([rank, i]);
  }
  found.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  return found.map(([, i]) => i);
}
