// How many patients stand side by side.

const SHAPE = 1.6; // width to height of a card that is easy to read

/** @typedef {{columns: number, least: number}} Grid columns, and the least height of a row in pixels */

/**
 * The grid in which the cards of `count` patients are largest. If their least heights need more than the
 * height, the page scrolls.
 * @type {(count: number, width: number, height: number, rem: number) => Grid}
 */
export function gridFor(count, width, height, rem) {
  let best = { columns: 1, least: 0, size: -Infinity };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const wide = width / columns;
    if (columns > 1 && wide < 18 * rem) break;
    const least = wide < 27 * rem ? 23.5 * rem : 15 * rem;
    const tall = Math.max(height / rows, least);
    const below = Math.max(0, rows * tall - height);
    const size = Math.min(wide, SHAPE * tall) - below;
    if (size > best.size) best = { columns, least, size };
  }
  return { columns: best.columns, least: best.least };
}
