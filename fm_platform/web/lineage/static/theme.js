// Colours: as the system, light or dark; the choice stays in this browser.

import { $ } from "./dom.js";

const CHOICES = ["system", "light", "dark"];
const SIGNS = { system: "◐", light: "☼", dark: "☾" };

export function startTheme(changed) {
  let now = kept();
  const apply = () => {
    if (now === "system") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.dataset.theme = now;
    $("theme").textContent = SIGNS[now];
    $("theme").title = `Colours: ${now}  t`;
    $("theme").setAttribute("aria-label", `Colours: ${now}`);
    changed();
  };
  $("theme").addEventListener("click", () => {
    now = CHOICES[(CHOICES.indexOf(now) + 1) % CHOICES.length];
    try {
      localStorage.setItem("theme", now);
    } catch { /* a browser may keep nothing: the choice then lasts as long as the page */ }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

function kept() {
  try {
    const found = localStorage.getItem("theme");
    return CHOICES.includes(found) ? found : "system";
  } catch {
    return "system";
  }
}
