// The last hours of a patient, which the server reads from the output file. It fills the page until it is closed.

import { chart, styleOf } from "./chart.js";
import { byId, create, show, showName } from "./dom.js";
import { clock, describe, duration } from "./words.js";

/** @import {Hello, Past} from "../messages" */

export class Review {
  /** @type {Past | null} */
  past = null;
  /** @type {number | null} the patient's number while the review is open */
  patient = null;
  /** @type {any} */
  plot = null;
  asked = 0;

  /** @param {() => void} changed called after the review was opened or closed */
  constructor(changed) {
    this.changed = changed;
    this.root = byId("review");
    byId("review-close").onclick = () => this.close();
    byId("review-hours").onchange = () => this.ask();
    this.root.onkeydown = (event) => event.key === "Escape" && this.close();
    new ResizeObserver(() => this.layout()).observe(byId("review-trend"));
  }

  /** @type {(hello: Hello, patient: number) => void} */
  open(hello, patient) {
    this.hello = hello;
    this.patient = patient;
    showName(byId("review-name"), hello.patients[patient].name);
    byId("review-legend").replaceChildren(
      ...hello.labels.map((label, i) => {
        const item = create("li", {});
        item.style.setProperty("--colour", `var(--${styleOf(i).name})`);
        item.append(create("span", {}), label);
        return item;
      }),
    );
    this.root.hidden = false;
    this.changed();
    this.root.focus();
    this.ask();
  }

  close() {
    this.root.hidden = true;
    this.patient = this.past = null;
    this.show();
    this.changed();
  }

  async ask() {
    if (this.patient === null) return;
    const asked = ++this.asked;
    show(byId("review-note"), "Reading the output");
    let past = null;
    let why = "the monitor does not answer";
    try {
      const answer = await fetch(`review?patient=${this.patient}&hours=${byId("review-hours").value}`);
      if (answer.ok) past = await answer.json();
      else if (answer.status === 503) why = "the monitor reads another review; ask again";
    } catch {
      // The page says by itself that the connection is lost.
    }
    if (asked !== this.asked || this.patient === null) return;
    this.past = past;
    this.show();
    if (!past) show(byId("review-note"), `No review: ${why}.`);
  }

  show() {
    const { past } = this;
    const items = (past?.events ?? []).map((event) => {
      const item = create("li", { textContent: `${clock(event.time, 1)} ${describe(event)}` });
      item.dataset.event = event.event;
      return item;
    });
    byId("review-events").replaceChildren(...items);
    if (past) {
      const parts = [
        `${clock(past.start)} to ${clock(past.end)} of the record; the highest probability of every ${duration(past.step)}`,
        past.file ? "" : "Without --output the monitor remembers only the last minutes",
        past.complete || !past.file ? "" : `The output was read back to ${clock(past.reached)} only`,
        past.omitted ? `${past.omitted} earlier events are not listed` : "",
        items.length ? "" : "No events",
      ];
      show(byId("review-note"), `${parts.filter(Boolean).join(". ")}.`);
    }
    this.layout();
  }

  layout() {
    this.plot?.destroy();
    this.plot = null;
    const { past, hello } = this;
    if (!past || !hello) return;
    const curves = hello.labels.map((label) => past.highest[label]);
    const times = (curves[0] ?? []).map((_, i) => past.start + (i + 0.5) * past.step);
    const range = () => [past.start, past.end];
    const root = byId("review-trend");
    this.plot = chart(root, hello.labels, hello.thresholds, [times, ...curves], range);
    root.setAttribute("aria-label", `Probabilities of ${hello.labels.join(", ")}`);
  }
}
