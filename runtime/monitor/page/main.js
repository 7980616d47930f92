// The page: takes the server's messages, and draws animation frames.

import { Connection } from "./connection.js";
import { byId, create, show, showName } from "./dom.js";
import { gridFor } from "./grid.js";
import { Patient } from "./patient.js";
import { Review } from "./review.js";

/** @import {Hello, Message, Settings} from "../messages" */

const motion = matchMedia("(prefers-reduced-motion: reduce)");
const SPOKEN_EVERY = 4000;

/** @type {Hello | undefined} */
let hello;
/** @type {Patient[]} */
let patients = [];
let connected = false;
let current = false; // all messages about the past have arrived
let frozen = false;
let lost = { samples: 0, lines: 0 };
/** @type {Map<Patient, string>} */
const toSay = new Map();
/** @type {Set<Element>} the heads of cards that are not on the screen */
const offScreen = new Set();
const review = new Review(arrange);

/** @returns {Settings} */
function settings() {
  return { speed: Number(byId("speed").value), gain: Number(byId("gain").value), leads: Number(byId("leads").value) };
}

function arrange() {
  const main = byId("patients");
  main.hidden = review.patient !== null;
  const shown = patients.filter((patient) => !patient.root.hidden).length;
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const grid = gridFor(shown, main.clientWidth, main.clientHeight, rem);
  main.style.gridTemplateColumns = `repeat(${grid.columns}, minmax(0, 1fr))`;
  main.style.setProperty("--least", `${grid.least}px`);
}

function layout() {
  arrange();
  for (const patient of patients) if (!patient.root.hidden) patient.layout(settings());
  const { speed, gain } = settings();
  const filter = hello?.filter ? `as the network sees it: ${hello.filter}` : "display from 0.05 Hz";
  byId("scale").textContent = `${speed} mm/s, ${gain} mm/mV; a square of 5 mm is ${5 / speed} s, ${5 / gain} mV; ${filter}`;
}

// The width of the widest label with its percentage, in its own font size.
/** @param {string[]} labels */
function widest(labels) {
  const context = /** @type {CanvasRenderingContext2D} */ (create("canvas", {}).getContext("2d"));
  context.font = `700 100px ${getComputedStyle(document.body).fontFamily}`;
  const width = (text) => context.measureText(text).width / 100;
  return Math.max(...labels.map(width)) + width("100 %") + 2;
}

/** @param {Hello} message */
function greet(message) {
  if (hello?.run === message.run) return;
  hello = message;
  byId("bundle").textContent = message.model ?? message.bundle;
  byId("bundle").title = message.bundle;
  document.title = `${message.patients.map((p) => p.name).join(", ")} – Monitor`;
  const counts = [1, 2, 3, 6, 12].filter((n) => n < message.channels.length);
  const options = [["", "that fit"], ...counts.map((n) => [n, n]), [message.channels.length, "all"]];
  byId("leads").replaceChildren(...options.map(([value, text]) => new Option(String(text), String(value))));
  for (const old of patients) old.observer.disconnect();
  heads.disconnect();
  offScreen.clear();
  if (review.patient !== null) review.close();
  patients = message.patients.map((about) => new Patient(message, about, say));
  patients.forEach((patient, i) => wire(message, patient, i));
  byId("patients").replaceChildren(...patients.map((patient) => patient.root));
  byId("patients").style.setProperty("--ems", widest(message.labels).toFixed(2));
  lost = { samples: 0, lines: 0 };
  show(byId("notice"), "");
  layout();
}

/** @type {(hello: Hello, patient: Patient, number: number) => void} */
function wire(hello, patient, number) {
  const heading = patient.find(".name");
  heading.id = `name-${number}`;
  patient.find(".decision").id = `decision-${number}`;
  patient.root.setAttribute("aria-labelledby", heading.id);
  patient.root.setAttribute("aria-describedby", `decision-${number}`);
  heads.observe(patient.find("header"));
  patient.find(".acknowledge").onclick = () => patient.unacknowledged().forEach((one) => connection.send(one));
  patient.find(".past").onclick = () => review.open(hello, number);
  patient.find(".enlarge").hidden = hello.patients.length < 2;
  patient.find(".enlarge").onclick = () => enlarge(patient.root.classList.contains("enlarged") ? null : patient);
  patient.root.onkeydown = (event) => {
    if (event.target !== patient.root && event.key !== "Escape") return;
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") enlarge(null);
    else if (event.key === "Enter") enlarge(patient);
    else if (by && !patient.root.classList.contains("enlarged")) {
      patients[(number + by + patients.length) % patients.length].root.focus();
    } else return;
    if (!by) patient.root.focus();
    event.preventDefault();
  };
}

