// Lanes: what tasks did with their time in the brushed window.

import { binsIn } from "./bins.js";
import { dataTable, MOST_ROWS } from "./datatable.js";
import { button, canvas, el, setAttributes, setText, sized } from "./dom.js";
import { fitted, hatch } from "./draw.js";
import { fitsDims } from "./filters.js";
import { movement } from "./gestures.js";
import { binAt, momentOf } from "./grid.js";
import { durationText, grouped, momentText, rangeText, shortened } from "./numbers.js";
import { chosenRange, cursorOf } from "./state.js";
import { timeTicks } from "./ticks.js";
import { rowList } from "./virtual.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Colours} Colours */
/** @typedef {import("./types.js").Grid} Grid */
/** @typedef {import("./types.js").Lane} Lane */
/** @typedef {import("./types.js").Part} Part */
/** @typedef {import("./types.js").Range} Range */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Stretch} Stretch */

const ROW_HEIGHT = 28;
const BAR_TOP = 4;
const BAR_HEIGHT = 20;
const MOST_HEIGHT = 564;
const AXIS_HEIGHT = 20;
/** The longest part of a name, and the longest thing that a call is on. */
const MOST_NAME = 80;
const MOST_ON = 300;

/** @type {Readonly<Record<Stretch["state"], string>>} */
const STATE_WORDS = {
  running: "running",
  runnable: "waiting for a CPU",
  blocked: "blocked",
  calling: "in a call",
};

/**
 * What a stretch is, in words.
 * @param {Stretch} stretch
 */
export function stretchText(stretch) {
  const call = stretch.call === null ? "" : ` in ${stretch.call}`;
  const on = stretch.on === null ? "" : ` on ${shortened(stretch.on, MOST_ON)}`;
  const errno = stretch.errno === null ? "" : `, ${stretch.errno}`;
  // A call whose time was not split says the call itself.
  const state = stretch.state === "calling" && call !== "" ? call.trim() : `${STATE_WORDS[stretch.state]}${call}`;
  return `${state}${on}${errno}`;
}

/**
 * What a task did at a moment, in words.
 * @param {Lane} lane
 * @param {Grid} grid
 * @param {number} at
 */
export function laneText(lane, grid, at) {
  const stretch = lane.stretches.find(({ from_ns, to_ns }) => from_ns <= at && to_ns >= at);
  if (stretch !== undefined) {
    const { from_ns: from, to_ns: to } = stretch;
    return `${rangeText(from, to)}, ${durationText(to - from)}: ${stretchText(stretch)}`;
  }
  const when = momentText(at, grid.width_ns);
  if (at < lane.from_ns) return `${when}: not there yet`;
  if (at > lane.to_ns) return `${when}: ended`;
  const bin = binAt(grid, at);
  const mixed = lane.mixed.find(([index]) => index === bin);
  if (mixed === undefined) return `${when}: nothing is known`;
  const [, ...shares] = mixed;
  const words = [STATE_WORDS.running, STATE_WORDS.runnable, STATE_WORDS.blocked];
  const parts = shares.flatMap((share, index) =>
    share === 0 ? [] : [`${Math.max(Math.round((share / 255) * 100), 1)} % ${words[index]}`],
  );
  return `${when}, ${durationText(grid.width_ns)} of short stretches: ${parts.join(", ")}`;
}

/**
 * What a task is called, without its number.
 * @param {Lane} lane
 */
function calledOf(lane) {
  const comm = shortened(lane.comm, MOST_NAME);
  return lane.role === "" || lane.role === lane.comm ? comm : `${shortened(lane.role, MOST_NAME)} ${comm}`;
}

/**
 * The name of a task.
 * @param {Lane} lane
 */
export function laneName(lane) {
  return `${calledOf(lane)} ${lane.tid}`;
}

/**
 * Looks of states on a canvas: each has its pattern.
 * @param {CanvasRenderingContext2D} context
 * @param {Colours} colours
 */
function fills(context, colours) {
  return {
    running: { fill: colours.running, over: null },
    runnable: { fill: colours.paper, over: hatch(context, colours.runnable, 5) },
    blocked: { fill: colours.blocked, over: null },
    calling: { fill: colours.blocked, over: hatch(context, colours.calling, 7, true) },
  };
}

/**
 * Draws the time of one task.
 * @param {CanvasRenderingContext2D} context
 * @param {{ lane: Lane, grid: Grid, range: Range, width: number, colours: Colours, cursor: number | null }} frame
 */
