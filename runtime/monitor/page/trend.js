// The probabilities of the last two minutes.

import { chart } from "./chart.js";

const SECONDS = 120;
const FIRST_SECONDS = 30; // the span before more has come
const LONGEST = 3000;

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
    this.plot?.destroy();
    this.plot = chart(this.root, this.labels, this.thresholds, this.data, span);
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
}