// Give one patient the whole page, or none.
/** @param {Patient | null} chosen */
function enlarge(chosen) {
  if (patients.length < 2) return;
  for (const patient of patients) {
    const button = patient.find(".enlarge");
    patient.root.hidden = Boolean(chosen) && patient !== chosen;
    patient.root.classList.toggle("enlarged", patient === chosen);
    button.setAttribute("aria-pressed", patient === chosen);
    button.querySelector("span").textContent = patient === chosen ? "All patients" : "Enlarge";
  }
  layout();
}

// Warnings of the patients that are not on the screen. Each leads to its patient.
function warnOfOthers() {
  const away = patients.filter((one) => one.warning && offScreen.has(one.find("header")));
  const others = byId("others");
  const shown = away.map((one) => `${one.about.name}: ${one.warning}`).join("\n");
  if (others.dataset.shown === shown) return;
  others.dataset.shown = shown;
  others.hidden = !away.length;
  others.replaceChildren(
    ...away.map((one) => {
      const button = create("button", { type: "button", className: one.urgency, onclick: () => visit(one) });
      const name = create("span", {});
      showName(name, one.about.name);
      button.append(name, create("span", { textContent: one.warning }));
      return button;
    }),
  );
}

/** @param {Patient} patient */
function visit(patient) {
  if (review.patient !== null) review.close();
  if (patient.root.hidden) enlarge(patient);
  patient.root.scrollIntoView({ block: "nearest" });
  patient.root.focus();
}

// One line at a time, the newest of each patient, so that a screen reader keeps up.
/** @type {(patient: Patient, text: string) => void} */
function say(patient, text) {
  toSay.set(patient, text);
}

setInterval(() => {
  const [next] = toSay;
  if (!next) return;
  toSay.delete(next[0]);
  byId("spoken").textContent = next[1];
}, SPOKEN_EVERY);

/** @param {Message} entry */
function message(entry) {
  if (entry.type === "hello") {
    current = false;
    return greet(entry);
  }
  if (entry.type === "now") current = true;
  else if (entry.type === "dropped") {
    lost.samples += entry.samples;
    lost.lines += entry.lines;
    const what = `${lost.samples} samples and ${lost.lines} decisions or events were not shown`;
    show(byId("notice"), `This display is too slow: ${what}. The monitor itself has lost no data.`);
  }
  const patient = patients.find((one) => one.about.source === entry.source);
  if (!patient) return;
  if (entry.type === "decision") patient.decision(entry, current, performance.now());
  else if (entry.type === "event") patient.event(entry);
  else if (entry.type === "status") patient.status(entry);
}

/** @param {ArrayBuffer} buffer */
function frame(buffer) {
  const header = new DataView(buffer);
  const first = header.getFloat64(8, true);
  patients[header.getUint32(0, true)]?.signal.take(first, new Float32Array(buffer, 16), performance.now());
}

function state(now, reason) {
  connected = now === "open";
  byId("link").textContent = connected ? "Connected" : "Not connected";
  byId("link").dataset.state = now;
  const why = reason ? `: ${reason}` : "";
  show(byId("banner"), connected ? "" : `No connection to the monitor${why}. The display is out of date. Trying again.`);
}

const heads = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) offScreen.delete(target);
      else offScreen.add(target);
    }
  },
  { threshold: 0.9 },
);
new ResizeObserver(arrange).observe(byId("patients"));
matchMedia("(prefers-color-scheme: dark)").onchange = layout;

byId("controls").onsubmit = (event) => event.preventDefault();
for (const id of ["speed", "gain", "leads"]) byId(id).onchange = layout;
byId("freeze").onclick = () => {
  frozen = !frozen;
  byId("freeze").setAttribute("aria-pressed", frozen);
  byId("freeze").textContent = frozen ? "Frozen: continue" : "Freeze";
  document.body.classList.toggle("frozen", frozen);
};
let last = performance.now();
let counted = 0;
let since = last;
function animate(now) {
  const seconds = Math.min(1, (now - last) / 1000);
  last = now;
  counted++;
  if (now - since >= 1000) {
    byId("frames").textContent = `${Math.round((1000 * counted) / (now - since))} frames/s`;
    counted = 0;
    since = now;
  }
  warnOfOthers();
  for (const patient of patients) {
    if (patient.root.hidden) continue;
    if (patient.resized) patient.layout(settings());
    patient.draw(seconds, performance.now(), { frozen, stepwise: motion.matches, connected });
  }
  requestAnimationFrame(animate);
}

const connection = new Connection({ message, frame, state });
requestAnimationFrame(animate);
