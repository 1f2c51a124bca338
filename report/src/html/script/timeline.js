// The timeline: bands and panels of all traces on one time axis, with a shared cursor and brush.

import { mountBands } from "./bands.js";
import { plotTable } from "./datatable.js";
import { button, canvas, el, setAttributes, setText, sized } from "./dom.js";
import { drawOverlay, drawPlot, plotSpan, scaleFor, timeScale } from "./draw.js";
import { chartKey, pointerBrush } from "./gestures.js";
import { mountLegend } from "./legend.js";
import { durationText, momentText } from "./numbers.js";
import { firstCurves, isDrawn, plotsOf, shownLine } from "./plots.js";
import { cursorOf, shownRange } from "./state.js";
import { timeTicks } from "./ticks.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Part} Part */
/** @typedef {import("./types.js").Plot} Plot */
/** @typedef {import("./types.js").State} State */

const STRIP_HEIGHT = 96;
const PAIR_HEIGHT = 66;
const AXIS_HEIGHT = 22;
/** About the height of a row of a legend: a panel is as high as its own. */
const LEGEND_ROW = 21;

const KEYS = [
  ["← →", "move the cursor; with Shift, brush"],
  ["Page Up, Page Down, Home, End", "move it further"],
  ["+ −", "zoom in and out"],
  ["Enter", "zoom to the brushed window"],
  ["0", "show the whole trace"],
  ["Esc", "clear the window, then the cursor"],
];

/**
 * @param {HTMLElement} host
 * @param {App} app
 * @returns {Part}
 */
export function mountTimeline(host, app) {
  const { data } = app;
  const probe = el("div", { class: "c-chart-width" });
  const widthOf = () => Math.max(probe.clientWidth, 120);
  const bands = data.traces.map((_, index) => mountBands(app, index, widthOf));
  const panels = plotsOf(data).map((plot) => mountPanel(app, plot, widthOf));
  const axis = mountAxis(app, widthOf);
  host.classList.toggle("c-pair", data.traces.length > 1);
  host.replaceChildren(toolbar(app), probe, axis.host, ...bands.map((band) => band.host));
  const quiet = panels.filter((panel) => panel.isEmpty);
  host.append(...panels.filter((panel) => !panel.isEmpty).map((panel) => panel.host));
  if (quiet.length > 0) host.append(el("ul", { class: "c-plots-empty" }, ...quiet.map((panel) => panel.host)));
  return {
    draw(now, before) {
      axis.draw(now);
      for (const band of bands) band.draw(now, before);
      for (const panel of panels) panel.draw(now, before);
    },
  };
}

/**
 * @param {App} app
 */
function toolbar({ store }) {
  const keys = el(
    "details",
    { class: "c-keys" },
    el("summary", {}, "Keys"),
    el("dl", {}, ...KEYS.flatMap(([key = "", what = ""]) => [el("dt", {}, key), el("dd", {}, what)])),
  );
  return el(
    "div",
    { class: "c-chart-tools", role: "group", "aria-label": "Time axis" },
    button("zoom in", "c-tool", () => store.update({ do: "zoom", factor: 0.5 })),
    button("zoom out", "c-tool", () => store.update({ do: "zoom", factor: 2 })),
    button("zoom to window", "c-tool", () => store.update({ do: "view", view: store.get().window })),
    button("whole trace", "c-tool", () => store.update({ do: "view", view: null })),
    keys,
  );
}

/**
 * The axis with its times, which stays in sight.
 * @param {App} app
 * @param {() => number} widthOf
 */
function mountAxis(app, widthOf) {
  const surface = canvas("c-axis");
  return {
    host: el("div", { class: "c-axis-host" }, surface),
    /** @param {State} state */
    draw(state) {
      drawAxis(app, surface, widthOf(), shownRange(state), cursorOf(state));
    },
  };
}

