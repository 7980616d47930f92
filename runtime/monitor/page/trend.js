// Curves of the probabilities over time, by uPlot.

import { clock } from "./words.js";

const SECONDS = 120;
const FIRST_SECONDS = 30; // the span before more has come
const LONGEST = 3000;
// Okabe and Ito's colours, which the colour-blind can tell apart. Repeated colours are dashed.
const COLOURS = ["#56b4e9", "#e69f00", "#f0e442", "#cc79a7", "#00b887", "#d5703a", "#b9c4cc"];

export function styleOf(number) {
  const round = Math.floor(number / COLOURS.length);
  return { colour: COLOURS[number % COLOURS.length], dash: round ? [6 / round, 4] : [] };
}

function span(first, last) {
  if (last === null || last === undefined) return [0, FIRST_SECONDS];
  return [last - Math.min(SECONDS, Math.max(FIRST_SECONDS, last - first)), last];
}

export class Trend {
  /** @type {any} */
  plot = null;
  stale = false;

  /**
   * @param {HTMLElement} root
   * @param {string[]} labels
   * @param {Record<string, number>} thresholds
   */
  constructor(root, labels, thresholds) {
    this.root = root;
    this.labels = labels;
    this.thresholds = thresholds;
    /** @type {(number | null)[][]} */
    this.data = [[], ...labels.map(() => [])];
  }

  layout() {
    const { clientWidth: width, clientHeight: height } = this.root;
    this.plot?.destroy();
    this.plot = null;
    if (width < 80 || height < 50) return;
    const font = "13px system-ui, sans-serif";
    const axis = { stroke: "#9fb3bf", font, ticks: { show: false }, grid: { stroke: "#1b2c35", width: 1 } };
    this.plot = new uPlot(
      {
        width,
        height,
        padding: [8, 6, 0, 0],
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { time: false, range: (_, first, last) => span(first, last) },
          y: { range: [0, 1] },
        },
        axes: [
          { ...axis, size: 24, space: 60, incrs: [5, 10, 20, 30, 60], values: (_, at) => at.map((t) => (t < 0 ? "" : clock(t))) },
          { ...axis, size: 46, splits: () => [0, 0.5, 1], values: (_, at) => at.map((p) => `${100 * p} %`) },
        ],
        series: [
          {},
          ...this.labels.map((label, i) => ({
            label,
            stroke: styleOf(i).colour,
            dash: styleOf(i).dash,
            width: 2,
            points: { show: false },
          })),
        ],
        hooks: { draw: [(u) => this.limits(u)] },
      },
      this.data,
      this.root,
    );
  }

  /** @type {(time: number, probabilities: Record<string, number> | null) => void} */
  add(time, probabilities) {
    const [times, ...curves] = /** @type {[number[], ...(number | null)[][]]} */ (this.data);
    if (times.length && time <= times[times.length - 1]) return;
    times.push(time);
    this.labels.forEach((label, i) => curves[i].push(probabilities ? probabilities[label] : null));
    if (times.length > LONGEST) for (const column of this.data) column.splice(0, LONGEST / 4);
    this.stale = true;
  }

  draw() {
    if (this.stale) this.plot?.setData(this.data);
    this.stale = false;
  }

  limits(u) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.setLineDash([2 * devicePixelRatio, 6 * devicePixelRatio]);
    this.labels.forEach((label, i) => {
      const limit = this.thresholds[label];
      if (limit === undefined) return;
      const y = u.valToPos(limit, "y", true);
      ctx.strokeStyle = styleOf(i).colour;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    });
    ctx.restore();
  }
}
