// Puts the parts on the page: reads the data, makes the store, draws what changed once a frame.

import { announcer } from "./announce.js";
import { readColours } from "./colours.js";
import { mountEvents } from "./events.js";
import { mountFilterBar } from "./filterbar.js";
import { axisOf, onOneAxis } from "./grid.js";
import { fromHash, isPlace, toHash } from "./hash.js";
import { mountLanes } from "./lanes.js";
import { mountMarks } from "./marks.js";
import { initialState, reduceState } from "./state.js";
import { createStore } from "./store.js";
import { mountTimeline } from "./timeline.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Data} Data */
/** @typedef {import("./types.js").Part} Part */
/** @typedef {import("./types.js").State} State */

/** A browser takes no more than some changes of the address in a time. */
const HASH_PAUSE_MS = 300;

/**
 * @param {Data} data
 */
function start(data) {
  const root = document.documentElement;
  const axis = axisOf(data);
  const store = createStore(initialState(axis, data.traces.length), reduceState);
  const load = () => {
    const { hash } = location;
    if (hash.length <= 1 || (isPlace(hash) && document.getElementById(hash.slice(1)) !== null)) return;
    store.update({ do: "load", ...fromHash(hash, axis, data.traces.length) });
  };
  load();
  let colours = readColours(root);
  /** @type {App} */
  const app = {
    data,
    store,
    colours: () => colours,
    density: () => window.devicePixelRatio || 1,
    say: announcer(document.body),
  };
  const parts = mountParts(app);

  /** @type {State | null} */
  let drawn = null;
  let frame = 0;
  const draw = () => {
    frame = 0;
    const now = store.get();
    const before = drawn;
    drawn = now;
    for (const part of parts) part.draw(now, before);
  };
  const soon = () => {
    if (frame === 0) frame = requestAnimationFrame(draw);
  };
  const again = () => {
    colours = readColours(root);
    drawn = null;
    soon();
  };

  let waiting = 0;
  const mirror = () => {
    const hash = toHash(store.get());
    if (`#${hash}` === location.hash || (hash === "" && (location.hash === "" || isPlace(location.hash)))) return;
    history.replaceState(null, "", hash === "" ? location.pathname + location.search : `#${hash}`);
  };
  store.subscribe((now, before) => {
    if (now.theme !== before.theme) {
      if (now.theme === "auto") delete root.dataset["theme"];
      else root.dataset["theme"] = now.theme;
      again();
    }
    clearTimeout(waiting);
    waiting = setTimeout(mirror, HASH_PAUSE_MS);
    soon();
  });
  addEventListener("hashchange", load);
  new ResizeObserver(again).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  // What is drawn without the script gives way on the screen; it is what gets printed.
  root.classList.add("script");
  draw();
}

/**
 * @param {App} app
 * @returns {Part[]}
 */
function mountParts(app) {
  /** @type {Part[]} */
  const parts = [];
  // What stands for something is looked for before the parts add their own.
  parts.push(mountMarks(document.body, app));
  const filter = document.getElementById("filter");
  if (filter !== null) parts.push(mountFilterBar(filter, app));
  const [timeline, ...others] = /** @type {HTMLElement[]} */ ([...document.querySelectorAll("div.timeline")]);
  if (timeline !== undefined) parts.push(mountTimeline(timeline, app));
  // The first one has all traces, so that they can be compared.
  for (const other of others) other.hidden = true;
  for (const lanes of document.querySelectorAll("div.lanes")) {
    if (lanes instanceof HTMLElement) parts.push(mountLanes(lanes, Number(lanes.dataset["trace"] ?? 0), app));
  }
  const events = document.getElementById("events-list");
  if (events !== null) parts.push(mountEvents(events, app));
  return parts;
}

const block = document.getElementById("data");
const found = /** @type {Data | null} */ (JSON.parse(block?.textContent ?? "null"));
if (found !== null) start(onOneAxis(found));
