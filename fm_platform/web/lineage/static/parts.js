// Pieces that the panels are made of.

import { amount, h, s, safeAddress, say, show } from "./dom.js";

const MANY = 8;

export function section(title, ...content) {
  const filled = content.flat(3).filter((item) => item !== null && item !== undefined && item !== false);
  return filled.length ? h("section", h("h3", title), filled) : null;
}

export function folded(title, ...content) {
  return h("details", h("summary", title), content);
}

// [["name", value], …] as a list of facts; empty ones are left out.
export function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return told.length ? h("dl", told.map(([name, value]) => [h("dt", name), h("dd", value)])) : null;
}

// A hash: its beginning, the whole of it by a click.
export function hash(text) {
  if (!text) return null;
  return h("button.hash", {
    type: "button", title: `${text}: click to copy`, "aria-label": `Copy ${text}`,
    onclick: (event) => copy(text, event.currentTarget),
  }, text.slice(0, 12));
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    flash(button, "copied");
  } catch {
    flash(button, "not allowed to copy");
  }
}

function flash(button, text) {
  const before = button.textContent;
  if (button.dataset.said) return;
  button.dataset.said = "1";
  button.textContent = text;
  say(text);
  setTimeout(() => {
    button.textContent = before;
    delete button.dataset.said;
  }, 1200);
}

// A button that leads to a version of the ledger.
export function versionLink(reference, open, shown = reference) {
  if (!reference) return h("span.soft", "not recorded");
  return h("button.ref", { type: "button", onclick: () => open(reference) }, shown);
}

export function outside({ title, address }) {
  const safe = safeAddress(address);
  return safe && h("a.out", { href: safe, target: "_blank", rel: "noopener noreferrer" }, title, " ↗");
}

// A long list: the first few, the others by a click.
export function list(items, make, many = MANY) {
  const shown = h("ul", items.slice(0, many).map((item) => h("li", make(item))));
  if (items.length <= many) return shown;
  const more = h("button.more", {
    type: "button",
    onclick: () => {
      show(shown, items.map((item) => h("li", make(item))));
      more.remove();
    },
  }, `${items.length - many} more`);
  return [shown, more];
}

export function table(head, rows, many = 12) {
  const body = h("tbody");
  const fill = (some) => show(body, some.map((row) => h("tr", row.map((cell) => h(
    typeof cell === "number" ? "td.n" : "td", typeof cell === "number" ? amount(cell) : cell)))));
  fill(rows.slice(0, many));
  const made = h("div.scroll", { tabindex: "0" }, h("table", h("thead", h("tr", head.map((name) => h("th", { scope: "col" }, name)))), body));
  if (rows.length <= many) return made;
  const more = h("button.more", { type: "button", onclick: () => { fill(rows); more.remove(); } },
    `${rows.length - many} more`);
  return [made, more];
}

// A unified diff of source, as lines of text.
export function sourceDiff(lines) {
  return h("pre.source", { tabindex: "0" }, lines.map((line) => {
    const mark = line.startsWith("+++") || line.startsWith("---") || line.startsWith("@@") ? "at"
      : line.startsWith("+") ? "plus" : line.startsWith("-") ? "minus" : "same";
    return h(`span.${mark}`, line, "\n");
  }));
}

export function value(item) {
  if (item === null || item === undefined) return "–";
  if (typeof item === "number") return amount(item);
  if (typeof item === "object") return JSON.stringify(item);
  return String(item);
}

export function refused(error, again) {
  const told = error.told || { message: String(error.message || error) };
  return h("div.refused", { role: "alert" },
    h("strong", told.message),
    facts([["found", told.found], ["expected", told.expected], ["where", told.where], ["next", told.next]]),
    again && h("button", { type: "button", onclick: again }, "Try again"));
}

const [WIDE, TALL, EDGE] = [360, 96, 6];

// A number over time. Points are [label, value, id]; the one that is looked at is marked.
export function chart(points, id, { name, open }) {
  const known = points.filter((point) => typeof point[1] === "number");
  if (!known.length) return h("p.soft", "no numbers yet");
  const values = known.map((point) => point[1]);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (k) => (known.length === 1 ? WIDE / 2 : EDGE + (k * (WIDE - 2 * EDGE)) / (known.length - 1));
  const y = (v) => (high === low ? TALL / 2 : TALL - EDGE - ((v - low) * (TALL - 2 * EDGE)) / (high - low));
  const line = known.map((point, k) => `${k ? "L" : "M"}${x(k).toFixed(1)} ${y(point[1]).toFixed(1)}`).join("");
  const here = known.findIndex((point) => point[2] === id);
  const picture = s("svg", { viewBox: `0 0 ${WIDE} ${TALL}`, role: "img", preserveAspectRatio: "none",
    "aria-label": `${name}: from ${amount(values[0])} to ${amount(values.at(-1))}, lowest ${amount(low)}, highest ${amount(high)}` },
    s("path", { d: line, class: "trend", "vector-effect": "non-scaling-stroke" }));
  const dots = h("div.dots");
  const said = h("div.reading");
  const read = (k) => show(said, k < 0 ? `${known[0][0]} – ${known.at(-1)[0]}`
    : [h("b", amount(known[k][1])), ` ${known[k][0]}`]);
  const dot = (k, kind) => {
    const mark = h(`i.${kind}`);
    mark.style.left = `${(100 * x(k)) / WIDE}%`;
    mark.style.top = `${(100 * y(known[k][1])) / TALL}%`;
    return mark;
  };
  if (here >= 0) dots.append(dot(here, "here"));
  else if (known.length === 1) dots.append(dot(0, "here"));
  read(here);
  const area = h("div.chart", picture, dots);
  const nearest = (event) => {
    const at = ((event.clientX - area.getBoundingClientRect().left) / area.clientWidth) * WIDE;
    return known.reduce((best, _, k) => (Math.abs(x(k) - at) < Math.abs(x(best) - at) ? k : best), 0);
  };
  area.addEventListener("pointermove", (event) => {
    const k = nearest(event);
    dots.querySelector(".pointed")?.remove();
    dots.append(dot(k, "pointed"));
    read(k);
  });
  area.addEventListener("pointerleave", () => {
    dots.querySelector(".pointed")?.remove();
    read(here);
  });
  area.addEventListener("click", (event) => open(`#${known[nearest(event)][2]}`));
  return [area, h("div.scale", h("span", amount(low)), said, h("span", amount(high)))];
}
