// Curves of probabilities over time, by uPlot, with the thresholds as dotted lines.

import { colour } from "./dom.js";
import { clock } from "./words.js";

const SERIES = 7; // colours of the palette; labels beyond them have the same colours, dashed

/** @type {(number: number) => {name: string, dash: number[]}} */
export function styleOf(number) {
  const round = Math.floor(number / SERIES);
  return { name: `series-${number % SERIES}`, dash: round ? [6 / round, 4] : [] };
}

/**
 * A chart that fills an element, or null if the element is too small.
 * @type {(root: HTMLElement, labels: string[], thresholds: Record<string, number>, data: (number | null)[][],
 *   range: (first: number, last: number) => number[]) => any}
 */
export function chart(root, labels, thresholds, data, range) {
  const { clientWidth: width, clientHeight: height } = root;
  if (width < 80 || height < 50) return null;
  const font = "13px system-ui, sans-serif";
  const grid = { stroke: colour("edge"), width: 0.5 };
  const axis = { stroke: colour("quiet"), font, ticks: { show: false }, grid };
  const incrs = [5, 10, 20, 30, 60, 300, 600, 1200, 1800, 3600, 7200, 14400];
  const times = (_, at) => at.map((t) => (t < 0 ? "" : clock(t)));
  const options = {
    width,
    height,
    padding: [8, 24, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: (_, first, last) => range(first, last) }, y: { range: [0, 1] } },
    axes: [
      { ...axis, size: 24, space: 60, incrs, values: times },
      { ...axis, size: 46, splits: () => [0, 0.5, 1], values: (_, at) => at.map((p) => `${100 * p} %`) },
    ],
    series: [
      {},
      ...labels.map((label, i) => {
        const { name, dash } = styleOf(i);
        return { label, stroke: colour(name), dash, width: 2, points: { show: false } };
      }),
    ],
    hooks: { draw: [(u) => limits(u, labels, thresholds)] },
  };
  return new uPlot(options, data, root);
}

function limits(u, labels, thresholds) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.setLineDash([2 * devicePixelRatio, 6 * devicePixelRatio]);
  labels.forEach((label, i) => {
    if (!(label in thresholds)) return;
    const y = u.valToPos(thresholds[label], "y", true);
    ctx.strokeStyle = colour(styleOf(i).name);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  });
  ctx.restore();
}
