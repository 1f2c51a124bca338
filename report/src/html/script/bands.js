// The bands above the curves: what is said about a time (findings, markers, triggers), and what was not recorded.

import { dataTable } from "./datatable.js";
import { button, canvas, el, setAttributes, setText, sized } from "./dom.js";
import { drawOverlay, drawTimeGrid, hatch, plotSpan, timeScale } from "./draw.js";
import { onRows } from "./labels.js";
import { durationText, grouped, momentText, rangeText } from "./numbers.js";
import { letterOf } from "./plots.js";
import { chosenRange, cursorOf, shownRange } from "./state.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Gap} Gap */
/** @typedef {import("./types.js").Span} Span */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Range} Range */

const ROW_HEIGHT = 22;
const MOST_ROWS = 4;
const MOST_LABELS = 120;
const WIDEST_LABEL = 260;
const GAP_HEIGHT = 16;

/** Kinds of spans, those that matter most first. */
const KINDS = ["finding", "trigger", "marker", "clock-jump", "exec", "exit"];
/** Kinds that get ticks and no labels when there are many. */
const MINOR = ["exec", "exit"];
const MOST_MINOR = 6;

/** @type {Readonly<Record<string, string>>} */
const GAP_WORDS = { lost: "lost", counted: "counted only", unread: "unreadable", cut: "cut off" };

/**
 * Spans in the order in which they get room.
 * @param {readonly Span[]} spans
 */
export function byImportance(spans) {
  const weight = (/** @type {Span} */ span) => KINDS.indexOf(span.kind) * 1e4 + (span.rank ?? 0);
  return [...spans].sort((a, b) => weight(a) - weight(b) || a.from_ns - b.from_ns);
}

/**
 * The words of a span.
 * @param {Span} span
 */
export function spanText(span) {
  const kind = span.rank === null ? span.kind.replace("-", " ") : `${span.kind} ${span.rank}`;
  return `${kind}: ${span.text}`;
}

/**
 * The words of a gap.
 * @param {Gap} gap
 */
export function gapText(gap) {
  const what = `${grouped(gap.count)} events ${GAP_WORDS[gap.kind] ?? gap.kind}`;
  return `${rangeText(gap.from_ns, gap.to_ns)}: ${what}${gap.cause === "" ? "" : ` (${gap.cause})`}`;
}

/**
 * The window that a click on a span brushes: of a moment, a little around it.
 * @param {Span} span
 * @param {Range} view
 * @returns {Range}
 */
export function windowOf(span, view) {
  const around = span.to_ns > span.from_ns ? 0 : (view.to - view.from) / 200;
  return { from: span.from_ns - around, to: span.to_ns + around };
}

/**
 * The bands of one trace.
 * @param {App} app
 * @param {number} index of the trace
 * @param {() => number} widthOf the width of charts
 */
