import assert from "node:assert/strict";
import { test } from "node:test";
import { exponentOf, format, fromMinor, net, owes, toMinor } from "@example/group-balance";
import { lisbon } from "./documents.js";

test("net balances and debts are read, and absent means zero", () => {
  assert.equal(net(lisbon(), "EUR", "bo"), -12.5);
  assert.equal(owes(lisbon(), "EUR", "bo", "ana"), 12.5);
  assert.equal(owes(lisbon(), "EUR", "ana", "bo"), 0);
  assert.equal(net(lisbon(), "USD", "bo"), 0);
  assert.equal(net(lisbon(), "EUR", "cy"), 0);
});

test("what a document does not tell is undefined, not zero", () => {
  const nets = lisbon({ detail: "nets" });
  assert.equal(owes(nets, "EUR", "bo", "ana"), undefined);
  assert.equal(net(nets, "EUR", "bo"), -12.5);
  assert.equal(net(lisbon({ detail: "none", balancesByCurrency: {} }), "EUR", "bo"), undefined);
});

test("uids may be names that every object inherits", () => {
  for (const uid of ["constructor", "toString", "__proto__", "hasOwnProperty"]) {
    assert.equal(net(lisbon(), "EUR", uid), 0);
    assert.equal(net(lisbon(), uid, "ana"), 0);
    assert.equal(owes(lisbon(), "EUR", "bo", uid), 0);
  }
});

const formatted: [number, string, object, string][] = [
  [12.5, "USD", {}, "$12.50"],
  [1250, "USD", { unit: "minor" }, "$12.50"],
  [1250, "JPY", {}, "¥1,250"],
  [1250, "JPY", { unit: "minor" }, "¥1,250"],
  [0.5, "HUF", {}, "HUF\u00a00.50"],
  [12, "HUF", {}, "HUF\u00a012"],
  [0.125, "KWD", {}, "KWD\u00a00.125"],
  [1.5, "IQD", {}, "IQD\u00a01.500"],
  [0.0001, "CLF", {}, "CLF\u00a00.0001"],
  [-3, "EUR", {}, "-€3.00"],
  [12.5, "EUR", { locale: "de-DE" }, "12,50\u00a0€"],
  [1234567, "POINTS", { currencies: { POINTS: 0 } }, "1,234,567\u00a0POINTS"],
  [123456789, "BTC", { unit: "minor", currencies: { BTC: 8 } }, "1.23456789\u00a0BTC"],
  [2, "BTC", { currencies: { BTC: 8 } }, "2\u00a0BTC"],
  [0.12345, "WHO", {}, "0.12345\u00a0WHO"],
  [999_999_999_999.99, "USD", {}, "$999,999,999,999.99"],
];

for (const [amount, currency, options, text] of formatted) {
  test(`${amount} ${currency} ${JSON.stringify(options)} is shown as ${text}`, () => {
    assert.equal(format(amount, currency, { locale: "en-US", ...options }), text);
  });
}

test("an unknown unit in minor units is refused: nobody knows how many make one", () => {
  assert.throws(() => format(5, "WHO", { unit: "minor" }), { name: "RangeError", message: /WHO is no currency of ISO 4217; give its decimals/ });
  assert.throws(() => toMinor(5, "WHO"), RangeError);
});

test("amounts become whole minor units and come back", () => {
  for (const [amount, currency, minor] of [[0.29, "EUR", 29], [1.005, "KWD", 1005], [7, "JPY", 7], [-4.35, "USD", -435]] as const) {
    assert.equal(toMinor(amount, currency), minor);
    assert.equal(fromMinor(minor, currency), amount);
  }
  assert.equal(toMinor(29, "EUR", { unit: "minor" }), 29);
  assert.equal(fromMinor(29, "WHO", { currencies: { WHO: 1 } }), 2.9);
});

test("the app's own units come before the table, and inherited names are no units", () => {
  assert.equal(exponentOf("POINTS", { currencies: { POINTS: 0 } }), 0);
  assert.equal(exponentOf("KWD"), 3);
  assert.equal(exponentOf("constructor"), undefined);
});
