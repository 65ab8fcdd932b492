// The picture: a still canvas with all versions, and one above it for what is pointed at.

import { GUTTER, HEAD } from "./layout.js";

const NAMES = [
  "paper", "ink", "soft", "faint", "line", "fresh", "new", "stale", "replaced", "up", "down",
  "champion", "accent", "card", "band", "mark", "stale-cell", "bad",
];
const MANY = 2500;
const TINTS = ["fresh", "new", "stale", "unbuilt", "replaced"];

export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

export function fitCanvas(canvas, width, height) {
  const ratio = Math.min(3, window.devicePixelRatio || 1);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

// `around`: {up, down} of what is selected, or null. `found`: nodes that a search names, or null.
export function drawBase(pen, layout, colour, { around, found, since, selected, other }) {
  const lit = (i) => i === other || (!around || around.up[i] || around.down[i]) && (!found || found.has(i));
  clip(pen, layout, () => {
    places(pen, layout, colour);
    bands(pen, layout, colour, around);
    cells(pen, layout, colour, lit, since);
  });
  headings(pen, layout, colour);
  gutter(pen, layout, colour);
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER - 8, 0, layout.width, layout.height);
  pen.clip();
  cardEdges(pen, layout, colour, around);
  if (selected >= 0 && around) chosen(pen, layout, colour, selected, around);
  for (const i of layout.cardY.keys()) card(pen, layout, colour, i, lit(i), since);
  pen.restore();
}

function clip(pen, layout, paint) {
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER - 8, HEAD - 2, layout.width, layout.room + 4);
  pen.clip();
  paint();
  pen.restore();
}

// What is not there at this moment leaves its place empty.
function places(pen, layout, colour) {
  pen.fillStyle = colour.faint;
  const tall = Math.min(layout.tall, layout.room);
  for (const column of layout.columns) {
    if (!column.daily) continue;
    pen.fillRect(column.x - layout.view.x - 3, HEAD - 2,
      column.cell * column.names.length + 6, tall + 4);
  }
}

// From the days that a model was made from to the model: its window, seen at once.
function bands(pen, layout, colour, around) {
  const { graph } = layout;
  const seen = new Map();
  for (const i of layout.cardY.keys()) {
    if (around && !around.up[i] && !around.down[i]) continue;
    const spans = new Map();
    for (const from of graph.reads.of(i)) {
      if (layout.line[from] < 0) continue;
      const column = layout.column[from];
      const span = spans.get(column) || [layout.line[from], layout.line[from]];
      spans.set(column, [Math.min(span[0], layout.line[from]), Math.max(span[1], layout.line[from])]);
    }
    for (const [column, [first, last]] of spans) {
      const target = layout.column[i];
      const key = `${column.number}/${first}/${last}/${target.number}`;
      const [, y, , h] = layout.box(i);
      const place = seen.get(key) || { column, first, last, target, top: y, foot: y + h };
      place.top = Math.min(place.top, y);
      place.foot = Math.max(place.foot, y + h);
      seen.set(key, place);
    }
  }
  pen.fillStyle = colour.band;
  pen.globalAlpha = around ? 0.75 : 0.5;
  for (const { column, first, last, target, top, foot } of seen.values()) {
    const x0 = column.x - layout.view.x + column.cell * column.names.length + 4;
    const x1 = target.x - layout.view.x;
    const y0 = HEAD + first * layout.row - layout.view.y;
    const y1 = HEAD + (last + 1) * layout.row - layout.view.y;
    const mid = (x0 + x1) / 2;
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.bezierCurveTo(mid, y0, mid, top, x1, top);
    pen.lineTo(x1, foot);
    pen.bezierCurveTo(mid, foot, mid, y1, x0, y1);
    pen.fill();
  }
  pen.globalAlpha = 1;
}

function cells(pen, layout, colour, lit, since) {
  const { graph } = layout;
  const heaps = new Map();
  const look = (i) => TINTS.indexOf(tint(graph, i, since)) * 2 + (lit(i) ? 1 : 0);
  layout.eachSeen((i, next) => look(i) === look(next), (i, x, y, w, h) => {
    const key = look(i);
    if (!heaps.has(key)) heaps.set(key, []);
    heaps.get(key).push([x, y, w, h]);
  });
  for (const [key, boxes] of heaps) {
    const name = TINTS[key >> 1];
    pen.globalAlpha = key & 1 ? 1 : 0.16;
    pen.fillStyle = pen.strokeStyle = colour[{ unbuilt: "soft", stale: "stale-cell" }[name] || name];
    if (name === "unbuilt") {
      for (const [x, y, w, h] of boxes) pen.strokeRect(x + 0.5, y + 0.5, Math.max(0.5, w - 1), Math.max(0.5, h - 1));
    } else if (layout.row > 14) {
      pen.beginPath();
      for (const [x, y, w, h] of boxes) pen.roundRect(x, y, w, h, Math.min(4, w / 2, h / 2));
      pen.fill();
    } else {
      for (const [x, y, w, h] of boxes) pen.fillRect(x, y, w, h);
    }
    // not by colour alone
    if (name === "stale" && layout.row > 9) notches(pen, colour, boxes);
  }
  pen.globalAlpha = 1;
}

