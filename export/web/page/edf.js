// EDF and EDF+ files without interruptions (edfplus.info).

import { Refused } from "./refused.js";
import { checkSize, checkedRate, choose } from "./record.js";

/** @import {Recording} from "../page" */
/** @import {Names} from "./names.js" */

const HEADER = 256;
// Bytes of the fields of the header of a signal: label, transducer, unit, physical and digital minimum and maximum,
// filters, samples in a data record, reserved.
const FIELDS = [16, 80, 8, 8, 8, 8, 8, 80, 8, 32];
const SIGNALS_MOST = 4096;

/** @type {(data: Uint8Array, names: Names, wanted: string[]) => Recording} */
export function readEdf(data, names, wanted) {
  if (data.length < HEADER) throw new Refused("the file ends in its header");
  const field = (/** @type {number} */ start, /** @type {number} */ size) => text(data.subarray(start, start + size));
  if (field(192, 5) === "EDF+D") throw new Refused("interrupted files (EDF+D) are not read here; use multires-edge stream");
  const count = whole(field(252, 4), "number of signals");
  if (count < 1 || count > SIGNALS_MOST) throw new Refused(`the header names ${count} signals, expected 1 to ${SIGNALS_MOST}`);
  const start = HEADER * (count + 1);
  if (data.length < start) throw new Refused("the file ends in its header");
  const seconds = real(field(244, 8));
  if (!(seconds > 0 && seconds < 1e9)) throw new Refused("the duration of a data record is not a time");
  const column = (/** @type {number} */ index) => {
    const before = FIELDS.slice(0, index).reduce((sum, width) => sum + width, 0) * count;
    return Array.from({ length: count }, (_, i) => field(HEADER + before + i * FIELDS[index], FIELDS[index]));
  };
  const [labels, units] = [column(0), column(2).map((unit) => unitOf(unit, names))];
  const [low, high, least, most] = [3, 4, 5, 6].map((index) => column(index).map(real));
  const sizes = column(8).map((size) => Math.max(0, whole(size, "number of samples")));
  const record = sizes.reduce((sum, size) => sum + size, 0);
  if (!record) throw new Refused("the data records have no samples");
  const there = Math.floor((data.length - start) / (2 * record));
  const claimed = whole(field(236, 8), "number of data records");
  const records = claimed < 0 ? there : Math.min(claimed, there);
  const measured = labels.flatMap((label, i) => (label === "EDF Annotations" ? [] : [i]));
  const { chosen: places, notes } = choose(
    measured.map((i) => {
      const calibrated = [low[i], high[i], least[i], most[i]].every(Number.isFinite) && low[i] !== high[i] && least[i] !== most[i];
      const fault = names.volts(units[i]) === null ? "no voltage" : !calibrated ? "not calibrated" : !sizes[i] ? "no samples" : "";
      return { name: labels[i], rate: sizes[i] / seconds, unit: units[i], fault };
    }),
    names,
    wanted,
  );
  if (claimed > there) notes.push(`the header names ${claimed} data records, and the file has ${there}`);
  const chosen = places.map((place) => measured[place]);
  const size = sizes[chosen[0]];
  checkSize(records * size, chosen.length);
  const values = new Float64Array(records * size * chosen.length);
  const view = new DataView(data.buffer, data.byteOffset + start);
  chosen.forEach((signal, k) => {
    const before = sizes.slice(0, signal).reduce((sum, each) => sum + each, 0);
    const scale = (high[signal] - low[signal]) / (most[signal] - least[signal]);
    for (let r = 0; r < records; r++) {
      for (let i = 0; i < size; i++) {
        const number = view.getInt16(2 * (r * record + before + i), true);
        values[(r * size + i) * chosen.length + k] = (number - least[signal]) * scale + low[signal];
      }
    }
  });
  const rate = checkedRate(size / seconds);
  return { leads: chosen.map((i) => labels[i]), units: chosen.map((i) => units[i]), rate, values, notes };
}

// Before a zero byte; UTF-8 or else Latin-1.
/** @type {(data: Uint8Array) => string} */
function text(data) {
  const end = data.indexOf(0);
  const bytes = end < 0 ? data : data.subarray(0, end);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).trim();
  } catch {
    return new TextDecoder("latin1").decode(bytes).trim();
  }
}

/** @type {(text: string) => number} */
function real(text) {
  return text ? Number(text.replace(",", ".")) : NaN;
}

/** @type {(text: string, what: string) => number} */
function whole(text, what) {
  const value = real(text);
  if (!Number.isInteger(value) || Math.abs(value) >= 1e15) throw new Refused(`the ${what} is not a whole number`);
  return value;
}

// The unit, whatever became of its mu.
/** @type {(text: string, names: Names) => string} */
function unitOf(text, names) {
  return names.unit(text) ?? (/^[^\x00-\x7f][vV]$/.test(text) ? "uV" : text);
}
