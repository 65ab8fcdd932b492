// What is looked at. It is the address of the page: whoever opens the address sees the same.

const KEYS = ["project", "branch", "at", "v", "a", "b", "all", "row"];
const listeners = [];

function read() {
  const given = new URLSearchParams(location.search);
  return Object.fromEntries(KEYS.map((key) => [key, given.get(key) || null]));
}

export const state = read();

export function listen(listener) {
  listeners.push(listener);
}

// set({v: "raw/2026-01-05#1"}); with `quiet` the address is replaced, not a step of the history.
// With `rewrite` the address is written anew from the state, and nobody is told.
export function set(patch, { quiet = false, rewrite = false } = {}) {
  const changed = Object.keys(patch).filter((key) => state[key] !== (patch[key] || null));
  if (!changed.length && !rewrite) return;
  for (const key of changed) state[key] = patch[key] || null;
  const address = `${location.pathname}${search()}`;
  if (quiet) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  if (changed.length) tell(changed);
}

function search() {
  const given = new URLSearchParams();
  for (const key of KEYS) if (state[key]) given.set(key, state[key]);
  const text = given.toString();
  return text ? `?${text}` : "";
}

function tell(changed) {
  for (const listener of listeners) listener(new Set(changed));
}

addEventListener("popstate", () => {
  const now = read();
  const changed = KEYS.filter((key) => state[key] !== now[key]);
  Object.assign(state, now);
  if (changed.length) tell(changed);
});
