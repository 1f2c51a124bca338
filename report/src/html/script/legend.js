// The legend of a plot: its curves with their patterns, and their values at the cursor.

import { binsIn, extentOf, valueAt } from "./bins.js";
import { button, el, roving, setAttributes, setText, svgEl } from "./dom.js";
import { valueText } from "./numbers.js";
import { isDrawn, shownLine } from "./plots.js";
import { chosenRange, cursorOf, shownRange } from "./state.js";

/** @typedef {import("./types.js").App} App */
/** @typedef {import("./types.js").Line} Line */
/** @typedef {import("./types.js").Plot} Plot */
/** @typedef {import("./types.js").State} State */

/**
 * A short piece of a line as it is drawn.
 * @param {Line} line
 */
function sample(line) {
  const dash = (line.isLimit ? [10, 5] : line.dash).join(" ");
  const stroke = svgEl("line", { x1: 1, y1: 6, x2: 27, y2: 6, "stroke-dasharray": dash === "" ? null : dash });
  const look = line.isLimit ? "c-curve-limit" : `c-curve-${line.colour}`;
  return svgEl("svg", { class: `c-sample ${look}`, width: 28, height: 12, "aria-hidden": "true" }, stroke);
}

/**
 * The value of a curve at the cursor, or else its peak in the brushed window.
 * @param {Line | undefined} line
 * @param {Plot} plot
 * @param {State} state
 * @param {boolean} isDifference
 */
export function legendValue(line, plot, state, isDifference) {
  if (line === undefined) return "";
  const shown = shownLine(line, plot.unit, shownRange(state));
  const cursor = cursorOf(state);
  let value;
  if (cursor === null) {
    const extent = extentOf(shown.values, ...binsIn(shown.grid, chosenRange(state)));
    value = extent === null ? null : isDifference && -extent.low > extent.high ? extent.low : extent.high;
  } else {
    value = valueAt(shown.values, shown.grid, cursor);
  }
  if (value === null || value === undefined) return "–";
  const text = valueText(value, plot.unit);
  return isDifference && value > 0 ? `+${text}` : text;
}

/**
 * @param {App} app
 * @param {Plot} plot
 * @param {ReadonlySet<string>} first curves that are drawn at first
 */
export function mountLegend(app, plot, first) {
  const { store } = app;
  /** @type {Map<string, Line>} */
  const lines = new Map();
  for (const line of plot.strips.flatMap((strip) => strip.lines)) if (!lines.has(line.key)) lines.set(line.key, line);
  const ordered = [...lines.values()].sort((a, b) => Number(first.has(b.key)) - Number(first.has(a.key)));
  const extra = ordered.length - first.size;
  const moreKey = `more/${plot.key}`;
  const isPair = plot.strips.length > 1;
  const when = el("th", { scope: "col" });
  const heads = isPair
    ? plot.strips.map((strip) =>
        el("th", { scope: "col" }, strip.trace === null ? strip.title : strip.title.slice(0, 1)),
      )
    : [];
  const rows = ordered.map((line) => {
    const toggle = button("", "c-curve", () => {
      const on = isDrawn(store.get(), first, line.key);
      store.update({ do: "curve", key: line.key, on: !on });
    });
    toggle.title = line.name;
    toggle.append(sample(line), el("span", { class: "c-curve-name" }, line.name));
    const cells = plot.strips.map(() => el("td"));
    const row = el("tr", {}, el("th", { scope: "row" }, toggle), ...cells);
    for (const [kind, key] of /** @type {const} */ ([
      ["pointerenter", line.key],
      ["pointerleave", null],
      ["focusin", line.key],
      ["focusout", null],
    ])) {
      row.addEventListener(kind, () => store.update({ do: "bold", key }));
    }
    return { line, row, toggle, cells };
  });
  const table = el(
    "table",
    { class: "c-legend" },
    el("thead", {}, el("tr", {}, ...(isPair ? [when, ...heads] : [el("th", { scope: "col" }, "curve"), when]))),
    el("tbody", {}, ...rows.map(({ row }) => row)),
  );
  const more = button(`${extra} more`, "c-more", () => store.update({ do: "open", key: moreKey }));
  more.hidden = extra <= 0;
  const host = el("div", { class: "c-legend-host" }, table, more);
  roving(table, "button.c-curve");
  return {
    host,
    /** @param {State} state */
    drawCurves(state) {
      const isOpen = state.open[moreKey] === true;
      for (const { line, row, toggle } of rows) {
        const on = isDrawn(state, first, line.key);
        row.hidden = !isOpen && !first.has(line.key) && !on;
        setAttributes(toggle, { "aria-pressed": String(on) });
      }
      setText(more, isOpen ? "fewer" : `${extra} more`);
      setAttributes(more, { "aria-expanded": String(isOpen) });
    },
    /** @param {State} state */
    drawValues(state) {
      setText(when, cursorOf(state) === null ? "peak" : "at cursor");
      for (const { line, row, cells } of rows) {
        if (row.hidden) continue;
        for (const [index, strip] of plot.strips.entries()) {
          const cell = cells[index];
          const own = strip.lines.find(({ key }) => key === line.key);
          if (cell !== undefined) setText(cell, legendValue(own, plot, state, strip.trace === null));
        }
      }
    },
    /**
     * The values in words.
     * @param {State} state
     */
    words(state) {
      return plot.strips
        .map((strip) => {
          const values = strip.lines
            .filter((line) => isDrawn(state, first, line.key))
            .map((line) => `${line.name} ${legendValue(line, plot, state, strip.trace === null)}`);
          return `${strip.title === "" ? "" : `${strip.title}: `}${values.join(", ")}`;
        })
        .join("; ");
    },
  };
}
