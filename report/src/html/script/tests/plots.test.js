import assert from "node:assert/strict";
import { test } from "node:test";
import { meanOf } from "../datatable.js";
import { coloursOf, DASHES, firstCurves, plotsOf, shownLine, subjectOf } from "../plots.js";

const GRID = { from_ns: 0, width_ns: 10, bins: 3, duration_ns: 30 };

/**
 * @param {import("../types.js").Panel[]} panels
 * @param {string} label
 * @returns {import("../types.js").Trace}
 */
function trace(panels, label) {
  const lanes = { rows: [], left_out: 0 };
  return {
    name: "x.ctr",
    label,
    start_realtime_ns: "0",
    grid: GRID,
    panels,
    gaps: [],
    spans: [],
    lanes,
    sample: { of: 0, events: [] },
  };
}

/**
 * @param {string} name
 * @param {import("../types.js").Unit} unit
 * @param {(number | null)[]} values
 */
const curve = (name, unit, values, is_limit = false) => ({ name, unit, is_limit, values });

test("a panel has a plot for each unit, and one without values says why", () => {
  const panels = [
    {
      kind: "network",
      empty: null,
      series: [curve("p50", "ns", [1, 2, 3]), curve("retransmits", "per-second", [0, 0, 1])],
    },
    { kind: "backlog", empty: "no listener", series: [] },
    { kind: "cpu", empty: null, series: [curve("used", "share", [1, 1, 1])] },
  ];
  const plots = plotsOf({ schema: 1, traces: [trace(panels, "recording")], first_divergence: null });
  assert.deepEqual(
    plots.map(({ key, title, unit, empty }) => [key, title, unit, empty]),
    [
      ["network-ns", "Network, times", "ns", null],
      ["network-per-second", "Network, per second", "per-second", null],
      ["backlog", "Accept queue", "count", "no listener"],
      ["cpu", "CPU", "cpus", null],
    ],
  );
});

test("a pair has each plot for both and the difference, of curves that both have", () => {
  const a = trace(
    [
      {
        kind: "errors",
        empty: null,
        series: [curve("EIO", "count", [1, 2, null]), curve("ENOENT", "count", [1, 1, 1])],
      },
    ],
    "recording",
  );
  const b = trace(
    [
      {
        kind: "errors",
        empty: null,
        series: [curve("EIO", "count", [4, 1, 1]), curve("cap", "count", [9, 9, 9], true)],
      },
    ],
    "replay",
  );
  const [plot] = plotsOf({ schema: 1, traces: [a, b], first_divergence: null });
  assert.deepEqual(
    plot?.strips.map(({ title, trace, lines }) => [title, trace, lines.map(({ name }) => name)]),
    [
      ["A recording", 0, ["EIO", "ENOENT"]],
      ["B replay", 1, ["EIO", "cap"]],
      ["B − A", null, ["EIO"]],
    ],
  );
  assert.deepEqual(plot?.strips[2]?.lines[0]?.values, [3, -1, null]);
  const looks = new Set(
    plot?.strips.slice(0, 2).flatMap(({ lines }) => lines.map(({ name, colour, dash }) => `${name} ${colour} ${dash}`)),
  );
  assert.equal(looks.size, 3, "a curve looks the same in both");
});

test("curves of one panel differ in pattern, and in colour as far as colours reach", () => {
  const names = Array.from({ length: 8 }, (_, n) => `class ${n}`);
  const panels = [{ kind: "calls", empty: null, series: names.map((name) => curve(name, "count", [1, 1, 1])) }];
  const lines = plotsOf({ schema: 1, traces: [trace(panels, "r")], first_divergence: null })[0]?.strips[0]?.lines ?? [];
  assert.equal(new Set(lines.map(({ dash }) => dash.join(" "))).size, DASHES.length);
  assert.equal(new Set(lines.map(({ colour }) => colour)).size, 8);
  const known = new Map([["file", 1]]);
  assert.equal(coloursOf(["network", "file"], known).get("file"), 2, "a colour that is taken in the panel gives way");
  assert.equal(coloursOf(["file"], known).get("file"), 1, "elsewhere it has its own");
  assert.equal(subjectOf("p99 network"), "network");
  assert.equal(subjectOf("p99.9 network"), "network");
});

test("at first the highest curves are drawn, and every limit", () => {
  const series = Array.from({ length: 40 }, (_, n) => curve(`c${n}`, "count", [n, null, n]));
  series.push(curve("limit", "count", [0, 0, 0], true));
  const [plot] = plotsOf({
    schema: 1,
    traces: [trace([{ kind: "counts", empty: null, series }], "r")],
    first_divergence: null,
  });
  assert.ok(plot !== undefined);
  const first = firstCurves(plot);
  assert.equal(first.size, 9);
  assert.ok(first.has("counts/limit") && first.has("counts/c39") && !first.has("counts/c31"));
});

test("a row of a table is the mean of what is known", () => {
  const line = { key: "k", name: "n", values: [1, null, 5], grid: GRID, isLimit: false, colour: 0, dash: [] };
  assert.equal(meanOf(line, 0, 30), 3);
  assert.equal(meanOf(line, 10, 20), null);
});

test("only rates are taken over several bins, and the peak of a latency stays", () => {
  const values = Array.from({ length: 1000 }, (_, bin) => (bin % 10 === 0 ? 100 : 0));
  const grid = { from_ns: 0, width_ns: 10, bins: 1000, duration_ns: 10_000 };
  const line = { key: "k", name: "n", values, grid, isLimit: false, colour: 0, dash: [] };
  const rate = shownLine(line, "per-second", { from: 0, to: 10_000 });
  assert.deepEqual([rate.grid.width_ns, rate.grid.bins, rate.values[0], rate.values[99]], [50, 200, 20, 0]);
  assert.equal(shownLine(line, "per-second", { from: 0, to: 10_000 }), rate, "it is worked out once");
  assert.equal(shownLine(line, "per-second", { from: 0, to: 1000 }), line);
  assert.equal(shownLine(line, "ns", { from: 0, to: 10_000 }), line);
});
