// The text of a chart: its values as a table.

import { binsIn } from "./bins.js";
import { el } from "./dom.js";
import { momentOf, positionOf } from "./grid.js";
import { momentText, valueText } from "./numbers.js";
import { chosenRange } from "./state.js";

/** @typedef {import("./types.js").Line} Line */
/** @typedef {import("./types.js").Plot} Plot */
/** @typedef {import("./types.js").State} State */

/** The most rows of a table; more bins are put together. */
export const MOST_ROWS = 200;

/**
 * A table that scrolls within its place, also by keys.
 * @param {string} caption
 * @param {readonly string[]} heads
 * @param {readonly (readonly string[])[]} rows the first word of each is its head
 */
export function dataTable(caption, heads, rows) {
  const table = el(
    "table",
    { class: "c-data-table" },
    el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el(
      "tbody",
      {},
      ...rows.map(([head = "", ...cells]) =>
        el("tr", {}, el("th", { scope: "row" }, head), ...cells.map((cell) => el("td", {}, cell))),
      ),
    ),
  );
  return el("div", { class: "c-table-scroll", role: "region", "aria-label": caption, tabindex: 0 }, table);
}

/**
 * The mean of the known values of some bins.
 * @param {Line} line
 * @param {number} from ns
 * @param {number} to ns
 */
export function meanOf(line, from, to) {
  const [first, last] = binsIn(line.grid, { from, to });
  let sum = 0;
  let known = 0;
  for (let bin = first; bin < last; bin += 1) {
    const value = line.values[bin];
    if (value === null || value === undefined) continue;
    sum += value;
    known += 1;
  }
  return known === 0 ? null : sum / known;
}

/**
 * The values of a plot in the brushed window.
 * @param {Plot} plot
 * @param {State} state
 * @param {(key: string) => boolean} isDrawn
 */
export function plotTable(plot, state, isDrawn) {
  const range = chosenRange(state);
  const columns = plot.strips.flatMap((strip) =>
    strip.lines.filter((line) => isDrawn(line.key)).map((line) => ({ strip, line })),
  );
  // Rows are the widest bins; without a curve there is one row.
  const whole = { from_ns: range.from, duration_ns: range.to - range.from, width_ns: range.to - range.from, bins: 1 };
  const grids = columns.map(({ line }) => line.grid);
  const grid = grids.reduce((widest, one) => (one.width_ns > widest.width_ns ? one : widest), grids[0] ?? whole);
  const first = Math.floor(positionOf(grid, range.from));
  const last = Math.ceil(positionOf(grid, range.to));
  const together = Math.max(Math.ceil((last - first) / MOST_ROWS), 1);
  const rows = [];
  for (let bin = first; bin < last; bin += together) {
    const [from, to] = [momentOf(grid, bin), momentOf(grid, Math.min(bin + together, last))];
    rows.push([
      momentText(from, grid.width_ns),
      ...columns.map(({ line }) => {
        const value = meanOf(line, from, to);
        return value === null ? "not known" : valueText(value, plot.unit);
      }),
    ]);
  }
  const each = together === 1 ? "" : `; each row is the mean of ${together} bins`;
  return dataTable(
    `${plot.title}, ${momentText(range.from, grid.width_ns)} to ${momentText(range.to, grid.width_ns)}${each}`,
    ["from", ...columns.map(({ strip, line }) => (strip.title === "" ? line.name : `${strip.title}: ${line.name}`))],
    rows,
  );
}
