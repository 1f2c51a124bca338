// What is drawn: the panels of all traces, put together by unit, with the look of each curve.

import { binsTogether, differenceOf, extentOf, together } from "./bins.js";
import { coarserGrid, commonGrid } from "./grid.js";

/** @typedef {import("./types.js").Data} Data */
/** @typedef {import("./types.js").Trace} Trace */
/** @typedef {import("./types.js").Curve} Curve */
/** @typedef {import("./types.js").Line} Line */
/** @typedef {import("./types.js").Plot} Plot */
/** @typedef {import("./types.js").Strip} Strip */
/** @typedef {import("./types.js").ShownUnit} ShownUnit */
/** @typedef {import("./types.js").State} State */

/** How many curves of a panel are drawn before the reader asks for more. */
export const CURVES_AT_FIRST = 8;

/** How many colours there are. */
export const COLOURS = 8;

/** Patterns of lines: by them curves are told apart without colour. */
export const DASHES = /** @type {readonly (readonly number[])[]} */ ([
  [],
  [7, 3],
  [2, 2],
  [9, 3, 2, 3],
  [4, 2],
  [12, 4],
  [6, 2, 2, 2, 2, 2],
  [1, 3],
]);

/** @type {Readonly<Record<string, string>>} */
const TITLES = {
  calls: "Calls",
  latency: "Latency of calls",
  errors: "Errors",
  connections: "Connections",
  network: "Network",
  cpu: "CPU",
  memory: "Memory",
  pressure: "Pressure",
  disk: "Disk",
  backlog: "Accept queue",
  counts: "Descriptors and tasks",
};

/** @type {Readonly<Record<ShownUnit, string>>} */
const UNIT_WORDS = {
  "per-second": "per second",
  ns: "times",
  bytes: "bytes",
  count: "numbers",
  share: "shares of time",
  cpus: "CPUs",
};

/**
 * @param {string} kind
 * @param {Curve} curve
 * @returns {ShownUnit}
 */
function shownUnit(kind, curve) {
  return kind === "cpu" && curve.unit === "share" ? "cpus" : curve.unit;
}

/**
 * The part of a curve's name that says what it is of: `p99 network` and `p50 network` share a colour.
 * @param {string} name
 */
export function subjectOf(name) {
  return name.replace(/^(?:p\d+(?:\.\d+)?|longest|median)\s+/, "");
}

/**
 * Colours of the subjects: the same one in every panel, as far as two of one panel do not meet.
 * @param {readonly string[]} subjects of a panel, in order
 * @param {Map<string, number>} known of the panels before; grows
 * @returns {Map<string, number>}
 */
export function coloursOf(subjects, known) {
  /** @type {Map<string, number>} */
  const here = new Map();
  const used = new Set();
  for (const subject of new Set(subjects)) {
    let colour = known.get(subject) ?? known.size % COLOURS;
    for (let n = 0; n < COLOURS && used.has(colour); n += 1) colour = (colour + 1) % COLOURS;
    if (!known.has(subject)) known.set(subject, colour);
    used.add(colour);
    here.set(subject, colour);
  }
  return here;
}

/**
 * The panels of one kind of all traces as plots, one for each unit.
 * @param {Data} data
 * @param {string} kind
 * @param {Map<string, number>} known colours
 * @returns {Plot[]}
 */