export function drawLane(context, { lane, grid, range, width, colours, cursor }) {
  const perNs = width / Math.max(range.to - range.from, 1);
  const x = (/** @type {number} */ at) => (at - range.from) * perNs;
  const looks = fills(context, colours);
  const paint = (
    /** @type {Stretch["state"]} */ state,
    /** @type {number[]} */ [left = 0, top = 0, wide = 0, high = 0],
  ) => {
    context.fillStyle = looks[state].fill;
    context.fillRect(left, top, wide, high);
    if (looks[state].over !== null) {
      context.fillStyle = looks[state].over;
      context.fillRect(left, top, wide, high);
    }
  };
  context.strokeStyle = colours.grid;
  context.beginPath();
  context.moveTo(Math.max(x(lane.from_ns), 0), ROW_HEIGHT / 2 + 0.5);
  context.lineTo(Math.min(x(lane.to_ns), width), ROW_HEIGHT / 2 + 0.5);
  context.stroke();
  const [first, last] = binsIn(grid, range);
  const states = /** @type {const} */ (["running", "runnable", "blocked"]);
  for (const [bin, ...shares] of lane.mixed) {
    if (bin < first || bin >= last) continue;
    const left = x(momentOf(grid, bin));
    const wide = Math.max(x(momentOf(grid, bin + 1)) - left, 0.5);
    let bottom = BAR_TOP + BAR_HEIGHT;
    for (const [index, state] of states.entries()) {
      const high = ((shares[index] ?? 0) / 255) * BAR_HEIGHT;
      if (high === 0) continue;
      bottom -= high;
      paint(state, [left, bottom, wide, high]);
    }
  }
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const stretch of lane.stretches) {
    if (stretch.to_ns < range.from || stretch.from_ns > range.to) continue;
    const left = Math.max(x(stretch.from_ns), 0);
    const wide = Math.max(Math.min(x(stretch.to_ns), width) - left, 1);
    paint(stretch.state, [left, BAR_TOP, wide, BAR_HEIGHT]);
    if (stretch.errno !== null) {
      // A failure has an edge above and below, and a cross at its end.
      context.fillStyle = colours.bad;
      context.fillRect(left, BAR_TOP, wide, 2);
      context.fillRect(left, BAR_TOP + BAR_HEIGHT - 2, wide, 2);
    }
    if (stretch.state === "running" || wide < 34) continue;
    const text = fitted(context, stretchText(stretch).replace(/^blocked in /, ""), wide - 10);
    context.lineWidth = 3;
    context.strokeStyle = stretch.state === "blocked" ? colours.blocked : colours.paper;
    context.strokeText(text, left + 5, ROW_HEIGHT / 2);
    context.fillStyle = stretch.errno === null ? colours.ink : colours.bad;
    context.fillText(text, left + 5, ROW_HEIGHT / 2);
    context.lineWidth = 1;
  }
  if (cursor !== null && cursor >= range.from && cursor <= range.to) {
    context.fillStyle = colours.ink;
    context.fillRect(Math.round(x(cursor)), 0, 1, ROW_HEIGHT);
  }
}

/**
 * The neighbour of a stretch.
 * @param {Lane} lane
 * @param {number | null} at
 * @param {number} step
 * @param {Range} range
 */
export function nextStretch(lane, at, step, range) {
  const inRange = lane.stretches.filter(({ from_ns, to_ns }) => to_ns >= range.from && from_ns <= range.to);
  if (inRange.length === 0) return null;
  if (at === null) return (step > 0 ? inRange[0] : inRange.at(-1)) ?? null;
  const after = inRange.find(({ from_ns }) => from_ns > at);
  const before = inRange.filter(({ to_ns }) => to_ns < at).at(-1);
  return (step > 0 ? after : before) ?? null;
}

/**
 * @param {HTMLElement} host
 * @param {number} index of the trace
 * @param {App} app
 * @returns {Part}
 */
