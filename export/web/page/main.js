// The page: takes files, and plays what the worker decides, with the drawing code of the monitor.

import { byId, show } from "./monitor/page/dom.js";
import { Patient } from "./monitor/page/patient.js";
import { duration } from "./monitor/page/words.js";

/** @import {About, Answer, Check, Decision, Dropped, Opened, Part} from "../page" */

const FASTEST_SHOWN = 16; // times real time: of faster ones a display shows only the end

/** @type {About | undefined} */
let about;
/** @type {Patient | undefined} */
let patient;
/** @type {Opened | undefined} */
let opened;
/** @type {Part[]} */
let parts = [];
/** @type {Decision[]} */
let decisions = [];
let [shownParts, shownDecisions, playhead] = [0, 0, 0];
let [paused, finished] = [false, false];

const worker = new Worker("worker.js", { type: "module" });

const settings = () => ({ speed: 25, gain: Number(byId("gain").value), leads: Number(byId("leads").value) });

/** @type {(text: string, kind?: "notice" | "") => void} */
function tell(text, kind = "") {
  byId("message").className = `banner ${kind}`;
  show(byId("message"), text);
}

/** @type {Record<string, (answer: any) => void>} */
const answers = {
  ready: ({ about: given }) => {
    about = given;
    byId("bundle").textContent = given.name;
    document.title = `${given.name} – in this browser`;
    show(byId("description"), given.description ?? "");
    byId("example").hidden = !given.example;
    byId("choose").disabled = byId("example").disabled = false;
    byId("figure-precision").textContent = given.precision;
  },
  golden: ({ check }) => golden(check),
  opened: begin,
  part: (part) => {
    parts.push(part);
    decisions.push(...part.decisions);
  },
  done: ({ seconds }) => done(seconds),
  refused: ({ message }) => tell(message),
};

/** @param {MessageEvent<Answer>} event */
worker.onmessage = ({ data }) => answers[data.type](data);
worker.onerror = () => tell("This page cannot start here: it needs a web server, and a browser with WebAssembly.");

/** @param {Check} check */
function golden(check) {
  const mark = check.passed ? "✓" : "✗";
  byId("figure-error").textContent = `${mark} ${check.error.toExponential(1)}, limit ${check.limit.toExponential(0)}`;
  byId("figure-measure").textContent = check.measure === "max" ? "Largest" : "Mean";
  byId("figure-error").classList.toggle("failed", !check.passed);
  byId("figure-step").textContent = `${(1e6 * check.alone).toFixed(1)} µs alone, ${(1e6 * check.together).toFixed(1)} µs of many`;
  byId("figures").dataset.passed = String(check.passed);
}

/** @param {Opened} answer */
function begin(answer) {
  if (!about) return;
  opened = answer;
  [parts, decisions, shownParts, shownDecisions, playhead] = [[], [], 0, 0, 0];
  [paused, finished] = [false, false];
  const hello = {
    type: /** @type {const} */ ("hello"), run: "", bundle: about.name, model: about.name, channels: about.channels,
    labels: about.labels, descriptions: about.descriptions, thresholds: {}, every: about.every, filter: null, patients: [],
  };
  const identity = { source: answer.name, name: answer.name, rate: answer.rate, missing: answer.missing, derived: [], live: false };
  patient?.observer.disconnect();
  patient = new Patient(hello, identity, (_, text) => (byId("spoken").textContent = text));
  for (const unused of [".past", ".enlarge"]) patient.find(unused).hidden = true;
  byId("patients").replaceChildren(patient.root);
  byId("patients").style.setProperty("--ems", String(Math.max(...about.labels.map((label) => label.length)) * 0.7 + 5));
  byId("figure-record").textContent = `${duration(answer.seconds)} at ${answer.rate} Hz`;
  byId("figure-speed").textContent = "–";
  byId("save").hidden = true;
  document.body.classList.add("playing");
  byId("pause").disabled = false;
  tell(answer.notes.join("; "), "notice");
  patient.status({ type: "status", source: answer.name, feed: "live", since: 0, message: null, alarms: {}, acknowledged: [] });
  feed("Playing");
  layout();
}

