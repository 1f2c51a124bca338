// How bins and times belong together, and how traces lie on the one time axis. No other module works it out.

/** @typedef {import("./types.js").Data} Data */
/** @typedef {import("./types.js").Grid} Grid */
/** @typedef {import("./types.js").Range} Range */
/** @typedef {import("./types.js").Trace} Trace */

/**
 * Where a moment lies among the bins: 2.5 is the middle of the third one. Outside of the grid it goes on.
 * @param {Grid} grid
 * @param {number} at
 */
export function positionOf(grid, at) {
  return (at - grid.from_ns) / grid.width_ns;
}

/**
 * The moment of a position among the bins; of a whole number: when that bin begins.
 * @param {Grid} grid
 * @param {number} position
 */
export function momentOf(grid, position) {
  return grid.from_ns + position * grid.width_ns;
}

/**
 * When a grid ends. Its last bin may reach further.
 * @param {Grid} grid
 */
export function endOf(grid) {
  return grid.from_ns + grid.duration_ns;
}

/**
 * The bin of a moment; `null` outside of the trace.
 * @param {Grid} grid
 * @param {number} at
 */
export function binAt(grid, at) {
  if (at < grid.from_ns || at > endOf(grid)) return null;
  return Math.min(Math.floor(positionOf(grid, at)), grid.bins - 1);
}

/**
 * Whether each bin of a grid is the one of that number of another.
 * @param {Grid} a
 * @param {Grid} b
 */
export function isAligned(a, b) {
  return a.width_ns === b.width_ns && a.from_ns === b.from_ns;
}

/**
 * A grid of bins that are several of another's each.
 * @param {Grid} grid
 * @param {number} group
 * @returns {Grid}
 */
export function coarserGrid(grid, group) {
  return { ...grid, width_ns: grid.width_ns * group, bins: Math.ceil(grid.bins / group) };
}

/**
 * The grid on which two traces can be compared: the wider bins, where both reach.
 * @param {Grid} a
 * @param {Grid} b
 * @returns {Grid}
 */
export function commonGrid(a, b) {
  const width_ns = Math.max(a.width_ns, b.width_ns);
  const from_ns = Math.max(a.from_ns, b.from_ns);
  const duration_ns = Math.max(Math.min(endOf(a), endOf(b)) - from_ns, 0);
  return { from_ns, duration_ns, width_ns, bins: Math.max(Math.ceil(duration_ns / width_ns), 1) };
}

/**
 * The time axis of a report: from where its first trace begins as far as the longest one.
 * @param {Data} data
 * @returns {Range}
 */
export function axisOf(data) {
  const from = data.traces[0]?.grid.from_ns ?? 0;
  return { from, to: Math.max(from + 1, ...data.traces.map(({ grid }) => endOf(grid))) };
}

/**
 * The data on one time axis: that of the first trace, with which every other one begins. A dump of a flight recorder
 * begins where its window does, and is compared from there.
 * @param {Data} data
 * @returns {Data}
 */
export function onOneAxis(data) {
  const begin = data.traces[0]?.grid.from_ns ?? 0;
  const by = data.traces.map(({ grid }) => begin - grid.from_ns);
  const divergence = data.first_divergence;
  const b_ns = divergence?.b_ns ?? null;
  return {
    ...data,
    traces: data.traces.map((trace, index) => shifted(trace, by[index] ?? 0)),
    first_divergence: divergence && { ...divergence, b_ns: b_ns === null ? null : b_ns + (by[1] ?? 0) },
  };
}

/**
 * @param {Trace} trace
 * @param {number} by
 * @returns {Trace}
 */
function shifted(trace, by) {
  if (by === 0) return trace;
  /** @type {<T extends { from_ns: number, to_ns: number }>(span: T) => T} */
  const moved = (span) => ({ ...span, from_ns: span.from_ns + by, to_ns: span.to_ns + by });
  const { grid, gaps, spans, lanes, sample } = trace;
  return {
    ...trace,
    grid: { ...grid, from_ns: grid.from_ns + by },
    gaps: gaps.map(moved),
    spans: spans.map(moved),
    lanes: {
      ...lanes,
      rows: lanes.rows.map((lane) => ({ ...moved(lane), stretches: lane.stretches.map(moved) })),
    },
    sample: { ...sample, events: sample.events.map((event) => ({ ...event, t: event.t + by })) },
  };
}
