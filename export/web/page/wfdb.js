// WFDB records of one segment in format 16 or 212, as header(5) of the WFDB Applications Guide defines them.

import { Refused } from "./refused.js";
import { checkSize, checkedRate, choose, natural } from "./record.js";

/** @import {Recording} from "../page" */
/** @import {Names} from "./names.js" */

// What the format says of a header that names none.
const [DEFAULT_RATE, DEFAULT_GAIN, DEFAULT_UNIT] = [250, 200, "mV"];
const FORMAT = /^(\d+)(?:x(\d+))?(?::(\d+))?(?:\+(\d+))?$/;
const GAIN = /^([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)(?:\(([-+]?\d+)\))?(?:\/(.*))?$/;
const MISSING = { 16: -(1 << 15), 212: -(1 << 11) };

/** @typedef {{file: string, encoding: 16 | 212, start: number, gain: number, baseline: number, unit: string, name: string}} Signal */

/**
 * @type {(header: string, fileNamed: (name: string) => Uint8Array | undefined, names: Names, wanted: string[]) => Recording}
 */
export function readWfdb(header, fileNamed, names, wanted) {
  const { rate, length, signals } = readHeader(header, names);
  const { chosen, notes } = choose(
    signals.map(({ name, unit }) => ({ name, rate, unit, fault: names.volts(unit) === null ? "no voltage" : "" })),
    names,
    wanted,
  );
  /** @type {Map<string, {data: Uint8Array, those: number[], frames: number}>} */
  const files = new Map();
  for (const { file } of signals) {
    if (files.has(file)) continue;
    const data = fileNamed(file);
    if (!data) throw new Refused(`the header names ${file}; drop it together with the header`);
    const those = signals.flatMap((signal, i) => (signal.file === file ? [i] : []));
    const first = signals[those[0]];
    if (those.some((i) => signals[i].encoding !== first.encoding)) throw new Refused(`${file}: is not in one format`);
    const bytes = Math.max(0, data.length - first.start);
    const samples = first.encoding === 16 ? Math.floor(bytes / 2) : Math.floor((bytes * 2) / 3);
    files.set(file, { data: data.subarray(first.start), those, frames: Math.floor(samples / those.length) });
  }
  const there = Math.min(...[...files.values()].map(({ frames }) => frames));
  const whole = length ?? there;
  checkSize(Math.min(whole, there), chosen.length);
  if (there < whole) notes.push(`the header names ${whole} samples, and the file has ${there}`);
  const count = Math.min(whole, there);
  const values = new Float64Array(count * chosen.length);
  for (const { data, those } of files.values()) {
    const { encoding } = signals[those[0]];
    chosen.forEach((signal, column) => {
      const place = those.indexOf(signal);
      if (place < 0) return;
      const { gain, baseline } = signals[signal];
      for (let t = 0; t < count; t++) {
        const number = decode(data, encoding, t * those.length + place);
        values[t * chosen.length + column] = number === MISSING[encoding] ? NaN : (number - baseline) / gain;
      }
    });
  }
  return { leads: chosen.map((i) => signals[i].name), units: chosen.map((i) => signals[i].unit), rate: checkedRate(rate), values, notes };
}

// Sample `i` of the bytes.
/** @type {(data: Uint8Array, encoding: 16 | 212, i: number) => number} */
function decode(data, encoding, i) {
  if (encoding === 16) return ((data[2 * i] | (data[2 * i + 1] << 8)) << 16) >> 16;
  const at = 3 * (i >> 1);
  const bits = i & 1 ? data[at + 2] | ((data[at + 1] & 0xf0) << 4) : data[at] | ((data[at + 1] & 0x0f) << 8);
  return (bits << 20) >> 20;
}

/** @type {(text: string, names: Names) => {rate: number, length: number | null, signals: Signal[]}} */
function readHeader(text, names) {
  const lines = text.split(/\r\n|\r|\n/).map((line) => line.trim()).filter((line) => line && !line.startsWith("#"));
  if (!lines.length) throw new Refused("the header is empty");
  const [name, count, rate, length] = lines[0].split(/\s+/);
  if (count === undefined) throw new Refused("the first line of the header has no name and number of signals");
  if (name.includes("/")) throw new Refused("records in several segments are not read here; use multires-edge stream");
  const number = natural(count, "number of signals", lines.length - 1);
  const signals = lines.slice(1, number + 1).map((line, i) => readSignal(line, i, names));
  if (!signals.length) throw new Refused("the header names no signals");
  const samples = length === undefined ? 0 : natural(length, "number of samples", 2 ** 48);
  return { rate: rate === undefined ? DEFAULT_RATE : finite(rate.split(/[/(]/)[0], "rate") || DEFAULT_RATE, length: samples || null, signals };
}

/** @type {(line: string, number: number, names: Names) => Signal} */
function readSignal(line, number, names) {
  const words = line.split(/\s+/);
  const form = FORMAT.exec(words[1] ?? "");
  if (!form) throw new Refused(`signal ${number + 1} of the header has no format`);
  if (form[1] !== "16" && form[1] !== "212") throw new Refused(`format ${form[1]} is not read here, only 16 and 212; use multires-edge stream`);
  if (Number(form[2] ?? 1) > 1 || Number(form[3] ?? 0) > 0) {
    throw new Refused("signals of several rates, or with a skew, are not read here; use multires-edge stream");
  }
  const gain = GAIN.exec(words[2] ?? "0");
  if (!gain) throw new Refused(`signal ${number + 1} of the header has a gain that is not a number`);
  const unit = gain[3] ? (names.unit(gain[3]) ?? gain[3]) : DEFAULT_UNIT;
  return {
    file: words[0],
    encoding: form[1] === "16" ? 16 : 212,
    start: Number(form[4] ?? 0),
    gain: Number(gain[1]) || DEFAULT_GAIN,
    baseline: gain[2] ? Number(gain[2]) : words[4] === undefined ? 0 : finite(words[4], "ADC zero"),
    unit,
    name: words.slice(8).join(" ") || `signal ${number + 1}`,
  };
}

/** @type {(text: string, what: string) => number} */
function finite(text, what) {
  const value = Number(text);
  if (!text || !(Math.abs(value) < 1e15)) throw new Refused(`the ${what} of the header is not a number`);
  return value;
}
