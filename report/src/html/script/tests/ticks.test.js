import assert from "node:assert/strict";
import { test } from "node:test";
import { bytesText, durationText, grouped, momentText, rangeText, valueText } from "../numbers.js";
import { niceStep, onScale, timeTicks, valueScale } from "../ticks.js";

test("steps are 1, 2 or 5 times a power of ten", () => {
  assert.equal(niceStep(30e9, 8), 5e9);
  assert.equal(niceStep(3, 10), 0.5);
  assert.equal(niceStep(1000, 10), 100);
  assert.equal(niceStep(1001, 10), 200);
});

test("times on an axis are round, inside it, and tell two from each other", () => {
  for (const [from, to] of [
    [0, 30e9],
    [12_300_000_000, 12_300_004_000],
    [5, 1005],
    [0, 864e11],
  ]) {
    const ticks = timeTicks({ from: from ?? 0, to: to ?? 0 }, 8);
    assert.ok(ticks.length >= 3 && ticks.length <= 9, `${from}: ${ticks.length}`);
    assert.equal(new Set(ticks.map(({ text }) => text)).size, ticks.length);
    assert.ok(ticks.every(({ at }) => at >= (from ?? 0) && at <= (to ?? 0)));
  }
  assert.deepEqual(
    timeTicks({ from: 0, to: 1e9 }, 5).map(({ text }) => text),
    ["0.0 s", "0.2 s", "0.4 s", "0.6 s", "0.8 s", "1.0 s"],
  );
});

test("a scale reaches over its values from a round value to another", () => {
  const scale = valueScale(0, 1168, 3, "per-second", 3);
  assert.deepEqual([scale.low, scale.high, scale.ticks], [0, 1500, [0, 500, 1000, 1500]]);
  const bytes = valueScale(0, 400 * 2 ** 20, 1, "bytes", 3);
  assert.deepEqual(bytes.ticks.map(bytesText), ["0 B", "256 MiB", "512 MiB"]);
  const signed = valueScale(-70, 30, 1, "count", 4);
  assert.deepEqual([signed.low, signed.high], [-100, 50]);
  assert.deepEqual(valueScale(0, 0, Number.POSITIVE_INFINITY, "count", 3).low, 0);
});

test("durations over many powers of ten get a logarithmic scale", () => {
  const scale = valueScale(1500, 6.2e7, 1500, "ns", 3);
  assert.ok(scale.isLog);
  assert.equal(scale.low, 1000);
  assert.equal(scale.high, 1e8);
  assert.equal(onScale(scale, 1000), 0);
  assert.equal(onScale(scale, 0), 0);
  assert.ok(Math.abs(onScale(scale, 1e8) - 1) < 1e-9);
  assert.ok(!valueScale(-5, 6.2e7, 1500, "ns", 3).isLog);
});

test("values have their units", () => {
  assert.equal(durationText(0), "0");
  assert.deepEqual([1, 1500, 2.5e6, 999_999, 3.2e9, -4e3].map(durationText), [
    "1 ns",
    "1.5 µs",
    "2.5 ms",
    "1 ms",
    "3.2 s",
    "−4 µs",
  ]);
  assert.deepEqual(
    [0, 999, 12_345, 2.5e6].map((n) => valueText(n, "per-second")),
    ["0/s", "999/s", "12.3 k/s", "2.5 M/s"],
  );
  assert.equal(valueText(0.123, "share"), "12.3 %");
  assert.equal(valueText(1.5, "cpus"), "1.5 CPU");
  assert.equal(bytesText(1536), "1.5 KiB");
  assert.equal(grouped(1_234_567), "1,234,567");
  assert.equal(grouped(-1234.5, 1), "−1,234.5");
  assert.equal(momentText(12_345_678_901, 1), "12.345678901 s");
  assert.equal(rangeText(12_300_000_000, 14_050_000_000), "12.3–14.1 s");
});