function notches(pen, colour, boxes) {
  pen.fillStyle = colour.paper;
  pen.beginPath();
  for (const [x, y, w] of boxes) {
    const s = Math.min(6, w * 0.5);
    pen.moveTo(x + w - s, y);
    pen.lineTo(x + w, y);
    pen.lineTo(x + w, y + s);
    pen.closePath();
  }
  pen.fill();
}

export function tint(graph, i, since) {
  const state = graph.stateOf(i);
  if (state !== "fresh") return state;
  return since !== null && graph.made[i] > since ? "new" : "fresh";
}

function headings(pen, layout, colour) {
  pen.textBaseline = "alphabetic";
  const narrow = layout.width < 700;
  layout.columns.forEach((column, k) => {
    const left = column.x - layout.view.x;
    if (left + column.w < GUTTER || left > layout.width) return;
    // beside the days a title stays for as long as there is room, then fades out whole
    const x = Math.max(left, Math.min(GUTTER, left + column.w - column.title_px));
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER - 8, 0, layout.width, HEAD);
    pen.clip();
    pen.font = "600 12px system-ui, sans-serif";
    pen.fillStyle = colour.ink;
    pen.globalAlpha = Math.max(0, Math.min(1, 1 - (GUTTER - 8 - x) / 24));
    pen.fillText(column.title, x, 26);
    const held = column.daily ? column.names.length : column.cards.length;
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = colour.soft;
    const said = column.daily ? (held > 1 ? `${held} a day` : "a day") : held > 1 ? `${held}` : "";
    pen.fillText(said, x, 42);
    const next = layout.columns[k + 1];
    pen.restore();
    const free = next && next.x - Math.max(column.x + column.title_px, layout.view.x + GUTTER);
    if (next && !narrow && free > 18) arrow(pen, colour, next.x - layout.view.x - 11, 22);
  });
}

function arrow(pen, colour, x, y) {
  pen.strokeStyle = colour.line;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(x - 4, y - 4);
  pen.lineTo(x, y);
  pen.lineTo(x - 4, y + 4);
  pen.stroke();
}

// Days at the side: as many as there is room for, months where days are thin.
function gutter(pen, layout, colour) {
  pen.fillStyle = colour.paper;
  pen.fillRect(0, 0, GUTTER - 8, layout.height);
  pen.save();
  pen.beginPath();
  pen.rect(0, HEAD - 6, layout.width, layout.room + 12);
  pen.clip();
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.fillStyle = colour.soft;
  const every = Math.max(1, Math.ceil(16 / layout.row));
  let drawn = -100;
  layout.days.forEach((day, k) => {
    const y = HEAD + (k + 0.5) * layout.row - layout.view.y;
    if (y < HEAD - 4 || y > HEAD + layout.room + 4) return;
    const months = every > 4;
    if (months ? !day.endsWith("-01") && k > 0 : k % every) return;
    if (y - drawn < 14) return;
    drawn = y;
    pen.fillText(months ? day.slice(0, 7) : day, 12, y);
    if (months) {
      pen.fillRect(GUTTER - 12, Math.round(y - layout.row / 2), 6, 1);
    }
  });
  pen.restore();
}

function card(pen, layout, colour, i, on, since) {
  const { graph } = layout;
  const [x, y, w, h] = layout.box(i);
  if (x > layout.width || x + w < 0) return;
  const name = tint(graph, i, since);
  const aliases = graph.aliasesOf(i);
  pen.globalAlpha = on ? 1 : 0.25;
  pen.fillStyle = colour.card;
  pen.strokeStyle = aliases.includes("champion") ? colour.champion : colour.line;
  pen.lineWidth = aliases.includes("champion") ? 2 : 1;
  pen.setLineDash(name === "unbuilt" || name === "replaced" ? [4, 3] : []);
  pen.beginPath();
  pen.roundRect(x + 0.5, y + 0.5, w - 1, h - 1, Math.min(8, h / 3));
  pen.fill();
  pen.stroke();
  pen.setLineDash([]);
  pen.fillStyle = colour[name === "unbuilt" ? "soft" : name];
  pen.beginPath();
  pen.roundRect(x + 5, y + 5, 4, Math.max(3, h - 10), 2);
  pen.fill();
  if (h >= 13) {
    const right = aliases.length ? crown(pen, colour, x + w - 13, y + Math.min(h / 2, 15), aliases) : 0;
    pen.font = `600 ${h < 18 ? 10 : w < 110 ? 11 : 12}px system-ui, sans-serif`;
    pen.fillStyle = colour.ink;
    pen.textBaseline = "middle";
    const title = graph.nameOf(i) === graph.kindOf(i) ? `#${graph.number[i]}` : graph.nameOf(i).replaceAll("_", " ");
    pen.fillText(cut(pen, title, w - 18 - right), x + 15, y + Math.min(h / 2, 16));
  }
  if (h >= 36) {
    pen.font = "11px system-ui, sans-serif";
    const [said, how] = second(graph, i, name, w < 110 ? 6 : 8);
    pen.fillStyle = colour[how];
    pen.fillText(cut(pen, said, w - 18), x + 15, y + Math.min(h - 12, 33));
  }
  pen.globalAlpha = 1;
}

