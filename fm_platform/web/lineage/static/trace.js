// One row: what was predicted, and all that it was made from.

import { amount, h, plural } from "./dom.js";
import { facts, folded, hash, list, section, value, versionLink } from "./parts.js";

export function traceView(told, act) {
  const { row, prediction, model } = told;
  const step = (item) => item && [versionLink(item.reference, act.open), " ", hash(item.content_hash)];
  return [
    h("div.head", h("p.kind", "one row"), h("h2.row", h("q", row.text)),
      facts([["row", hash(row.row_id)], ["day", row.day], ["source", row.source], ["split", row.split]])),
    prediction && section("Prediction",
      h("p", h("b", prediction.label), prediction.gold !== null && prediction.gold !== undefined && `, gold says ${prediction.gold}`),
      h("div.bars", Object.entries(prediction.probabilities || {}).map(([name, p]) => h("div", h("span", name), meter(p), h("span.n", amount(p))))),
      facts([["by", prediction.system], ["evaluation", step(prediction.evaluation)], ["id", h("code", prediction.prediction_id)]])),
    model && section("Model", h("p", step(model), (model.aliases || []).map((alias) => h("span.alias", alias))),
      facts([["base model", hash(model.base_model)]])),
    section("Adapters", (told.adapters || []).map((item) => h("div.input", h("span.role", `weight ${value(item.weight)}`),
      h("div", step(item), item.reads_this_source && h("span.soft", " reads this source"),
        item.trained_on && folded(`trained on ${plural(item.trained_on.length, "part")}`,
          list(item.trained_on, (part) => [`${part.day} ${part.part || ""} `, hash(part.content_hash)], 40)))))),
    ...Object.entries(told).filter(([name]) => !["project", "at", "row", "prediction", "model", "adapters"].includes(name))
      .map(([name, item]) => section(name.replaceAll("_", " "), anything(item, act))),
  ];
}

function meter(p) {
  const bar = h("i.meter", h("i"));
  bar.firstChild.style.width = `${Math.round(100 * Math.max(0, Math.min(1, Number(p) || 0)))}%`;
  return bar;
}

// The other steps, whatever they hold: references lead on, hashes are short, source keeps its lines.
function anything(item, act, name = "") {
  if (item === null || item === undefined) return h("p.soft", "none");
  if (Array.isArray(item)) {
    if (!item.length) return h("p.soft", "none");
    return list(item, (one) => anything(one, act), 30);
  }
  if (typeof item === "object") {
    const title = item.function || item.name || item.reference || "";
    const rest = Object.entries(item).filter(([key, one]) => one !== null && key !== "version_id");
    const body = facts(rest.map(([key, one]) => [key.replaceAll("_", " "), anything(one, act, key)]));
    return item.source !== undefined && title ? folded([title, item.vote !== undefined && h("span.soft", ` ${value(item.vote)}`)], body) : body;
  }
  if (name === "reference") return versionLink(String(item), act.open);
  if (/^[0-9a-f]{40,64}$/.test(String(item))) return hash(String(item));
  if (String(item).includes("\n")) return h("pre.source", { tabindex: "0" }, String(item));
  return value(item);
}
