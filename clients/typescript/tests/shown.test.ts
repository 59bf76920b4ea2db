import assert from "node:assert/strict";
import { test } from "node:test";
import { shown, VERSION } from "@example/group-balance";
import { lisbon } from "./documents.js";

test("the server's present document is current", () => {
  assert.deepEqual(shown({ data: lisbon(), fromCache: false }), { state: "current", balance: lisbon(), fromCache: false });
});

test("the device's copy is cached", () => {
  assert.equal(shown({ data: lisbon(), fromCache: true }).state, "cached");
});

test("no document is missing when the server says so, and nothing at all without the server", () => {
  assert.equal(shown({ data: undefined, fromCache: false }).state, "missing");
  assert.equal(shown({ data: undefined, fromCache: true }).state, "offline");
});

test("version 0 is stale, online and offline, and keeps its numbers", () => {
  for (const fromCache of [false, true]) {
    const data = lisbon({ version: 0 });
    assert.deepEqual(shown({ data, fromCache }), { state: "stale", balance: data, fromCache });
  }
});

test("a stale document of another schema has no numbers", () => {
  assert.deepEqual(shown({ data: { version: 0, sums: [] }, fromCache: false }), { state: "stale", balance: undefined, fromCache: false });
});

test("another version is told apart from a damaged document, with the numbers if it can be read", () => {
  const readable = lisbon({ version: VERSION + 1 });
  assert.deepEqual(shown({ data: readable, fromCache: false }), {
    state: "other version",
    version: VERSION + 1,
    balance: readable,
    fromCache: false,
  });
  const unreadable = shown({ data: { version: VERSION + 7 }, fromCache: false });
  assert.deepEqual(unreadable, { state: "other version", version: VERSION + 7, balance: undefined, fromCache: false });
});

test("a damaged document says which field is wrong", () => {
  const judged = shown({ data: { ...lisbon(), simplifiedDebts: null }, fromCache: false });
  assert.equal(judged.state, "invalid");
  assert.equal(judged.problem.message, "simplifiedDebts is null, not a list");
  assert.equal(shown({ data: { ...lisbon(), version: "1" }, fromCache: false }).state, "invalid");
  assert.equal(shown({ data: null, fromCache: false }).state, "invalid");
  assert.equal(shown({ data: lisbon(), fromCache: false }, "porto").state, "invalid");
});

test("a balance that cannot be stored does not pass for zero", () => {
  const data = lisbon({ detail: "none", balancesByCurrency: {}, simplifiedDebts: [] });
  assert.equal(shown({ data, fromCache: false }).state, "not stored");
});
