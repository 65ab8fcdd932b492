// The graph on the screen: pointing, dragging, keys.

import { $, h, say, show, time, count } from "./dom.js";
import { colours, drawBase, drawOver, fitCanvas, tint } from "./draw.js";
import { Layout } from "./layout.js";

export class View {
  constructor({ open, compare }) {
    this.open = open;
    this.compare = compare;
    this.view = { x: 0, y: 0, zoom: 1 };
    this.graph = this.layout = this.around = this.found = null;
    this.selected = this.other = this.pointed = this.focused = -1;
    this.since = null;
    this.stage = $("stage");
    this.over = $("over");
    this.colour = colours();
    this.dirty = { base: false, over: false };
    new ResizeObserver(() => this.arrange()).observe(this.stage);
    this.pointing();
    this.over.addEventListener("keydown", (event) => this.key(event));
    this.over.addEventListener("focus", () => {
      if (this.focused < 0) this.focus(this.selected >= 0 ? this.selected : this.layout?.first() ?? -1);
      this.paint(false);
    });
  }

  // Show a graph; a node that is selected stays selected by its place.
  show(graph, extent, since) {
    this.graph = graph;
    this.extent = extent;
    this.since = since;
    this.pointed = this.focused = this.selected = this.other = -1;
    this.around = this.found = this.layout = null;
    $("tip").hidden = true;
    this.arrange();
  }

  recolour() {
    this.colour = colours();
    this.paint();
  }

  arrange() {
    if (!this.graph) return;
    const { clientWidth, clientHeight } = this.stage;
    if (!clientWidth || !clientHeight) return;
    this.layout ||= new Layout(this.graph, this.extent);
    this.layout.fitInto(clientWidth, clientHeight, this.view);
    const size = `${clientWidth} ${clientHeight}`;
    if (size !== this.size && this.selected >= 0) this.layout.reveal(this.selected);
    this.size = size;
    this.paint();
  }

