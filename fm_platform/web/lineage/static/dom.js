// Elements, made from text only: nothing here or elsewhere turns a text into markup.

export const $ = (id) => document.getElementById(id);

// h("a.name", {href, onclick}, "text", element, [more])
export function h(what, ...rest) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  return fill(element, rest);
}

const SVG = "http://www.w3.org/2000/svg";

export function s(tag, ...rest) {
  return fill(document.createElementNS(SVG, tag), rest);
}

function fill(element, rest) {
  for (const item of rest.flat(3)) {
    if (item === null || item === undefined || item === false) continue;
    if (item instanceof Node) element.append(item);
    else if (typeof item === "object") give(element, item);
    else element.append(String(item));
  }
  return element;
}

function give(element, values) {
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
}

export function show(element, ...children) {
  element.replaceChildren();
  fill(element, children);
  return element;
}

// An address that may be followed: of this server, or plain http(s).
export function safeAddress(text) {
  try {
    const url = new URL(text, location.href);
    return ["http:", "https:"].includes(url.protocol) && !url.username ? url.href : null;
  } catch {
    return null;
  }
}

export function say(text) {
  $("said").textContent = text;
}

const number = new Intl.NumberFormat("en");

export function count(value) {
  return value === null || value === undefined ? "–" : number.format(value);
}

export function amount(value) {
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return number.format(value);
  const size = Math.abs(value);
  return size !== 0 && (size < 0.001 || size >= 1e6)
    ? value.toExponential(2)
    : number.format(Number(value.toPrecision(4)));
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let size = value;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000) return `${unit === "B" ? size : size.toPrecision(3)} ${unit}`;
    size /= 1000;
  }
  return `${size.toPrecision(3)} TB`;
}

export function seconds(value) {
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 90) return `${value.toFixed(1)} s`;
  return value < 5400 ? `${Math.round(value / 60)} min` : `${(value / 3600).toFixed(1)} h`;
}

const whole = new Intl.DateTimeFormat("en-GB", {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
  second: "2-digit", timeZone: "UTC",
});

export function time(iso) {
  return iso ? `${whole.format(new Date(iso))} UTC` : "now";
}

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function words(kind) {
  return String(kind).replaceAll("_", " ");
}
