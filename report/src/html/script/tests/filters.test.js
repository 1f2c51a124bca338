import assert from "node:assert/strict";
import { test } from "node:test";
import { byImportance, gapText, spanText, windowOf } from "../bands.js";
import { countText } from "../events.js";
import { chipsOf } from "../filterbar.js";
import { filterOf, fitsDims, fitsEvent, fittingEvents, hasId, isSet, samePeer } from "../filters.js";
import { laneText, nextStretch, stretchText } from "../lanes.js";
import { NO_FILTER } from "../state.js";

/** @type {import("../types.js").Event} */
const EVENT = {
  id: "150-7",
  t: 100,
  d: 50,
  tid: 7,
  tgid: 5,
  comm: "worker",
  role: "shop/worker",
  type: "syscall",
  call: "connect",
  errno: "ECONNREFUSED",
  peer: "10.0.0.7:5432",
  text: "connect(3, 10.0.0.7:5432) = -1 ECONNREFUSED",
};
/** @type {import("../types.js").Dims} */
const NOTHING = { from: null, to: null, trace: null, tid: [], tgid: [], call: [], errno: [], peer: [] };

test("an event fits when all of it does", () => {
  for (const [set, fits] of /** @type {[Partial<import("../types.js").Filter>, boolean][]} */ ([
    [{}, true],
    [{ window: { from: 150, to: 200 } }, true],
    [{ window: { from: 151, to: 200 } }, false],
    [{ window: { from: 0, to: 99 } }, false],
    [{ tid: 7, call: "connect", trace: 0 }, true],
    [{ tid: 7, call: "read" }, false],
    [{ trace: 1, tid: 7 }, false],
    [{ tgid: 6 }, false],
    [{ errno: "ENOENT" }, false],
    [{ peer: "10.0.0.7:5432" }, true],
    [{ peer: "10.0.0.7:54" }, false],
    [{ text: "econnrefused WORKER" }, true],
    [{ text: "econnrefused nginx" }, false],
    [{ text: ".*" }, false],
  ])) {
    assert.equal(fitsEvent({ ...NO_FILTER, ...set }, 0, EVENT), fits, JSON.stringify(set));
  }
});

test("an end with its name is the end without", () => {
  assert.ok(samePeer("db.svc:5432 (10.0.0.7:5432)", "10.0.0.7:5432"));
  assert.ok(samePeer("unix /run/a.sock", "/run/a.sock"));
  assert.ok(!samePeer("unix /run/a.sock", "unix /run/b.sock"));
  assert.ok(!samePeer("10.0.0.7:5432", "10.0.0.7:543"));
});

test("a row that says nothing of a dimension is not filtered by it", () => {
  const filter = { ...NO_FILTER, call: "connect", window: { from: 100, to: 200 } };
  assert.ok(fitsDims(filter, NOTHING));
  assert.ok(fitsDims(filter, { ...NOTHING, call: ["read", "connect"], from: 150, to: 160 }));
  assert.ok(!fitsDims(filter, { ...NOTHING, call: ["read"] }));
  assert.ok(!fitsDims(filter, { ...NOTHING, from: 201, to: 300 }));
  assert.ok(fitsDims(filter, { ...NOTHING, from: 10, to: null }), "it lives on");
  assert.ok(!fitsDims({ ...NO_FILTER, trace: 0, tid: 7 }, { ...NOTHING, trace: 1, tid: [7] }));
});

test("an element filters by what it says, a task by itself rather than by its process", () => {
  const set = filterOf({ ...NOTHING, from: 5, to: 9, trace: 1, tid: [7], tgid: [5], errno: ["ENOENT"] });
  assert.deepEqual(set, { window: { from: 5, to: 9 }, tid: 7, trace: 1, errno: "ENOENT" });
  assert.ok(isSet({ ...NO_FILTER, ...set }, set));
  assert.ok(!isSet(NO_FILTER, set));
  assert.ok(!isSet(NO_FILTER, {}));
  assert.deepEqual(filterOf({ ...NOTHING, trace: 1, call: ["read"] }), { call: "read" });
});

test("an id without a thread is any event that was complete then", () => {
  assert.ok(hasId(EVENT, "150-7") && hasId(EVENT, "150-0"));
  assert.ok(!hasId(EVENT, "150-8") && !hasId(EVENT, "15-0") && !hasId(EVENT, "1500-0"));
});

