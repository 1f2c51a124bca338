import assert from "node:assert/strict";
import { test } from "node:test";
import { binsIn, binsTogether, differenceOf, extentOf, regridded, thinned, together, valueAt } from "../bins.js";
import { axisOf, binAt, coarserGrid, commonGrid, endOf, momentOf, onOneAxis, positionOf } from "../grid.js";

/** @param {number} width_ns @param {number} bins */
const grid = (width_ns, bins, from_ns = 0) => ({ from_ns, width_ns, bins, duration_ns: width_ns * bins });

test("a range touches the bins that it reaches into", () => {
  assert.deepEqual(binsIn(grid(10, 10), { from: 15, to: 30 }), [1, 3]);
  assert.deepEqual(binsIn(grid(10, 10), { from: 15, to: 31 }), [1, 4]);
  assert.deepEqual(binsIn(grid(10, 10), { from: 0, to: 500 }), [0, 10]);
  assert.deepEqual(binsIn(grid(10, 10), { from: 400, to: 500 }), [10, 10]);
});

test("the value at a moment is that of its bin, and none outside", () => {
  const values = [1, null, 3];
  assert.deepEqual(
    [0, 9, 10, 29, 30, 31, -1].map((at) => valueAt(values, grid(10, 3), at)),
    [1, 1, null, 3, 3, undefined, undefined],
  );
});

test("an extent leaves out what is not known", () => {
  assert.deepEqual(extentOf([null, 0, 5, 2, 99], 0, 4), { low: 0, high: 5, least: 2 });
  assert.equal(extentOf([null, null], 0, 2), null);
});

test("thinning loses no peak and no break", () => {
  const values = Array.from({ length: 1500 }, (_, bin) =>
    bin >= 500 && bin < 520 ? null : bin === 777 ? 1000 : bin === 778 ? -1000 : 1,
  );
  const points = thinned(values, 0, 1500, 300);
  const known = points.filter((point) => point !== null);
  assert.ok(points.length <= 4 * 300, String(points.length));
  assert.ok(known.some(([bin, value]) => bin === 777 && value === 1000));
  assert.ok(known.some(([bin, value]) => bin === 778 && value === -1000));
  assert.equal(points.filter((point) => point === null).length, 1);
  assert.ok(
    known.every(([bin], at) => at === 0 || bin > (known[at - 1]?.[0] ?? -1)),
    "in order of time",
  );
  assert.deepEqual(thinned([null, null], 0, 2, 1), []);
});

test("another width takes the mean weighted by time", () => {
  assert.deepEqual(regridded([1, 3, 5, null, null, null], grid(10, 6), grid(20, 3)), [2, 5, null]);
  // Bins of 20 and 50: the third of 20 goes half into the first of 50.
  assert.deepEqual(regridded([1, 2, 4, 8, 16], grid(20, 5), grid(50, 2)), [(20 + 40 + 40) / 50, (40 + 160 + 320) / 50]);
});

test("a difference is known where both are, on the wider bins, as far as both reach", () => {
  assert.deepEqual(commonGrid(grid(10, 6), grid(20, 2)), grid(20, 2));
  assert.deepEqual(differenceOf([1, 3, 5, null, 1, 1], grid(10, 6), [7, null], grid(20, 2)), [5, null]);
  assert.deepEqual(differenceOf([1, 2], grid(10, 2), [4, 2], grid(10, 2)), [3, 0]);
});

test("rates are taken over as many bins as can be told apart, over the same ones wherever the view begins", () => {
  assert.equal(binsTogether(grid(10, 1500), { from: 0, to: 15_000 }, 200), 10);
  assert.equal(binsTogether(grid(10, 1500), { from: 5000, to: 6000 }, 200), 1);
  assert.deepEqual(together([0, 100, null, 0, 0, 0, null], 2), [50, 0, 0, null]);
});

test("bins of a dump count from where its window begins", () => {
  const dump = grid(10, 3, 1000);
  assert.deepEqual(
    [0, 999, 1000, 1009, 1029, 1030, 1031].map((at) => binAt(dump, at)),
    [null, null, 0, 0, 2, 2, null],
  );
  assert.deepEqual([positionOf(dump, 1025), momentOf(dump, 2.5), endOf(dump)], [2.5, 1025, 1030]);
  assert.deepEqual(binsIn(dump, { from: 1005, to: 1011 }), [0, 2]);
  assert.deepEqual(binsIn(dump, { from: 0, to: 900 }), [0, 0]);
  assert.equal(valueAt([1, 2, 3], dump, 1015), 2);
  assert.equal(valueAt([1, 2, 3], dump, 15), undefined);
  assert.equal(binsTogether(grid(10, 1500, 7e9), { from: 7e9, to: 7e9 + 15_000 }, 200), 10);
  assert.deepEqual(coarserGrid(dump, 2), { ...dump, width_ns: 20, bins: 2 });
  assert.deepEqual(commonGrid(dump, grid(20, 5, 1010)), { from_ns: 1010, duration_ns: 20, width_ns: 20, bins: 1 });
  assert.deepEqual(regridded([1, 3, 5], dump, grid(10, 3, 1005)), [2, 4, 5]);
});

/**
 * @param {import("../types.js").Grid} of
 * @param {number} at
 * @returns {import("../types.js").Trace}
 */
const traceAt = (of, at) => ({
  name: "x.ctr",
  label: "recording",
  start_realtime_ns: "0",
  grid: of,
  panels: [],
  gaps: [{ from_ns: at, to_ns: at + 1, count: 1, kind: "lost", cause: "" }],
  spans: [{ from_ns: at, to_ns: at, kind: "marker", rank: null, text: "" }],
  lanes: {
    rows: [
      {
        ...{ tid: 1, tgid: 1, comm: "", role: "", calls: 0, spent: null, mixed: [[0, 1, 1, 1]], left_out: 0 },
        ...{ from_ns: at, to_ns: at + 5 },
        stretches: [{ from_ns: at, to_ns: at + 2, state: "running", call: null, on: null, errno: null }],
      },
    ],
    left_out: 0,
  },
  sample: {
    of: 1,
    events: [
      {
        ...{ id: `${at}-1`, t: at, d: 1, tid: 1, tgid: 1, comm: "", role: "" },
        ...{ type: "marker", call: null, errno: null, peer: null, text: "" },
      },
    ],
  },
});

test("a replay begins where the window of the dump does that it is compared with", () => {
  const [dump, replay] = [traceAt(grid(10, 3, 1000), 1010), traceAt(grid(10, 4), 10)];
  const data = { schema: 1, traces: [dump, replay], first_divergence: { a_ns: 1012, b_ns: 12 } };
  const { traces, first_divergence } = onOneAxis(data);
  assert.deepEqual(axisOf(onOneAxis(data)), { from: 1000, to: 1040 });
  assert.equal(traces[0], dump);
  assert.deepEqual(first_divergence, { a_ns: 1012, b_ns: 1012 });
  const [, b] = traces;
  const [lane, event] = [b?.lanes.rows[0], b?.sample.events[0]];
  assert.deepEqual(
    [b?.grid.from_ns, b?.gaps[0]?.from_ns, b?.spans[0]?.to_ns, lane?.to_ns, lane?.stretches[0]?.to_ns, event?.t],
    [1000, 1010, 1010, 1015, 1012, 1010],
  );
  assert.deepEqual([event?.id, lane?.mixed], ["10-1", [[0, 1, 1, 1]]], "the id is the trace's own");
  assert.deepEqual(axisOf({ schema: 1, traces: [], first_divergence: null }), { from: 0, to: 1 });
});
