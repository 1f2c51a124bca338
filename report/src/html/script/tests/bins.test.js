import assert from "node:assert/strict";
import { test } from "node:test";
import {
  binsIn,
  binsTogether,
  commonGrid,
  differenceOf,
  extentOf,
  regridded,
  thinned,
  together,
  valueAt,
} from "../bins.js";

/** @param {number} width_ns @param {number} bins */
const grid = (width_ns, bins) => ({ width_ns, bins, duration_ns: width_ns * bins });

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
  assert.deepEqual(commonGrid(grid(10, 6), grid(20, 2)), { width_ns: 20, bins: 2, duration_ns: 40 });
  assert.deepEqual(differenceOf([1, 3, 5, null, 1, 1], grid(10, 6), [7, null], grid(20, 2)), [5, null]);
  assert.deepEqual(differenceOf([1, 2], grid(10, 2), [4, 2], grid(10, 2)), [3, 0]);
});

test("rates are taken over as many bins as can be told apart, over the same ones wherever the view begins", () => {
  assert.equal(binsTogether(grid(10, 1500), { from: 0, to: 15_000 }, 200), 10);
  assert.equal(binsTogether(grid(10, 1500), { from: 5000, to: 6000 }, 200), 1);
  assert.deepEqual(together([0, 100, null, 0, 0, 0, null], 2), [50, 0, 0, null]);
});
