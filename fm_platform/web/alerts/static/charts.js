// Pictures of a change: from what to what. Inline SVG, made from numbers and texts only.

import { amount, h, s } from "/shared/dom.js";

// as wide as it is shown, so that its text is as large as that of the page
const [WIDE, LEFT, ROW] = innerWidth < 760 ? [350, 106, 34] : [640, 190, 34];
const MOST = Math.floor((LEFT - 10) / 6.6);

function cut(text, most = MOST) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

export function percent(share) {
  const points = 100 * share;
  return `${Math.abs(points) >= 1 || points === 0 ? points.toFixed(0) : points.toFixed(1)} %`;
}

// Pairs of bars: shares of values before and now, or, where they are quantiles, numbers.
export function pairs(name, moves, show = percent) {
  const top = Math.max(...moves.flatMap((move) => [move.before, move.after]), 1e-9);
  const x = (v) => (v / top) * (WIDE - LEFT - 60);
  const tall = moves.length * ROW + 4;
  const said = moves.map((m) => `${m.value}: ${show(m.before)} to ${show(m.after)}`).join("; ");
  return s("svg", { viewBox: `0 0 ${WIDE} ${tall}`, role: "img", "aria-label": `${name}: ${said}` },
    moves.map((move, k) => {
      const y = k * ROW + 4;
      return [
        s("text", { x: LEFT - 10, y: y + 17, "text-anchor": "end" }, cut(move.value || "(empty)")),
        s("rect", { class: "was", x: LEFT, y, width: Math.max(1.5, x(move.before)), height: 11, rx: 2 }),
        s("rect", { class: "is", x: LEFT, y: y + 13, width: Math.max(1.5, x(move.after)), height: 11, rx: 2 }),
        s("text", { class: "quiet", x: LEFT + x(move.before) + 7, y: y + 10 }, show(move.before)),
        s("text", { x: LEFT + x(move.after) + 7, y: y + 23 }, show(move.after)),
      ];
    }));
}

// One number before and now.
export function fromTo(finding) {
  const told = [["before", finding.before], ["now", finding.after]];
  const share = told.every(([, v]) => v >= 0 && v <= 1);
  const show = share ? percent : amount;
  const top = Math.max(...told.map(([, v]) => Math.abs(v)), 1e-9);
  const x = (v) => (Math.abs(v) / top) * (WIDE - LEFT - 80);
  return s("svg", { viewBox: `0 0 ${WIDE} 48`, role: "img", "aria-label": `${finding.metric}: ${show(finding.before)} to ${show(finding.after)}` },
    told.map(([name, v], k) => [
      s("text", { x: LEFT - 10, y: k * 22 + 16, "text-anchor": "end", class: "quiet" }, name),
      s("rect", { class: k ? "is" : "was", x: LEFT, y: k * 22 + 4, width: Math.max(1.5, x(v)), height: 14, rx: 2 }),
      s("text", { x: LEFT + x(v) + 7, y: k * 22 + 16 }, show(v)),
    ]));
}

// A score before and after, with its intervals.
export function whiskers(score) {
  const sides = [["before", score.before, "was"], ["after", score.after, "is"]];
  const low = Math.min(...sides.map(([, one]) => one.low)), high = Math.max(...sides.map(([, one]) => one.high));
  const edge = Math.max((high - low) * 0.15, 0.01);
  const x = (v) => LEFT + ((v - low + edge) / (high - low + 2 * edge)) * (WIDE - LEFT - 70);
  return h("div.score", s("svg", { viewBox: `0 0 ${WIDE} 74`, role: "img",
    "aria-label": `${score.metric}: ${score.before.value.toFixed(3)} to ${score.after.value.toFixed(3)}` },
    s("line", { x1: LEFT, x2: WIDE - 20, y1: 62, y2: 62 }),
    [low, high].map((v) => s("text", { class: "quiet", x: x(v), y: 74, "text-anchor": "middle" }, v.toFixed(2))),
    sides.map(([name, one, kind], k) => {
      const y = 14 + k * 26;
      return [
        s("text", { x: LEFT - 10, y: y + 4, "text-anchor": "end" }, `${name} ${one.value.toFixed(3)}`),
        s("line", { class: `reach ${kind}`, x1: x(one.low), x2: x(one.high), y1: y, y2: y }),
        s("circle", { class: kind, cx: x(one.value), cy: y, r: 5 }),
      ];
    })));
}
