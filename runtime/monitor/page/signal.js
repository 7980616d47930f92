// The last samples of a patient, and how far of them is to be seen now.

const HELD_SECONDS = 90;
// 0.05 Hz is where diagnostic electrocardiographs begin; before a second has passed, faster.
const BASELINE_HZ = 0.05;
const SETTLING_HZ = 1;
const FARTHEST_MV = 5;

export class Signal {
  constructor(channels, rate) {
    this.channels = channels;
    this.rate = rate;
    this.capacity = Math.ceil(HELD_SECONDS * rate);
    this.values = new Float32Array(this.capacity * channels).fill(NaN);
    this.end = 0; // number of the sample that is due next
    this.start = 0; // number of the first that was ever there
    this.baseline = new Float64Array(channels).fill(NaN);
    this.followed = new Uint32Array(channels);
    this.head = NaN; // seconds of the record that are drawn
    this.delay = 0.1;
    this.arrived = 0;
  }

  // Samples from number `first` on, channel by channel within each; those that are known are passed over.
  take(first, samples, now) {
    const n = samples.length / this.channels;
    if (this.end === 0) this.start = this.end = first;
    let skip = Math.max(0, this.end - first);
    if (skip >= n) return;
    if (first > this.end) this.pass(first);
    for (let i = skip; i < n; i++) {
      const row = ((first + i) % this.capacity) * this.channels;
      for (let c = 0; c < this.channels; c++) this.values[row + c] = this.follow(c, samples[i * this.channels + c]);
    }
    this.end = first + n;
    // Devices send in packets: what is drawn stays behind by as long as the longest lately, and is smooth.
    const packet = Math.min(Math.max(n / this.rate, (now - this.arrived) / 1000), 2);
    this.delay = Math.max(0.1, Math.min(2, Math.max(1.25 * packet + 0.02, 0.98 * this.delay)));
    this.arrived = now;
  }

  // Samples up to number `first` never came.
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

  // A value without the electrodes' own voltage, which drifts and would leave the screen.
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

  // Move on by the clock, a little faster or slower to stay `delay` behind what has come.
  advance(seconds) {
    const newest = this.end / this.rate;
    const target = newest - this.delay;
    if (!(Math.abs(target - this.head) < 1.5)) this.head = target;
    else this.head += seconds + (target - this.head) * Math.min(1, seconds);
    this.head = Math.max(Math.min(this.head, newest), this.start / this.rate);
    return this.head;
  }

  // Nothing more will come: show all of it.
  finish() {
    this.delay = 0;
  }
}
