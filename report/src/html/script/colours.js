// The colours of the style sheet, for what is drawn on canvases.

import { COLOURS } from "./plots.js";

/** @typedef {import("./types.js").Colours} Colours */

/**
 * Reads the colours of the theme that is on.
 * @param {HTMLElement} root
 * @returns {Colours}
 */
export function readColours(root) {
  const probe = document.createElement("span");
  probe.hidden = true;
  root.append(probe);
  const read = (/** @type {string} */ name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const colours = {
    ink: read("chart-ink"),
    faint: read("chart-faint"),
    grid: read("chart-grid"),
    paper: read("chart-paper"),
    loss: read("chart-loss"),
    brush: read("chart-brush"),
    limit: read("chart-limit"),
    bad: read("chart-bad"),
    running: read("lane-running"),
    runnable: read("lane-runnable"),
    blocked: read("lane-blocked"),
    calling: read("lane-calling"),
    curves: Array.from({ length: COLOURS }, (_, index) => read(`curve-${index}`)),
  };
  probe.remove();
  return colours;
}
