// Maps the leads of a record to the channels of the card, as leads.py: by name, in the card's order and unit.

import { Refused } from "./refused.js";

/** @import {About, Recording} from "../page" */
/** @import {Names} from "./names.js" */

const LARGEST_VOLTS = 1; // more than any potential on the skin

/** @typedef {{lead: number, weight: number}} Part of a channel: a lead of the record, and its factor */

export class LeadMap {
  /**
   * @param {Recording} record
   * @param {About} about
   * @param {Names} names
   * @param {boolean} allowMissing
   */
  constructor(record, about, names, allowMissing) {
    this.channels = about.channels;
    this.mean = about.mean;
    this.limit = LARGEST_VOLTS / about.volts;
    this.width = record.leads.length;
    const plain = names.plainAll(record.leads);
    const wanted = names.plainAll(about.channels);
    /** @type {Map<string, number>} */
    const taken = new Map();
    /** @type {string[]} */
    this.notes = [];
    const generic = record.leads.flatMap((lead, i) => (names.isGeneric(lead) ? [i] : []));
    if (generic.length === 1 && !plain.some((name) => wanted.includes(name) || names.standard.has(name))) {
      const channel = wanted.includes("i") ? "i" : wanted[0];
      taken.set(channel, generic[0]);
      this.notes.push(`its only signal is taken for lead ${about.channels[wanted.indexOf(channel)]}`);
    }
    /** @type {(channel: string, name: string) => Part | null} */
    const find = (channel, name) => {
      const given = taken.get(name);
      const places = given === undefined ? plain.flatMap((each, i) => (each === name ? [i] : [])) : [given];
      if (places.length > 1) throw new Refused(`several leads match ${channel}; give them different names`);
      if (!places.length) return null;
      const volts = names.volts(record.units[places[0]]);
      if (volts === null) throw new Refused(`the unit of lead ${places[0] + 1} is unknown, expected uV, mV or V`);
      return { lead: places[0], weight: volts * (1 / about.volts) };
    };
    /** @type {boolean[]} */
    this.derived = [];
    /** @type {Part[][]} */
    this.parts = about.channels.map((channel, i) => {
      const own = find(channel, wanted[i]);
      const others = own ? [] : (names.rules.derived[wanted[i]] ?? []);
      const limbs = others.map(([lead, weight]) => ({ part: find(channel, lead), weight }));
      this.derived.push(limbs.length > 0 && limbs.every(({ part }) => part));
      if (own) return [own];
      return this.derived[i]
        ? limbs.flatMap(({ part, weight }) => (part ? [{ lead: part.lead, weight: part.weight * weight }] : []))
        : [];
    });
    this.missing = this.parts.map((parts) => !parts.length);
    const absent = about.channels.filter((_, i) => this.missing[i]);
    if (absent.length === about.channels.length || (absent.length && !allowMissing)) {
      const has = record.leads.length > 16 ? `${record.leads.length} other leads` : record.leads.join(", ");
      const allow = absent.length < about.channels.length ? ". Allow missing leads, or take another record" : "";
      throw new Refused(`the record has no lead ${absent.join(", ")}; it has ${has}${allow}`);
    }
    const used = new Set(this.parts.flat().map(({ lead }) => lead));
    const unused = record.leads.filter((_, i) => !used.has(i));
    if (unused.length) this.notes.push(`not used: ${unused.slice(0, 16).join(", ")}`);
  }

  // Samples (n, leads) as (n, channels) in the card's unit, NaN without a value; the mean for a missing channel.
  /** @type {(samples: Float64Array) => Float64Array} */
  map(samples) {
    const count = samples.length / this.width;
    const channels = this.channels.length;
    const mapped = new Float64Array(count * channels);
    for (let t = 0; t < count; t++) {
      for (let c = 0; c < channels; c++) {
        let value = this.mean[c];
        this.parts[c].forEach(({ lead, weight }, i) => {
          const part = samples[t * this.width + lead] * weight;
          value = i ? value + part : part;
        });
        mapped[t * channels + c] = Math.abs(value) <= this.limit ? value : NaN;
      }
    }
    return mapped;
  }
}
