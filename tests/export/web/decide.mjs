// A page's own modules in node: node decide.mjs PAGE. Standard input: {recordings: [{files, rate, unit, allowMissing}],
// names: [[lead]]}. Prints {answers: [{decisions, notes, times: of real time} or {refused}], plain: [[lead]], golden}.
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";

const page = process.argv[2];
const imported = (name) => import(pathToFileURL(`${page}/${name}`));
const { loadModule } = await imported("module.js");
const { Run } = await imported("decide.js");
const { Names } = await imported("names.js");
const { openRecording } = await imported("open.js");
const { Refused } = await imported("refused.js");
const { checkGolden } = await imported("golden.js");

const bytes = (name) => new Uint8Array(readFileSync(name));
const about = JSON.parse(readFileSync(`${page}/page.json`));
const module = await loadModule(bytes(`${page}/network.wasm`), about);
const rules = new Names(about.names);

function answer({ files, rate = null, unit = null, allowMissing = false }) {
  try {
    const dropped = files.map((name) => ({ name: basename(name), data: bytes(name) }));
    const { name, record } = openRecording(dropped, about, { rate, unit, allowMissing }, rules);
    const run = new Run(module, name, record, rules, allowMissing);
    const decisions = [...run.parts()].flatMap((part) => part.decisions);
    return { decisions, notes: [...record.notes, ...run.map.notes], times: run.length / record.rate / run.seconds };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { refused: error.message };
  }
}

const { recordings = [], names = [] } = JSON.parse(readFileSync(0, "utf-8"));
const answers = recordings.map(answer);
const [x, y] = [new Float32Array(bytes(`${page}/golden-x.bin`).buffer), new Float64Array(bytes(`${page}/golden-y.bin`).buffer)];
console.log(JSON.stringify({ answers, plain: names.map((each) => rules.plainAll(each)), golden: checkGolden(module, x, y) }));
