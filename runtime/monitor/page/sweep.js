// Leads that sweep over fixed paper. uPlot draws the paper. On a canvas above it, each frame draws the new
// samples and clears the erase bar in front of them. To redraw all of twelve leads in every frame costs four
// times as much: too much for four patients.

import { colour, create } from "./dom.js";
import { fault } from "./words.js";

export const PIXELS_PER_MM = 96 / 25.4; // CSS's millimetre
const ERASE_MM = 6;
const TOP_MM = 3; // for an R wave in the first lane
const GUTTER_MM = 20; // for the lead's name and the pulse of 1 mV
// The order in which leads are chosen if not all fit.
const PREFERENCE = ["II", "V1", "V5", "I", "aVF", "V2", "III", "V6", "V3", "aVR", "aVL", "V4"];

/** @import {Settings} from "../messages" */
/** @import {Signal} from "./signal.js" */

export class Sweep {
  /** @type {ReturnType<Sweep["column"]>[]} */
  columns = [];
  /** @type {Record<string, string[]>} */
  faults = {};
  /** @type {Map<string, any>} the labels of the leads */
  lanes = new Map();
  /** @type {number | null} */
  drawn = null; // number of the last sample on the screen
  shown = "";
  settings = { speed: 25, gain: 10, leads: 0 };

  /**
   * @param {HTMLElement} root
   * @param {Signal} signal
   * @param {string[]} channels
   * @param {string[]} absent channels that are not connected
   */
  constructor(root, signal, channels, absent) {
    this.root = root;
    this.signal = signal;
    this.channels = channels;
    this.absent = absent;
  }

  /** @param {Settings} settings */
  layout(settings) {
    const { clientWidth: width, clientHeight: height } = this.root;
    if (!width || !height) return;
    this.settings = settings;
    const chosen = this.choose(settings, width, height);
    this.root.replaceChildren();
    for (const column of this.columns) column.plot.destroy();
    this.columns = [];
    this.lanes.clear();
    const each = Math.ceil(chosen.leads.length / chosen.columns);
    for (let i = 0; i < chosen.columns; i++) {
      const leads = chosen.leads.slice(i * each, (i + 1) * each);
      this.columns.push(this.column(leads, each, Math.floor(width / chosen.columns), height));
    }
    this.mark(this.faults);
    this.drawn = null;
  }

  /** @type {(settings: Settings, width: number, height: number) => {leads: string[], columns: number}} */
  choose({ speed, gain, leads: wanted }, width, height) {
    const present = this.channels.filter((channel) => !this.absent.includes(channel));
    const lane = Math.max(8, 1.1 * gain) * PIXELS_PER_MM;
    const rows = Math.max(1, Math.floor(height / lane));
    const most = width >= 2 * (GUTTER_MM + 2.4 * speed) * PIXELS_PER_MM ? 2 : 1;
    const count = Math.min(present.length, wanted || rows * most);
    const columns = count > rows ? most : 1;
    const rank = (channel) => (PREFERENCE.indexOf(channel) + PREFERENCE.length + 1) % (PREFERENCE.length + 1);
    const best = new Set([...present].sort((a, b) => rank(a) - rank(b)).slice(0, count));
    this.shown = `${count} of ${this.channels.length} leads`;
    return { leads: present.filter((channel) => best.has(channel)), columns };
  }

