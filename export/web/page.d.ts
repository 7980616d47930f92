// What page.json and the messages of the worker have. For the type checker alone: no browser loads it.

export type { Decision } from "../../runtime/monitor/messages";
import type { Decision as Shown } from "../../runtime/monitor/messages";

// Lists of lead_names.py; `around`, `eeg` and `generic` are patterns.
export interface Rules {
  around: string;
  eeg: string;
  generic: string;
  standard: string[];
  aliases: Record<string, string>;
  pairs: [string, string, string][];
  derived: Record<string, [string, number][]>;
  units: Record<string, string>;
  volts: Record<string, number>;
}

// page.json, by page.py.
export interface About {
  name: string;
  description: string | null;
  channels: string[];
  volts: number; // of one unit of the card
  unit: string;
  mean: number[]; // by channel
  rate: number; // of the network
  every: number; // seconds between decisions
  delay: number; // seconds that the card's filter is late
  pool: string;
  filter: string | null;
  labels: string[];
  descriptions: Record<string, string>;
  outputs: number;
  precision: string;
  flags: string[];
  names: Rules;
  golden: { rows: number; steps: number; limit: number; measure: "max" | "mean" };
  example: { files: string[]; rate: number | null; unit: string | null } | null;
}

export interface Recording {
  leads: string[];
  units: string[]; // by lead
  rate: number;
  values: Float64Array; // (samples, leads), NaN without a value
  notes: string[];
}

export interface Dropped {
  name: string;
  data: Uint8Array;
}

// Of tables, which do not say them; null if the user gave none.
export interface Settings {
  rate: number | null;
  unit: string | null;
  allowMissing: boolean;
}

export interface Check {
  error: number;
  limit: number;
  measure: "max" | "mean";
  passed: boolean;
  together: number; // seconds per step, many steps at once
  alone: number; // and one by one
}

export interface Opened {
  type: "opened";
  name: string;
  rate: number;
  seconds: number;
  missing: string[];
  notes: string[];
}

export interface Part {
  type: "part";
  first: number;
  samples: Float32Array; // (samples, channels) in mV
  decisions: Shown[];
}

export type Answer =
  | { type: "ready"; about: About }
  | { type: "golden"; check: Check }
  | Opened
  | Part
  | { type: "done"; seconds: number } // of computing
  | { type: "refused"; message: string };

export interface Question {
  files: Dropped[];
  settings: Settings;
}
