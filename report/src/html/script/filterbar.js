// The bar that says what is filtered by, and takes it away.

import { button, el, setText } from "./dom.js";
import { countText, filtersAlike } from "./events.js";
import { fittingEvents } from "./filters.js";
import { rangeText, shortened } from "./numbers.js";
import { letterOf } from "./plots.js";
import { isFiltered } from "./state.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Filter} Filter */
/** @typedef {import("./types.js").Part} Part */
/** @typedef {import("./types.js").State} State */
/** @typedef {import("./types.js").Trace} Trace */

/** The longest name on a chip. */
const MOST_ON_CHIP = 80;

/** @type {Readonly<Record<import("./types.js").Theme, string>>} */
const THEME_WORDS = { auto: "theme: system", light: "theme: light", dark: "theme: dark" };

/**
 * What is filtered by: words, and what takes it away.
 * @param {Filter} filter
 * @param {readonly Trace[]} traces
 * @returns {{ text: string, without: Partial<Filter> }[]}
 */
export function chipsOf(filter, traces) {
  /** @type {{ text: string, without: Partial<Filter> }[]} */
  const chips = [];
  const { window, trace } = filter;
  const of = trace === null ? undefined : traces[trace];
  if (window !== null) chips.push({ text: rangeText(window.from, window.to), without: { window: null } });
  if (trace !== null && of !== undefined) {
    chips.push({ text: `trace ${letterOf(trace, of)}`, without: { trace: null } });
  }
  if (filter.tid !== null) chips.push({ text: `task ${filter.tid}`, without: { tid: null } });
  if (filter.tgid !== null) chips.push({ text: `process ${filter.tgid}`, without: { tgid: null } });
  if (filter.call !== null) chips.push({ text: `call ${filter.call}`, without: { call: null } });
  if (filter.errno !== null) chips.push({ text: `error ${filter.errno}`, without: { errno: null } });
  if (filter.peer !== null) chips.push({ text: `with ${filter.peer}`, without: { peer: null } });
  if (filter.text !== "") chips.push({ text: `words “${filter.text}”`, without: { text: "" } });
  return chips;
}

/**
 * @param {HTMLElement} host
 * @param {App} app
 * @returns {Part}
 */
export function mountFilterBar(host, app) {
  const { store, data } = app;
  const chips = el("ul", { class: "c-chips", "aria-label": "Active filters" });
  const count = el("p", { class: "c-filter-count" });
  const ignored = el("p", { class: "c-ignored" });
  const noted = button("dismiss", "c-noted", () => store.update({ do: "noted" }));
  const clear = button("clear all", "c-clear", () => store.update({ do: "clear" }));
  // The page has a place for this one.
  const given = document.getElementById("theme");
  const theme = given ?? button("", "c-theme", () => {});
  theme.addEventListener("click", () => store.update({ do: "theme" }));
  theme.hidden = false;
  const note = el("div", { class: "c-filter-note" }, ignored, noted);
  host.classList.add("c-bar");
  host.setAttribute("role", "region");
  host.tabIndex = -1;
  host.setAttribute("aria-label", "Filter");
  host.replaceChildren(el("div", { class: "c-filter-row" }, chips, clear, count, given === null ? theme : null), note);
  return {
    draw(now, before) {
      const isChanged = before === null || !filtersAlike(now, before);
      if (isChanged) {
        const wanted = chipsOf(now, data.traces);
        chips.replaceChildren(
          ...wanted.map(({ text, without }) => {
            const short = shortened(text, MOST_ON_CHIP);
            const chip = button(short, "c-chip", () => {
              store.update({ do: "filter", set: without });
              // The button that had the focus is gone.
              /** @type {HTMLElement} */ (chips.querySelector("button") ?? host).focus();
            });
            chip.append(el("span", { "aria-hidden": "true" }, " ×"));
            chip.setAttribute("aria-label", `take away: ${short}`);
            return el("li", {}, chip);
          }),
        );
        chips.hidden = wanted.length === 0;
        clear.hidden = !isFiltered(now);
        const fit = fittingEvents(now, data.traces).length;
        setText(count, countText(fit, data.traces));
        if (before !== null) {
          const by = wanted.length === 0 ? "no filter" : `filter: ${wanted.map(({ text }) => text).join(", ")}`;
          app.say(`${by}; ${countText(fit, data.traces)}`);
        }
      }
      note.hidden = now.ignored.length === 0;
      const parts = now.ignored.join(", ");
      setText(ignored, now.ignored.length === 0 ? "" : `The link has parts that mean nothing here: ${parts}`);
      setText(theme, THEME_WORDS[now.theme]);
    },
  };
}
