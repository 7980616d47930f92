// What the readers of all formats share.

import { Refused } from "./refused.js";

/** @import {Names} from "./names.js" */

export const SAMPLES_MOST = 1 << 26; // of all leads, in memory
export const [SLOWEST, FASTEST] = [50, 2000];

/** @typedef {{name: string, rate: number, unit: string, fault: string}} Channel of a file; a fault says why it is not read */

/**
 * The channels that are read, which have one rate, and notes on the others; as choose in record.py. The rate is that of
 * most leads that are wanted, then of most signals whose names are those of an ECG.
 * @type {(channels: Channel[], names: Names, wanted: string[]) => {chosen: number[], notes: string[]}}
 */
export function choose(channels, names, wanted) {
  const plain = names.plainAll(channels.map(({ name }) => name));
  const readable = channels.map((_, i) => i).filter((i) => !channels[i].fault);
  const notes = [...new Set(channels.map(({ fault }) => fault).filter(Boolean))].map(
    (fault) => `${listed(channels.filter((each) => each.fault === fault))}: ${fault}, not read`,
  );
  if (!readable.length) throw new Refused("the file has no signal in uV, mV or V");
  const worth = (/** @type {number} */ rate) => {
    const those = readable.filter((i) => channels[i].rate === rate);
    return [those.filter((i) => wanted.includes(plain[i])).length, those.filter((i) => names.isEcg(channels[i].name)).length];
  };
  let best = channels[readable[0]].rate;
  for (const rate of new Set(readable.map((i) => channels[i].rate))) {
    const [[a, b], [c, d]] = [worth(rate), worth(best)];
    if (a > c || (a === c && b > d)) best = rate;
  }
  const others = readable.filter((i) => channels[i].rate !== best).map((i) => channels[i]);
  if (others.length) notes.push(`${listed(others)}: not at ${best} Hz, not read`);
  return { chosen: readable.filter((i) => channels[i].rate === best), notes };
}

/** @param {Channel[]} channels */
function listed(channels) {
  const more = channels.length > 16 ? ` and ${channels.length - 16} more` : "";
  return channels.slice(0, 16).map(({ name }) => name).join(", ") + more;
}

/** @type {(rate: number) => number} */
export function checkedRate(rate) {
  if (!(rate >= SLOWEST && rate <= FASTEST)) throw new Refused(`the rate is ${rate} Hz, expected ${SLOWEST} to ${FASTEST} Hz`);
  return rate;
}

/** @type {(length: number, leads: number) => void} */
export function checkSize(length, leads) {
  if (!length) throw new Refused("the file has no samples");
  if (!(length * leads <= SAMPLES_MOST)) {
    throw new Refused(`the record has ${length} samples of ${leads} leads, more than this page reads; use multires-edge stream`);
  }
}

/** @type {(text: string, what: string, most: number) => number} */
export function natural(text, what, most) {
  if (!/^[0-9]{1,18}$/.test(text) || Number(text) > most) throw new Refused(`the ${what} is not a number up to ${most}`);
  return Number(text);
}
