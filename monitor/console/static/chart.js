// Score curves on canvases: the tiles' small lines, and one with axes, gaps, alerts and a cursor.

import { now } from "./api.js";
import { isScored } from "./status.js";
import { atDay, atTime, named, score } from "./text.js";

/** The style sheet's colours as the canvas understands them, in the theme of now. */
const colours = () => {
  const probe = document.body.appendChild(document.createElement("i"));
  const of = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const found = { line: of("--line"), raised: of("--raised"), soft: of("--soft"), text: of("--text2"), gap: of("--gap"),
    long: of("--long"), short: of("--short"), band: of("--band"), clear: of("--text2"), fault: of("--warn"), look: of("--look") };
  probe.remove();
  return found;
};
let palette = null;
const paint = () => (palette ??= colours());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (palette = null));
export const forgetColours = () => (palette = null);

function sized(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

/** The newest scores and the threshold; above it the line is thick, so that colour is not all that tells. */
export function spark(canvas, scores, raiseAt, most = 90) {
  const place = sized(canvas);
  if (!place) return;
  const { pen, width, height } = place, c = paint();
  const y = (value) => height - 2 - value * (height - 4);
  pen.strokeStyle = c.clear;
  pen.lineWidth = 1;
  pen.setLineDash([4, 3]);
  pen.beginPath();
  pen.moveTo(0, y(raiseAt));
  pen.lineTo(width, y(raiseAt));
  pen.stroke();
  pen.setLineDash([]);
  if (!scores.length) return;
  const step = width / (most - 1), first = width - (scores.length - 1) * step;
  pen.beginPath();
  scores.forEach((value, i) => (i ? pen.lineTo(first + i * step, y(value)) : pen.moveTo(first, y(value))));
  pen.strokeStyle = c.line;
  pen.lineWidth = 1.5;
  pen.stroke();
  pen.strokeStyle = c.raised;
  pen.lineWidth = 3;
  pen.beginPath();
  for (let i = 1; i < scores.length; i++) {
    if (scores[i] < raiseAt) continue;
    pen.moveTo(first + (i - 1) * step, y(scores[i - 1]));
    pen.lineTo(first + i * step, y(scores[i]));
  }
  pen.stroke();
}

const rem = () => parseFloat(getComputedStyle(document.documentElement).fontSize);
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];

/**
 * options: {fromS, toS, points, statuses, alerts, raiseAt, clearAt, span: [fromS, toS], cursorS, parts, onpick(s), onalert(id)}
 */
/** A bar a segment of a bag, oldest first: where the detector looked. */
export function bars(place, weights, at = () => null) {
  const most = Math.max(...weights, 1e-9);
  place.replaceChildren(...weights.map((weight, i) => {
    const bar = document.createElement("i"), s = at(i);
    bar.title = s ? `${atTime(s)}  ${score(weight)}` : score(weight);
    bar.style.height = `${Math.max(weight / most * 100, 3)}%`;
    return bar;
  }));
}

