// Scales, and where the ticks of an axis go.

import { momentText } from "./numbers.js";

/** @typedef {import("./types.js").Range} Range */
/** @typedef {import("./types.js").ShownUnit} ShownUnit */

/**
 * The step of 1, 2 or 5 times a power of ten that gives at most `most` steps.
 * @param {number} span
 * @param {number} most
 */
export function niceStep(span, most) {
  const rough = Math.max(span, Number.MIN_VALUE) / Math.max(most, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  for (const times of [1, 2, 5]) {
    // 3 / 0.3 is a little above 10.
    if (times * power * (1 + 1e-9) >= rough) return times * power;
  }
  return 10 * power;
}

/**
 * The step of 1, 2, 4 … 512 times a power of 1,024.
 * @param {number} span
 * @param {number} most
 */
function binaryStep(span, most) {
  return 2 ** Math.ceil(Math.log2(Math.max(span / Math.max(most, 1), 1)));
}

/**
 * Ticks of the time axis.
 * @param {Range} range ns
 * @param {number} most
 * @returns {{ at: number, text: string }[]}
 */
export function timeTicks(range, most) {
  const step = Math.max(niceStep(range.to - range.from, most), 1);
  const ticks = [];
  for (let n = Math.ceil(range.from / step - 1e-9); n * step <= range.to * (1 + 1e-12); n += 1) {
    ticks.push({ at: n * step, text: momentText(n * step, step) });
  }
  return ticks;
}

/**
 * @typedef {object} Scale
 * @property {boolean} isLog
 * @property {number} low
 * @property {number} high
 * @property {number[]} ticks
 */

/**
 * A scale for values from `low` to `high`, with its ends and ticks at round values. Durations that reach over more than
 * two powers of ten get a logarithmic one.
 * @param {number} low the smallest value
 * @param {number} high the largest value
 * @param {number} least the smallest value above zero
 * @param {ShownUnit} unit
 * @param {number} most ticks
 * @returns {Scale}
 */
export function valueScale(low, high, least, unit, most) {
  if (unit === "ns" && low >= 0 && least > 0 && high / least > 200) {
    const first = Math.floor(Math.log10(least));
    const last = Math.max(Math.ceil(Math.log10(high)), first + 1);
    const stride = Math.ceil((last - first) / Math.max(most, 1));
    const ticks = [];
    for (let power = first; power <= last; power += stride) ticks.push(10 ** power);
    return { isLog: true, low: 10 ** first, high: 10 ** last, ticks };
  }
  const bottom = Math.min(low, 0);
  const top = high > bottom ? high : bottom + 1;
  const step = unit === "bytes" ? binaryStep(top - bottom, most) : niceStep(top - bottom, most);
  const first = Math.floor(bottom / step);
  const last = Math.ceil(top / step - 1e-9);
  const ticks = [];
  for (let n = first; n <= last; n += 1) ticks.push(n * step);
  return { isLog: false, low: first * step, high: last * step, ticks };
}

/**
 * Where a value is on a scale: 0 at its low end, 1 at its high one.
 * @param {Scale} scale
 * @param {number} value
 */
export function onScale(scale, value) {
  if (scale.isLog) {
    if (value <= scale.low) return 0;
    return Math.log(value / scale.low) / Math.log(scale.high / scale.low);
  }
  return (value - scale.low) / (scale.high - scale.low);
}
