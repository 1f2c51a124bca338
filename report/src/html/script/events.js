// The list of sampled events, and one of them in full.

import { button, el, setText } from "./dom.js";
import { fittingEvents, hasId } from "./filters.js";
import { durationText, grouped, momentText, shortened } from "./numbers.js";
import { NO_FILTER, rangeWithin } from "./state.js";
import { rowList } from "./virtual.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Event} Event */
/** @typedef {import("./types.js").Filter} Filter */
/** @typedef {import("./types.js").Part} Part */
/** @typedef {import("./types.js").State} State */

const ROW_HEIGHT = 26;
const MOST_HEIGHT = 480;
/** The longest text of a row; the whole one is shown below the list. */
const MOST_IN_ROW = 400;

/**
 * How many events fit, and how many there are.
 * @param {number} fit
 * @param {readonly { sample: { of: number, events: Event[] } }[]} traces
 */
export function countText(fit, traces) {
  const held = traces.reduce((sum, trace) => sum + trace.sample.events.length, 0);
  const all = traces.reduce((sum, trace) => sum + trace.sample.of, 0);
  const sample = held === all ? "the sample holds all" : `the sample holds ${grouped(held)} of ${grouped(all)}`;
  return `${grouped(fit)} of ${grouped(held)} events in the sample; ${sample}`;
}

/**
 * Whether two states filter alike.
 * @param {Filter} a
 * @param {Filter} b
 */
export function filtersAlike(a, b) {
  const keys = /** @type {(keyof Filter)[]} */ (Object.keys(NO_FILTER));
  return keys.every((key) => a[key] === b[key]);
}

/**
 * @param {HTMLElement} host
 * @param {App} app
 * @returns {Part}
 */
export function mountEvents(host, app) {
  const { store, data } = app;
  const isPair = data.traces.length > 1;
  let shown = fittingEvents(store.get(), data.traces);
  const input = /** @type {HTMLInputElement} */ (
    el("input", {
      type: "search",
      id: "events-text",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "words in a call, a path, a name",
    })
  );
  input.addEventListener("input", () => store.update({ do: "filter", set: { text: input.value.trim() } }));
  const count = el("p", { class: "c-events-count" });
  const detail = el("div", { class: "c-event-detail" });
  const list = rowList({
    label: "Events",
    id: "event",
    rowHeight: ROW_HEIGHT,
    most: MOST_HEIGHT,
    fill: (row, element) => {
      const found = shown[row];
      if (found === undefined) return;
      const { event, trace } = found;
      element.append(
        ...(isPair ? [el("span", { class: "c-event-trace" }, String.fromCharCode(65 + trace))] : []),
        el("span", { class: "c-event-time" }, momentText(event.t, 1e3)),
        el("span", { class: "c-event-long" }, durationText(event.d)),
        el(
          "span",
          { class: "c-event-task" },
          el("span", {}, shortened(event.comm, 40)),
          " ",
          el("span", {}, String(event.tid)),
        ),
        el("span", { class: "c-event-text" }, shortened(event.text, MOST_IN_ROW)),
      );
      element.classList.toggle("c-failed", event.errno !== null);
    },
    choose: (row) => {
      const found = shown[row];
      if (found !== undefined) store.update({ do: "event", event: { trace: found.trace, id: found.event.id } });
    },
  });
  host.replaceChildren(
    el("div", { class: "c-events-tools" }, el("label", { for: "events-text" }, "Filter events "), input, count),
    list.host,
    detail,
  );
  const draw = (/** @type {State} */ now, /** @type {State | null} */ before) => {
    const isRefiltered = before === null || !filtersAlike(now, before);
    if (!isRefiltered && before.event === now.event) return;
    if (isRefiltered) {
      shown = fittingEvents(now, data.traces);
      setText(count, countText(shown.length, data.traces));
      if (input.value.trim() !== now.text) input.value = now.text;
    }
    const { event } = now;
    const row = event === null ? -1 : shown.findIndex((one) => one.trace === event.trace && hasId(one.event, event.id));
    list.show(shown.length, row, isRefiltered);
    if (before === null || before.event !== now.event) {
      list.reveal(row);
      detail.replaceChildren(...(event === null ? [] : [detailOf(app, event)]));
    }
  };
  return { draw };
}

/**
 * One event in full, with a way to more of its kind.
 * @param {App} app
 * @param {{ trace: number, id: string }} which
 */
function detailOf(app, which) {
  const { store, data } = app;
  const event = data.traces[which.trace]?.sample.events.find((one) => hasId(one, which.id));
  const close = button("close", "c-close", () => store.update({ do: "event", event: null }));
  if (event === undefined) {
    return el("div", {}, el("p", {}, `The event ${which.id} is not in the sample of this report.`), close);
  }
  const trace = data.traces.length > 1 ? which.trace : null;
  const more = (/** @type {string} */ text, /** @type {Partial<Filter>} */ set) =>
    button(text, "c-more-like", () => store.update({ do: "filter", set }));
  const around = Math.max(event.d, 1e6) * 5;
  /** @type {[string, string, HTMLButtonElement | null][]} */
  const fields = [
    [
      "began",
      momentText(event.t, 1),
      more("what happened around it", {
        window: rangeWithin(event.t - around, event.t + event.d + around, store.get().axis),
      }),
    ],
    ["took", durationText(event.d), null],
    ["task", `${event.comm} ${event.tid}`, more("only this task", { tid: event.tid, tgid: null, trace })],
    ["process", `${event.role} ${event.tgid}`, more("only this process", { tgid: event.tgid, tid: null, trace })],
    ["call", event.call || event.type, !event.call ? null : more("only this call", { call: event.call })],
  ];
  if (event.errno !== null) fields.push(["error", event.errno, more("only this error", { errno: event.errno })]);
  if (event.peer !== null) fields.push(["with", event.peer, more("only this peer", { peer: event.peer })]);
  const words = fields.flatMap(([name, value, act]) => [el("dt", {}, name), el("dd", {}, `${value} `, act)]);
  return el(
    "div",
    { role: "group", "aria-label": "The chosen event" },
    el("div", { class: "c-plot-head" }, el("h3", {}, `Event ${event.id}`), close),
    el("pre", { class: "c-event-line", tabindex: 0 }, event.text),
    el("dl", {}, ...words),
  );
}
