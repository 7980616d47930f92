// A patient's part of the page.

import { styleOf } from "./chart.js";
import { copyOf, create, show, showName } from "./dom.js";
import { Signal } from "./signal.js";
import { Sweep } from "./sweep.js";
import { describe as describeLabel, walk } from "./tip.js";
import { Trend } from "./trend.js";
import { FEEDS, clock, describe, duration, milliseconds, percent, quality, warnings } from "./words.js";

const EVENTS_SHOWN = 4;

/** @import {Acknowledge, Decision, Hello, Identity, Settings, Status, StreamEvent} from "../messages" */

export class Patient {
  /** @type {Decision | null} */
  decided = null;
  resized = false;
  /** @type {Status | null} */
  state = null;
  warned = "";
  warning = ""; // in a few words
  urgency = ""; // the kind of the most urgent warning
  /** @type {number | null} the second of the record at which the display was frozen */
  stopped = null;

  /**
   * @param {Hello} hello the server's first message
   * @param {Identity} about this patient's part of it
   * @param {(patient: Patient, text: string) => void} say announces text to screen readers
   */
  constructor(hello, about, say) {
    this.hello = hello;
    this.about = about;
    this.say = say;
    this.root = copyOf("patient");
    this.root.dataset.source = about.source;
    /** @type {(selector: string) => any} */
    this.find = (selector) => this.root.querySelector(selector);
    showName(this.find(".name"), about.name);
    this.signal = new Signal(hello.channels.length, about.rate, Boolean(hello.filter));
    this.sweep = new Sweep(this.find(".traces"), this.signal, hello.channels, about.missing);
    this.trend = new Trend(this.find(".trend"), hello.labels, hello.thresholds);
    this.find(".trend").setAttribute("aria-label", `Probabilities of ${hello.labels.join(", ")} over two minutes`);
    this.labels = hello.labels.map((label, i) => this.row(label, i));
    walk(this.labels.filter(({ row }) => row.hasAttribute("aria-description")).map(({ row }) => row));
    this.decidedAt = 0;
    this.lastRead = "";
    // The window, a banner or longer text may resize these parts.
    this.observer = new ResizeObserver(() => (this.resized = true));
    for (const part of [".traces", ".trend"]) this.observer.observe(this.find(part));
  }

  row(label, number) {
    const row = copyOf("label");
    row.dataset.label = label;
    row.style.setProperty("--colour", `var(--${styleOf(number).name})`);
    showName(row.querySelector(".label"), label);
    const [value, fill, limit] = [".value", ".bar i", ".bar b"].map((part) => row.querySelector(part));
    limit.style.left = `${100 * this.hello.thresholds[label]}%`;
    limit.hidden = !(label in this.hello.thresholds);
    if (this.hello.descriptions[label]) describeLabel(row, this.hello.descriptions[label]);
    this.find(".labels").append(row);
    return { row, value, fill };
  }

  /** @param {Settings} settings */
  layout(settings) {
    this.resized = false;
    this.sweep.layout(settings);
    this.trend.layout();
    this.find(".traces").setAttribute(
      "aria-label",
      `Electrocardiogram, ${this.sweep.shown}, ${settings.speed} mm/s, ${settings.gain} mm/mV`,
    );
  }

  /** @type {(entry: Decision, aloud: boolean, now: number) => void} */
  decision(entry, aloud, now) {
    this.decided = entry;
    this.decidedAt = now;
    this.trend.add(entry.time, entry.probabilities);
    this.find(".decision").dataset.time = entry.time;
    const chances = entry.probabilities;
    this.hello.labels.forEach((label, i) => {
      const { row, value, fill } = this.labels[i];
      row.dataset.probability = String(chances?.[label]);
      value.textContent = chances ? percent(chances[label]) : "–";
      fill.style.width = `${chances ? 100 * chances[label] : 0}%`;
    });
    const over = entry.warming ? `only ${duration(entry.seen)}` : duration(entry.seen);
    const at = clock(entry.time, 1);
    this.find(".when").textContent = chances ? `At ${at}, over ${over}` : `No decision at ${at}`;
    const { timing } = entry;
    this.find(".timing").textContent = timing
      ? `Latency ${milliseconds(timing.latency)}, age\u00a0${milliseconds(timing.age)}`
      : "";
    const signal = this.find(".signal");
    const leads = quality(entry.quality, this.hello.channels.length);
    const faults = chances ? leads : `No signal. ${leads}`;
    signal.textContent = faults;
    signal.classList.toggle("faulty", !chances || Object.keys(entry.quality).length > 0);
    this.sweep.mark(entry.quality);
    this.warn();
    if (aloud) this.read(entry, faults);
  }

