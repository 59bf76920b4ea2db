import assert from "node:assert/strict";
import { test } from "node:test";
import { checkBalance, holds, LONGEST_COMMIT_SECONDS, markOf, pending, textOf } from "@example/group-balance";
import type { BalanceAnswer, OwnWrite } from "@example/group-balance";
import { lisbon, seconds } from "./documents.js";

const document = lisbon(); // asOf 1000 s, lastUpdatedAt 2000 s

test("a version that was read before the write was made does not hold it, acknowledged or not", () => {
  assert.equal(holds(document, { seen: seconds(2000), servedAt: null }), "no");
  assert.equal(holds(document, { seen: seconds(1999, 999_999), servedAt: null }), "unknown");
});

test("a write that is not acknowledged may be in the balance all the same", () => {
  assert.equal(holds(document, { servedAt: null }), "unknown");
});

test("a write after the balance was written is not in it", () => {
  assert.equal(holds(document, { updateTime: seconds(2000, 1000) }), "no");
  assert.equal(holds(document, { servedAt: seconds(2000, 1000) }), "no");
  // The time at which the balance was written is cut off to milliseconds.
  assert.equal(holds(document, { updateTime: seconds(2000, 999) }), "unknown");
  assert.equal(holds(lisbon({ lastUpdatedAt: seconds(1999, 999_000) }), { servedAt: seconds(2000) }), "no");
});

test("a write up to the last recalculation is in it", () => {
  assert.equal(holds(document, { updateTime: seconds(1000) }), "yes");
  assert.equal(holds(document, { updateTime: seconds(1000, 1) }), "unknown");
});

test("a serverTimestamp says when the commit began, so it must lie further back", () => {
  assert.equal(holds(document, { servedAt: seconds(1000 - LONGEST_COMMIT_SECONDS) }), "yes");
  assert.equal(holds(document, { servedAt: seconds(1000 - LONGEST_COMMIT_SECONDS, 1) }), "unknown");
});

test("in between, the document may have been written because of somebody else's write", () => {
  assert.equal(holds(document, { servedAt: seconds(1999) }), "unknown");
  assert.equal(holds(document, { servedAt: seconds(2000) }), "unknown");
  assert.equal(holds(document, {}), "unknown");
});

test("a mark decides for its own version and all later ones", () => {
  const servedAt = seconds(1999);
  assert.equal(holds(document, { servedAt, mark: { lastUpdatedAt: seconds(2000) } }), "yes");
  assert.equal(holds(document, { servedAt, mark: { lastUpdatedAt: seconds(2000, 1) } }), "unknown");
  assert.equal(holds(document, { servedAt, mark: { asOf: seconds(1000) } }), "yes");
  assert.equal(holds(document, { servedAt, mark: { asOf: seconds(1000, 1) } }), "unknown");
});

test("an answer gives a mark only when it holds all that was asked for", () => {
  const answer: BalanceAnswer = {
    groupId: "lisbon",
    balancesByCurrency: {},
    simplifiedDebts: [],
    lastUpdatedAt: textOf(seconds(2000, 7)),
    version: 1,
    asOf: textOf(seconds(1000, 7)),
    detail: "pairs",
    faults: 0, source: "precomputed",
  };
  assert.equal(markOf(answer), undefined);
  assert.equal(markOf({ ...answer, includes: { "expenses/e1@latest": true, "expenses/e2@latest": false } }), undefined);
  const includes = { "expenses/e1@latest": true };
  assert.deepEqual(markOf({ ...answer, includes }), { lastUpdatedAt: seconds(2000, 7) });
  assert.deepEqual(markOf({ ...answer, includes, source: "recalculated" }), { asOf: seconds(1000, 7) });
  const neverStored = { ...answer, includes, lastUpdatedAt: answer.asOf };
  assert.deepEqual(markOf(neverStored), { asOf: seconds(1000, 7) });
});

const mine = (debts: OwnWrite["debts"], written: Omit<OwnWrite, "debts"> = { seen: seconds(2000) }): OwnWrite => ({ debts, ...written });
const EUR = "EUR";