export class Curve {
  constructor(canvas) {
    this.canvas = canvas;
    this.options = null;
    this.hoverS = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("mousemove", (event) => { this.hoverS = this.#timeAt(event); this.draw(); });
    canvas.addEventListener("mouseleave", () => { this.hoverS = null; this.draw(); });
    canvas.addEventListener("click", (event) => this.#pick(event));
  }

  show(options) {
    this.options = options;
    this.draw();
  }

  cursor(atS) {
    if (this.options) {
      this.options.cursorS = atS;
      this.draw();
    }
  }

  #timeAt(event) {
    if (!this.options) return null;
    const { left, width } = this.canvas.getBoundingClientRect(), o = this.options;
    const share = (event.clientX - left - 2.3 * rem()) / (width - 8 - 2.3 * rem());
    return share < 0 || share > 1 ? null : o.fromS + share * (o.toS - o.fromS);
  }

  #pick(event) {
    const atS = this.#timeAt(event), o = this.options;
    if (atS === null) return;
    const near = (o.toS - o.fromS) / this.canvas.clientWidth * 10;
    const hit = (o.alerts ?? []).filter((a) => Math.abs(a.raised_s - atS) < near)
      .sort((a, b) => Math.abs(a.raised_s - atS) - Math.abs(b.raised_s - atS))[0];
    if (hit && o.onalert) o.onalert(hit.alert_id);
    else o.onpick?.(atS);
  }

  draw() {
    const place = this.options && sized(this.canvas);
    if (!place) return;
    const { pen, width, height } = place, o = this.options, c = paint();
    const unit = rem(), top = 12, bottom = height - 1.4 * unit, left = 2.3 * unit, right = width - 8;
    const x = (s) => left + (s - o.fromS) / (o.toS - o.fromS) * (right - left);
    const y = (value) => bottom - value * (bottom - top);
    pen.font = `${0.74 * unit}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    const inside = (s) => Math.min(Math.max(s, o.fromS), o.toS);

    (o.statuses ?? []).forEach((one, i) => {
      if (isScored(one.status)) return;
      const from = x(inside(one.at_s)), to = x(inside(o.statuses[i + 1]?.at_s ?? Math.min(o.toS, now())));
      if (to - from < 0.5) return;
      pen.save();
      pen.beginPath();
      pen.rect(from, top, to - from, bottom - top);
      pen.clip();
      pen.fillStyle = c.gap;
      pen.fillRect(from, top, to - from, bottom - top);
      pen.strokeStyle = c.soft;
      pen.lineWidth = 1;
      pen.beginPath();
      for (let at = from - (bottom - top); at < to; at += 8) { pen.moveTo(at, bottom); pen.lineTo(at + (bottom - top), top); }
      pen.stroke();
      if (to - from > 60) { pen.fillStyle = c.text; pen.textAlign = "center"; pen.fillText(named("status", one.status), (from + to) / 2, top + 10); }
      pen.restore();
    });
    if (o.span) {
      pen.fillStyle = c.band;
      pen.fillRect(x(inside(o.span[0])), top, x(inside(o.span[1])) - x(inside(o.span[0])), bottom - top);
    }
    pen.textAlign = "right";
    pen.lineWidth = 1;
    for (const value of [0, 0.25, 0.5, 0.75, 1]) {
      pen.strokeStyle = c.soft;
      pen.beginPath(); pen.moveTo(left, y(value)); pen.lineTo(right, y(value)); pen.stroke();
      pen.fillStyle = c.text;
      pen.fillText(value.toFixed(2), left - 5, y(value));
    }
    const step = STEPS.find((s) => (o.toS - o.fromS) / s <= (right - left) / (5.2 * unit)) ?? STEPS.at(-1);
    const zone = new Date(o.fromS * 1000).getTimezoneOffset() * 60;
    pen.textAlign = "center";
    for (let s = Math.ceil((o.fromS - zone) / step) * step + zone; s <= o.toS; s += step) {
      pen.strokeStyle = c.soft;
      pen.beginPath(); pen.moveTo(x(s), bottom); pen.lineTo(x(s), bottom + 4); pen.stroke();
      const text = step >= 86400 ? atDay(s) : step >= 60 ? atTime(s).slice(0, -3) : atTime(s);
      if (x(s) > left + 1.2 * unit && x(s) < right - 1.4 * unit) pen.fillText(text, x(s), bottom + 0.8 * unit);
    }
    const level = (value, dash) => {
      if (value === null || value === undefined) return;
      pen.strokeStyle = c.clear;
      pen.setLineDash(dash);
      pen.beginPath(); pen.moveTo(left, y(value)); pen.lineTo(right, y(value)); pen.stroke();
      pen.setLineDash([]);
    };
    level(o.raiseAt, [6, 4]);
    level(o.clearAt, [1, 4]);

    const gapS = Math.max((o.stepS ?? 1) * 2.5, (o.leastGapS ?? 4));
    const path = (key) => {
      pen.beginPath();
      let before = null;
      for (const point of o.points) {
        if (point[key] === null) continue;
        if (before === null || point.at_s - before > gapS) pen.moveTo(x(point.at_s), y(point[key]));
        else pen.lineTo(x(point.at_s), y(point[key]));
        before = point.at_s;
      }
      pen.stroke();
    };
    if (o.points.some((p) => p.highest > p.lowest)) {
      pen.strokeStyle = c.band;
      pen.lineWidth = Math.max(1, (o.stepS ?? 0) / (o.toS - o.fromS) * (right - left));
      pen.beginPath();
      for (const p of o.points) { pen.moveTo(x(p.at_s), y(p.lowest)); pen.lineTo(x(p.at_s), y(p.highest)); }
      pen.stroke();
    }
    // How much the detector looked at each: four times the bag's mean, or more, is a fifth of the height.
    pen.strokeStyle = c.look;
    pen.lineWidth = Math.max(2, Math.min(3, (o.stepS ?? 0) / (o.toS - o.fromS) * (right - left)));
    pen.beginPath();
    for (const p of o.points) {
      if (!p.attention) continue;
      pen.moveTo(x(p.at_s), bottom); pen.lineTo(x(p.at_s), bottom - Math.min(p.attention / 4, 1) * (bottom - top) / 5);
    }
    pen.stroke();
    (o.statuses ?? []).forEach((one, i) => {  // watched, with a fault: a mark on the axis, not a gap
      if (one.status !== "degraded") return;
      const from = x(inside(one.at_s)), to = x(inside(o.statuses[i + 1]?.at_s ?? Math.min(o.toS, now())));
      pen.fillStyle = c.fault;
      pen.fillRect(from, bottom - 4, to - from, 4);
    });
    if (o.parts) {
      pen.lineWidth = 1.2;
      pen.strokeStyle = c.long; pen.setLineDash([7, 3]); path("long_term");
      pen.strokeStyle = c.short; pen.setLineDash([2, 3]); path("short_term");
      pen.setLineDash([]);
    }
    pen.strokeStyle = c.line;
    pen.lineWidth = 2;
    path("mean");

    for (const alert of o.alerts ?? []) {
      if (alert.raised_s < o.fromS || alert.raised_s > o.toS) continue;
      const at = x(alert.raised_s), said = alert.verdict?.verdict;
      pen.beginPath(); pen.moveTo(at, top - 1); pen.lineTo(at - 6, top - 11); pen.lineTo(at + 6, top - 11); pen.closePath();
      pen.strokeStyle = c.raised; pen.fillStyle = c.raised; pen.lineWidth = 1.5;
      if (said === "false") pen.stroke(); else pen.fill();
      pen.beginPath(); pen.moveTo(at, top); pen.lineTo(at, bottom); pen.globalAlpha = 0.5; pen.stroke(); pen.globalAlpha = 1;
    }
    for (const [at, dash] of [[o.cursorS, []], [this.hoverS, [2, 2]]]) {
      if (at === null || at === undefined || at < o.fromS || at > o.toS) continue;
      pen.strokeStyle = c.text;
      pen.lineWidth = 1.5;
      pen.setLineDash(dash);
      pen.beginPath(); pen.moveTo(x(at), top); pen.lineTo(x(at), bottom); pen.stroke();
      pen.setLineDash([]);
    }
    if (this.hoverS !== null && o.points.length) {
      const near = o.points.reduce((a, b) => (Math.abs(b.at_s - this.hoverS) < Math.abs(a.at_s - this.hoverS) ? b : a));
      const text = `${atTime(near.at_s)}  ${near.mean.toFixed(2)}`;
      pen.textAlign = x(near.at_s) > width / 2 ? "right" : "left";
      pen.fillStyle = c.text;
      pen.fillText(text, x(near.at_s) + (pen.textAlign === "left" ? 6 : -6), top + 8);
    }
  }
}