// The state beside the name, where the monitor shows that of the source.
/** @param {string} text */
function feed(text) {
  const state = patient?.find(".feed");
  if (state && state.textContent !== text) state.textContent = text;
}

function layout() {
  patient?.layout(settings());
  const { speed, gain } = settings();
  byId("scale").textContent = `${speed} mm/s, ${gain} mm/mV; display from 0.05 Hz`;
}

/** @param {number} seconds */
function done(seconds) {
  if (!opened) return;
  finished = true;
  const times = opened.seconds / seconds;
  byId("figure-speed").textContent = `${Math.round(times).toLocaleString("en")} times real time, ${decisions.length} decisions`;
  byId("figures").dataset.speed = String(times);
  const lines = decisions.map((decision) => `${JSON.stringify(decision)}\n`);
  URL.revokeObjectURL(byId("save").href);
  byId("save").href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
  byId("save").download = `${opened.name}.decisions.jsonl`;
  byId("save").hidden = false;
}

/** @param {Dropped[]} files */
function open(files) {
  if (!about || !files.length) return;
  tell("");
  const rate = byId("rate").value ? Number(byId("rate").value) : null;
  worker.postMessage({ files, settings: { rate, unit: byId("unit").value || null, allowMissing: byId("allow-missing").checked } });
}

/** @param {Iterable<File>} files */
async function take(files) {
  try {
    open(await Promise.all([...files].map(async (file) => ({ name: file.name, data: new Uint8Array(await file.arrayBuffer()) }))));
  } catch {
    tell("the files cannot be read; drop files, not folders");
  }
}

async function takeExample() {
  if (!about?.example) return;
  const { files, rate, unit } = about.example;
  if (rate) byId("rate").value = rate;
  if (unit) byId("unit").value = unit;
  const fetched = async (/** @type {string} */ name) => {
    const answer = await fetch(`example/${encodeURIComponent(name)}`);
    if (!answer.ok) throw new Error(name);
    return { name, data: new Uint8Array(await answer.arrayBuffer()) };
  };
  try {
    open(await Promise.all(files.map(fetched)));
  } catch {
    tell("the files of the example are missing beside the page");
  }
}

byId("choose").onclick = () => byId("files").click();
byId("files").onchange = () => take(byId("files").files);
byId("example").onclick = takeExample;
byId("controls").onsubmit = (/** @type {Event} */ event) => event.preventDefault();
for (const id of ["gain", "leads"]) byId(id).onchange = layout;
byId("pause").onclick = () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", paused);
  byId("pause").textContent = paused ? "Continue" : "Pause";
};
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  take(event.dataTransfer?.files ?? []);
});

// Show what belongs to the record up to the playhead.
/** @type {(seconds: number, now: number) => void} */
function play(seconds, now) {
  if (!patient || !opened || !about) return;
  const times = byId("times").value === "all" ? Infinity : Number(byId("times").value);
  playhead = times === Infinity ? opened.seconds : Math.min(opened.seconds, playhead + seconds * times);
  const until = playhead * opened.rate;
  while (shownParts < parts.length) {
    const { first, samples } = parts[shownParts];
    const count = Math.min(samples.length / about.channels.length, Math.max(0, Math.floor(until) - first));
    if (count) patient.signal.take(first, samples.subarray(0, count * about.channels.length), now);
    if (count * about.channels.length < samples.length) break;
    shownParts++;
  }
  while (shownDecisions < decisions.length && (decisions[shownDecisions].time + about.delay <= playhead || playhead === opened.seconds)) {
    patient.decision(decisions[shownDecisions++], true, now);
  }
  if (finished && playhead === opened.seconds && shownDecisions === decisions.length) feed("End of the record");
}

let last = performance.now();
/** @param {number} now */
function animate(now) {
  const seconds = paused ? 0 : Math.min(1, (now - last) / 1000);
  last = now;
  if (patient) {
    play(seconds, now);
    if (patient.resized) layout();
    const times = Math.min(FASTEST_SHOWN, Number(byId("times").value) || FASTEST_SHOWN);
    patient.draw(seconds * times, now, { frozen: false, stepwise: false, connected: true });
    patient.root.classList.remove("old"); // nothing here grows old
  }
  requestAnimationFrame(animate);
}
requestAnimationFrame(animate);
