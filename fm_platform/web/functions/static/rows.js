// Rows worth looking at. Their texts are shown as text, never as markup.

import { h, plural } from "/static/dom.js";
import { list } from "/static/parts.js";

const FEW = 5;

export function disputedView(rows) {
  return rows.length > 0 && h("section", h("h2", "Most disputed rows"),
    h("p.soft", "Rows of the newest days on which most pairs of votes contradict each other; none of the test split."),
    disputedList(rows));
}

export function disputedList(rows) {
  return h("div.rows", list(rows, (row) => [
    h("p", shown(row.text)),
    h("div.votes", row.votes.map((vote) => h("span.vote", vote))),
    h("div.soft", `${row.source}, ${row.day}, ${row.row_id.slice(0, 12)}`),
  ], FEW));
}

export function uncoveredView(report) {
  const groups = report.uncovered;
  if (!groups.length) return null;
  const votes = report.uncovered_votes === 0 ? "no vote" : "at most one vote";
  return h("section", h("h2", `Rows with ${votes}, in groups of texts alike`),
    h("p.soft", `${plural(report.uncovered_rows, "row")} of the newest days were looked at, a sample by row id; each group is named by the words that set it apart.`),
    h("div.rows", list(groups, (group) => [
      h("p", group.terms.length ? group.terms.map((term) => h("bdi.term", term)) : "(no words in common)",
        h("span.soft", `${plural(group.rows, "row")} of ${group.sources.join(", ")}`)),
      group.examples.map((row) => h("p", shown(row.text))),
    ])));
}

function shown(text) {
  return text === null ? h("span.soft", "(the text is gone)") : text;
}
