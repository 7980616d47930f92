// Reads and decides beside the page, so that the page stays responsive.

import { Run } from "./decide.js";
import { checkGolden } from "./golden.js";
import { loadModule } from "./module.js";
import { Names } from "./names.js";
import { openRecording } from "./open.js";
import { Refused } from "./refused.js";

/** @import {About, Answer, Question} from "../page" */

/** @type {(answer: Answer) => void} */
const answer = (message) => postMessage(message);

/** @type {(name: string) => Promise<Response>} */
async function fetched(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Refused(`${name} is missing beside the page (${response.status})`);
  return response;
}

/** @type {(work: () => Promise<void>) => Promise<void>} */
async function guarded(work) {
  try {
    await work();
  } catch (error) {
    const known = error instanceof Refused;
    if (!known) console.error(error);
    answer({ type: "refused", message: known ? error.message : `this cannot be read: ${error}` });
  }
}

async function load() {
  /** @type {About} */
  const about = await (await fetched("page.json")).json();
  const [wasm, x, y] = await Promise.all(
    ["network.wasm", "golden-x.bin", "golden-y.bin"].map(async (name) => (await fetched(name)).arrayBuffer()),
  );
  const module = await loadModule(wasm, about);
  answer({ type: "ready", about });
  answer({ type: "golden", check: checkGolden(module, new Float32Array(x), new Float64Array(y)) });
  return module;
}

/** @type {ReturnType<typeof load> | undefined} */
let loading;
guarded(async () => {
  loading = load();
  await loading;
});

/** @type {(message: MessageEvent<Question>) => Promise<void>} */
onmessage = ({ data: { files, settings } }) =>
  guarded(async () => {
    const module = await loading;
    if (!module) return;
    const { about } = module;
    const names = new Names(about.names);
    const { name, record } = openRecording(files, about, settings, names);
    const run = new Run(module, name, record, names, settings.allowMissing);
    const missing = about.channels.filter((_, c) => run.map.missing[c]);
    const notes = [...record.notes, ...run.map.notes];
    answer({ type: "opened", name, rate: record.rate, seconds: run.length / record.rate, missing, notes });
    for (const { first, samples, decisions } of run.parts()) {
      const shown = Float32Array.from(samples, (value, i) => (run.map.missing[i % about.channels.length] ? NaN : 1000 * about.volts * value));
      answer({ type: "part", first, samples: shown, decisions });
    }
    answer({ type: "done", seconds: run.seconds });
  });
