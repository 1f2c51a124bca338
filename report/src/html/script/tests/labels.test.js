import assert from "node:assert/strict";
import { test } from "node:test";
import { apart, onRows } from "../labels.js";

test("labels on one row do not touch, and the first ones get their room first", () => {
  const items = [
    { x: 0, width: 100 },
    { x: 50, width: 100 },
    { x: 104, width: 50 },
    { x: 60, width: 10 },
    { x: 155, width: 20 },
  ];
  const rows = onRows(items, 2, 3);
  assert.deepEqual(rows, [0, 1, 0, -1, 1]);
  for (const [a, left] of items.entries()) {
    for (const [b, right] of items.entries()) {
      if (a >= b || rows[a] !== rows[b] || rows[a] === -1) continue;
      assert.ok(left.x + left.width < right.x || right.x + right.width < left.x, `${a} and ${b}`);
    }
  }
});

test("names at line ends are moved apart, in order, within the plot", () => {
  for (const places of [
    [50, 50, 50],
    [0, 0, 99],
    [99, 98, 97, 1],
    [10, 30, 50],
  ]) {
    const found = apart(places, 12, 0, 100);
    const middles = found.filter((place) => place !== null).sort((a, b) => a - b);
    assert.equal(middles.length, places.length);
    assert.ok(
      middles.every((place, at) => at === 0 || place - (middles[at - 1] ?? 0) >= 12 - 1e-9),
      String(middles),
    );
    assert.ok((middles[0] ?? 0) >= 6 && (middles.at(-1) ?? 0) <= 94, String(middles));
  }
  assert.deepEqual(apart([10, 30, 50], 12, 0, 100), [10, 30, 50]);
});

test("without room for all, the last in the list have none", () => {
  const found = apart([5, 5, 5, 5], 12, 0, 30);
  assert.deepEqual(
    found.map((place) => place === null),
    [false, false, true, true],
  );
});
