import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHash, isPlace, toHash } from "../hash.js";
import { initialState, reduceState } from "../state.js";

const AXIS = { from: 0, to: 30e9 };
const EMPTY = initialState(AXIS, 2);
const load = (/** @type {string} */ hash) => fromHash(hash, AXIS, 2);

test("a link brings back what it was made of", () => {
  /** @type {import("../types.js").State} */
  const state = {
    ...EMPTY,
    window: { from: 12_300_000_001, to: 14e9 },
    view: { from: 10e9, to: 20e9 },
    cursor: 12_500_000_000,
    trace: 1,
    tid: 4711,
    tgid: 4700,
    call: "connect",
    errno: "ECONNREFUSED",
    peer: "db.svc:5432 (10.0.0.7:5432)",
    event: { trace: 1, id: "12300000001-4711" },
    text: "é & = # %<script>",
  };
  const hash = toHash(state);
  assert.match(hash, /^t=12\.300000001-14&view=10-20&at=12\.5&trace=1&task=4711&process=4700&call=connect&/);
  assert.doesNotMatch(hash, /[<> #]/);
  const { set, ignored } = load(`#${hash}`);
  assert.deepEqual(ignored, []);
  assert.deepEqual(reduceState(EMPTY, { do: "load", set, ignored }), state);
});

test("the example of the documentation is read", () => {
  const { set, ignored } = load(
    "#t=12.3-14&task=4711&call=connect&errno=ECONNREFUSED&peer=10.0.0.7:5432&event=12-4711&q=x",
  );
  assert.deepEqual(ignored, []);
  assert.deepEqual(set.window, { from: 12.3e9, to: 14e9 });
  assert.deepEqual([set.tid, set.peer, set.event, set.text], [4711, "10.0.0.7:5432", { trace: 0, id: "12-4711" }, "x"]);
});

test("parts that mean nothing are left out and told, the others count", () => {
  for (const bad of [
    "t=9-3",
    "t=1",
    "t=1-2-3",
    "t=-1-2",
    "t=1e9-2e9",
    "t=31-32",
    "t=99999999999999999999-2",
    "view=x-y",
    "at=31",
    "task=4711x",
    "task=-1",
    "task=",
    "task=99999999999",
    "trace=2",
    "event=abc",
    "event=1-2@2",
    "call=%E0%A4%A",
    "call=%E2%80%AEexe",
    "peer=a%0Ab",
    "q=%00",
    "nonsense",
    "__proto__=1",
    "=",
    `q=${"x".repeat(5000)}`,
  ]) {
    const { set, ignored } = load(`#${bad}&errno=ENOENT`);
    assert.equal(ignored.length, 1, bad);
    assert.ok((ignored[0] ?? "").length <= 61, bad);
    assert.deepEqual(set, { errno: "ENOENT" }, bad);
  }
});

test("nothing gives an empty hash, and the hash of a section is none of ours", () => {
  assert.equal(toHash(EMPTY), "");
  assert.deepEqual(load("#"), { set: {}, ignored: [] });
  assert.ok(isPlace("#errors"));
  assert.ok(!isPlace("#t=1-2"));
});

test("times are exact to the nanosecond over long traces", () => {
  for (const ns of [0, 1, 999_999_999, 1_000_000_000, 86_399_999_999_999]) {
    const day = { from: 0, to: 864e11 };
    const state = { ...initialState(day, 1), cursor: ns };
    assert.equal(fromHash(toHash(state), day, 1).set.cursor ?? 0, ns);
  }
});

test("a link to a dump counts from the start of the recording, and leads to no time before its window", () => {
  const window = { from: 100e9, to: 160e9 };
  const of = (/** @type {string} */ hash) => fromHash(hash, window, 1);
  assert.deepEqual(of("#t=101-102&at=130").set, { window: { from: 101e9, to: 102e9 }, cursor: 130e9 });
  assert.deepEqual(of("#t=99-102").set, { window: { from: 100e9, to: 102e9 } });
  assert.deepEqual(of("#t=1-2&at=3&view=170-180").ignored, ["t=1-2", "at=3", "view=170-180"]);
});

test("a process and a thread of one number are two things", () => {
  assert.deepEqual(load("#process=4700").set, { tgid: 4700 });
  assert.deepEqual(load("#task=4700").set, { tid: 4700 });
  assert.equal(toHash({ ...EMPTY, tgid: 4700 }), "process=4700");
  assert.equal(toHash({ ...EMPTY, tid: 4700 }), "task=4700");
});
