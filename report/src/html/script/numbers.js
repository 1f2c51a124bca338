// How numbers and times are written.

/** @typedef {import("./types.js").ShownUnit} ShownUnit */

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
export function clampNumber(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/**
 * A number with commas between thousands, independent of the reader's locale.
 * @param {number} value
 * @param {number} [decimals]
 */
export function grouped(value, decimals = 0) {
  const [whole = "", part] = Math.abs(value).toFixed(decimals).split(".");
  const withCommas = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const text = part === undefined ? withCommas : `${withCommas}.${part}`;
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}

/**
 * About three digits that count: 0.0123, 1.23, 12.3, 1,234.
 * @param {number} value
 */
export function threeDigits(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 99.95) return grouped(value);
  const decimals = size >= 9.995 ? 1 : size >= 0.995 ? 2 : Math.min(2 - Math.floor(Math.log10(size)), 9);
  const text = grouped(value, decimals);
  return text.replace(/\.?0+$/, "");
}

/**
 * The beginning of a text that may be as long as a stranger likes.
 * @param {string} text
 * @param {number} most
 */
export function shortened(text, most) {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

/** Units of time, the widest first: its length in ns and its name. */
const TIME_UNITS = /** @type {const} */ ([
  [1e9, "s"],
  [1e6, "ms"],
  [1e3, "µs"],
  [1, "ns"],
]);

/**
 * A duration in the unit that fits it.
 * @param {number} ns
 */
export function durationText(ns) {
  const size = Math.abs(ns);
  const [length, name] = TIME_UNITS.find(([length]) => size >= length * 0.9995) ?? TIME_UNITS[3];
  return size === 0 ? "0" : `${threeDigits(ns / length)} ${name}`;
}

/**
 * A moment in seconds, as exact as a step on the axis asks for.
 * @param {number} ns
 * @param {number} step ns
 */
export function momentText(ns, step) {
  const decimals = step >= 1e9 ? 0 : clampNumber(Math.ceil(9 - Math.log10(Math.max(step, 1)) - 1e-9), 0, 9);
  return `${grouped(ns / 1e9, decimals)} s`;
}

/**
 * A range of moments: `12.30–14.05 s`.
 * @param {number} from
 * @param {number} to
 */
export function rangeText(from, to) {
  const step = 10 ** Math.floor(Math.log10(Math.max(to - from, 1)) - 1);
  return `${momentText(from, step).replace(/ s$/, "")}–${momentText(to, step)}`;
}

/** Binary units of bytes, the widest first. */
const BYTE_UNITS = /** @type {const} */ ([
  [2 ** 40, "TiB"],
  [2 ** 30, "GiB"],
  [2 ** 20, "MiB"],
  [2 ** 10, "KiB"],
]);

/**
 * @param {number} bytes
 */
export function bytesText(bytes) {
  const size = Math.abs(bytes);
  const unit = BYTE_UNITS.find(([length]) => size >= length);
  return unit === undefined ? `${threeDigits(bytes)} B` : `${threeDigits(bytes / unit[0])} ${unit[1]}`;
}

/**
 * @param {number} value
 */
function shortCount(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${threeDigits(value / 1e9)} G`;
  if (size >= 1e6) return `${threeDigits(value / 1e6)} M`;
  if (size >= 1e4) return `${threeDigits(value / 1e3)} k`;
  return threeDigits(value);
}

/**
 * A value as it is shown.
 * @param {number} value
 * @param {ShownUnit} unit
 */
export function valueText(value, unit) {
  switch (unit) {
    case "ns":
      return durationText(value);
    case "bytes":
      return bytesText(value);
    case "per-second":
      return `${shortCount(value)}/s`;
    case "share":
      return `${threeDigits(value * 100)} %`;
    case "cpus":
      return `${threeDigits(Math.round(value * 1000) / 1000)} CPU`;
    case "count":
      return shortCount(value);
  }
}
