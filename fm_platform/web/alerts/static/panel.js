// One alert: what moved, what it costs, what would repair it, what was done and what came of it.

import { amount, h, plural, safeAddress, time, words } from "/shared/dom.js";
import { fromTo, pairs, percent, whiskers } from "./charts.js";

function section(title, ...content) {
  const filled = content.flat(3).filter((item) => item !== null && item !== undefined && item !== false);
  return filled.length ? h("section", h("h3", title), filled) : null;
}

function link(title, address) {
  const safe = address && safeAddress(address);
  return safe ? h("a.out", { href: safe, rel: "noopener noreferrer" }, title) : h("span", title);
}

export function alertView(alert, act) {
  return [
    h("button.back", { type: "button", onclick: act.back }, "‹ all alerts"),
    head(alert, act),
    evidence(alert),
    impact(alert),
    repairs(alert, act),
    happened(alert),
    sample(alert),
    section("In a terminal", h("pre", { tabindex: "0" }, alert.commands.join("\n"))),
  ];
}

function head(alert, act) {
  const changed = alert.severity !== alert.own_severity ? ` (by impact ${alert.own_severity})` : "";
  const button = (what, title, extra = "") => h(`button${extra}`, { type: "button", id: `act-${what}`, onclick: () => act.ask(what) }, title);
  return h("div.head",
    h("p.tags", h(`span.tag.${alert.severity}`, `${alert.severity}${changed}`), h(`span.tag.${alert.state}`, words(alert.state)),
      h("span.soft", `since ${alert.since}, last seen ${alert.day}`), h("code", alert.id)),
    h("h2", alert.title),
    alert.words.map((line) => h("p", line)),
    h("div.buttons",
      alert.open && [button("accept", "Accept as the new normal"), button("snooze", "Snooze")],
      button("raise", "Graver"), button("lower", "Less grave")));
}

function evidence(alert) {
  if (!alert.findings.length) return null;
  return section("What moved",
    h("p.key", h("i"), "what the champion was trained on", h("i.is"), "now"),
    alert.findings.map((finding) => h("div.evidence", h("p", finding.sentence),
      finding.moves.length ? pairs(finding.metric, finding.moves, finding.kind === "range" ? amount : percent) : fromTo(finding))),
    alert.more_findings > 0 && h("p.soft", `${alert.more_findings} more findings of the same cause`));
}

function interval(one) {
  if (one && one.low === one.high) return one.method;
  return one && `${one.points.toFixed(1)} points (${one.low.toFixed(1)} to ${one.high.toFixed(1)}), by ${one.method}${one.rows ? `, ${amount(one.rows)} rows` : ""}`;
}

function impact(alert) {
  const { impact: told } = alert;
  const facts = [
    ["champion", interval(told.change)], ["on gold", interval(told.gold)], ["weak labels", interval(told.labels)],
    ["rows concerned", percent(told.share)],
    ["importance", told.importance === null ? null : percent(told.importance)],
    ["compared with", alert.reference && `model ${alert.reference.slice(0, 12)}`],
  ].filter(([, value]) => value);
  return section(`What it costs: ${told.worst.toFixed(1)} points of ${words(told.score)} expected`,
    h("dl", facts.map(([name, value]) => [h("dt", name), h("dd", value)])));
}

function repairs(alert, act) {
  return section("What would repair it", alert.repairs.map((repair) => h("div.repair",
    h("div", h("b", repair.title)),
    h("div.why", repair.reason, h("div", [repair.gain ? `gives back about ${repair.gain.toFixed(1)} points` : "",
      repair.minutes ? `takes about ${repair.minutes.toFixed(0)} min` : repair.minutes !== null ? "" : repair.machine ? "a run does it" : "people must act"].filter(Boolean).join(", "))),
    repair.machine && alert.open && h("button", { type: "button", disabled: alert.busy, "data-repair": repair.number,
      onclick: () => act.ask("approve", repair) }, alert.busy ? "it runs" : "Approve"))));
}

function happened(alert) {
  const { story } = alert;
  const steps = [h("li", h("b", "alert"), " ", h("p.when", time(story.opened)), h("div", alert.title))];
  for (const action of story.actions) {
    const days = action.days.length ? `${plural(action.days.length, "day")}, ${action.days[0]} to ${action.days.at(-1)}` : "no day";
    steps.push(h("li.action", h("b", "action"), " ", h("p.when", time(action.asked_at)),
      h("div", action.repair), h("div.soft", `${action.reason}; ${days}${action.models ? " and the models" : ""}`),
      action.run && h("div", link(`Dagster: ${action.run}`, action.link), action.ended_at && h("span.soft", ` ended ${time(action.ended_at)}`))));
    if (action.outcome) {
      if (story.versions.length) steps.push(versions(story.versions));
      const { score } = action.outcome;
      steps.push(h(`li.${action.outcome.what}`, h("b", words(action.outcome.what)), " ", h("p.when", time(action.outcome.at)),
        h("div", action.outcome.words), score && whiskers(score)));
    }
  }
  const last = story.actions.at(-1);
  if (story.versions.length && last && !last.outcome) steps.push(versions(story.versions));
  if (!story.actions.length) steps.push(h("li", h("span.soft", "nothing was done yet")));
  const people = story.said.map((one) => h("li", h("b", words(one.what)), ` by ${one.actor}: ${one.reason} `, h("p.when", time(one.at))));
  return section("Alert → action → versions → outcome", h("ol.line", steps, people));
}

function versions(made) {
  return h("li", h("b", "versions"), made.map((one) => h("div",
    link(one.days.length > 1 ? `${words(one.kind)} ${one.name}: ${one.days.length} days` : one.reference, one.link))));
}

function sample(alert) {
  const { rows, note } = alert.rows;
  if (!rows.length) return section("Rows", h("p.soft", note));
  const columns = Object.keys(rows[0]);
  return section("Rows", h("p.soft", `${note}; personal data is masked`),
    h("div.scroll", { tabindex: "0" }, h("table",
      h("thead", h("tr", columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", rows.map((row) => h("tr", columns.map((name) => h("td", row[name]))))))));
}
