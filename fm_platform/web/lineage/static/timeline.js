// The slider: every stop is a moment at which something happened.

import { $, count, h, plural, say, show, time, words } from "./dom.js";
import { colours, fitCanvas } from "./draw.js";

export class Timeline {
  constructor(moveTo) {
    this.moveTo = moveTo;
    this.moments = [];
    this.slider = $("slider");
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    $("before").addEventListener("click", () => this.step(-1));
    $("after").addEventListener("click", () => this.step(1));
    $("now").addEventListener("click", () => this.go(this.moments.length - 1));
    $("play").addEventListener("click", () => this.play());
    new ResizeObserver(() => this.paint()).observe($("bars").parentElement);
  }

  load(moments) {
    this.moments = moments;
    this.slider.max = String(Math.max(0, moments.length - 1));
    const off = moments.length < 2;
    for (const id of ["before", "after", "now", "play", "slider"]) $(id).disabled = off;
  }

  // The stop that shows a moment: the last one not after it.
  stopOf(at) {
    if (!at) return this.moments.length - 1;
    const then = Date.parse(at);
    let [low, high] = [0, this.moments.length];
    while (low < high) {
      const mid = (low + high) >> 1;
      if (Date.parse(this.moments[mid].at) <= then) low = mid + 1;
      else high = mid;
    }
    return low - 1;
  }

  // When what is new at a moment began to be new; null: nothing is marked as new.
  since(at) {
    const stop = this.stopOf(at);
    const moment = this.moments[stop];
    return stop > 0 ? Date.parse(moment.first) - 1 : null;
  }

  show(at) {
    this.at = at;
    const stop = this.stopOf(at);
    const moment = this.moments[stop];
    this.slider.value = String(Math.max(0, stop));
    $("before").disabled = stop <= 0;
    $("after").disabled = $("now").disabled = !at;
    $("now").classList.toggle("past", Boolean(at));
    show($("moment"), at ? time(at) : "Now");
    show($("happened"), moment ? happened(moment) : at ? "before the history begins" : "");
    this.slider.setAttribute("aria-valuetext", at ? time(at) : "Now");
    this.paint();
  }

  step(by) {
    this.go(Math.min(this.moments.length - 1, Math.max(0, this.stopOf(this.at) + by)));
  }

  go(stop) {
    if (!this.moments.length) return;
    const last = stop >= this.moments.length - 1;
    this.moveTo(last ? null : this.moments[stop].at);
  }

  play() {
    if (this.playing) return this.pause();
    if (!this.at) this.go(0);
    $("play").textContent = "❚❚";
    $("play").setAttribute("aria-label", "Pause");
    this.playing = true;
    const each = Math.max(250, Math.min(900, 30000 / this.moments.length));
    const next = async () => {
      if (!this.playing) return;
      if (!this.at) return this.pause();
      this.step(1);
      await this.settled?.();
      this.timer = setTimeout(next, each);
    };
    this.timer = setTimeout(next, each);
    return undefined;
  }

  pause() {
    this.playing = false;
    clearTimeout(this.timer);
    $("play").textContent = "▶";
    $("play").setAttribute("aria-label", "Play the history");
  }

  paint() {
    const canvas = $("bars");
    const { clientWidth: width, clientHeight: height } = canvas;
    if (!width) return;
    const pen = fitCanvas(canvas, width, height);
    const colour = colours();
    const n = this.moments.length;
    const inset = 9; // half of the knob: bars stand where the knob stops
    const step = n > 1 ? (width - 2 * inset) / (n - 1) : 0;
    const now = this.stopOf(this.at);
    this.moments.forEach((moment, k) => {
      const total = Object.values(moment.kinds).reduce((a, b) => a + b, 0);
      const tall = total ? 3 + Math.min(1, Math.log2(1 + total) / 8) * (height - 18) : 0;
      const x = n > 1 ? inset + k * step : width / 2;
      pen.fillStyle = k === now ? colour.accent : k < now ? colour.fresh : colour.line;
      const w = Math.max(1, Math.min(9, step - 1));
      pen.fillRect(x - w / 2, height - 6 - tall, w, tall);
      if (moment.marks.length) {
        const champion = moment.marks.some((mark) => mark.what.includes("champion"));
        // a decision every night is a row of dots; what changed the champion stands out
        const size = champion || step > 9 ? 4 : 1.5;
        pen.fillStyle = champion ? colour.champion : colour.soft;
        pen.beginPath();
        pen.moveTo(x, 5 - size);
        pen.lineTo(x + size, 5);
        pen.lineTo(x, 5 + size);
        pen.lineTo(x - size, 5);
        pen.fill();
      }
    });
  }

  tell() {
    say($("moment").textContent + " " + $("happened").textContent);
  }
}

function happened(moment) {
  const made = Object.entries(moment.kinds).map(([kind, n]) => `${count(n)} ${words(kind)}`);
  const marks = moment.marks.map((mark) => h("b", `${mark.what}${mark.why ? `: ${mark.why}` : ""}`));
  const total = Object.values(moment.kinds).reduce((a, b) => a + b, 0);
  const said = made.length > 4 ? plural(total, "version") : made.join(", ");
  return [...marks.slice(-2), said].filter(Boolean).flatMap((item, k) => (k ? [" · ", item] : [item]));
}