  /** @param {string[]} leads */
  column(leads, rows, width, height) {
    const root = create("div", { className: "column" });
    this.root.append(root);
    const gutter = Math.round(GUTTER_MM * PIXELS_PER_MM);
    const { speed, gain } = this.settings;
    const seconds = (width - gutter) / (speed * PIXELS_PER_MM);
    const top = TOP_MM * PIXELS_PER_MM;
    const lane = (height - top) / rows;
    const centres = leads.map((_, i) => top + (i + 0.55) * lane);
    const plot = new uPlot(
      {
        width,
        height,
        padding: [0, 0, 0, gutter],
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: false, range: [0, seconds] },
          y: { range: [0, height / PIXELS_PER_MM] },
        },
        series: [{}, {}],
        axes: [
          paper(5 / speed, colour("paper")),
          paper(5, colour("paper")),
          { ...paper(1, colour("paper-strong")), scale: "x", side: 0 },
        ],
        hooks: { draw: [(u) => pulses(u, centres, gutter, gain, speed)] },
      },
      [[0, seconds], [null, null]],
      root,
    );
    const ratio = devicePixelRatio;
    const size = { width: Math.round((width - gutter) * ratio), height: Math.round(height * ratio) };
    const canvas = create("canvas", size);
    plot.over.append(canvas);
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.scale(ratio, ratio);
    Object.assign(context, { strokeStyle: colour("trace"), lineWidth: 1.8, lineJoin: "round", lineCap: "round" });
    leads.forEach((lead, i) => {
      const label = create("p", { className: "lead" });
      label.style.top = `${Math.round(top + (i + 0.02) * lane)}px`;
      label.dataset.lead = lead;
      label.append(create("b", { textContent: lead }), create("span", {}));
      root.append(label);
      this.lanes.set(lead, label);
    });
    const numbers = leads.map((lead) => this.channels.indexOf(lead));
    return { plot, context, seconds, centres, numbers, width: width - gutter, height, cleared: 0 };
  }

  // Show faults beside the names of leads: {lead: [flags]}.
  /** @param {Record<string, string[]>} faults */
  mark(faults) {
    this.faults = faults;
    for (const [lead, label] of this.lanes) {
      const flags = faults[lead];
      label.querySelector("span").textContent = flags ? ` ${fault(flags)}` : "";
      label.classList.toggle("faulty", Boolean(flags));
    }
  }

  // Draw the samples from the last drawn sample up to `head` seconds of the record.
  /** @param {number} head */
  draw(head) {
    if (!this.columns.length || Number.isNaN(head)) return;
    const { rate } = this.signal;
    const to = Math.min(Math.floor(head * rate), this.signal.end - 1);
    for (const column of this.columns) {
      const erase = ERASE_MM / this.settings.speed;
      const most = Math.floor((column.seconds - erase) * rate);
      const oldest = Math.max(to - most, this.signal.start, this.signal.end - this.signal.capacity);
      const from = this.drawn === null || this.drawn < oldest ? oldest : this.drawn;
      if (to <= from) continue;
      this.erase(column, this.drawn === null ? from / rate : column.cleared, to / rate + erase);
      this.stroke(column, from, to);
    }
    if (this.drawn === null || to > this.drawn) this.drawn = to;
  }

  // Clear from one time of the record to another. The range may wrap around the sweep.
  erase(column, from, to) {
    const { context, seconds, width, height } = column;
    from = Math.max(from, to - seconds);
    const x = (time) => ((time % seconds) / seconds) * width;
    // Whole pixels: of those at its edges, a rectangle clears only a part.
    const [left, right] = [Math.floor(x(from)), Math.ceil(x(to))];
    if (right > left) context.clearRect(left, 0, right - left, height);
    else {
      context.clearRect(left, 0, width - left, height);
      context.clearRect(0, 0, right, height);
    }
    column.cleared = to;
  }

  stroke(column, from, to) {
    const { context, seconds, width, centres, numbers } = column;
    const { signal } = this;
    const scale = this.settings.gain * PIXELS_PER_MM;
    context.beginPath();
    numbers.forEach((channel, lane) => {
      let last = Infinity;
      for (let i = from; i <= to; i++) {
        const value = signal.at(channel, i);
        if (Number.isNaN(value)) {
          last = Infinity;
          continue;
        }
        const x = (((i / signal.rate) % seconds) / seconds) * width;
        const y = centres[lane] - value * scale;
        if (x < last) context.moveTo(x, y);
        else context.lineTo(x, y);
        last = x;
      }
    });
    context.stroke();
  }
}

// Lines at every multiple of a step.
function paper(step, stroke) {
  const splits = (_, __, ___, end) => Array.from({ length: Math.floor(end / step) + 1 }, (_, i) => i * step);
  return { splits, size: 0, gap: 0, ticks: { show: false }, values: () => [], grid: { stroke, width: 1 } };
}

// The calibration pulse of 1 mV and 0.2 s in front of each lead.
function pulses(u, centres, gutter, gain, speed) {
  const { ctx } = u;
  const pxRatio = devicePixelRatio;
  const mm = PIXELS_PER_MM * pxRatio;
  const wide = 0.2 * speed * mm;
  ctx.save();
  ctx.strokeStyle = colour("quiet");
  ctx.lineWidth = 1.2 * pxRatio;
  ctx.beginPath();
  for (const centre of centres) {
    const [right, low] = [(gutter - 6) * pxRatio, centre * pxRatio];
    const left = right - Math.min(wide, 5 * mm);
    ctx.moveTo(left - 3 * pxRatio, low);
    ctx.lineTo(left, low);
    ctx.lineTo(left, low - gain * mm);
    ctx.lineTo(right, low - gain * mm);
    ctx.lineTo(right, low);
    ctx.lineTo(right + 3 * pxRatio, low);
  }
  ctx.stroke();
  ctx.restore();
}