/**
 * @param {App} app
 * @param {HTMLCanvasElement} surface
 * @param {number} width
 * @param {import("./types.js").Range} view
 * @param {number | null} cursor
 */
function drawAxis(app, surface, width, view, cursor) {
  const context = sized(surface, width, AXIS_HEIGHT, app.density());
  if (context === null) return;
  const { x0, x1 } = plotSpan(width);
  const time = timeScale(view, width);
  const colours = app.colours();
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "center";
  context.fillStyle = colours.faint;
  for (const tick of timeTicks(view, (x1 - x0) / 90)) context.fillText(tick.text, time.x(tick.at), AXIS_HEIGHT / 2);
  if (cursor === null || cursor < view.from || cursor > view.to) return;
  const text = momentText(cursor, (view.to - view.from) / 1000);
  const wide = context.measureText(text).width + 10;
  const x = Math.min(Math.max(time.x(cursor), x0 + wide / 2), x1 - wide / 2);
  context.fillStyle = colours.ink;
  context.fillRect(x - wide / 2, 2, wide, AXIS_HEIGHT - 4);
  context.fillStyle = colours.paper;
  context.fillText(text, x, AXIS_HEIGHT / 2);
}

/**
 * One panel: its strips, its legend, its table.
 * @param {App} app
 * @param {Plot} plot
 * @param {() => number} widthOf
 */
