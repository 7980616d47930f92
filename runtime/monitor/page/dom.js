// Elements of the page.

/** @type {(tag: string, properties: object) => any} */
export function create(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// A copy of the element in a template.
/** @type {(id: string) => any} */
export function copyOf(id) {
  const template = /** @type {HTMLTemplateElement} */ (document.getElementById(id));
  return document.importNode(template.content, true).firstElementChild;
}

// Show a text, or hide the element without one. The same text is not set again: a screen reader would repeat it.
/** @type {(element: HTMLElement, text: string) => void} */
export function show(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}
