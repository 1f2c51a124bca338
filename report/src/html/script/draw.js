// Drawing on canvases: curves with their scales, hatching, the cursor and the brush.

import { binsIn, extentOf, thinned } from "./bins.js";
import { endOf, momentOf } from "./grid.js";
import { apart } from "./labels.js";
import { valueText } from "./numbers.js";
import { onScale, timeTicks, valueScale } from "./ticks.js";

/** @typedef {import("./types.js").Colours} Colours */
/** @typedef {import("./types.js").Line} Line */
/** @typedef {import("./types.js").Range} Range */
/** @typedef {import("./types.js").Gap} Gap */
/** @typedef {import("./types.js").ShownUnit} ShownUnit */
/** @typedef {import("./ticks.js").Scale} Scale */
/** @typedef {CanvasRenderingContext2D} Context */

/** Room beside a plot: for its scale, and for the names of curves. */
export const LEFT = 64;
const RIGHT_WIDE = 112;
const RIGHT_NARROW = 64;
const NARROW = 520;
const TOP = 6;
const BOTTOM = 6;
const LABEL_HEIGHT = 12;
/** What is narrower is seen as a point. */
const ALONE_PX = 4;
const FONT = "11px system-ui, sans-serif";

/**
 * The pixels in which time runs.
 * @param {number} width of the canvas
 * @returns {{ x0: number, x1: number }}
 */
export function plotSpan(width) {
  return { x0: LEFT, x1: Math.max(width - (width < NARROW ? RIGHT_NARROW : RIGHT_WIDE), LEFT + 10) };
}

/**
 * @param {Range} view
 * @param {number} width
 */
export function timeScale(view, width) {
  const { x0, x1 } = plotSpan(width);
  const perNs = (x1 - x0) / Math.max(view.to - view.from, 1);
  return {
    x: (/** @type {number} */ at) => x0 + (at - view.from) * perNs,
    at: (/** @type {number} */ x) => view.from + (Math.min(Math.max(x, x0), x1) - x0) / perNs,
  };
}

/**
 * A pattern of slanted lines.
 * @param {Context} context
 * @param {string} colour
 * @param {number} step
 * @param {boolean} [falls] whether the lines fall to the right
 */
export function hatch(context, colour, step, falls = false) {
  const tile = document.createElement("canvas");
  tile.width = step;
  tile.height = step;
  const on = tile.getContext("2d");
  if (on === null) return colour;
  on.strokeStyle = colour;
  on.lineWidth = 1.2;
  on.beginPath();
  for (const shift of [-step, 0, step]) {
    on.moveTo(shift, falls ? 0 : step);
    on.lineTo(shift + step, falls ? step : 0);
  }
  on.stroke();
  return context.createPattern(tile, "repeat") ?? colour;
}

/**
 * The scale that fits the curves in a view. A limit far above everything is not given room; its label says where it is.
 * @param {readonly Line[]} lines
 * @param {Range} view
 * @param {ShownUnit} unit
 * @param {number} ticks
 * @returns {Scale}
 */
export function scaleFor(lines, view, unit, ticks) {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  let least = Number.POSITIVE_INFINITY;
  let limit = 0;
  for (const line of lines) {
    const extent = extentOf(line.values, ...binsIn(line.grid, view));
    if (extent === null) continue;
    if (line.isLimit) {
      limit = Math.max(limit, extent.high);
      continue;
    }
    low = Math.min(low, extent.low);
    high = Math.max(high, extent.high);
    least = Math.min(least, extent.least);
  }
  if (high === Number.NEGATIVE_INFINITY) [low, high] = [0, limit];
  if (limit > high && limit <= high * 4) high = limit;
  return valueScale(low, high, least, unit, ticks);
}

/**
 * @typedef {object} PlotFrame what is drawn, and where
 * @property {readonly Line[]} lines
 * @property {Scale} scale
 * @property {Range} view
 * @property {ShownUnit} unit
 * @property {number} width
 * @property {number} height
 * @property {Colours} colours
 * @property {readonly Gap[]} gaps
 * @property {readonly number[]} marks moments that get a line
 * @property {string | null} bold key of the curve that is brought out
 * @property {boolean} isSigned whether values are differences
 */

/**
 * Draws a plot: hatched gaps, scale, curves, names at their ends.
 * @param {Context} context
 * @param {PlotFrame} frame
 */
