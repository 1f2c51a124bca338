// Everything on the page that stands for something: a click filters by it, and what does not fit is dimmed and counted.

import { el, setText } from "./dom.js";
import { filtersAlike } from "./events.js";
import { filterOf, fitsDims, isSet } from "./filters.js";
import { grouped } from "./numbers.js";
import { isFiltered, NO_FILTER, rangeWithin } from "./state.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Dims} Dims */
/** @typedef {import("./types.js").Filter} Filter */
/** @typedef {import("./types.js").Part} Part */

const NAMES = ["from", "to", "trace", "tid", "tgid", "call", "errno", "peer", "event"];
const MARKED = NAMES.map((name) => `[data-${name}]`).join(",");
/** What is drawn by other parts. */
const OWN = ".timeline, .lanes, #events-list, #filter";

/** @typedef {HTMLElement | SVGElement} Marked */

/**
 * The values of one kind that elements carry.
 * @param {readonly Marked[]} elements
 * @param {string} name
 * @returns {string[]}
 */
function valuesOf(elements, name) {
  const values = elements.map((element) => element.dataset[name]).filter((value) => value !== undefined);
  return [...new Set(values)];
}

/**
 * @param {readonly string[]} texts
 * @returns {number[]}
 */
function numbersOf(texts) {
  return texts.map(Number).filter(Number.isFinite);
}

/**
 * What elements stand for together.
 * @param {readonly Marked[]} elements
 * @returns {Dims}
 */
export function dimsOf(elements) {
  const from = numbersOf(valuesOf(elements, "from"));
  const to = numbersOf(valuesOf(elements, "to"));
  return {
    from: from.length === 0 ? null : Math.min(...from),
    to: to.length === 0 ? null : Math.max(...to),
    trace: numbersOf(valuesOf(elements, "trace"))[0] ?? null,
    tid: numbersOf(valuesOf(elements, "tid")),
    tgid: numbersOf(valuesOf(elements, "tgid")),
    call: valuesOf(elements, "call"),
    errno: valuesOf(elements, "errno"),
    peer: valuesOf(elements, "peer"),
  };
}

/**
 * What a row of the page stands for: what it says itself, or else what is in it. Its time may be in it in either case.
 * @param {Marked} row
 * @returns {Dims | null}
 */
function rowDims(row) {
  // The item of a tree does not stand for its children.
  const inside = /** @type {Marked[]} */ ([...row.querySelectorAll(MARKED)]).filter(
    (element) => element.closest("tr, li, g") === row,
  );
  if (!row.matches(MARKED)) return inside.length === 0 ? null : dimsOf(inside);
  const own = dimsOf([row]);
  if (own.from !== null) return own;
  const { from, to } = dimsOf(inside);
  return { ...own, from, to };
}

/**
 * @param {HTMLElement} page
 * @param {App} app
 * @returns {Part}
 */
export function mountMarks(page, app) {
  const isOwn = (/** @type {Element} */ element) => element.closest(OWN) !== null;
  const rows = /** @type {Marked[]} */ ([
    ...page.querySelectorAll("tbody tr, li, svg [data-peer], svg [data-tgid], svg [data-call]"),
  ])
    .filter((row) => !isOwn(row) && (row.matches("tr") || row.closest("tr") === null))
    .flatMap((row) => {
      const dims = rowDims(row);
      return dims === null ? [] : [{ row, dims }];
    });
  /** @type {Map<Element, { all: Marked[], count: HTMLElement }>} */
  const groups = new Map();
  for (const { row } of rows) {
    const group = row.closest("table") ?? (row.closest("svg") === null ? row.closest("section") : null);
    if (group === null) continue;
    const known = groups.get(group);
    if (known !== undefined) {
      known.all.push(row);
      continue;
    }
    const count = el("p", { class: "c-rows-shown" });
    count.hidden = true;
    groups.set(group, { all: [row], count });
    if (group.matches("table")) (group.closest(".c-table-scroll") ?? group).before(count);
    else (group.querySelector("h2, h3") ?? group.firstElementChild)?.after(count);
  }
  const acting = /** @type {Marked[]} */ ([...page.querySelectorAll("button, a, [role=button]")]).filter(
    (element) => element.matches(MARKED) && !isOwn(element),
  );
  page.addEventListener("click", (click) => {
    if (!(click instanceof MouseEvent) || click.ctrlKey || click.metaKey || click.shiftKey) return;
    const found = click.target instanceof Element ? click.target.closest("button, a, [role=button]") : null;
    if (!(found instanceof HTMLElement || found instanceof SVGElement) || !found.matches(MARKED) || isOwn(found))
      return;
    click.preventDefault();
    act(app, found);
  });
  page.addEventListener("keydown", (key) => {
    // An element that only plays a button gets no click from the keyboard.
    const found = key.target instanceof SVGElement && key.target.matches("[role=button]") ? key.target : null;
    if (found === null || !found.matches(MARKED) || (key.key !== "Enter" && key.key !== " ")) return;
    key.preventDefault();
    act(app, found);
  });
  return {
    draw(now, before) {
      if (before !== null && filtersAlike(now, before)) return;
      for (const { row, dims } of rows) row.classList.toggle("filtered", !fitsDims(now, dims));
      for (const { all, count } of groups.values()) {
        const fit = all.filter((row) => !row.classList.contains("filtered")).length;
        count.hidden = !isFiltered(now) || fit === all.length;
        setText(count, `${grouped(fit)} of ${grouped(all.length)} rows fit the filter`);
      }
      for (const element of acting) {
        const isOn = isSet(now, filterOf(dimsOf([element])));
        element.classList.toggle("c-on", isOn);
        if (element.matches("button")) element.setAttribute("aria-pressed", String(isOn));
      }
    },
  };
}

/**
 * Filters by what an element stands for, or no longer when that is so already; and shows its event.
 * @param {App} app
 * @param {Marked} element
 */
function act(app, element) {
  const { store, data } = app;
  const dims = dimsOf([element]);
  const set = filterOf(dims);
  if (data.traces.length === 1) delete set.trace;
  const { window } = set;
  if (window) {
    // A moment is a window around it.
    const { axis } = store.get();
    const around = window.to > window.from ? 0 : Math.max((axis.to - axis.from) / 1000, 1000);
    set.window = rangeWithin(window.from - around, window.to + around, axis);
  }
  const id = element.dataset["event"];
  if (id !== undefined) {
    store.update({ do: "event", event: { trace: dims.trace ?? 0, id } });
    document.getElementById("events")?.scrollIntoView({ block: "start" });
  }
  const keys = /** @type {(keyof Filter)[]} */ (Object.keys(set));
  if (keys.length === 0) return;
  if (isSet(store.get(), set)) {
    store.update({ do: "filter", set: Object.fromEntries(keys.map((key) => [key, NO_FILTER[key]])) });
  } else {
    store.update({ do: "filter", set });
  }
}
