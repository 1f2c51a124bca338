// What mouse, finger and keys do on a chart of the time axis.

import { shownRange, chosenRange, cursorOf } from "./state.js";

/** @typedef {import("./types.js").Store} Store */

/** A pointer that moved less than this has clicked. */
const CLICK_PX = 4;

/**
 * Tells whether a pointer was moved since the last time. A browser tells of a resting one too, when the page moves under
 * it; that one must not take from the keyboard what it chose.
 * @returns {(event: PointerEvent) => boolean}
 */
export function movement() {
  let last = "";
  return (event) => {
    const at = `${event.screenX} ${event.screenY}`;
    const isMoved = at !== last;
    last = at;
    return isMoved;
  };
}

/**
 * Brushes and moves the cursor by a pointer.
 * @param {HTMLElement} element
 * @param {Store} store
 * @param {(x: number) => number} timeAt the moment at a distance from the element's left edge
 */
export function pointerBrush(element, store, timeAt) {
  /** @type {{ x: number, at: number, isBrush: boolean } | null} */
  let began = null;
  const isMoved = movement();
  const xOf = (/** @type {PointerEvent | WheelEvent} */ event) => event.clientX - element.getBoundingClientRect().left;
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    began = { x: xOf(event), at: timeAt(xOf(event)), isBrush: false };
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    const x = xOf(event);
    if (began !== null && (began.isBrush || Math.abs(x - began.x) >= CLICK_PX)) {
      began.isBrush = true;
      store.update({ do: "brush", from: began.at, to: timeAt(x) });
    } else if (isMoved(event) && event.pointerType !== "touch") {
      store.update({ do: "hover", at: Math.round(timeAt(x)) });
    }
  });
  element.addEventListener("pointerup", (event) => {
    if (began !== null && !began.isBrush) store.update({ do: "cursor", at: Math.round(timeAt(xOf(event))) });
    began = null;
  });
  // The browser takes the finger for scrolling: what was brushed until then stays.
  element.addEventListener("pointercancel", () => {
    began = null;
  });
  element.addEventListener("pointerleave", () => store.update({ do: "hover", at: null }));
  element.addEventListener(
    "wheel",
    (event) => {
      if (store.get().view === null || Math.abs(event.deltaX) <= Math.abs(event.deltaY)) return;
      event.preventDefault();
      const x = xOf(event);
      store.update({ do: "pan", by: timeAt(x + event.deltaX) - timeAt(x) });
    },
    { passive: false },
  );
  element.addEventListener("dblclick", () => {
    const { window } = store.get();
    if (window !== null) store.update({ do: "view", view: window });
  });
}

/**
 * What a key does on a chart.
 * @param {KeyboardEvent} event
 * @param {Store} store
 * @param {number} width of a bin, ns
 * @returns {boolean} whether it did something
 */
export function chartKey(event, store, width) {
  if (event.ctrlKey || event.altKey || event.metaKey) return false;
  const state = store.get();
  const { from, to } = shownRange(state);
  // One bin, or what moves the cursor by a few pixels where bins are narrower than that.
  const step = Math.max(width, Math.ceil((to - from) / 300 / width) * width);
  const here = cursorOf(state) ?? from;
  const move = (/** @type {number} */ by) => store.update({ do: "move", by, extend: event.shiftKey });
  switch (event.key) {
    case "ArrowRight":
      move(step);
      return true;
    case "ArrowLeft":
      move(-step);
      return true;
    case "PageUp":
      move(-10 * step);
      return true;
    case "PageDown":
      move(10 * step);
      return true;
    case "Home":
      move(from - here);
      return true;
    case "End":
      move(to - here);
      return true;
    case "+":
    case "=":
      store.update({ do: "zoom", factor: 0.5 });
      return true;
    case "-":
    case "_":
      store.update({ do: "zoom", factor: 2 });
      return true;
    case "0":
      store.update({ do: "view", view: null });
      return true;
    case "Enter":
      store.update({ do: "view", view: chosenRange(state) });
      return true;
    case "Escape":
      store.update({ do: "escape" });
      return true;
    default:
      return false;
  }
}
