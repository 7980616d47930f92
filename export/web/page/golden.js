// The outputs of the module against those of PyTorch in float64, which the bundle has recorded.

/** @import {Check} from "../page" */
/** @import {Module} from "./module.js" */

const TIMED = 5; // runs: browsers compile what runs often anew

/** @type {(module: Module, x: Float32Array, y: Float64Array) => Check} */
export function checkGolden(module, x, y) {
  const { rows, steps, limit, measure } = module.about.golden;
  const inputs = x.length / rows;
  const outputs = y.length / rows;
  let [largest, total, reference, together, alone] = [0, 0, 0, Infinity, Infinity];
  for (let row = 0; row < rows; row++) {
    const given = x.subarray(row * inputs, (row + 1) * inputs);
    const found = module.run(given, steps);
    for (let i = 0; i < TIMED; i++) {
      together = Math.min(together, module.run(given, steps).seconds);
      alone = Math.min(alone, module.run(given, steps, true).seconds);
    }
    for (let i = 0; i < outputs; i++) {
      const expected = y[row * outputs + i];
      const error = Math.abs(found.y[i] - expected);
      largest = Math.max(largest, Number.isNaN(error) ? Infinity : error / Math.max(1, Math.abs(expected)));
      total += error;
      reference += Math.abs(expected);
    }
  }
  const error = measure === "max" ? largest : reference > 0 ? total / reference : total;
  return { error, limit, measure, passed: error <= limit, together: together / steps, alone: alone / steps };
}
