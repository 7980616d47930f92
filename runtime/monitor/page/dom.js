// Elements of the page.

/** @type {(id: string) => any} */
export const byId = (id) => document.getElementById(id);

/** @type {(tag: string, properties: object) => any} */
export function create(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// A copy of the element in a template.
/** @type {(id: string) => any} */
export function copyOf(id) {
  return document.importNode(byId(id).content, true).firstElementChild;
}

// Show a text, or hide the element without one. The same text is not set again: a screen reader would repeat it.
/** @type {(element: HTMLElement, text: string) => void} */
export function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

const ENDING = 6; // characters of a name that always stay

// Show a name on one line. If it is too long, its middle gives way; the whole is its tooltip.
/** @type {(element: HTMLElement, name: string) => void} */
export function showName(element, name) {
  const letters = [...new Intl.Segmenter().segment(name)].map((each) => each.segment);
  const cut = letters.length > 2 * ENDING ? letters.length - ENDING : letters.length;
  element.classList.add("middle");
  element.title = name;
  element.replaceChildren(
    create("span", { className: "start", textContent: letters.slice(0, cut).join("") }),
    create("span", { className: "end", textContent: letters.slice(cut).join("") }),
  );
}

/** @type {Map<string, string>} */
const colours = new Map();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => colours.clear());

// The value of a colour of the palette, for a canvas. To ask the browser each time would cost a layout.
/** @type {(name: string) => string} */
export function colour(name) {
  const known = colours.get(name);
  if (known) return known;
  const value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`);
  colours.set(name, value);
  return value;
}
