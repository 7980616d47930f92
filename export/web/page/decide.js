// A recording through the network, in parts.

import { LeadMap } from "./leads.js";
import { EcgStream } from "./module.js";

/** @import {Decision, Recording} from "../page" */
/** @import {Module} from "./module.js" */
/** @import {Names} from "./names.js" */

const SECONDS_AT_ONCE = 2;

export class Run {
  /**
   * @param {Module} module
   * @param {string} name of the record
   * @param {Recording} record
   * @param {Names} names
   * @param {boolean} allowMissing
   */
  constructor(module, name, record, names, allowMissing) {
    this.record = record;
    this.map = new LeadMap(record, module.about, names, allowMissing);
    this.stream = new EcgStream(module, name, record.rate, this.map.missing, this.map.derived);
    this.length = record.values.length / record.leads.length;
    this.seconds = 0; // that it took so far
    this.at = 0;
  }

  // Each part: the number of its first sample, its samples (n, channels) in the card's unit, and the decisions after them.
  /** @returns {Generator<{first: number, samples: Float64Array, decisions: Decision[]}>} */
  *parts() {
    const width = this.record.leads.length;
    const most = Math.ceil(SECONDS_AT_ONCE * this.record.rate);
    while (this.at < this.length) {
      const first = this.at;
      this.at = Math.min(this.length, first + most);
      const began = performance.now();
      const samples = this.map.map(this.record.values.subarray(first * width, this.at * width));
      const decisions = this.stream.push(samples);
      if (this.at === this.length) decisions.push(...this.stream.finish());
      this.seconds += (performance.now() - began) / 1000;
      yield { first, samples, decisions };
    }
  }
}
