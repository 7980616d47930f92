// As worker.py, in JavaScript: node worker.mjs onnxruntime-node|onnxruntime-web WORK.json X.bin Y.bin
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [family, workFile, xFile, yFile] = process.argv.slice(2);
const ort = createRequire(`${process.cwd()}/`)(family);
const work = JSON.parse(readFileSync(workFile));
const [rows, channels, steps] = work.shape;
const x = new Float32Array(new Uint8Array(readFileSync(xFile)).buffer);
const arrays = { float32: Float32Array, float16: Uint16Array, int64: BigInt64Array, int8: Int8Array };

ort.env.logLevel = "fatal";
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(work.file)), { logSeverityLevel: 4 });
if (work.kind === "full") {
  const found = await session.run({ [work.input]: new ort.Tensor("float32", x, work.shape) });
  writeFileSync(yFile, found[work.outputs[0]].data);
} else {
  let states = {};
  for (const { input, dtype, shape } of work.states) {
    const sizes = [rows, ...shape.slice(1)];
    states[input] = new ort.Tensor(dtype, new arrays[dtype](sizes.reduce((a, b) => a * b, 1)), sizes);
  }
  const outputs = [];
  for (let t = 0; t < steps; t++) {
    const sample = Float32Array.from({ length: rows * channels }, (_, i) => x[i * steps + t]);
    const found = await session.run({ [work.input]: new ort.Tensor("float32", sample, [rows, channels]), ...states });
    outputs.push(...found[work.outputs[0]].data);
    states = Object.fromEntries(work.states.map(({ input, output }) => [input, found[output]]));
  }
  writeFileSync(yFile, Float32Array.from(outputs));
}