// The second line of a card: what a person should know first, and in which colour.
function second(graph, i, name, digits) {
  const number = graph.nameOf(i) === graph.kindOf(i) ? "" : `#${graph.number[i]}  `;
  const aliases = graph.aliasesOf(i);
  if (name === "stale") return [`${number}stale`, "stale"];
  if (aliases.length) return [`${number}${aliases.join(", ")}`, "champion"];
  if (graph.decidedOf(i)?.[0] === "refusal") return [`${number}refused`, "bad"];
  return [number + (name === "fresh" || name === "new" ? graph.hash[i].slice(0, digits) : name), "soft"];
}

// A crown for the champion, a ring for other aliases; returns the room it takes.
function crown(pen, colour, x, y, aliases) {
  pen.fillStyle = pen.strokeStyle = colour.champion;
  pen.lineWidth = 1.5;
  pen.beginPath();
  if (aliases.includes("champion")) {
    pen.moveTo(x - 6, y + 5);
    pen.lineTo(x - 7, y - 3);
    pen.lineTo(x - 3, y);
    pen.lineTo(x, y - 5);
    pen.lineTo(x + 3, y);
    pen.lineTo(x + 7, y - 3);
    pen.lineTo(x + 6, y + 5);
    pen.closePath();
    pen.fill();
  } else {
    pen.arc(x, y, 4, 0, 7);
    pen.stroke();
  }
  return 18;
}

function cut(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 1 && pen.measureText(`${text.slice(0, end)}…`).width > width) end -= 1;
  return `${text.slice(0, end)}…`;
}

function cardEdges(pen, layout, colour, around) {
  const { graph } = layout;
  pen.lineWidth = 1;
  pen.strokeStyle = colour.mark;
  for (const i of layout.cardY.keys()) {
    for (const from of graph.reads.of(i)) {
      if (!layout.cardY.has(from)) continue;
      const on = !around || ((around.up[i] && around.up[from]) || (around.down[i] && around.down[from]));
      pen.globalAlpha = on ? 0.55 : 0.08;
      curve(pen, layout, from, i);
    }
  }
  pen.globalAlpha = 1;
}

function curve(pen, layout, from, to) {
  const a = layout.box(from);
  const b = layout.box(to);
  if (!a || !b) return;
  const [x0, y0] = [a[0] + a[2], a[1] + a[3] / 2];
  const [x1, y1] = [b[0], b[1] + b[3] / 2];
  const bend = Math.max(14, (x1 - x0) * 0.45);
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
  pen.stroke();
}

export function drawOver(pen, layout, colour, { selected, other, pointed, focused }) {
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER - 8, HEAD - 4, layout.width, layout.height);
  pen.clip();
  pen.lineWidth = 1.25;
  if (pointed >= 0 && pointed !== selected) direct(pen, layout, pointed, colour);
  pen.restore();
  ring(pen, layout, pointed, colour.soft, 1.5, 2);
  ring(pen, layout, other, colour.down, 2.5, 3);
  ring(pen, layout, selected, colour.accent, 2.5, 3);
  if (focused >= 0 && focused !== selected) ring(pen, layout, focused, colour.accent, 1.5, 4, [3, 3]);
}

function chosen(pen, layout, colour, selected, around) {
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER - 8, HEAD - 4, layout.width, layout.height);
  pen.clip();
  pen.lineWidth = 1;
  edges(pen, layout, colour.up, around.upEdges);
  edges(pen, layout, colour.down, around.downEdges);
  pen.lineWidth = 1.25;
  direct(pen, layout, selected, colour);
  pen.restore();
}

function edges(pen, layout, colour, list) {
  if (!list || list.length > MANY) return;
  pen.strokeStyle = colour;
  pen.globalAlpha = Math.max(0.05, Math.min(0.35, 60 / list.length));
  for (const [from, to] of list) curve(pen, layout, from, to);
  pen.globalAlpha = 1;
}

function direct(pen, layout, i, colour) {
  const { graph } = layout;
  const [reads, readers] = [graph.reads.of(i), graph.readers.of(i)];
  pen.globalAlpha = reads.length > 60 ? 0.25 : 0.8;
  pen.strokeStyle = colour.up;
  for (const from of reads) curve(pen, layout, from, i);
  pen.globalAlpha = readers.length > 60 ? 0.25 : 0.8;
  pen.strokeStyle = colour.down;
  for (const to of readers) curve(pen, layout, i, to);
  pen.globalAlpha = 1;
}

function ring(pen, layout, i, colour, width, away, dash = []) {
  const box = i >= 0 ? layout.box(i) : null;
  if (!box || box[1] + box[3] < HEAD - 4 || box[0] < GUTTER - 8) return;
  const [x, y, w, h] = box;
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.beginPath();
  pen.roundRect(x - away, y - away, w + 2 * away, h + 2 * away, Math.min(9, (h + 2 * away) / 2));
  pen.stroke();
  pen.setLineDash([]);
}