export function mountBands(app, index, widthOf) {
  const { store } = app;
  const trace = app.data.traces[index];
  if (trace === undefined) throw new RangeError("no such trace");
  const spans = byImportance(trace.spans);
  const areMany = spans.filter(({ kind }) => MINOR.includes(kind)).length > MOST_MINOR;
  const minor = areMany ? spans.filter(({ kind }) => MINOR.includes(kind)) : [];
  const openKey = `bands/${index}`;
  const isPair = app.data.traces.length > 1;
  const name = isPair ? `${letterOf(index, trace)}: ` : "";
  const labels = el("div", { class: "c-span-labels" });
  const base = canvas("c-base");
  const over = canvas("c-over");
  const told = el("p", { class: "c-gap-told" });
  const left = el("p", { class: "c-left-out" });
  const tableHost = el("div", { class: "c-table-host" });
  const asTable = button("as a table", "c-as-table", () => store.update({ do: "open", key: openKey }));
  const title = `${name}findings, markers, and what was not recorded`;
  asTable.setAttribute("aria-label", `${title}, as a table`);
  asTable.setAttribute("aria-expanded", "false");
  const host = el(
    "div",
    { class: "c-bands", role: "group", "aria-label": title },
    el("div", { class: "c-plot-head" }, el("h3", {}, `${name}Findings and markers; not recorded`), asTable),
    labels,
    el("div", { class: "c-strip" }, base, over),
    told,
    left,
    tableHost,
  );
  const measure = document.createElement("canvas").getContext("2d");

  // A label stays the same element: it may have the keyboard.
  /** @type {Map<Span, { label: HTMLButtonElement, bar: HTMLElement }>} */
  const made = new Map();
  const labelOf = (/** @type {Span} */ span) => {
    const known = made.get(span);
    if (known !== undefined) return known;
    const label = button(spanText(span), `c-span c-span-${span.kind}`, () => {
      const window = windowOf(span, shownRange(store.get()));
      store.update({ do: "brush", from: window.from, to: window.to });
    });
    label.title = spanText(span);
    const bar = el("span", { class: "c-span-extent", "aria-hidden": "true" });
    label.append(bar);
    labels.append(label);
    made.set(span, { label, bar });
    return { label, bar };
  };

  const drawLabels = (/** @type {State} */ state) => {
    const width = widthOf();
    const view = shownRange(state);
    const time = timeScale(view, width);
    const { x0, x1 } = plotSpan(width);
    if (measure !== null) measure.font = "12px system-ui, sans-serif";
    const shown = spans.filter((span) => !minor.includes(span) && span.to_ns >= view.from && span.from_ns <= view.to);
    const items = shown.slice(0, MOST_LABELS).map((span) => {
      const text = spanText(span);
      const room = Math.min(measure?.measureText(text.slice(0, 80)).width ?? 0, WIDEST_LABEL) + 16;
      const [begin, end] = [Math.max(time.x(span.from_ns), x0), Math.min(time.x(span.to_ns), x1)];
      const wide = Math.min(Math.max(end - begin, room), x1 - x0);
      return { span, begin, end, x: Math.max(Math.min(begin, x1 - wide), x0), width: wide };
    });
    const rows = onRows(items, MOST_ROWS, 3);
    const used = Math.max(0, ...rows.map((row) => row + 1));
    labels.style.height = `${used * ROW_HEIGHT}px`;
    const placed = new Set(items.filter((_, at) => (rows[at] ?? -1) >= 0).map(({ span }) => span));
    // One that stays is not hidden even for a moment: it would lose the keyboard.
    for (const [span, { label }] of made) if (!placed.has(span)) label.hidden = true;
    for (const [at, { span, begin, end, x, width: wide }] of items.entries()) {
      const row = rows[at] ?? -1;
      if (row < 0) continue;
      const { label, bar } = labelOf(span);
      label.hidden = false;
      Object.assign(label.style, { left: `${x}px`, width: `${wide}px`, top: `${row * ROW_HEIGHT}px` });
      Object.assign(bar.style, { left: `${begin - x}px`, width: `${Math.max(end - begin, 3)}px` });
    }
    const hidden = shown.length - rows.filter((row) => row >= 0).length;
    const ticks = minor.filter((span) => span.to_ns >= view.from && span.from_ns <= view.to).length;
    const parts = [
      hidden > 0 ? `${grouped(hidden)} more labels have no room here: zoom in, or see them as a table` : "",
      ticks > 0 ? `the ticks are ${grouped(ticks)} starts and ends of programs` : "",
    ].filter((part) => part !== "");
    setText(left, parts.join("; "));
    left.hidden = parts.length === 0;
  };

  const drawBase = (/** @type {State} */ state) => {
    const width = widthOf();
    const context = sized(base, width, GAP_HEIGHT, app.density());
    if (context === null) return;
    const view = shownRange(state);
    const colours = app.colours();
    const time = timeScale(view, width);
    const { x0, x1 } = plotSpan(width);
    drawTimeGrid(context, { view, width, height: GAP_HEIGHT, colours });
    context.strokeStyle = colours.grid;
    context.strokeRect(x0 + 0.5, 0.5, x1 - x0 - 1, GAP_HEIGHT - 1);
    context.save();
    context.beginPath();
    context.rect(x0, 0, x1 - x0, GAP_HEIGHT);
    context.clip();
    // Loss falls to the right, the rest rises.
    const lost = hatch(context, colours.loss, 6);
    const counted = hatch(context, colours.faint, 8, true);
    context.strokeStyle = colours.loss;
    for (const gap of trace.gaps) {
      const begin = time.x(gap.from_ns);
      const wide = Math.max(time.x(gap.to_ns) - begin, 2);
      context.fillStyle = gap.kind === "counted" ? counted : lost;
      context.fillRect(begin, 0, wide, GAP_HEIGHT);
      context.strokeRect(begin, 0.5, wide, GAP_HEIGHT - 1);
    }
    context.fillStyle = colours.faint;
    for (const span of minor) context.fillRect(Math.round(time.x(span.from_ns)), GAP_HEIGHT - 6, 1, 6);
    context.restore();
    context.fillStyle = colours.faint;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText("loss", x0 - 6, GAP_HEIGHT / 2);
  };

  return {
    host,
    /**
     * @param {State} now
     * @param {State | null} before
     */
    draw(now, before) {
      if (before === null || before.view !== now.view) {
        drawLabels(now);
        drawBase(now);
      }
      const context = sized(over, widthOf(), GAP_HEIGHT, app.density());
      const cursor = cursorOf(now);
      if (context !== null) {
        const [view, colours] = [shownRange(now), app.colours()];
        drawOverlay(context, { view, width: widthOf(), height: GAP_HEIGHT, colours, window: now.window, cursor });
      }
      const at = cursor === null ? [] : trace.gaps.filter((gap) => gap.from_ns <= cursor && gap.to_ns >= cursor);
      const missing = trace.gaps.reduce((sum, gap) => sum + (gap.kind === "counted" ? 0 : gap.count), 0);
      const gaps = trace.gaps.length;
      const all = gaps === 0 ? "nothing is missing" : `${grouped(missing)} events are missing in ${grouped(gaps)} gaps`;
      setText(told, at.length === 0 ? all : at.map(gapText).join("; "));
      const isOpen = now.open[openKey] === true;
      setAttributes(asTable, { "aria-expanded": String(isOpen) });
      if (!isOpen) tableHost.replaceChildren();
      else if (
        before === null ||
        before.open !== now.open ||
        before.window !== now.window ||
        before.view !== now.view
      ) {
        tableHost.replaceChildren(bandsTable(chosenRange(now), spans, trace.gaps));
      }
    },
  };
}

/**
 * @param {Range} range
 * @param {readonly Span[]} spans
 * @param {readonly Gap[]} gaps
 */
function bandsTable(range, spans, gaps) {
  const all = [
    ...spans.map((span) => ({ from: span.from_ns, to: span.to_ns, text: spanText(span) })),
    ...gaps.map((gap) => ({ from: gap.from_ns, to: gap.to_ns, text: gapText(gap) })),
  ];
  const rows = all
    .filter(({ from, to }) => to >= range.from && from <= range.to)
    .sort((a, b) => a.from - b.from)
    .map(({ from, to, text }) => [momentText(from, 1e6), to > from ? durationText(to - from) : "a moment", text]);
  const caption = `Findings, markers and gaps, ${rangeText(range.from, range.to)}`;
  return dataTable(caption, ["from", "for", "what"], rows);
}
