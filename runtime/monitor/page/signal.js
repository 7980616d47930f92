// The latest samples of a patient, and the time up to which they are drawn.

const HELD_SECONDS = 90;
// Diagnostic electrocardiographs begin at 0.05 Hz. In the first second the baseline settles faster.
const BASELINE_HZ = 0.05;
const SETTLING_HZ = 1;
const FARTHEST_MV = 5;

export class Signal {
  /**
   * @param {number} channels
   * @param {number} rate
   * @param {boolean} filtered whether the network's own filter has removed the electrodes' voltage
   */
  constructor(channels, rate, filtered) {
    this.channels = channels;
    this.rate = rate;
    this.filtered = filtered;
    this.capacity = Math.ceil(HELD_SECONDS * rate);
    this.values = new Float32Array(this.capacity * channels).fill(NaN);
    this.end = 0; // number of the next sample to come
    this.start = 0; // number of the first sample that came
    this.baseline = new Float64Array(channels).fill(NaN);
    this.followed = new Uint32Array(channels);
    this.head = NaN; // drawn up to this second of the record
    this.delay = 0.1;
    this.arrived = 0;
  }

  // Add samples from number `first` on; each sample has all channels. Known samples are skipped.
  /** @type {(first: number, samples: Float32Array, now: number) => void} */
  take(first, samples, now) {
    const n = samples.length / this.channels;
    if (this.end === 0) this.start = this.end = first;
    const skip = Math.max(0, this.end - first);
    if (skip >= n) return;
    if (first > this.end) this.pass(first);
    for (let i = skip; i < n; i++) {
      const row = ((first + i) % this.capacity) * this.channels;
      for (let c = 0; c < this.channels; c++) {
        const value = samples[i * this.channels + c];
        this.values[row + c] = this.filtered ? value : this.follow(c, value);
      }
    }
    this.end = first + n;
    // Devices send packets. Drawing is delayed by the longest recent packet, so that it stays smooth.
    const packet = Math.min(Math.max(n / this.rate, (now - this.arrived) / 1000), 2);
    this.delay = Math.max(0.1, Math.min(2, Math.max(1.25 * packet + 0.02, 0.98 * this.delay)));
    this.arrived = now;
  }

  // Mark the samples before number `first` as missing.
  pass(first) {
    for (let i = Math.max(this.end, first - this.capacity); i < first; i++) {
      const row = (i % this.capacity) * this.channels;
      this.values.fill(NaN, row, row + this.channels);
    }
    this.end = first;
  }

  at(channel, number) {
    return this.values[(number % this.capacity) * this.channels + channel];
  }

  // Remove the electrodes' own voltage, which drifts, from a value.
  follow(channel, x) {
    if (Number.isNaN(x)) {
      this.followed[channel] = 0;
      return NaN;
    }
    const seen = this.followed[channel]++;
    const y = x - this.baseline[channel];
    if (seen === 0 || Math.abs(y) > FARTHEST_MV) {
      this.baseline[channel] = x;
      this.followed[channel] = 1;
      return 0;
    }
    const corner = seen < this.rate ? SETTLING_HZ : BASELINE_HZ;
    this.baseline[channel] += (1 - Math.exp((-2 * Math.PI * corner) / this.rate)) * y;
    return y;
  }

  // Advance the head by the clock, slightly faster or slower to keep `delay` seconds from the newest sample.
  advance(seconds) {
    const newest = this.end / this.rate;
    const target = newest - this.delay;
    if (!(Math.abs(target - this.head) < 1.5)) this.head = target;
    else this.head += seconds + (target - this.head) * Math.min(1, seconds);
    this.head = Math.max(Math.min(this.head, newest), this.start / this.rate);
    return this.head;
  }
}