test("events of two traces are in one order", () => {
  const traces = [[100, 300], [200]].map((times) => ({
    sample: { of: 9, events: times.map((t) => ({ ...EVENT, t })) },
  }));
  assert.deepEqual(
    fittingEvents(NO_FILTER, traces).map(({ trace, event }) => [trace, event.t]),
    [
      [0, 100],
      [1, 200],
      [0, 300],
    ],
  );
  assert.equal(countText(2, traces), "2 of 3 events in the sample; the sample holds 3 of 18");
});

test("each filter has a chip that takes away that one", () => {
  const filter = { ...NO_FILTER, window: { from: 1e9, to: 2e9 }, tid: 7, call: "connect", text: "<b>x" };
  const chips = chipsOf(filter, []);
  assert.deepEqual(
    chips.map(({ text }) => text),
    ["1.0–2.0 s", "task 7", "call connect", "words “<b>x”"],
  );
  assert.deepEqual(
    chips.map(({ without }) => without),
    [{ window: null }, { tid: null }, { call: null }, { text: "" }],
  );
});

test("findings get room before markers, and a moment is brushed with a little around it", () => {
  /** @type {import("../types.js").Span[]} */
  const spans = [
    { from_ns: 1, to_ns: 1, kind: "exec", rank: null, text: "e" },
    { from_ns: 9, to_ns: 12, kind: "finding", rank: 2, text: "second" },
    { from_ns: 3, to_ns: 3, kind: "clock-jump", rank: null, text: "c" },
    { from_ns: 10, to_ns: 12, kind: "finding", rank: 1, text: "first" },
  ];
  assert.deepEqual(byImportance(spans).map(spanText), [
    "finding 1: first",
    "finding 2: second",
    "clock jump: c",
    "exec: e",
  ]);
  assert.deepEqual(windowOf(/** @type {import("../types.js").Span} */ (spans[0]), { from: 0, to: 1000 }), {
    from: -4,
    to: 6,
  });
  const gap = { from_ns: 1e9, to_ns: 2e9, count: 1200, kind: "lost", cause: "the ring was full" };
  assert.equal(gapText(gap), "1.0–2.0 s: 1,200 events lost (the ring was full)");
});

test("a lane tells its stretches, its mixed bins, and what is not known", () => {
  /** @type {import("../types.js").Lane} */
  const lane = {
    tid: 7,
    tgid: 5,
    comm: "w",
    role: "shop",
    from_ns: 0,
    to_ns: 90e6,
    calls: 3,
    spent: null,
    stretches: [
      { from_ns: 10e6, to_ns: 20e6, state: "blocked", call: "connect", on: "10.0.0.7:5432", errno: "ECONNREFUSED" },
      { from_ns: 40e6, to_ns: 50e6, state: "running", call: null, on: null, errno: null },
    ],
    mixed: [[6, 51, 0, 204]],
    left_out: 0,
  };
  const grid = { from_ns: 0, width_ns: 5e6, bins: 20, duration_ns: 100e6 };
  assert.equal(laneText(lane, grid, 15e6), "0.010–0.020 s, 10 ms: blocked in connect on 10.0.0.7:5432, ECONNREFUSED");
  assert.match(laneText(lane, grid, 32e6), /5 ms of short stretches: 20 % running, 80 % blocked$/);
  assert.match(laneText(lane, grid, 60e6), /nothing is known$/);
  assert.match(laneText(lane, grid, 95e6), /ended$/);
  // The same bin of a dump is later by where its window begins.
  const dump = { ...grid, from_ns: 25e6 };
  assert.match(laneText(lane, dump, 57e6), /5 ms of short stretches: 20 % running, 80 % blocked$/);
  assert.equal(stretchText({ from_ns: 0, to_ns: 1, state: "calling", call: "read", on: null, errno: null }), "in read");
  const all = { from: 0, to: 100e6 };
  assert.equal(nextStretch(lane, null, 1, all)?.from_ns, 10e6);
  assert.equal(nextStretch(lane, 15e6, 1, all)?.from_ns, 40e6);
  assert.equal(nextStretch(lane, 45e6, -1, all)?.from_ns, 10e6);
  assert.equal(nextStretch(lane, 45e6, 1, all), null);
  assert.equal(nextStretch(lane, null, 1, { from: 60e6, to: 70e6 }), null);
});
