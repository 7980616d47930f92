// Names of leads and units, by the rules of lead_names.py, whose lists are in page.json.

/** @import {Rules} from "../page" */

const WORD = /[\p{L}\p{N}]+/gu;
const INVERTED = /(?:^|[\s_])-(?=[\p{L}\p{N}_])/u;
const IN_BRACKETS = /^(.*?)[\s,_/:]*[([{<]\s*([^()[\]{}<>]*?)\s*[)\]}>]\s*$/su;
const AT_END = /^(.+?)(?:\s+in\s+|[\s,_/.:]+)(\p{L}+)\s*$/su;

// As Python's casefold, for the letters that occur in names.
/** @type {(text: string) => string} */
const folded = (text) => text.toLowerCase().replaceAll("\u00b5", "\u03bc").replaceAll("ß", "ss");

export class Names {
  /** @param {Rules} rules */
  constructor(rules) {
    this.rules = rules;
    const whole = (/** @type {string} */ pattern) => new RegExp(`^(?:${pattern})$`, "u");
    this.around = whole(rules.around);
    this.eeg = whole(rules.eeg);
    this.generic = whole(rules.generic);
    this.standard = new Set(rules.standard);
  }

  // nV, uV, mV or V from its usual names, or null for anything else.
  /** @type {(text: string) => string | null} */
  unit(text) {
    return this.rules.units[folded(text.trim())] ?? null;
  }

  // Volts of one of a unit, or null for an unknown unit.
  /** @type {(unit: string | null) => number | null} */
  volts(unit) {
    return unit === null ? null : (this.rules.volts[folded(unit.trim())] ?? null);
  }

  // A name without its unit, and the unit or null. A lone V is a unit in brackets only: elsewhere it is a lead.
  /** @type {(name: string) => [string, string | null]} */
  split(name) {
    for (const pattern of [IN_BRACKETS, AT_END]) {
      const found = pattern.exec(name);
      const unit = found && this.unit(found[2]);
      if (found && unit && (pattern === IN_BRACKETS || found[2].toLowerCase() !== "v")) return [found[1].trim(), unit];
    }
    return [name.trim(), null];
  }

  // The name by which leads are compared.
  /** @type {(name: string) => string} */
  plain(name) {
    const text = folded(this.split(name)[0]);
    const words = (text.match(WORD) ?? []).filter((word) => !this.around.test(word));
    const joined = words.join("");
    for (const [plus, minus, lead] of this.rules.pairs) {
      if (new RegExp(`(?:^|[^\\p{L}\\p{N}])${plus}-${minus}(?:$|[^\\p{L}\\p{N}])`, "u").test(text)) return lead;
    }
    if (INVERTED.test(text)) return `-${joined}`;
    if (this.standard.has(joined)) return joined;
    for (const prefix of ["ecg", "ekg", "lead"]) {
      const rest = joined.startsWith(prefix) ? joined.slice(prefix.length) : joined;
      if (this.standard.has(rest)) return rest;
    }
    return words.join(" ") || text.split(/\s+/u).filter(Boolean).join(" ");
  }

  // The plain names of all leads of a record, with C1 and DI as V1 and I.
  /** @type {(names: string[]) => string[]} */
  plainAll(names) {
    const plain = names.map((name) => this.plain(name));
    if (plain.some((name) => name.split(" ").some((word) => this.eeg.test(word)))) return plain;
    const { aliases } = this.rules;
    return plain.map((name) => (name in aliases && !plain.includes(aliases[name]) ? aliases[name] : name));
  }

  /** @type {(name: string) => boolean} */
  isLead(name) {
    const plain = this.plain(name);
    return this.standard.has(this.rules.aliases[plain] ?? plain);
  }

  // Whether a name says that a signal is an ECG, and not which lead it is.
  /** @type {(name: string) => boolean} */
  isGeneric(name) {
    return this.generic.test(this.plain(name));
  }

  /** @type {(name: string) => boolean} */
  isEcg(name) {
    const words = (name.match(WORD) ?? []).map(folded);
    return words.some((word) => ["ecg", "ekg", "electrocardiogram"].includes(word)) || this.isLead(name);
  }
}
