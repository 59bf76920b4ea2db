import assert from "node:assert/strict";
import { test } from "node:test";
import { compareTimes, textOf, timeOf } from "@example/group-balance";

test("a time keeps its microseconds there and back", () => {
  const text = "2026-03-01T18:22:05.123456Z";
  assert.deepEqual(timeOf(text), { seconds: 1772389325, nanoseconds: 123456000 });
  assert.equal(textOf(timeOf(text)), text);
  assert.equal(textOf(timeOf("2026-03-01T18:22:05Z")), "2026-03-01T18:22:05.000000Z");
});

test("times a microsecond apart are told apart", () => {
  assert.ok(compareTimes(timeOf("2026-03-01T18:22:05.123456Z"), timeOf("2026-03-01T18:22:05.123457Z")) < 0);
  assert.ok(compareTimes(timeOf("2026-03-01T18:22:06Z"), timeOf("2026-03-01T18:22:05.999999Z")) > 0);
  assert.equal(compareTimes(timeOf("2026-03-01T18:22:05.5Z"), timeOf("2026-03-01T18:22:05.500000Z")), 0);
});

test("what is no time is refused", () => {
  for (const text of ["", "yesterday", "2026-13-01T00:00:00Z", "2026-03-01T18:22:05+01:00"]) {
    assert.throws(() => timeOf(text), RangeError);
  }
});
