// Opens the files that a user drops: a WFDB record with its header, an EDF file, or a table.

import { readCsv } from "./csv.js";
import { readEdf } from "./edf.js";
import { Refused } from "./refused.js";
import { readWfdb } from "./wfdb.js";

/** @import {About, Dropped, Recording, Settings} from "../page" */
/** @import {Names} from "./names.js" */

const KINDS = "a WFDB header with its .dat file, an .edf file, or a .csv file";
const OTHERS = /\.(bdf|rec|npz|dcm|xml|ecg|jsonl|ndjson|mat)$/i;

/** @type {(files: Dropped[], about: About, settings: Settings, names: Names) => {name: string, record: Recording}} */
export function openRecording(files, about, settings, names) {
  const wanted = names.plainAll(about.channels);
  const header = files.find(({ name }) => /\.hea$/i.test(name));
  if (header) {
    const fileNamed = (/** @type {string} */ name) => files.find((file) => file.name === name)?.data;
    return { name: header.name.replace(/\.hea$/i, ""), record: readWfdb(decoded(header.data), fileNamed, names, wanted) };
  }
  if (files.some(({ name }) => /\.dat$/i.test(name))) throw new Refused("drop the header (.hea) together with the .dat file");
  if (files.length !== 1) throw new Refused(`drop one recording: ${KINDS}`);
  const [{ name, data }] = files;
  if (new TextDecoder("latin1").decode(data.subarray(0, 8)) === "0       ") return { name, record: readEdf(data, names, wanted) };
  if (OTHERS.test(name) || data.subarray(0, 256).some((byte) => byte < 9)) {
    throw new Refused(`${name}: this page reads ${KINDS}; use multires-edge stream for other files`);
  }
  return { name, record: readCsv(decoded(data), settings, names, about.channels) };
}

/** @type {(data: Uint8Array) => string} */
function decoded(data) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    return new TextDecoder("latin1").decode(data);
  }
}
