// Tables of samples: a line of names, then a line for each sample, separated by commas, semicolons or tabs. Rate and
// unit are those that the user gives; a name may have its own unit, as in "I [uV]".

import { Refused } from "./refused.js";
import { checkSize, checkedRate } from "./record.js";

/** @import {Recording, Settings} from "../page" */
/** @import {Names} from "./names.js" */

const MISSING = new Set(["", "na", "n/a", "nan", "null", "none", "-", "--", "?", "."]);
const NUMBER = /^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/;
const TIME = /^(?:time|timestamp|seconds|elapsed|date|clock|t|ms|s|sec)\b/iu;
const INDEX = /^(?:index|sample|samples|#|no|nr|n|counter)$/iu;

/** @type {(text: string, settings: Settings, names: Names, channels: string[]) => Recording} */
export function readCsv(text, settings, names, channels) {
  const lines = text.replace(/^\ufeff/, "").split(/\r\n|\n/);
  while (lines.length && !lines[lines.length - 1].trim()) lines.pop();
  if (!lines.length) throw new Refused("the file is empty");
  if (/^\s*[{[]/.test(lines[0])) throw new Refused("JSON is not read here; use multires-edge stream");
  if (settings.rate === null || settings.unit === null) {
    throw new Refused("a table does not say its rate and unit; give them above, and drop it again");
  }
  const delimiter = [",", ";", "\t"].find((each) => lines[0].includes(each)) ?? ",";
  const cells = (/** @type {string} */ line) => line.split(delimiter).map((cell) => cell.trim().replace(/^["']|["']$/g, "").trim());
  const first = cells(lines[0]);
  const named = !first.some((cell) => NUMBER.test(cell));
  if (!named && first.length !== channels.length) {
    throw new Refused(`the first line has ${first.length} numbers and no names, and the card has ${channels.length} channels`);
  }
  const header = named ? first : channels;
  if (header.some((name) => TIME.test(name))) throw new Refused("tables with times are not read here; use multires-edge stream, or remove the column");
  const kept = header.flatMap((name, i) => (name && !INDEX.test(name) ? [i] : []));
  const rows = lines.slice(named ? 1 : 0);
  checkSize(rows.length, kept.length);
  const values = new Float64Array(rows.length * kept.length);
  rows.forEach((line, t) => {
    const row = cells(line);
    if (row.length !== header.length) {
      throw new Refused(`line ${t + (named ? 2 : 1)} has ${row.length} cells, expected ${header.length}`);
    }
    kept.forEach((column, k) => {
      const cell = row[column];
      if (!NUMBER.test(cell) && !MISSING.has(cell.toLowerCase())) {
        throw new Refused(`line ${t + (named ? 2 : 1)}, column ${column + 1}: is not a number`);
      }
      values[t * kept.length + k] = NUMBER.test(cell) ? Number(cell) : NaN;
    });
  });
  const split = kept.map((i) => names.split(header[i]));
  const unit = settings.unit;
  return { leads: split.map(([name], k) => name || header[kept[k]]), units: split.map(([, own]) => own ?? unit), rate: checkedRate(settings.rate), values, notes: [] };
}