test("own writes are added in whole minor units, and the result is a balance again", () => {
  const writes = [mine([{ from: "ana", to: "bo", amount: 0.1, currency: EUR }]), mine([{ from: "ana", to: "cy", amount: 0.2, currency: EUR }])];
  const { balance, added, unknown } = pending(document, writes);
  assert.deepEqual([added, unknown], [writes, []]);
  assert.deepEqual(checkBalance(balance).balancesByCurrency["EUR"], {
    ana: { uid: "ana", owes: { cy: 0.2 }, owedBy: { bo: 12.4 }, netBalance: 12.2 },
    bo: { uid: "bo", owes: { ana: 12.4 }, owedBy: {}, netBalance: -12.4 },
    cy: { uid: "cy", owes: {}, owedBy: { ana: 0.2 }, netBalance: 0.2 },
  });
  assert.equal(balance.balancesByCurrency["JPY"]?.["ana"]?.netBalance, -300);
  assert.deepEqual(balance.simplifiedDebts.map((one) => one.currency), ["JPY"]);
  assert.deepEqual(document, lisbon(), "the balance itself stays as it is");
});

test("a debt turns round, and what is even is not there", () => {
  const turned = pending(document, [mine([{ from: "ana", to: "bo", amount: 20, currency: EUR }])]).balance.balancesByCurrency;
  assert.deepEqual(turned["EUR"]?.["ana"], { uid: "ana", owes: { bo: 7.5 }, owedBy: {}, netBalance: -7.5 });
  assert.deepEqual(turned["EUR"]?.["bo"], { uid: "bo", owes: {}, owedBy: { ana: 7.5 }, netBalance: 7.5 });
  const even = pending(document, [mine([{ from: "bo", to: "ana", amount: -12.5, currency: EUR }])]).balance.balancesByCurrency;
  assert.deepEqual(Object.keys(even), ["JPY"]);
});

test("a write that may be in the document already is not added, but told", () => {
  const write = mine([{ from: "ana", to: "bo", amount: 5, currency: EUR }], { servedAt: seconds(1999) });
  assert.deepEqual(pending(document, [write]), { balance: document, added: [], unknown: [write] });
  const marked = { ...write, mark: { lastUpdatedAt: seconds(1999, 5) } };
  assert.deepEqual(pending(document, [marked]), { balance: document, added: [], unknown: [] });
});

test("of a large group only the nets change, and of one that is not stored nothing", () => {
  const rows = { ana: { uid: "ana", owes: {}, owedBy: {}, netBalance: 1 }, bo: { uid: "bo", owes: {}, owedBy: {}, netBalance: -1 } };
  const nets = lisbon({ detail: "nets", balancesByCurrency: { EUR: rows }, simplifiedDebts: [] });
  const write = mine([{ from: "ana", to: "bo", amount: 3, currency: EUR }]);
  assert.deepEqual(checkBalance(pending(nets, [write]).balance).balancesByCurrency["EUR"], {
    ana: { uid: "ana", owes: {}, owedBy: {}, netBalance: -2 },
    bo: { uid: "bo", owes: {}, owedBy: {}, netBalance: 2 },
  });
  const none = lisbon({ detail: "none", balancesByCurrency: {}, simplifiedDebts: [] });
  assert.deepEqual(pending(none, [write]).balance, none);
});

test("a user called constructor gets a row of its own", () => {
  const { balance } = pending(document, [mine([{ from: "constructor", to: "ana", amount: 1, currency: EUR }])]);
  assert.deepEqual(checkBalance(balance).balancesByCurrency["EUR"]?.["constructor"], {
    uid: "constructor",
    owes: { ana: 1 },
    owedBy: {},
    netBalance: -1,
  });
});

test("a thousand random writes keep the laws, and undone leave what was", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const uids = ["ana", "bo", "cy", "di"];
  const writes = Array.from({ length: 1000 }, () => {
    const [from, to] = [uids[random(4)] as string, uids[random(4)] as string];
    return mine([{ from, to, amount: (random(2001) - 1000) / 100, currency: EUR }]);
  });
  const { balance } = pending(document, writes);
  checkBalance(balance);
  const rows = Object.values(balance.balancesByCurrency["EUR"] ?? {});
  const minor = (amount: number) => Math.round(amount * 100);
  assert.equal(rows.reduce((sum, row) => sum + minor(row.netBalance), 0), 0);
  for (const row of rows) {
    const side = (amounts: Record<string, number>) => Object.values(amounts).reduce((sum, amount) => sum + minor(amount), 0);
    assert.equal(minor(row.netBalance), side(row.owedBy) - side(row.owes));
  }
  const undone = writes.map((write) => mine(write.debts.map((debt) => ({ ...debt, amount: -debt.amount }))));
  assert.deepEqual(pending(balance, undone).balance.balancesByCurrency, document.balancesByCurrency);
});