export function drawPlot(context, frame) {
  const { width, height, colours, scale, view } = frame;
  const { x0, x1 } = plotSpan(width);
  const time = timeScale(view, width);
  const y = (/** @type {number} */ value) =>
    height - BOTTOM - Math.min(Math.max(onScale(scale, value), -0.02), 1.03) * (height - TOP - BOTTOM);
  context.font = FONT;
  context.textBaseline = "middle";
  context.lineWidth = 1;
  drawTimeGrid(context, frame);
  context.textAlign = "right";
  for (const tick of scale.ticks) {
    const at = Math.round(y(tick)) + 0.5;
    context.strokeStyle = tick === 0 ? colours.faint : colours.grid;
    context.beginPath();
    context.moveTo(x0, at);
    context.lineTo(x1, at);
    context.stroke();
    context.fillStyle = colours.faint;
    const text = valueText(tick, frame.unit);
    context.fillText(frame.isSigned && tick > 0 ? `+${text}` : text, x0 - 6, at, x0 - 8);
  }
  context.save();
  context.beginPath();
  context.rect(x0, 0, x1 - x0, height);
  context.clip();
  const pattern = hatch(context, colours.loss, 6);
  context.globalAlpha = 0.35;
  context.fillStyle = pattern;
  for (const gap of frame.gaps) {
    const left = time.x(gap.from_ns);
    context.fillRect(left, 0, Math.max(time.x(gap.to_ns) - left, 2), height);
  }
  context.globalAlpha = 1;
  context.setLineDash([2, 3]);
  context.strokeStyle = colours.bad;
  for (const mark of frame.marks) {
    context.beginPath();
    context.moveTo(time.x(mark), 0);
    context.lineTo(time.x(mark), height);
    context.stroke();
  }
  // The curve that is brought out is drawn over the others.
  const bold = frame.bold === null ? undefined : frame.lines.find(({ key }) => key === frame.bold);
  for (const line of bold === undefined ? frame.lines : [...frame.lines.filter((one) => one !== bold), bold]) {
    context.globalAlpha = bold === undefined || line === bold ? 1 : 0.25;
    strokeLine(context, line, frame, y);
  }
  context.restore();
  drawNames(context, frame, y);
}

/**
 * The upright lines of the time axis.
 * @param {Context} context
 * @param {{ view: Range, width: number, height: number, colours: Colours }} frame
 */
export function drawTimeGrid(context, { view, width, height, colours }) {
  const { x0, x1 } = plotSpan(width);
  const time = timeScale(view, width);
  context.setLineDash([]);
  context.strokeStyle = colours.grid;
  context.beginPath();
  for (const tick of timeTicks(view, (x1 - x0) / 90)) {
    const at = Math.round(time.x(tick.at)) + 0.5;
    context.moveTo(at, 0);
    context.lineTo(at, height);
  }
  context.stroke();
}

/**
 * A line as runs of points on the canvas; between two runs nothing is known.
 * @param {Line} line
 * @param {PlotFrame} frame
 * @param {(value: number) => number} y
 * @returns {[number, number][][]}
 */
function runsOf(line, frame, y) {
  const { x0, x1 } = plotSpan(frame.width);
  const time = timeScale(frame.view, frame.width);
  const { grid, values } = line;
  const [first, last] = binsIn(grid, frame.view);
  const columns = Math.max(Math.round(x1 - x0), 1);
  /** @type {[number, number][][]} */
  const runs = [];
  let isOpen = false;
  const add = (/** @type {[number, number][]} */ ...points) => {
    if (isOpen) runs.at(-1)?.push(...points);
    else runs.push(points);
    isOpen = true;
  };
  if (last - first > columns) {
    for (const point of thinned(values, first, last, columns)) {
      if (point === null) isOpen = false;
      else add([time.x(momentOf(grid, point[0] + 0.5)), y(point[1])]);
    }
    return runs;
  }
  // Few bins: each is a step as wide as it is, and the last one ends with the trace.
  for (let bin = first; bin < last; bin += 1) {
    const value = values[bin];
    if (value === null || value === undefined) {
      isOpen = false;
      continue;
    }
    const end = Math.min(momentOf(grid, bin + 1), endOf(grid));
    add([time.x(momentOf(grid, bin)), y(value)], [time.x(end), y(value)]);
  }
  return runs;
}

/**
 * @param {Context} context
 * @param {Line} line
 * @param {PlotFrame} frame
 * @param {(value: number) => number} y
 */