function plotsOfKind(data, kind, known) {
  const title = TITLES[kind] ?? kind;
  const ofTraces = data.traces.map((trace) => trace.panels.find((panel) => panel.kind === kind));
  /** @type {Map<ShownUnit, Map<string, boolean>>} */
  const units = new Map();
  for (const panel of ofTraces) {
    for (const curve of panel?.series ?? []) {
      const unit = shownUnit(kind, curve);
      const names = units.get(unit) ?? new Map();
      names.set(curve.name, curve.is_limit);
      units.set(unit, names);
    }
  }
  if (units.size === 0) {
    const empty = ofTraces.map((panel) => panel?.empty).find((reason) => typeof reason === "string");
    return [{ key: kind, title, unit: "count", strips: [], empty: empty ?? "nothing was recorded of it" }];
  }
  return [...units].map(([unit, names]) => {
    const colours = coloursOf([...names.keys()].map(subjectOf), known);
    const looks = new Map(
      [...names].map(([name, isLimit], index) => [
        name,
        { name, isLimit, colour: colours.get(subjectOf(name)) ?? 0, dash: DASHES[index % DASHES.length] ?? [] },
      ]),
    );
    const key = units.size === 1 ? kind : `${kind}-${unit}`;
    /** @type {Strip[]} */
    const strips = data.traces.map((trace, index) => ({
      title: data.traces.length > 1 ? letterOf(index, trace) : "",
      trace: index,
      lines: (ofTraces[index]?.series ?? [])
        .filter((curve) => shownUnit(kind, curve) === unit)
        .map((curve) => ({
          key: `${key}/${curve.name}`,
          values: curve.values,
          grid: trace.grid,
          ...(looks.get(curve.name) ?? { name: curve.name, isLimit: curve.is_limit, colour: 0, dash: [] }),
        })),
    }));
    const [a, b] = strips;
    if (a !== undefined && b !== undefined) strips.push(differenceStrip(a, b));
    // A panel of one unit shows it at its scale.
    const isPlain = units.size === 1 && unit !== "per-second";
    return { key, title: isPlain ? title : `${title}, ${UNIT_WORDS[unit]}`, unit, strips, empty: null };
  });
}

/**
 * @param {number} index
 * @param {Trace} trace
 */
export function letterOf(index, trace) {
  return `${String.fromCharCode(65 + index)} ${trace.label}`;
}

/**
 * @param {Strip} a
 * @param {Strip} b
 * @returns {Strip}
 */
function differenceStrip(a, b) {
  const lines = a.lines.flatMap((line) => {
    const other = b.lines.find(({ key }) => key === line.key);
    if (other === undefined || line.isLimit) return [];
    const grid = commonGrid(line.grid, other.grid);
    return [{ ...line, grid, values: differenceOf(line.values, line.grid, other.values, other.grid) }];
  });
  return { title: "B − A", trace: null, lines };
}

/**
 * Every panel of a report.
 * @param {Data} data
 * @returns {Plot[]}
 */
export function plotsOf(data) {
  const kinds = new Set(data.traces.flatMap((trace) => trace.panels.map((panel) => panel.kind)));
  /** @type {Map<string, number>} */
  const known = new Map();
  return [...kinds].flatMap((kind) => plotsOfKind(data, kind, known));
}

/**
 * The curves that are drawn at first: those with the highest values, and every limit.
 * @param {Plot} plot
 * @returns {ReadonlySet<string>}
 */
export function firstCurves(plot) {
  /** @type {Map<string, number>} */
  const peaks = new Map();
  const chosen = new Set();
  for (const line of plot.strips.filter((strip) => strip.trace !== null).flatMap((strip) => strip.lines)) {
    if (line.isLimit) chosen.add(line.key);
    const high = extentOf(line.values, 0, line.values.length)?.high ?? 0;
    peaks.set(line.key, Math.max(peaks.get(line.key) ?? 0, high));
  }
  const ranked = [...peaks].filter(([key]) => !chosen.has(key)).sort((x, y) => y[1] - x[1]);
  for (const [key] of ranked.slice(0, CURVES_AT_FIRST)) chosen.add(key);
  return chosen;
}

/** Values that a plot has room for when they are rates. */
const RATES = 200;
/** @type {WeakMap<Line, { group: number, line: Line }>} what was last worked out; nothing that a reader changes */
const coarser = new WeakMap();

/**
 * A line as a view shows it: rates over as many bins as can be told apart, all else as it is.
 * @param {Line} line
 * @param {ShownUnit} unit
 * @param {import("./types.js").Range} view
 * @returns {Line}
 */
export function shownLine(line, unit, view) {
  const group = unit === "per-second" ? binsTogether(line.grid, view, RATES) : 1;
  if (group === 1) return line;
  const known = coarser.get(line);
  if (known?.group === group) return known.line;
  const made = { ...line, grid: coarserGrid(line.grid, group), values: together(line.values, group) };
  coarser.set(line, { group, line: made });
  return made;
}

/**
 * Whether a curve is drawn.
 * @param {State} state
 * @param {ReadonlySet<string>} first
 * @param {string} key
 */
export function isDrawn(state, first, key) {
  return state.curves[key] ?? first.has(key);
}
