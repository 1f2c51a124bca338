// What no module may do, whatever a trace has in it.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const folder = new URL("../", import.meta.url);
const modules = readdirSync(folder)
  .filter((name) => name.endsWith(".js"))
  .map((name) => ({ name, text: readFileSync(new URL(name, folder), "utf8") }));

test("words become text, never markup, code, style or a request", () => {
  const forbidden =
    /innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|setAttribute\("(?:style|on)|fetch\(|XMLHttpRequest|WebSocket|import\(\s|localStorage|createContextualFragment|srcdoc|<\/?script|<!--/i;
  for (const { name, text } of modules) {
    const code = text.replace(/^\s*(?:\*|\/\/|\/\*).*$/gm, "");
    assert.doesNotMatch(code, forbidden, name);
  }
});

test("modules are in the form that is joined, and none is too long", () => {
  for (const { name, text } of modules) {
    assert.doesNotMatch(text, /^export (?:default|\*|\{)/m, name);
    assert.doesNotMatch(text, /^import (?!\{)/m, name);
    assert.ok(text.split("\n").length < 500, name);
  }
});

test("bins and times are worked out in one place", () => {
  for (const { name, text } of modules) {
    if (name !== "grid.js")
      assert.doesNotMatch(text, /grid\.(?:from_ns|duration_ns)|[*/] grid\.width_ns|width_ns [*/]/, name);
  }
});

test("only the store keeps state: no module has a variable of its own", () => {
  for (const { name, text } of modules) assert.doesNotMatch(text, /^(?:export )?(?:let|var) /m, name);
});
