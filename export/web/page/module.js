// The WebAssembly module: a stream of the network, and the stream of an ECG. runtime/cpp/wasm has the other side.

import { Refused } from "./refused.js";

/** @import {About, Decision} from "../page" */

const OWN_WINDOW = -1; // MULTIRES_DEFAULT_WINDOW

/** @type {(bytes: BufferSource, about: About) => Promise<Module>} */
export async function loadModule(bytes, about) {
  if (!WebAssembly.validate(bytes)) throw new Refused("this browser has no WebAssembly with SIMD, or network.wasm is damaged");
  const { instance } = await WebAssembly.instantiate(bytes, {});
  return new Module(/** @type {any} */ (instance.exports), about);
}

export class Module {
  /**
   * @param {any} exports
   * @param {About} about
   */
  constructor(exports, about) {
    exports._initialize();
    this.exports = exports;
    this.about = about;
  }

  /**
   * Calls use(address of so many bytes), and frees them.
   * @template T
   * @param {number} bytes
   * @param {(address: number) => T} use
   */
  withMemory(bytes, use) {
    const address = this.exports.memory_new(bytes);
    if (!address) throw new Refused("there is not enough memory");
    try {
      return use(address);
    } finally {
      this.exports.memory_free(address);
    }
  }

  // The outputs (steps, outputs) of a new stream, for x (steps, inputs); and the seconds that it took.
  /** @type {(x: Float32Array, steps: number, alone?: boolean) => {y: Float32Array, seconds: number}} */
  run(x, steps, alone = false) {
    const outputs = this.about.outputs * steps;
    return this.withMemory(4 * (x.length + outputs), (address) => {
      const stream = this.exports.stream_new(OWN_WINDOW);
      if (!stream) throw new Refused("there is not enough memory");
      try {
        const to = address + 4 * x.length;
        new Float32Array(this.exports.memory.buffer, address, x.length).set(x);
        const began = performance.now();
        this.exports[alone ? "stream_steps" : "stream_run"](stream, address, steps, to);
        const seconds = (performance.now() - began) / 1000;
        return { y: new Float32Array(this.exports.memory.buffer, to, outputs).slice(), seconds };
      } finally {
        this.exports.stream_free(stream);
      }
    });
  }
}

// Samples of a record to decisions.
export class EcgStream {
  /**
   * @param {Module} module
   * @param {string} source the name of the record
   * @param {number} rate of the samples in Hz
   * @param {boolean[]} missing by channel
   * @param {boolean[]} derived by channel
   */
  constructor(module, source, rate, missing, derived) {
    this.module = module;
    this.source = source;
    const count = missing.length;
    this.stream = module.withMemory(2 * count, (address) => {
      new Uint8Array(module.exports.memory.buffer, address, 2 * count).set([...missing, ...derived].map(Number));
      return module.exports.ecg_new(rate, address, address + count);
    });
    if (!this.stream) throw new Refused(`a stream at ${rate} Hz cannot be made`);
  }

  // The decisions after samples (n, channels) in the card's unit.
  /** @type {(samples: Float64Array) => Decision[]} */
  push(samples) {
    const { exports, about } = this.module;
    return this.module.withMemory(8 * samples.length, (address) => {
      new Float64Array(exports.memory.buffer, address, samples.length).set(samples);
      return this.decisions(exports.ecg_push(this.stream, address, samples.length / about.channels.length));
    });
  }

  // The decisions at the end of the record; frees the stream.
  /** @type {() => Decision[]} */
  finish() {
    const last = this.decisions(this.module.exports.ecg_finish(this.stream));
    this.free();
    return last;
  }

  free() {
    this.module.exports.ecg_free(this.stream);
    this.stream = 0;
  }

  /** @type {(count: number) => Decision[]} */
  decisions(count) {
    const { exports, about } = this.module;
    const numbers = new Float64Array(exports.memory.buffer, exports.ecg_decisions(this.stream), count);
    const { labels, channels, flags } = about;
    const width = 4 + labels.length + channels.length;
    return Array.from({ length: count / width }, (_, i) => {
      const [time, seen, decided, warming, ...rest] = numbers.subarray(i * width, (i + 1) * width);
      const chances = Object.fromEntries(labels.map((label, l) => [label, rounded(rest[l])]));
      const faults = channels.map((channel, c) => /** @type {const} */ ([channel, flags.filter((_, bit) => (rest[labels.length + c] >> bit) & 1)]));
      return {
        type: /** @type {const} */ ("decision"),
        source: this.source,
        time: rounded(time),
        seen: rounded(seen),
        probabilities: decided ? chances : null,
        quality: Object.fromEntries(faults.filter(([, found]) => found.length)),
        ...(decided ? {} : { no_signal: true }),
        ...(warming ? { warming: true } : {}),
      };
    });
  }
}

/** @type {(value: number) => number} */
function rounded(value) {
  return Math.round(1e6 * value) / 1e6;
}