export function mountLanes(host, index, app) {
  const { store } = app;
  const trace = app.data.traces[index];
  if (trace === undefined) return { draw: () => {} };
  const { rows: lanes, left_out: leftOut } = trace.lanes;
  const { grid } = trace;
  const openKey = `lanes/${index}`;
  if (lanes.length === 0) {
    host.replaceChildren(el("p", { class: "c-plot-empty" }, "No task was recorded."));
    return { draw: () => {} };
  }
  const told = el("p", { class: "c-lane-told" });
  const axis = canvas("c-lane-axis");
  const tableHost = el("div", { class: "c-table-host" });
  const asTable = button("as a table", "c-as-table", () => store.update({ do: "open", key: openKey }));
  asTable.setAttribute("aria-label", "Lanes of tasks as a table");
  asTable.setAttribute("aria-expanded", "false");

  const moveTo = (/** @type {number} */ row, /** @type {number | null} */ at) => {
    const lane = lanes[row];
    if (lane === undefined) return;
    store.update({ do: "lane", lane: { trace: index, tid: lane.tid, at } });
    if (at !== null) store.update({ do: "cursor", at });
    app.say(`${laneName(lane)}${at === null ? `, ${grouped(lane.calls)} calls` : `, ${laneText(lane, grid, at)}`}`);
  };
  const list = rowList({
    label: "Lanes of tasks: up and down choose a task, left and right a stretch, Enter filters by the task",
    id: `lane-${index}`,
    rowHeight: ROW_HEIGHT,
    most: MOST_HEIGHT,
    fill: (row, element) => {
      const lane = lanes[row];
      if (lane === undefined) return;
      const number = el("span", { class: "c-lane-tid" }, String(lane.tid));
      const name = el("span", { class: "c-lane-name" }, el("span", {}, calledOf(lane)), " ", number);
      const label = `${laneName(lane)}, ${grouped(lane.calls)} calls`;
      name.title = label;
      element.setAttribute("aria-label", label);
      element.append(name, canvas("c-lane"));
    },
    choose: (row, isClick) => {
      const lane = lanes[row];
      if (lane === undefined) return;
      const { tid, trace: ofTrace } = store.get();
      if (!isClick) {
        moveTo(row, null);
        return;
      }
      // Arrows go on from where the click was.
      if (store.get().lane?.tid !== lane.tid)
        store.update({ do: "lane", lane: { trace: index, tid: lane.tid, at: null } });
      if (tid === lane.tid && (ofTrace === null || ofTrace === index)) {
        store.update({ do: "filter", set: { tid: null, trace: null } });
      } else {
        store.update({
          do: "filter",
          set: { tid: lane.tid, tgid: null, trace: app.data.traces.length > 1 ? index : null },
        });
      }
    },
    key: (event, row) => {
      const lane = lanes[row];
      const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (lane === undefined || step === 0) return false;
      const state = store.get();
      const stretch = nextStretch(lane, state.lane?.at ?? null, step, chosenRange(state));
      if (stretch !== null) moveTo(row, Math.round((stretch.from_ns + stretch.to_ns) / 2));
      return true;
    },
  });
  const laneAt = (/** @type {PointerEvent} */ event) => {
    const surface = event.target;
    if (!(surface instanceof HTMLCanvasElement)) return null;
    const row = surface.closest("[data-row]");
    const lane = row instanceof HTMLElement ? lanes[Number(row.dataset["row"])] : undefined;
    const { from, to } = chosenRange(store.get());
    const at = Math.round(from + (event.offsetX / Math.max(surface.clientWidth, 1)) * (to - from));
    return lane === undefined ? null : { lane, at };
  };
  const isMoved = movement();
  list.host.addEventListener("pointermove", (event) => {
    const found = !isMoved(event) || event.pointerType === "touch" ? null : laneAt(event);
    if (found === null) return;
    store.update({ do: "lane", lane: { trace: index, tid: found.lane.tid, at: found.at } });
    store.update({ do: "hover", at: found.at });
  });
  list.host.addEventListener("pointerleave", () => store.update({ do: "hover", at: null }));
  const shape = (/** @type {string} */ state) =>
    el(
      "li",
      {},
      el("span", { class: `c-swatch c-swatch-${state}`, "aria-hidden": "true" }),
      STATE_WORDS[/** @type {Stretch["state"]} */ (state)],
    );
  host.replaceChildren(
    el(
      "div",
      { class: "c-plot-head" },
      el("ul", { class: "c-lane-states" }, ...Object.keys(STATE_WORDS).map(shape)),
      asTable,
    ),
    told,
    el("div", { class: "c-lane-axis-host" }, axis),
    list.host,
    tableHost,
  );
  if (leftOut > 0)
    tableHost.before(el("p", { class: "c-left-out" }, `${grouped(leftOut)} more tasks are not in this report`));

  const drawRows = (/** @type {State} */ state) => {
    const range = chosenRange(state);
    const cursor = cursorOf(state);
    for (const element of list.host.querySelectorAll("[data-row]")) {
      if (!(element instanceof HTMLElement)) continue;
      const lane = lanes[Number(element.dataset["row"])];
      const surface = element.querySelector("canvas");
      if (lane === undefined || surface === null) continue;
      const dims = { from: lane.from_ns, to: lane.to_ns, trace: index, call: [], errno: [], peer: [] };
      element.classList.toggle("filtered", !fitsDims(state, { ...dims, tid: [lane.tid], tgid: [lane.tgid] }));
      const width = Math.max(surface.clientWidth, 20);
      const context = sized(surface, width, ROW_HEIGHT, app.density());
      if (context !== null) drawLane(context, { lane, grid, range, width, colours: app.colours(), cursor });
    }
    drawAxis(state);
  };
  const drawAxis = (/** @type {State} */ state) => {
    const { from, to } = chosenRange(state);
    const width = Math.max(axis.clientWidth, 20);
    const context = sized(axis, width, AXIS_HEIGHT, app.density());
    if (context === null) return;
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.fillStyle = app.colours().faint;
    for (const tick of timeTicks({ from, to }, width / 100)) {
      const x = ((tick.at - from) / Math.max(to - from, 1)) * width;
      context.textAlign = x < 30 ? "left" : x > width - 30 ? "right" : "center";
      context.fillText(tick.text, x, AXIS_HEIGHT / 2);
    }
  };

  let isInSight = false;
  let isStale = true;
  list.host.addEventListener("scroll", () => drawRows(store.get()), { passive: true });
  const draw = (/** @type {State} */ now, /** @type {State | null} */ before) => {
    isStale ||= before === null;
    if (!isInSight) {
      isStale = true;
      return;
    }
    const chosen = now.lane?.trace === index ? now.lane : null;
    const row = chosen === null ? -1 : lanes.findIndex(({ tid }) => tid === chosen.tid);
    if (isStale || before?.lane?.tid !== now.lane?.tid) {
      list.show(lanes.length, row, isStale);
      // What the pointer is on is in sight already.
      if (now.hover === null) list.reveal(row);
    }
    drawRows(now);
    const lane = lanes[row];
    const range = chosenRange(now);
    if (lane !== undefined && chosen !== null) {
      setText(told, chosen.at === null ? laneName(lane) : `${laneName(lane)}, ${laneText(lane, grid, chosen.at)}`);
    } else {
      setText(told, `${grouped(lanes.length)} tasks, ${rangeText(range.from, range.to)}`);
    }
    const isOpen = now.open[openKey] === true;
    setAttributes(asTable, { "aria-expanded": String(isOpen) });
    if (!isOpen) tableHost.replaceChildren();
    else if (isStale || before?.open !== now.open || before?.window !== now.window || before?.view !== now.view) {
      tableHost.replaceChildren(lanesTable(lanes, range));
    }
    isStale = false;
  };
  new IntersectionObserver(
    (entries) => {
      isInSight = entries.some((entry) => entry.isIntersecting);
      if (isInSight && isStale) draw(store.get(), null);
    },
    { rootMargin: "200px" },
  ).observe(host);
  return { draw };
}

/**
 * The stretches of a window as a table, the longest ones.
 * @param {readonly Lane[]} lanes
 * @param {Range} range
 */
function lanesTable(lanes, range) {
  const all = lanes
    .flatMap((lane) => lane.stretches.map((stretch) => ({ lane, stretch })))
    .filter(({ stretch }) => stretch.to_ns >= range.from && stretch.from_ns <= range.to);
  const length = (/** @type {Stretch} */ stretch) => stretch.to_ns - stretch.from_ns;
  all.sort((a, b) => length(b.stretch) - length(a.stretch));
  const rows = all
    .slice(0, MOST_ROWS)
    .map(({ lane, stretch }) => [
      laneName(lane),
      momentText(stretch.from_ns, 1e6),
      durationText(length(stretch)),
      stretchText(stretch),
    ]);
  const caption = `The ${grouped(rows.length)} longest of ${grouped(all.length)} stretches, ${rangeText(range.from, range.to)}`;
  return dataTable(caption, ["task", "from", "for", "what"], rows);
}