function mountPanel(app, plot, widthOf) {
  const { data, store } = app;
  if (plot.strips.length === 0) {
    const host = el("li", {}, el("strong", {}, plot.title), `: ${plot.empty ?? ""}`);
    return { host, isEmpty: true, draw: () => {} };
  }
  const first = firstCurves(plot);
  const legend = mountLegend(app, plot, first);
  const openKey = `plot/${plot.key}`;
  const titleId = `plot-${plot.key}`;
  const rows = Math.max(first.size, 1);
  const height = plot.strips.length > 1 ? PAIR_HEIGHT : Math.max(STRIP_HEIGHT, rows * LEGEND_ROW + LEGEND_ROW);
  const strips = plot.strips.map((strip) => ({ strip, base: canvas("c-base"), over: canvas("c-over") }));
  const surface = el(
    "div",
    {
      class: "c-plot",
      role: "slider",
      tabindex: 0,
      "aria-label": `${plot.title}: cursor`,
      "aria-valuemin": Math.round(store.get().axis.from / 1e6),
      "aria-valuemax": Math.round(store.get().axis.to / 1e6),
      "aria-valuenow": Math.round(store.get().axis.from / 1e6),
      "aria-valuetext": "no cursor",
    },
    ...strips.map(({ strip, base, over }) =>
      el(
        "div",
        { class: "c-strip" },
        base,
        over,
        strip.title === "" ? null : el("span", { class: "c-strip-title" }, strip.title),
      ),
    ),
  );
  const asTable = button("as a table", "c-as-table", () => store.update({ do: "open", key: openKey }));
  asTable.setAttribute("aria-label", `${plot.title} as a table`);
  asTable.setAttribute("aria-expanded", "false");
  const mean = el("span", { class: "c-mean" });
  const tableHost = el("div", { class: "c-table-host" });
  const host = el(
    "div",
    { class: "c-plot-panel", role: "group", "aria-labelledby": titleId },
    el("div", { class: "c-plot-head" }, el("h3", { id: titleId }, plot.title), mean, asTable),
    el("div", { class: "c-plot-body" }, surface, legend.host),
    tableHost,
  );
  const grids = plot.strips.flatMap((strip) => strip.lines.map((line) => line.grid.width_ns));
  const bin = Math.max(...grids, 1);
  pointerBrush(surface, store, (x) => timeScale(shownRange(store.get()), widthOf()).at(x));
  surface.addEventListener("keydown", (event) => {
    if (event.target === surface && chartKey(event, store, bin)) event.preventDefault();
  });

  const marks = (/** @type {number | null} */ trace) => {
    const divergence = data.first_divergence;
    if (divergence === null || trace === null) return [];
    const at = trace === 0 ? divergence.a_ns : trace === 1 ? divergence.b_ns : null;
    return at === null ? [] : [at];
  };

  const drawCurves = (/** @type {State} */ state) => {
    const width = widthOf();
    const view = shownRange(state);
    const isOn = (/** @type {{ key: string }} */ line) => isDrawn(state, first, line.key);
    const look = (/** @type {import("./types.js").Line} */ line) => shownLine(line, plot.unit, view);
    // Both traces of a pair have one scale, or they could not be compared.
    const both = plot.strips
      .filter((strip) => strip.trace !== null)
      .flatMap((strip) => strip.lines.filter(isOn).map(look));
    const shared = scaleFor(both, view, plot.unit, height / 32);
    const wide = Math.max(...both.map((line) => line.grid.width_ns), 1);
    setText(mean, wide > bin ? `means of ${durationText(wide)}` : "");
    for (const { strip, base } of strips) {
      const context = sized(base, width, height, app.density());
      if (context === null) continue;
      const lines = strip.lines.filter(isOn).map(look);
      drawPlot(context, {
        lines,
        scale: strip.trace === null ? scaleFor(lines, view, plot.unit, height / 32) : shared,
        view,
        unit: plot.unit,
        width,
        height,
        colours: app.colours(),
        gaps: strip.trace === null ? [] : (data.traces[strip.trace]?.gaps ?? []),
        marks: marks(strip.trace),
        bold: state.bold,
        isSigned: strip.trace === null,
      });
    }
  };

  const drawCursor = (/** @type {State} */ state) => {
    const width = widthOf();
    const [view, cursor] = [shownRange(state), cursorOf(state)];
    for (const { over } of strips) {
      const context = sized(over, width, height, app.density());
      const colours = app.colours();
      if (context !== null) drawOverlay(context, { view, width, height, colours, window: state.window, cursor });
    }
    legend.drawValues(state);
    // Those who hear the page hear the panel on which they are.
    if (document.activeElement === surface && cursor !== null) {
      const text = `${momentText(cursor, bin)}: ${legend.words(state)}`;
      setAttributes(surface, { "aria-valuenow": Math.round(cursor / 1e6), "aria-valuetext": text });
    }
  };

  let isInSight = false;
  /** @type {State | null} */
  let drawn = null;
  const draw = (/** @type {State} */ now, /** @type {State | null} */ before) => {
    if (before === null) drawn = null;
    // Panels out of sight are drawn when they come into it.
    if (!isInSight) return;
    const was = drawn;
    drawn = now;
    if (was === null || was.curves !== now.curves || was.open !== now.open) legend.drawCurves(now);
    const isBolder =
      was !== null && was.bold !== now.bold && [was.bold, now.bold].some((key) => key?.startsWith(`${plot.key}/`));
    if (was === null || was.view !== now.view || was.curves !== now.curves || isBolder) drawCurves(now);
    drawCursor(now);
    const isOpen = now.open[openKey] === true;
    setAttributes(asTable, { "aria-expanded": String(isOpen) });
    if (!isOpen) tableHost.replaceChildren();
    else if (
      was === null ||
      was.open !== now.open ||
      was.window !== now.window ||
      was.view !== now.view ||
      was.curves !== now.curves
    ) {
      tableHost.replaceChildren(plotTable(plot, now, (key) => isDrawn(now, first, key)));
    }
  };
  new IntersectionObserver(
    (entries) => {
      isInSight = entries.some((entry) => entry.isIntersecting);
      if (isInSight) draw(store.get(), store.get());
    },
    { rootMargin: "200px" },
  ).observe(host);
  // A canvas has no size before it is drawn; its place is kept, so that nothing jumps.
  for (const { base } of strips) base.style.height = `${height}px`;
  return { host, isEmpty: false, draw };
}
