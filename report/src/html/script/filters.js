// Which events and rows fit a filter.

import { isFiltered } from "./state.js";

/** @typedef {import("./types.js").Filter} Filter */
/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Dims} Dims */

/**
 * Whether an event of a trace fits.
 * @param {Filter} filter
 * @param {number} trace
 * @param {Event} event
 */
export function fitsEvent(filter, trace, event) {
  return (
    (filter.trace === null || filter.trace === trace) &&
    (filter.tid === null || filter.tid === event.tid) &&
    (filter.tgid === null || filter.tgid === event.tgid) &&
    (filter.call === null || filter.call === event.call) &&
    (filter.errno === null || filter.errno === event.errno) &&
    (filter.peer === null || (event.peer !== null && samePeer(filter.peer, event.peer))) &&
    (filter.window === null || (event.t <= filter.window.to && event.t + event.d >= filter.window.from)) &&
    hasWords(filter.text, event)
  );
}

/**
 * Whether each word of a text is somewhere in an event, in either case.
 * @param {string} text
 * @param {Event} event
 */
function hasWords(text, event) {
  if (text === "") return true;
  const all = `${event.text}\n${event.comm}\n${event.role}\n${event.type}\n${event.tid}`.toLowerCase();
  return text
    .toLowerCase()
    .split(/\s+/)
    .every((word) => all.includes(word));
}

/**
 * @template T
 * @param {T | null} wanted
 * @param {readonly T[]} has
 */
function fitsOne(wanted, has) {
  return wanted === null || has.length === 0 || has.includes(wanted);
}

/**
 * Whether two names are of one end of connections: the same, or with one address or path in both, as in
 * `db.svc:5432 (10.0.0.7:5432)` and `10.0.0.7:5432`.
 * @param {string} a
 * @param {string} b
 */
export function samePeer(a, b) {
  if (a === b) return true;
  const places = (/** @type {string} */ name) => name.split(/[\s()]+/).filter((word) => /[:/]/.test(word));
  const ofB = new Set(places(b));
  return places(a).some((word) => ofB.has(word));
}

/**
 * @param {string | null} wanted
 * @param {readonly string[]} has
 */
function fitsPeer(wanted, has) {
  return wanted === null || has.length === 0 || has.some((peer) => samePeer(wanted, peer));
}

/**
 * Whether what stands on the page fits. A thing that says nothing of a dimension is not filtered by it, and ids of tasks
 * count within their trace only.
 * @param {Filter} filter
 * @param {Dims} dims
 */
export function fitsDims(filter, dims) {
  if (filter.trace !== null && dims.trace !== null && filter.trace !== dims.trace) return false;
  const { window } = filter;
  if (window !== null && dims.from !== null) {
    // Without an end it lives on.
    if (dims.from > window.to || (dims.to ?? Number.POSITIVE_INFINITY) < window.from) return false;
  }
  return (
    fitsOne(filter.tid, dims.tid) &&
    fitsOne(filter.tgid, dims.tgid) &&
    fitsOne(filter.call, dims.call) &&
    fitsOne(filter.errno, dims.errno) &&
    fitsPeer(filter.peer, dims.peer)
  );
}

/**
 * The filter that an element with these dimensions stands for.
 * @param {Dims} dims
 * @returns {Partial<Filter>}
 */
export function filterOf(dims) {
  /** @type {Partial<Filter>} */
  const set = {};
  if (dims.from !== null) set.window = { from: dims.from, to: dims.to ?? dims.from };
  const [tid] = dims.tid;
  const [tgid] = dims.tgid;
  if (tid !== undefined) set.tid = tid;
  // A task says its process already.
  else if (tgid !== undefined) set.tgid = tgid;
  if (dims.trace !== null && (tid !== undefined || tgid !== undefined)) set.trace = dims.trace;
  if (dims.call[0] !== undefined) set.call = dims.call[0];
  if (dims.errno[0] !== undefined) set.errno = dims.errno[0];
  if (dims.peer[0] !== undefined) set.peer = dims.peer[0];
  return set;
}

/**
 * Whether a filter is set to all of this.
 * @param {Filter} filter
 * @param {Partial<Filter>} set
 */
export function isSet(filter, set) {
  const keys = /** @type {(keyof Filter)[]} */ (Object.keys(set));
  return keys.length > 0 && keys.every((key) => sameValue(filter[key], set[key]));
}

/**
 * @param {unknown} a
 * @param {unknown} b
 */
function sameValue(a, b) {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

/**
 * Whether an event is the one of an id `END-TID`; without a thread (0) it is any that was complete then.
 * @param {Event} event
 * @param {string} id
 */
export function hasId(event, id) {
  return event.id === id || (id.endsWith("-0") && event.id.startsWith(id.slice(0, -1)));
}

/**
 * The events that fit, as pairs of trace and position.
 * @param {Filter} filter
 * @param {readonly { sample: { events: Event[] } }[]} traces
 * @returns {{ trace: number, event: Event }[]}
 */
export function fittingEvents(filter, traces) {
  const all = !isFiltered(filter);
  const found = traces.flatMap((trace, index) =>
    trace.sample.events
      .filter((event) => all || fitsEvent(filter, index, event))
      .map((event) => ({ trace: index, event })),
  );
  return traces.length > 1 ? found.sort((a, b) => a.event.t - b.event.t) : found;
}
