// What is wrong on the page, as sentences. A fault is text that cannot be read, or parts that cannot be reached.
([leastWidth, leastHeight], allowed) => {
  const faults = [];
  const visible = (element) => element.checkVisibility() && element.getClientRects().length > 0;
  const name = (element) => `${element.className || element.id || element.tagName} "${element.textContent.trim()}"`;
  const parse = (colour) => {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], [R, G, B]) => [a * r + (1 - a) * R, a * g + (1 - a) * G, a * b + (1 - a) * B, 1];
  const ground = (element) => {
    const above = element.parentElement ? () => ground(element.parentElement) : () => [255, 255, 255, 1];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, above());
  };
  const opacity = (element) => (element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1);
  const luminance = (colour) => {
    const [r, g, b] = colour.map((x) => (x / 255 <= 0.03928 ? x / 255 / 12.92 : ((x / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (element) => {
    const behind = ground(element);
    const text = over([...parse(getComputedStyle(element).color).slice(0, 3), opacity(element)], behind);
    const [dark, light] = [luminance(text), luminance(behind)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const within = (inner, outer) =>
    inner.left >= outer.left - 1 && inner.right <= outer.right + 1 && inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;

  for (const element of document.querySelectorAll("body *")) {
    if (!visible(element) || element.closest(".unseen, noscript")) continue;
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own) continue;
    const style = getComputedStyle(element);
    // Text that may be cut says so: the beginning of a name, whose whole is the title; words beside a symbol.
    if (element.closest(".start, .past span, .enlarge span, .events") || element.tagName === "OPTION") continue;
    if (element.scrollWidth > element.clientWidth + 1 && style.display !== "inline")
      faults.push(`cut off: ${name(element)}, ${element.scrollWidth} in ${element.clientWidth}`);
    if (contrast(element) < 4.5) faults.push(`contrast ${contrast(element).toFixed(2)}: ${name(element)}`);
    const box = element.getBoundingClientRect();
    if (box.left < -1 || box.right > innerWidth + 1) faults.push(`beside the page: ${name(element)}`);
  }
  const scrolls = (element) => ["auto", "scroll"].includes(getComputedStyle(element).overflowY);
  if (document.documentElement.scrollWidth > innerWidth) faults.push("the page scrolls sideways");
  const main = document.querySelector("main");
  for (const card of main.hidden ? [] : document.querySelectorAll(".patient")) {
    card.scrollIntoView({ block: "nearest" });
    const who = card.querySelector(".name").textContent;
    const say = (text) => faults.push(`${who}: ${text}`);
    const frame = card.getBoundingClientRect();
    const shownIn = main.getBoundingClientRect();
    if (frame.left < shownIn.left - 1 || frame.right > shownIn.right + 1) say("the card is beside the page");
    const traces = card.querySelector(".traces").getBoundingClientRect();
    if (traces.width < leastWidth || traces.height < leastHeight)
      say(`the trace has ${Math.round(traces.width)} x ${Math.round(traces.height)}`);
    if (!card.querySelector(".column canvas")) say("no lead is drawn");
    for (const part of card.querySelectorAll(".name, .feed, .alarm span, .acknowledge, .record, .card button, .traces, .side, .lead b")) {
      if (visible(part) && !within(part.getBoundingClientRect(), frame)) say(`outside of the card: ${name(part)}`);
    }
    const state = card.querySelector(".state");
    if (state.scrollHeight > state.clientHeight + 1) say(`warnings do not fit: ${state.textContent}`);
    if (![...card.querySelectorAll(".feed, .alarm span")].some(visible)) say("its state is not shown");
    const side = card.querySelector(".side");
    const list = card.querySelector(".labels");
    const whole = side.getBoundingClientRect();
    for (const row of card.querySelectorAll(".labels li")) {
      const [label, value] = [row.querySelector(".label"), row.querySelector(".value")];
      for (const part of [...label.children, value]) {
        const cut = part.scrollWidth > part.clientWidth + 1;
        if (cut && !(allowed.cut && part.className === "start")) say(`cut off: ${name(row)}`);
      }
      const [a, b] = [label.getBoundingClientRect(), value.getBoundingClientRect()];
      if (b.bottom - b.top > 1.6 * parseFloat(getComputedStyle(value).fontSize)) say(`on two lines: ${name(row)}`);
      if (a.right > b.left + 1 || Math.abs(a.top - b.top) > 3) say(`not on one line: ${name(row)}`);
      const seen = within(row.getBoundingClientRect(), whole);
      if (!(seen || (allowed.scroll && (scrolls(side) || scrolls(list))))) say(`out of sight: ${name(row)}`);
    }
    const parts = [...card.querySelectorAll(".traces, .side, .card > header")].map((part) => part.getBoundingClientRect());
    for (const [i, a] of parts.entries()) for (const b of parts.slice(i + 1)) {
      if (Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
        say("parts of the card cover each other");
    }
  }
  main.scrollTop = 0;
  return [...new Set(faults)];
}
