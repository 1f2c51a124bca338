import assert from "node:assert/strict";
import { test } from "node:test";
import { initialState, reduceState, shownRange } from "../state.js";
import { createStore } from "../store.js";

const store = () => createStore(initialState({ from: 0, to: 30e9 }, 1), reduceState);

test("listeners hear of changes only, and no longer when they left", () => {
  const one = store();
  /** @type {(number | null)[]} */
  const heard = [];
  const leave = one.subscribe((now, before) => heard.push(before.hover, now.hover));
  one.update({ do: "hover", at: 5 });
  one.update({ do: "hover", at: 5 });
  assert.deepEqual(heard, [null, 5]);
  leave();
  one.update({ do: "hover", at: 6 });
  assert.equal(heard.length, 2);
  assert.equal(one.get().hover, 6);
});

test("a state that was given is never changed", () => {
  const one = store();
  const first = Object.freeze(one.get());
  one.update({ do: "brush", from: 5e9, to: 2e9 });
  one.update({ do: "filter", set: { call: "connect" } });
  assert.equal(first.window, null);
  assert.equal(first.call, null);
});

test("a brush goes either way and stays within the trace", () => {
  const one = store();
  one.update({ do: "brush", from: 5e9, to: 2e9 });
  assert.deepEqual(one.get().window, { from: 2e9, to: 5e9 });
  one.update({ do: "brush", from: -1e9, to: 99e9 });
  assert.deepEqual(one.get().window, { from: 0, to: 30e9 });
  one.update({ do: "brush", from: 30e9, to: 30e9 });
  assert.deepEqual(one.get().window, { from: 30e9 - 100, to: 30e9 });
});

test("arrows move the cursor, and with Shift the end of the window at which it is", () => {
  const one = store();
  one.update({ do: "cursor", at: 10e9 });
  one.update({ do: "move", by: 1e9, extend: false });
  assert.equal(one.get().cursor, 11e9);
  assert.equal(one.get().window, null);
  one.update({ do: "move", by: 1e9, extend: true });
  one.update({ do: "move", by: 2e9, extend: true });
  assert.deepEqual(one.get().window, { from: 11e9, to: 14e9 });
  one.update({ do: "move", by: -5e9, extend: true });
  assert.deepEqual(one.get().window, { from: 9e9, to: 11e9 });
  one.update({ do: "move", by: -99e9, extend: false });
  assert.equal(one.get().cursor, 0);
  assert.deepEqual(one.get().window, { from: 9e9, to: 11e9 });
});

test("zoom keeps the cursor where it is, and ends at the whole trace", () => {
  const one = store();
  one.update({ do: "cursor", at: 9e9 });
  one.update({ do: "zoom", factor: 0.5 });
  assert.deepEqual(one.get().view, { from: 4.5e9, to: 19.5e9 });
  one.update({ do: "zoom", factor: 2 });
  assert.equal(one.get().view, null);
  for (let n = 0; n < 60; n += 1) one.update({ do: "zoom", factor: 0.5 });
  const { view } = one.get();
  assert.ok(view !== null && view.to - view.from >= 100 && view.to - view.from < 1000, JSON.stringify(view));
});

test("what is shown follows the cursor, and is moved no further than the trace", () => {
  const one = store();
  one.update({ do: "view", view: { from: 10e9, to: 12e9 } });
  one.update({ do: "cursor", at: 12e9 });
  one.update({ do: "move", by: 3e9, extend: false });
  assert.deepEqual(one.get().view, { from: 13e9, to: 15e9 });
  one.update({ do: "pan", by: 99e9 });
  assert.deepEqual(one.get().view, { from: 28e9, to: 30e9 });
  one.update({ do: "view", view: { from: 0, to: 30e9 } });
  assert.equal(one.get().view, null);
});

test("the axis of a dump begins with its window, and nothing goes before it", () => {
  const one = createStore(initialState({ from: 100e9, to: 160e9 }, 1), reduceState);
  assert.deepEqual(shownRange(one.get()), { from: 100e9, to: 160e9 });
  one.update({ do: "brush", from: 0, to: 110e9 });
  assert.deepEqual(one.get().window, { from: 100e9, to: 110e9 });
  one.update({ do: "move", by: -999e9, extend: false });
  assert.equal(one.get().cursor, 100e9);
  one.update({ do: "zoom", factor: 0.5 });
  assert.deepEqual(one.get().view, { from: 100e9, to: 130e9 });
  one.update({ do: "pan", by: 999e9 });
  assert.deepEqual(one.get().view, { from: 130e9, to: 160e9 });
  const before = one.get();
  one.update({ do: "pan", by: 1e9 });
  assert.equal(one.get(), before);
  one.update({ do: "zoom", factor: 4 });
  assert.equal(one.get().view, null);
});

test("Escape clears the window, then the cursor", () => {
  const one = store();
  one.update({ do: "brush", from: 1e9, to: 2e9 });
  one.update({ do: "escape" });
  assert.deepEqual([one.get().window, one.get().cursor], [null, 2e9]);
  one.update({ do: "escape" });
  assert.equal(one.get().cursor, null);
  const before = one.get();
  one.update({ do: "escape" });
  assert.equal(one.get(), before);
});

test("the trace of a task goes with the last task", () => {
  const one = store();
  one.update({ do: "filter", set: { tid: 7, trace: 0 } });
  assert.equal(one.get().trace, 0);
  one.update({ do: "filter", set: { tid: null } });
  assert.equal(one.get().trace, null);
  one.update({ do: "filter", set: { call: "read", text: "x" } });
  one.update({ do: "clear" });
  assert.deepEqual([one.get().call, one.get().text], [null, ""]);
});

test("the theme goes round", () => {
  const one = store();
  const seen = [0, 1, 2].map(() => {
    one.update({ do: "theme" });
    return one.get().theme;
  });
  assert.deepEqual(seen, ["dark", "light", "auto"]);
});
