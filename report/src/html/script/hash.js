// The state in the location's hash, so that a link shows what its sender saw: `#t=12.3-14&task=4711&call=connect`.

import { shortened } from "./numbers.js";
import { rangeWithin } from "./state.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Range} Range */

/** The longest text that a link may bring, and the longest part of it that is quoted. */
const MOST_TEXT = 4096;
const MOST_QUOTED = 60;

/**
 * A time in seconds, exact to the ns, without zeros that say nothing.
 * @param {number} ns
 */
function seconds(ns) {
  const whole = Math.floor(ns / 1e9);
  const rest = String(Math.round(ns - whole * 1e9))
    .padStart(9, "0")
    .replace(/0+$/, "");
  return rest === "" ? String(whole) : `${whole}.${rest}`;
}

/**
 * @param {string} text
 * @returns {number | null}
 */
function nanoseconds(text) {
  const match = /^(\d{1,7})(?:\.(\d{1,9}))?$/.exec(text);
  if (match === null) return null;
  return Number(match[1]) * 1e9 + Number((match[2] ?? "").padEnd(9, "0"));
}

/**
 * @param {string} text
 * @param {Range} axis
 * @returns {Range | null}
 */
function range(text, axis) {
  const ends = text.split("-").map(nanoseconds);
  const [from, to] = ends;
  if (ends.length !== 2 || typeof from !== "number" || typeof to !== "number") return null;
  return from > to || from > axis.to || to < axis.from ? null : rangeWithin(from, to, axis);
}

/**
 * @param {string} text
 * @returns {number | null}
 */
function id(text) {
  return /^\d{1,10}$/.test(text) ? Number(text) : null;
}

/**
 * The hash of a state, without `#`; empty when there is nothing to tell.
 * @param {State} state
 */
export function toHash(state) {
  /** @type {[string, string | number | null][]} */
  const parts = [
    ["t", state.window && `${seconds(state.window.from)}-${seconds(state.window.to)}`],
    ["view", state.view && `${seconds(state.view.from)}-${seconds(state.view.to)}`],
    ["at", state.cursor === null ? null : seconds(state.cursor)],
    ["trace", state.trace],
    ["task", state.tid],
    ["process", state.tgid],
    ["call", state.call],
    ["errno", state.errno],
    ["peer", state.peer],
    ["event", state.event && (state.event.trace === 0 ? state.event.id : `${state.event.id}@${state.event.trace}`)],
    ["q", state.text === "" ? null : state.text],
  ];
  return parts
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`)
    .join("&");
}

/**
 * What a hash says. A part that means nothing here is left out and told.
 * @param {string} hash with or without `#`
 * @param {Range} axis
 * @param {number} traces
 * @returns {{ set: Partial<State>, ignored: string[] }}
 */
export function fromHash(hash, axis, traces) {
  /** @type {Partial<State>} */
  const set = {};
  /** @type {string[]} */
  const ignored = [];
  const parts = hash.replace(/^#/, "").split("&");
  for (const part of parts) {
    if (part === "") continue;
    const cut = part.indexOf("=");
    if (cut < 0 || !takePart(set, part.slice(0, cut), decoded(part.slice(cut + 1)), axis, traces)) {
      ignored.push(shortened(part, MOST_QUOTED));
    }
  }
  return { set, ignored };
}

/** Signs that show as nothing or act: no name in the data has one, they are made visible there. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u;

/**
 * @param {string} text
 * @returns {string | null}
 */
function decoded(text) {
  try {
    const whole = decodeURIComponent(text);
    return UNSEEN.test(whole) ? null : whole;
  } catch {
    return null;
  }
}

/**
 * @param {Partial<State>} set
 * @param {string} name
 * @param {string | null} value
 * @param {Range} axis
 * @param {number} traces
 * @returns {boolean} whether it means something
 */
function takePart(set, name, value, axis, traces) {
  if (value === null || value === "" || value.length > MOST_TEXT) return false;
  switch (name) {
    case "t":
    case "view": {
      const found = range(value, axis);
      if (found !== null) set[name === "t" ? "window" : "view"] = found;
      return found !== null;
    }
    case "at": {
      const at = nanoseconds(value);
      if (at === null || at < axis.from || at > axis.to) return false;
      set.cursor = at;
      return true;
    }
    case "trace": {
      const trace = id(value);
      if (trace === null || trace >= traces) return false;
      set.trace = trace;
      return true;
    }
    case "task":
    case "process": {
      const found = id(value);
      if (found !== null) set[name === "task" ? "tid" : "tgid"] = found;
      return found !== null;
    }
    case "call":
    case "errno":
    case "peer":
      set[name] = value;
      return true;
    case "event": {
      const match = /^(\d{1,20}-\d{1,10})(?:@(\d))?$/.exec(value);
      const trace = Number(match?.[2] ?? 0);
      if (match?.[1] === undefined || trace >= traces) return false;
      set.event = { trace, id: match[1] };
      return true;
    }
    case "q":
      set.text = value;
      return true;
    default:
      return false;
  }
}

/**
 * Whether a hash is a place on the page and not a state.
 * @param {string} hash
 */
export function isPlace(hash) {
  return /^#?[a-z][a-z0-9-]*$/.test(hash);
}
