// Times a module in node: node wasm_worker.mjs MODULE STEPS OUTPUTS. Reads x.bin, writes y.bin.
import { readFileSync, writeFileSync } from "node:fs";

const [file, ...sizes] = process.argv.slice(2);
const [steps, outputs] = sizes.map(Number);
const { exports } = (await WebAssembly.instantiate(readFileSync(file))).instance;
exports._initialize();
const x = readFileSync("x.bin");
const [from, to] = [exports.memory_new(x.length), exports.memory_new(4 * steps * outputs)];
new Uint8Array(exports.memory.buffer, from, x.length).set(x);

function seconds(run) {
  let best = Infinity;
  for (let i = 0; i < 20; i++) {
    const stream = exports.stream_new(-1); // the window of the weights
    const began = performance.now();
    run(stream, from, steps, to);
    best = Math.min(best, (performance.now() - began) / 1000 / steps);
    exports.stream_free(stream);
  }
  return best;
}

const alone = seconds(exports.stream_steps);
const together = seconds(exports.stream_run);
writeFileSync("y.bin", new Uint8Array(exports.memory.buffer, to, 4 * steps * outputs));
console.log(JSON.stringify({ alone, together }));
