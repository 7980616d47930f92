// Descriptions of labels, on hover and focus. Escape hides one, and the pointer may move onto it.

import { byId } from "./dom.js";

const GAP = 4;

/** @type {(element: HTMLElement, text: string) => void} */
export function describe(element, text) {
  const tip = byId("tip");
  const hide = () => (tip.hidden = true);
  const show = () => {
    tip.textContent = text;
    tip.hidden = false;
    const { left, top, bottom } = element.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = tip;
    tip.style.left = `${Math.max(GAP, Math.min(left, innerWidth - width - GAP))}px`;
    tip.style.top = `${bottom + height < innerHeight ? bottom : Math.max(0, top - height)}px`;
  };
  const leave = (event) => {
    if (event.relatedTarget !== tip && document.activeElement !== element) hide();
  };
  element.setAttribute("aria-description", text);
  element.onmouseenter = element.onfocus = show;
  element.onmouseleave = leave;
  element.onblur = hide;
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || tip.hidden) return;
    hide();
    event.stopPropagation();
  });
  tip.onmouseleave = hide;
}

// Of the rows of a list, Tab reaches one, and the arrow keys reach the others.
/** @type {(rows: HTMLElement[]) => void} */
export function walk(rows) {
  rows.forEach((row, i) => {
    row.tabIndex = i ? -1 : 0;
    row.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const next = by && rows[i + by];
      if (!next) return;
      row.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
      event.preventDefault();
    });
  });
}
