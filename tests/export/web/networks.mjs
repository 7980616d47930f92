// The outputs of networks in a module: node networks.mjs MODULE STEPS. Standard input: [{x: file, tokens, outputs}].
// Prints for each the outputs of all steps at once, of two parts, and of steps one by one (not for tokens).
import { readFileSync } from "node:fs";

const [file, given] = process.argv.slice(2);
const steps = Number(given);
const { exports } = await WebAssembly.instantiate(readFileSync(file)).then(({ instance }) => instance);
exports._initialize();

function outputs({ x, tokens, outputs: count }, number) {
  const input = new Uint8Array(readFileSync(x));
  const [from, to] = [exports.memory_new(input.length), exports.memory_new(4 * count * steps)];
  const run = tokens ? exports.network_tokens : exports.stream_run;
  const each = input.length / steps;
  const ways = {
    whole: (stream) => run(stream, from, steps, to),
    parts: (stream) => run(stream, from, 37, to) || run(stream, from + 37 * each, steps - 37, to + 4 * 37 * count),
    alone: (stream) => {
      for (let t = 0; t < steps; t++) if (run(stream, from + t * each, 1, to + 4 * t * count)) return 1;
      return 0;
    },
  };
  return Object.fromEntries(
    Object.entries(ways).map(([name, way]) => {
      const stream = exports.network_new(number);
      new Uint8Array(exports.memory.buffer, from, input.length).set(input);
      if (way(stream)) throw new Error(`${name} of network ${number} failed`);
      const found = [...new Float32Array(exports.memory.buffer, to, count * steps)];
      exports.stream_free(stream);
      return [name, found];
    }),
  );
}

console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf-8")).map(outputs)));
