// Times, numbers and events as text.

export function clock(seconds, digits = 0) {
  const scaled = Math.round(seconds * 10 ** digits) / 10 ** digits;
  const whole = Math.floor(scaled / 60);
  const rest = (scaled - 60 * whole).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
  const hours = Math.floor(whole / 60);
  return hours ? `${hours}:${String(whole % 60).padStart(2, "0")}:${rest}` : `${whole}:${rest}`;
}

export function duration(seconds) {
  return seconds < 100 ? `${Number(seconds.toFixed(1))}\u00a0s` : clock(seconds);
}

export function percent(probability) {
  return `${Math.round(100 * probability)} %`;
}

export function milliseconds(seconds) {
  const ms = 1000 * seconds;
  return `${ms < 9.95 ? ms.toFixed(1) : Math.round(ms)}\u00a0ms`;
}

export const FEEDS = {
  waiting: "Waiting for samples",
  live: "Live",
  stalled: "No samples",
  silent: "No signal",
  lost: "Source lost",
  ended: "Ended",
};

const EVENTS = {
  onset: (e) => `${e.label} above its threshold, ${percent(e.probability)}`,
  offset: (e) => `${e.label} below its threshold, ${percent(e.probability)}`,
  lost: (e) => (e.label ? `${e.label}: alarm ended, no signal` : `source lost${e.message ? `: ${e.message}` : ""}`),
  stalled: () => "no samples",
  resumed: () => "samples resumed",
  silent: () => "no signal from any lead; decisions stopped",
  restart: () => "signal is back; restarted",
  gap: (e) => `${e.seconds} s of samples missing`,
  late: (e) => `${e.samples} samples came too late`,
  dropped: (e) => `${e.samples} samples dropped: queue full`,
  bad_line: (e) => `line ${e.line} cannot be read`,
  bad_lines: (e) => `${e.lines} lines could not be read`,
  dropped_events: (e) => `${e.events} further events`,
  connected: () => "device reconnected",
};

/** @param {import("../messages").StreamEvent} event */
export function describe(event) {
  return EVENTS[event.event]?.(event) ?? `${event.event}${event.message ? `: ${event.message}` : ""}`;
}

const TROUBLES = {
  stalled: (s) => `No samples since ${clock(s.since, 1)}: the display is out of date`,
  silent: (s) => `No signal since ${clock(s.since, 1)}`,
  lost: (s) => `Source lost at ${clock(s.since, 1)}: the display is out of date`,
  ended: (s) => `${s.message}: the display is out of date`,
};

/** @typedef {{text: string, short: string, kind: string}} Warning of the kind trouble, ended, onset or acknowledged */

/**
 * What a patient's card has to warn of. `silent`: the newest decision has no signal.
 * @type {(status: import("../messages").Status, silent: boolean) => Warning[]}
 */
export function warnings(status, silent) {
  const { feed, alarms, acknowledged } = status;
  const found = Object.entries(alarms).map(([label, since]) => {
    const text = `${label} alarm since ${clock(since, 1)}`;
    const known = acknowledged.includes(label);
    return known ? { text: `✓ ${text}`, short: `✓ ${label}`, kind: "acknowledged" } : { text, short: label, kind: "onset" };
  });
  if (feed in TROUBLES) {
    const kind = feed === "ended" ? "ended" : "trouble";
    found.unshift({ text: TROUBLES[feed](status), short: FEEDS[feed], kind });
  } else if (silent) found.unshift({ text: "No signal", short: "No signal", kind: "trouble" });
  return found;
}

const FAULTS = {
  missing: "not connected",
  gap: "interrupted",
  nan: "no value",
  flat: "flat",
  clipped: "clipped",
  noise: "noisy",
  implausible: "implausible",
  no_beat: "no heartbeat",
  offset: "offset",
  wander: "wandering",
  contradiction: "contradictory",
  arms_swapped: "arm electrodes swapped",
};

/** @param {string[]} flags */
export function fault(flags) {
  return flags.map((flag) => FAULTS[flag] ?? flag).join(", ");
}

/** @type {(faults: Record<string, string[]>, count: number) => string} */
export function quality(faults, count) {
  const leads = Object.keys(faults);
  if (!leads.length) return `Signal good, ${count} leads`;
  const byFlags = new Map();
  for (const lead of leads) {
    const flags = fault(faults[lead]);
    byFlags.set(flags, [...(byFlags.get(flags) ?? []), lead]);
  }
  return `Check leads: ${[...byFlags].map(([flags, these]) => `${these.join(" ")} ${flags}`).join("; ")}`;
}