function strokeLine(context, line, frame, y) {
  const colour = line.isLimit ? frame.colours.limit : (frame.colours.curves[line.colour] ?? frame.colours.ink);
  context.strokeStyle = colour;
  context.fillStyle = colour;
  context.lineWidth = line.key === frame.bold ? 2.5 : line.isLimit ? 1.5 : 1.4;
  context.setLineDash(line.isLimit ? [10, 5] : line.dash);
  context.lineJoin = "bevel";
  context.beginPath();
  for (const run of runsOf(line, frame, y)) {
    const [[left, begin] = [0, 0]] = run;
    const [right] = run.at(-1) ?? [left];
    if (right - left < ALONE_PX) {
      // A value that stands alone is a dot: a pattern of dashes could leave it out.
      const heights = run.map(([, at]) => at);
      const top = Math.min(...heights);
      context.fillRect(left - 1, top - 1, Math.max(right - left, 2.5), Math.max(...heights) - top + 2.5);
      continue;
    }
    context.moveTo(left, begin);
    for (const [x, at] of run) context.lineTo(x, at);
  }
  context.stroke();
}

/**
 * The last value of a line in a view.
 * @param {Line} line
 * @param {Range} view
 */
function lastOf(line, view) {
  const [first, last] = binsIn(line.grid, view);
  for (let bin = last - 1; bin >= first; bin -= 1) {
    const value = line.values[bin];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

/**
 * Names at the ends of the curves, the highest curves first when there is no room for all.
 * @param {Context} context
 * @param {PlotFrame} frame
 * @param {(value: number) => number} y
 */
function drawNames(context, frame, y) {
  const { x1 } = plotSpan(frame.width);
  const room = frame.width - x1 - 12;
  const ends = frame.lines
    .map((line) => ({ line, value: lastOf(line, frame.view) }))
    .flatMap(({ line, value }) => (value === null ? [] : [{ line, value, at: y(value) }]));
  ends.sort((a, b) => Number(b.line.key === frame.bold) - Number(a.line.key === frame.bold) || b.value - a.value);
  const places = apart(
    ends.map(({ at }) => at),
    LABEL_HEIGHT,
    0,
    frame.height,
  );
  context.textAlign = "left";
  context.setLineDash([]);
  context.lineWidth = 1;
  for (const [index, { line, value, at }] of ends.entries()) {
    const place = places[index];
    if (place === null || place === undefined) continue;
    const colour = line.isLimit ? frame.colours.limit : (frame.colours.curves[line.colour] ?? frame.colours.ink);
    context.strokeStyle = colour;
    context.beginPath();
    context.moveTo(x1 + 1, at);
    context.lineTo(x1 + 8, place);
    context.stroke();
    context.fillStyle = line.key === frame.bold ? frame.colours.ink : colour;
    const isAbove = line.isLimit && onScale(frame.scale, value) > 1.001;
    const name = isAbove ? `↑ ${line.name} ${valueText(value, frame.unit)}` : line.name;
    context.fillText(fitted(context, name, room), x1 + 10, place);
  }
}

/**
 * A text cut to a width.
 * @param {Context} context
 * @param {string} text
 * @param {number} room
 */
export function fitted(context, text, room) {
  // No glyph is narrower than a fifth of a pixel: a name of a megabyte is not measured whole.
  let cut = text.length > 400 ? text.slice(0, 400) : text;
  if (cut === text && context.measureText(cut).width <= room) return text;
  while (cut.length > 0 && context.measureText(`${cut}…`).width > room) {
    cut = cut.slice(0, Math.min(cut.length - 1, Math.ceil(cut.length * 0.9)));
  }
  return cut === "" ? "" : `${cut}…`;
}

/**
 * The cursor and the brushed window, over a plot or a band.
 * @param {Context} context
 * @param {{ view: Range, width: number, height: number, colours: Colours, window: Range | null, cursor: number | null }} frame
 */
export function drawOverlay(context, { view, width, height, colours, window, cursor }) {
  const { x0, x1 } = plotSpan(width);
  const time = timeScale(view, width);
  context.save();
  context.beginPath();
  context.rect(x0, 0, x1 - x0, height);
  context.clip();
  if (window !== null) {
    const [left, right] = [time.x(window.from), time.x(window.to)];
    context.globalAlpha = 0.16;
    context.fillStyle = colours.brush;
    context.fillRect(left, 0, right - left, height);
    context.globalAlpha = 1;
    context.strokeStyle = colours.brush;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const edge of [left, right]) {
      context.moveTo(edge, 0);
      context.lineTo(edge, height);
    }
    context.stroke();
  }
  if (cursor !== null) {
    context.strokeStyle = colours.ink;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(Math.round(time.x(cursor)) + 0.5, 0);
    context.lineTo(Math.round(time.x(cursor)) + 0.5, height);
    context.stroke();
  }
  context.restore();
}