  paint(base = true) {
    this.dirty.over = true;
    this.dirty.base ||= base;
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.draw();
    });
  }

  draw() {
    if (!this.layout) return;
    const { clientWidth: w, clientHeight: hgt } = this.stage;
    if (this.dirty.base) drawBase(fitCanvas($("base"), w, hgt), this.layout, this.colour, this);
    const focused = document.activeElement === this.over ? this.focused : -1;
    drawOver(fitCanvas(this.over, w, hgt), this.layout, this.colour, { ...this.picked(), focused });
    this.dirty = { base: false, over: false };
    this.drawn = (this.drawn || 0) + 1;
  }

  picked() {
    const { selected, other, pointed, around } = this;
    return { selected, other, pointed, around };
  }

  select(i, other = -1) {
    this.selected = i;
    this.other = other;
    this.around = i >= 0 ? surroundings(this.graph, i) : null;
    if (i >= 0) {
      this.focused = i;
      this.layout?.reveal(i);
    }
    this.paint();
  }

  light(found) {
    this.found = found;
    this.paint();
  }

  focus(i) {
    if (i < 0 || !this.graph) return;
    this.focused = i;
    const moved = this.layout.reveal(i);
    say(this.graph.tell(i));
    this.paint(moved);
    this.tip(i);
  }

  zoom(factor, y = null) {
    const { layout } = this;
    if (!layout || !layout.days.length) return;
    const at = y === null ? layout.room / 2 : y - 58;
    const line = (at + this.view.y) / layout.row;
    this.view.zoom = Math.min(44 / layout.fit, Math.max(1, this.view.zoom * factor));
    const row = Math.min(44, Math.max(layout.fit, layout.fit * this.view.zoom));
    this.view.y = line * row - at;
    this.arrange();
  }

  whole() {
    this.view = { x: 0, y: 0, zoom: 1 };
    this.arrange();
  }

  key(event) {
    const steps = {
      ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    };
    if (!this.layout || !this.graph.size || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = steps[event.key];
    if (step) this.focus(this.layout.step(this.focused, ...step));
    else if ((event.key === "Enter" || event.key === " ") && this.focused >= 0) {
      if (event.shiftKey) this.compare(this.focused);
      else this.open(this.focused);
    } else if (event.key === "+" || event.key === "=") this.zoom(1.5);
    else if (event.key === "-") this.zoom(1 / 1.5);
    else if (event.key === "0") this.whole();
    else return;
    event.preventDefault();
  }

  pointing() {
    const { over } = this;
    const fingers = new Map();
    let moved = 0;
    let apart = 0;
    over.addEventListener("pointerdown", (event) => {
      over.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
      moved = 0;
      apart = 0;
    });
    over.addEventListener("pointermove", (event) => {
      const at = [event.offsetX, event.offsetY];
      const from = fingers.get(event.pointerId);
      if (!from) return this.point(...at, event.pointerType);
      fingers.set(event.pointerId, at);
      moved += Math.abs(at[0] - from[0]) + Math.abs(at[1] - from[1]);
      if (fingers.size === 2) {
        const [a, b] = [...fingers.values()];
        const now = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (apart) this.zoom(now / apart, (a[1] + b[1]) / 2);
        apart = now;
      } else if (moved > 5) this.pan(from[0] - at[0], from[1] - at[1]);
      return undefined;
    });
    const lift = (event) => {
      const known = fingers.delete(event.pointerId);
      if (!known || moved > 5 || event.type === "pointercancel") return;
      const i = this.layout ? this.layout.hit(event.offsetX, event.offsetY, reach(event)) : -1;
      if (i >= 0 && event.shiftKey) this.compare(i);
      else this.open(i);
    };
    over.addEventListener("pointerup", lift);
    over.addEventListener("pointercancel", lift);
    over.addEventListener("pointerleave", () => this.point(-1, -1));
    over.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey || event.metaKey) this.zoom(Math.exp(-event.deltaY / 200), event.offsetY);
      else if (event.shiftKey) this.pan(event.deltaY + event.deltaX, 0);
      else if (this.layout?.mostY || event.deltaX) this.pan(event.deltaX, event.deltaY);
    }, { passive: false });
    over.addEventListener("dblclick", (event) => this.zoom(2.5, event.offsetY));
  }

  pan(dx, dy) {
    if (!this.layout) return;
    const { view, layout } = this;
    view.x = Math.min(layout.mostX, Math.max(0, view.x + dx));
    view.y = Math.min(layout.mostY, Math.max(0, view.y + dy));
    $("tip").hidden = true;
    this.paint();
  }

  point(x, y, kind) {
    if (!this.layout || kind === "touch") return;
    const i = x < 0 ? -1 : this.layout.hit(x, y);
    this.over.classList.toggle("over-node", i >= 0);
    if (i === this.pointed) return;
    this.pointed = i;
    this.paint(false);
    this.tip(i);
  }

  tip(i) {
    const tip = $("tip");
    const box = i >= 0 ? this.layout.box(i) : null;
    tip.hidden = !box;
    if (!box) return;
    const { graph } = this;
    const state = graph.stateOf(i);
    show(tip,
      h("strong", graph.label(i)),
      h("span.soft", ` #${graph.number[i]} · ${graph.hash[i].slice(0, 12)}`),
      h("div", h(`i.dot.${tint(graph, i, this.since)}`), state,
        graph.whyOf(i) && h("span.soft", `: ${graph.whyOf(i)}`)),
      h("div.soft", graph.rows[i] !== null && `${count(graph.rows[i])} rows · `,
        graph.made[i] !== null && `made ${time(new Date(graph.made[i]).toISOString())}`),
      graph.decidedOf(i) && h("div", h("b", graph.decidedOf(i)[0]), h("span.soft", ` ${graph.decidedOf(i)[1]}`)),
      graph.aliasesOf(i).length > 0 && h("div.champion", graph.aliasesOf(i).join(", ")));
    const [x, y, w, hgt] = box;
    const [wide, tall] = [tip.offsetWidth, tip.offsetHeight];
    let left = x + w + 12;
    if (left + wide > this.layout.width - 8) left = Math.max(8, x - wide - 12);
    tip.style.left = `${left}px`;
    tip.style.top = `${Math.min(Math.max(8, y + hgt / 2 - tall / 2), this.layout.height - tall - 8)}px`;
  }

  // Where a node is on the page, in CSS pixels.
  middle(ref) {
    const i = this.graph ? this.graph.find(ref) : -1;
    const box = i >= 0 ? this.layout.box(i) : null;
    const at = this.over.getBoundingClientRect();
    return box && [at.left + box[0] + box[2] / 2, at.top + box[1] + box[3] / 2];
  }
}

function reach(event) {
  return event.pointerType === "touch" ? 16 : 6;
}

// All that a node is made from and all that is made from it, with the edges between them.
function surroundings(graph, i) {
  const up = graph.closure(i, graph.reads);
  const down = graph.closure(i, graph.readers);
  const upEdges = [];
  const downEdges = [];
  for (let e = 0; e < graph.from.length; e += 1) {
    const [a, b] = [graph.from[e], graph.to[e]];
    if (up[a] && up[b]) upEdges.push([a, b]);
    else if (down[a] && down[b]) downEdges.push([a, b]);
  }
  return { up, down, upEdges, downEdges };
}
