// What the server sends to the page, and uPlot's global name. For the type checker alone: no browser loads it.

export interface Identity {
  source: string;
  name: string;
  rate: number;
  missing: string[];
  derived: string[];
  live: boolean;
}

export interface Hello {
  type: "hello";
  run: string;
  bundle: string;
  model: string | null;
  channels: string[];
  labels: string[];
  descriptions: Record<string, string>; // of labels
  thresholds: Record<string, number>;
  every: number;
  filter: string | null; // the card's high-pass
  patients: Identity[];
}

export interface Decision {
  type: "decision";
  source: string;
  time: number;
  seen: number;
  probabilities: Record<string, number> | null; // null: no signal
  quality: Record<string, string[]>;
  warming?: boolean;
  timing?: { latency: number; age: number };
}

export interface Status {
  type: "status";
  source: string;
  feed: string;
  since: number;
  message: string | null;
  alarms: Record<string, number>; // when each began
  acknowledged: string[];
}

// What the page sends: the alarm of a label that began at a time has been seen.
export interface Acknowledge {
  type: "acknowledge";
  source: string;
  label: string;
  since: number;
}

// The answer to /review, by review.py.
export interface Past {
  start: number;
  end: number;
  step: number; // seconds of each of the highest probabilities
  reached: number; // how far back the output was read
  complete: boolean;
  file: boolean;
  highest: Record<string, (number | null)[]>;
  events: StreamEvent[]; // the latest first
  omitted: number;
}

// As `stream` writes it: other fields by kind of event.
export interface StreamEvent {
  type: "event";
  source: string;
  event: string;
  time: number;
  [field: string]: any;
}

export interface Dropped {
  type: "dropped";
  source?: undefined;
  samples: number;
  lines: number;
}

export interface Signal {
  type: "tick" | "now";
  source?: undefined;
}

export type Message = Hello | Decision | Status | StreamEvent | Dropped | Signal;

export interface Settings {
  speed: number; // mm/s
  gain: number; // mm/mV
  leads: number; // 0 for as many as fit
}

declare global {
  const uPlot: any;
}
