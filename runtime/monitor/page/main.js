// The page: takes the server's messages, and draws animation frames.

import { Connection } from "./connection.js";
import { show } from "./dom.js";
import { Patient } from "./patient.js";

/** @import {Hello, Message, Settings} from "../messages" */

/** @type {(id: string) => any} */
const byId = (id) => document.getElementById(id);
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

/** @returns {Settings} */
function settings() {
  return { speed: Number(byId("speed").value), gain: Number(byId("gain").value), leads: Number(byId("leads").value) };
}

function layout() {
  const main = byId("patients");
  const alone = main.querySelector(".patient.enlarged");
  main.dataset.count = alone ? 1 : patients.length;
  const columns = alone ? 1 : Math.ceil(Math.sqrt(patients.length));
  main.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  for (const patient of patients) {
    patient.root.hidden = Boolean(alone) && patient.root !== alone;
    if (!patient.root.hidden) patient.layout(settings());
  }
  warnOfOthers();
  const { speed, gain } = settings();
  const filter = hello?.filter ? `as the network sees it: ${hello.filter}` : "display from 0.05 Hz";
  byId("scale").textContent = `${speed} mm/s, ${gain} mm/mV; a square is 5 mm: ${5 / speed} s, ${5 / gain} mV; ${filter}`;
}

/** @param {Hello} message */
function greet(message) {
  if (hello?.run === message.run) return;
  hello = message;
  byId("bundle").textContent = message.model ?? message.bundle;
  byId("bundle").title = message.bundle;
  document.title = `${message.patients.map((p) => p.name).join(", ")} – Monitor`;
  const counts = [1, 2, 3, 6, 12].filter((n) => n < message.channels.length);
  const options = [["", "as many as fit"], ...counts.map((n) => [n, n]), [message.channels.length, "all"]];
  byId("leads").replaceChildren(...options.map(([value, text]) => new Option(String(text), String(value))));
  for (const old of patients) old.observer.disconnect();
  patients = message.patients.map((about) => new Patient(message, about, say));
  patients.forEach((patient, i) => wire(message, patient, i));
  byId("patients").replaceChildren(...patients.map((patient) => patient.root));
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
  patient.find(".enlarge").hidden = hello.patients.length < 2;
  patient.find(".enlarge").onclick = () => enlarge(patient, !patient.root.classList.contains("enlarged"));
  patient.root.onkeydown = (event) => {
    if (event.target !== patient.root && event.key !== "Escape") return;
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") enlarge(patient, false);
    else if (event.key === "Enter") enlarge(patient, true);
    else if (by && !patient.root.classList.contains("enlarged")) {
      patients[(number + by + patients.length) % patients.length].root.focus();
    } else return;
    event.preventDefault();
  };
}

/** @type {(patient: Patient, on: boolean) => void} */
function enlarge(patient, on) {
  if (patients.length < 2) return;
  patient.root.classList.toggle("enlarged", on);
  patient.find(".enlarge").setAttribute("aria-pressed", on);
  patient.find(".enlarge").textContent = on ? "All patients" : "Enlarge";
  layout();
  patient.root.focus();
}

// While one patient fills the page, show the warnings of all hidden patients.
function warnOfOthers() {
  const warnings = patients.filter((one) => one.root.hidden && one.warning);
  show(byId("others"), warnings.map((one) => `${one.about.name}: ${one.warning}`).join(" — "));
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
  else if (entry.type === "status") {
    patient.status(entry);
    warnOfOthers();
  }
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
  for (const patient of patients) {
    if (patient.root.hidden) continue;
    if (patient.resized) patient.layout(settings());
    patient.draw(seconds, performance.now(), { frozen, stepwise: motion.matches, connected });
  }
  requestAnimationFrame(animate);
}

new Connection({ message, frame, state });
requestAnimationFrame(animate);
