// Values on the grid of a trace: which bins are shown, how they are thinned, and how two grids are compared.

import { binAt, commonGrid, isAligned, momentOf, positionOf } from "./grid.js";
import { clampNumber } from "./numbers.js";
import { niceStep } from "./ticks.js";

/** @typedef {import("./types.js").Grid} Grid */
/** @typedef {import("./types.js").Range} Range */
/** @typedef {import("./types.js").Values} Values */

/**
 * The bins that a range touches, from the first to before the last.
 * @param {Grid} grid
 * @param {Range} range
 * @returns {[number, number]}
 */
export function binsIn(grid, range) {
  const first = clampNumber(Math.floor(positionOf(grid, range.from)), 0, grid.bins);
  const last = clampNumber(Math.ceil(positionOf(grid, range.to)), first, grid.bins);
  return [first, last];
}

/**
 * The value of the bin at a moment; `undefined` outside the trace.
 * @param {Values} values
 * @param {Grid} grid
 * @param {number} at
 */
export function valueAt(values, grid, at) {
  const bin = binAt(grid, at);
  return bin === null ? undefined : values[bin];
}

/**
 * The smallest and largest values and the smallest one above zero, in a range of bins; `null` without any.
 * @param {Values} values
 * @param {number} first
 * @param {number} last
 * @returns {{ low: number, high: number, least: number } | null}
 */
export function extentOf(values, first, last) {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  let least = Number.POSITIVE_INFINITY;
  for (let bin = first; bin < last; bin += 1) {
    const value = values[bin];
    if (value === null || value === undefined) continue;
    if (value < low) low = value;
    if (value > high) high = value;
    if (value > 0 && value < least) least = value;
  }
  return high === Number.NEGATIVE_INFINITY ? null : { low, high, least };
}

/**
 * What is drawn when bins are narrower than a pixel: of each column the first, lowest, highest and last value with
 * their order kept, so that no peak is lost. Positions are bins.
 * @param {Values} values
 * @param {number} first
 * @param {number} last
 * @param {number} columns
 * @returns {(readonly [number, number] | null)[]} `null` is a break in the line
 */
export function thinned(values, first, last, columns) {
  /** @type {(readonly [number, number] | null)[]} */
  const points = [];
  const perColumn = (last - first) / Math.max(columns, 1);
  let isBroken = true;
  for (let column = 0; column < columns; column += 1) {
    const from = first + Math.floor(column * perColumn);
    const to = column + 1 === columns ? last : first + Math.floor((column + 1) * perColumn);
    let low = -1;
    let high = -1;
    let begin = -1;
    let end = -1;
    for (let bin = from; bin < to; bin += 1) {
      const value = values[bin];
      if (value === null || value === undefined) continue;
      if (begin < 0) begin = bin;
      end = bin;
      if (low < 0 || value < /** @type {number} */ (values[low])) low = bin;
      if (high < 0 || value > /** @type {number} */ (values[high])) high = bin;
    }
    if (begin < 0) {
      if (to > from && !isBroken) {
        points.push(null);
        isBroken = true;
      }
      continue;
    }
    isBroken = false;
    let previous = -1;
    for (const bin of [begin, Math.min(low, high), Math.max(low, high), end]) {
      if (bin > previous) points.push([bin, /** @type {number} */ (values[bin])]);
      previous = Math.max(previous, bin);
    }
  }
  return points;
}

/**
 * Values on bins of another width: the mean of what is known, weighted by time.
 * @param {Values} values
 * @param {Grid} grid
 * @param {Grid} onto
 * @returns {(number | null)[]}
 */
export function regridded(values, grid, onto) {
  if (isAligned(grid, onto)) {
    return Array.from({ length: onto.bins }, (_, bin) => values[bin] ?? null);
  }
  return Array.from({ length: onto.bins }, (_, bin) => {
    const [from, to] = [momentOf(onto, bin), momentOf(onto, bin + 1)];
    const [first, last] = binsIn(grid, { from, to });
    let sum = 0;
    let weight = 0;
    for (let old = first; old < last; old += 1) {
      const value = values[old];
      if (value === null || value === undefined) continue;
      const overlap = Math.min(to, momentOf(grid, old + 1)) - Math.max(from, momentOf(grid, old));
      sum += value * overlap;
      weight += overlap;
    }
    return weight > 0 ? sum / weight : null;
  });
}

/**
 * How many bins a rate is taken over where bins are narrower than a reader can tell apart: of a few calls a bin, each
 * would be a tooth of a comb.
 * @param {Grid} grid
 * @param {Range} view
 * @param {number} most how many values the view has room for
 */
export function binsTogether(grid, view, most) {
  const group = (positionOf(grid, view.to) - positionOf(grid, view.from)) / Math.max(most, 1);
  return group <= 1 ? 1 : Math.ceil(niceStep(group, 1) - 1e-9);
}

/**
 * Values over several bins each: the mean of what is known.
 * @param {Values} values
 * @param {number} group
 * @returns {(number | null)[]}
 */
export function together(values, group) {
  return Array.from({ length: Math.ceil(values.length / group) }, (_, at) => {
    let sum = 0;
    let known = 0;
    for (let bin = at * group; bin < Math.min((at + 1) * group, values.length); bin += 1) {
      const value = values[bin];
      if (value === null || value === undefined) continue;
      sum += value;
      known += 1;
    }
    return known === 0 ? null : sum / known;
  });
}

/**
 * B − A on the common grid; not known where either is not.
 * @param {Values} a
 * @param {Grid} gridA
 * @param {Values} b
 * @param {Grid} gridB
 * @returns {(number | null)[]}
 */
export function differenceOf(a, gridA, b, gridB) {
  const onto = commonGrid(gridA, gridB);
  const left = regridded(a, gridA, onto);
  const right = regridded(b, gridB, onto);
  return left.map((value, bin) => {
    const other = right[bin];
    return value === null || other === null || other === undefined ? null : other - value;
  });
}
