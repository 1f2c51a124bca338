// What the state is and how actions change it. Nothing here touches the page.

import { clampNumber } from "./numbers.js";

/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Filter} Filter */
/** @typedef {import("./types.js").Range} Range */
/** @typedef {import("./types.js").Action} Action */

/** The narrowest view and brush, ns. */
export const NARROWEST_NS = 100;

/** @type {Readonly<Filter>} */
export const NO_FILTER = Object.freeze({
  window: null,
  trace: null,
  tid: null,
  tgid: null,
  call: null,
  errno: null,
  peer: null,
  text: "",
});

/**
 * The state before anybody did anything.
 * @param {Range} axis the time axis, ns
 * @param {number} traces
 * @returns {State}
 */
export function initialState(axis, traces) {
  return {
    ...NO_FILTER,
    axis,
    traces,
    view: null,
    event: null,
    cursor: null,
    hover: null,
    curves: {},
    bold: null,
    open: {},
    lane: null,
    theme: "auto",
    ignored: [],
  };
}

/**
 * The part of the time axis that is shown.
 * @param {State} state
 * @returns {Range}
 */
export function shownRange(state) {
  return state.view ?? state.axis;
}

/**
 * The stretch that lanes and tables are about: the brushed window, or else what is shown.
 * @param {State} state
 * @returns {Range}
 */
export function chosenRange(state) {
  return state.window ?? shownRange(state);
}

/**
 * Where the shared cursor is.
 * @param {State} state
 */
export function cursorOf(state) {
  return state.hover ?? state.cursor;
}

/**
 * Whether anything is filtered by.
 * @param {Filter} state
 */
export function isFiltered(state) {
  return (
    state.window !== null ||
    state.trace !== null ||
    state.tid !== null ||
    state.tgid !== null ||
    state.call !== null ||
    state.errno !== null ||
    state.peer !== null ||
    state.text !== ""
  );
}

/**
 * A range inside the time axis, in order, and not too narrow to be one.
 * @param {number} a
 * @param {number} b
 * @param {Range} axis
 * @returns {Range}
 */
export function rangeWithin(a, b, axis) {
  const begin = axis.from;
  const end = Math.max(axis.to, begin + NARROWEST_NS);
  let from = clampNumber(Math.min(a, b), begin, end);
  let to = clampNumber(Math.max(a, b), begin, end);
  if (to - from < NARROWEST_NS) {
    from = clampNumber(from, begin, end - NARROWEST_NS);
    to = from + NARROWEST_NS;
  }
  return { from: Math.round(from), to: Math.round(to) };
}

/**
 * @param {State} state
 * @param {Range | null} view
 * @returns {State}
 */
function viewing(state, view) {
  const { axis } = state;
  if (view === null || (view.from <= axis.from && view.to >= axis.to)) {
    return state.view === null ? state : { ...state, view: null };
  }
  const next = rangeWithin(view.from, view.to, axis);
  return next.from === state.view?.from && next.to === state.view.to ? state : { ...state, view: next };
}

/**
 * Shows a stretch of some width, or the nearest one within the axis.
 * @param {State} state
 * @param {number} from
 * @param {number} width
 * @returns {State}
 */
function viewingFrom(state, from, width) {
  const { axis } = state;
  const start = clampNumber(from, axis.from, Math.max(axis.to - width, axis.from));
  return viewing(state, { from: start, to: start + width });
}

/**
 * Moves the shown part so that it has a moment in it.
 * @param {State} state
 * @param {number} at
 * @returns {State}
 */
function following(state, at) {
  const { from, to } = shownRange(state);
  if (at >= from && at <= to) return state;
  const width = to - from;
  return viewingFrom(state, at < from ? at : at - width, width);
}

/**
 * Moves the cursor, and an end of the window with it.
 * @param {State} state
 * @param {number} by
 * @param {boolean} extend
 * @returns {State}
 */
function moved(state, by, extend) {
  const range = shownRange(state);
  const was = cursorOf(state) ?? (by >= 0 ? range.from : range.to);
  const at = Math.round(clampNumber(was + by, state.axis.from, state.axis.to));
  /** @type {State} */
  let next = { ...state, cursor: at, hover: null };
  if (extend) {
    // The end at which the cursor stands goes with it; a cursor elsewhere begins a new window.
    const { window } = state;
    const anchor = window === null ? was : was === window.to ? window.from : was === window.from ? window.to : was;
    next = { ...next, window: rangeWithin(anchor, at, state.axis) };
  }
  return following(next, at);
}

/**
 * @param {State} state
 * @param {number} factor below 1: nearer
 * @returns {State}
 */
function zoomed(state, factor) {
  const { from, to } = shownRange(state);
  const middle = state.window === null ? (from + to) / 2 : (state.window.from + state.window.to) / 2;
  const at = clampNumber(cursorOf(state) ?? middle, from, to);
  const whole = state.axis.to - state.axis.from;
  const width = clampNumber((to - from) * factor, NARROWEST_NS, Math.max(whole, NARROWEST_NS));
  const share = to > from ? (at - from) / (to - from) : 0.5;
  return viewingFrom(state, at - share * width, width);
}

/**
 * What an action makes of a state.
 * @param {State} state
 * @param {Action} action
 * @returns {State}
 */
export function reduceState(state, action) {
  switch (action.do) {
    case "filter": {
      const next = { ...state, ...action.set };
      if (next.tid === null && next.tgid === null && action.set.trace === undefined) next.trace = null;
      return action.event === undefined ? next : { ...next, event: action.event };
    }
    case "clear":
      return { ...state, ...NO_FILTER, event: null, ignored: [] };
    case "load":
      return {
        ...state,
        ...NO_FILTER,
        view: null,
        event: null,
        cursor: null,
        ...action.set,
        ignored: action.ignored,
      };
    case "brush":
      return { ...state, window: rangeWithin(action.from, action.to, state.axis), hover: null, cursor: action.to };
    case "move":
      return moved(state, action.by, action.extend);
    case "cursor":
      return state.cursor === action.at && state.hover === null ? state : { ...state, cursor: action.at, hover: null };
    case "hover":
      return state.hover === action.at ? state : { ...state, hover: action.at };
    case "zoom":
      return zoomed(state, action.factor);
    case "pan": {
      const { from, to } = shownRange(state);
      return viewingFrom(state, from + action.by, to - from);
    }
    case "view":
      return viewing(state, action.view);
    case "escape":
      if (state.window !== null) return { ...state, window: null };
      return state.cursor === null && state.hover === null ? state : { ...state, cursor: null, hover: null };
    case "event":
      return { ...state, event: action.event };
    case "curve":
      return { ...state, curves: { ...state.curves, [action.key]: action.on } };
    case "bold":
      return state.bold === action.key ? state : { ...state, bold: action.key };
    case "open":
      return { ...state, open: { ...state.open, [action.key]: !state.open[action.key] } };
    case "lane":
      return { ...state, lane: action.lane };
    case "theme":
      return { ...state, theme: state.theme === "auto" ? "dark" : state.theme === "dark" ? "light" : "auto" };
    case "noted":
      return state.ignored.length === 0 ? state : { ...state, ignored: [] };
  }
}