  // Announce only changes: a screen reader cannot read every decision.
  /** @type {(entry: Decision, faults: string) => void} */
  read(entry, faults) {
    const { labels } = this.hello;
    const chances = entry.probabilities ?? {};
    const likely = labels.filter((label) => chances[label] >= (this.hello.thresholds[label] ?? 0.5));
    const what = `${likely.join(", ")}; ${faults}`;
    if (what === this.lastRead) return;
    this.lastRead = what;
    const named = likely.map((label) => `${label} ${percent(chances[label])}`).join(", ");
    const none = entry.probabilities ? "no label is likely" : "no decision";
    this.say(this, `${this.about.name}: ${named || none}. ${faults}.`);
  }

  /** @param {StreamEvent} entry */
  event(entry) {
    const item = create("li", { textContent: `${clock(entry.time, 1)} ${describe(entry)}` });
    item.dataset.event = entry.event;
    const list = this.find(".events");
    list.prepend(item);
    while (list.children.length > EVENTS_SHOWN) list.lastElementChild.remove();
  }

  /** @param {Status} entry */
  status(entry) {
    this.state = entry;
    this.root.dataset.feed = entry.feed;
    this.find(".feed").textContent = FEEDS[entry.feed] ?? entry.feed;
    if (entry.feed === "ended" || entry.feed === "lost") this.signal.delay = 0; // show all samples
    this.hello.labels.forEach((label, i) => this.labels[i].row.classList.toggle("over", label in entry.alarms));
    this.warn();
  }

  // Show the warnings. What has not changed is not set again, for screen readers.
  warn() {
    if (!this.state) return;
    const found = warnings(this.state, this.decided?.probabilities === null);
    const text = found.map((warning) => warning.text).join("\n");
    if (text === this.warned) return;
    this.warned = text;
    this.warning = found.map((warning) => warning.short).join(", ");
    this.urgency = ["trouble", "onset", "ended", "acknowledged"].find((kind) => found.some((one) => one.kind === kind)) ?? "";
    const alarm = this.find(".alarm");
    alarm.replaceChildren(...found.map(({ text, kind }) => create("span", { textContent: text, className: kind })));
    alarm.hidden = !found.length;
    const open = this.unacknowledged().length > 0;
    this.root.classList.toggle("alarmed", open);
    this.find(".acknowledge").hidden = !open;
  }

  /** @returns {Acknowledge[]} messages that acknowledge every alarm that is shown */
  unacknowledged() {
    const { alarms = {}, acknowledged = [] } = this.state ?? {};
    return Object.entries(alarms)
      .filter(([label]) => !acknowledged.includes(label))
      .map(([label, since]) => ({ type: "acknowledge", source: this.about.source, label, since }));
  }

  // Draw an animation frame, `seconds` after the last. Old decisions are dimmed, whatever the reason.
  /** @type {(seconds: number, now: number, view: {frozen: boolean, stepwise: boolean, connected: boolean}) => void} */
  draw(seconds, now, { frozen, stepwise, connected }) {
    const head = connected ? this.signal.advance(seconds) : this.signal.head;
    this.trend.draw();
    const late = this.decided && now - this.decidedAt > 1000 * Math.max(3, 3 * this.hello.every);
    const undecided = this.decided !== null && !this.decided.probabilities;
    this.root.classList.toggle("old", !connected || this.state?.feed !== "live" || Boolean(late) || undecided);
    if (Number.isNaN(head)) return;
    show(this.find(".record .value"), clock(Math.max(0, head), 0));
    this.stopped = frozen ? (this.stopped ?? head) : null;
    const until = this.stopped ?? head;
    this.sweep.draw(stepwise ? Math.floor(until) : until);
  }
}
