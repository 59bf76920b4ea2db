import assert from "node:assert/strict";
import { test } from "node:test";
import type { FirestoreError } from "firebase/firestore";
import { balanceApi, shown, VERSION, type BalanceApi, type Watched } from "@example/group-balance";
import { told } from "../examples/amounts.js";
import { myGroups } from "../examples/groups.js";
import { withOwnWrites } from "../examples/own-write.js";
import { screen } from "../examples/screen.js";
import { lisbon, seconds } from "./documents.js";

test("the amounts on the page are as it says", () => {
  const says = [-12.5, 12.5, 0, "$12.50", "¥1,250", "HUF\u00a00.50", "$12.50", "40\u00a0POINTS", 0.3];
  assert.deepEqual(told, says);
});

const none = lisbon({ detail: "none", balancesByCurrency: {}, simplifiedDebts: [] });
const error = new Error() as FirestoreError;
const lines: [string, Watched, string | undefined, string[]][] = [
  ["current", shown({ data: lisbon(), fromCache: false }), "-€12.50", []],
  ["faults", shown({ data: lisbon({ faults: 2 }), fromCache: false }), "-€12.50", ["Not included: 2 expenses or payments that cannot be read."]],
  ["cached", shown({ data: lisbon(), fromCache: true }), "-€12.50", ["Offline: last known balance."]],
  ["stale", shown({ data: lisbon({ version: 0 }), fromCache: false }), "-€12.50", ["Updating ..."]],
  ["unreadable version", shown({ data: { version: 99 }, fromCache: false }), undefined, ["Updating ..."]],
  ["missing", shown({ data: undefined, fromCache: false }), "€0.00", ["Nothing spent yet."]],
  ["offline", shown({ data: undefined, fromCache: true }), undefined, ["Offline: the balance is not known on this device."]],
  ["too large", shown({ data: none, fromCache: false }), undefined, ["Loading ..."]],
  ["damaged", shown({ data: { version: VERSION }, fromCache: false }), undefined, ["Loading ..."]],
  ["denied", { state: "denied", error }, undefined, ["You are not a member of this group."]],
  ["failed", { state: "failed", error }, undefined, ["Could not be loaded. Try again."]],
];

for (const [what, watched, amount, notes] of lines) {
  test(`the screen of the page: ${what}`, () => assert.deepEqual(screen(watched, "bo", "EUR", "en-US"), { amount, notes }));
}

test("a balance in which an own write is missing is shown with it, as updating", () => {
  const debts = [{ from: "bo", to: "ana", amount: 1, currency: "EUR" }];
  const missing = withOwnWrites(lisbon(), [{ debts, seen: seconds(2000) }]);
  assert.equal(missing.updating, true);
  assert.equal(missing.balance.balancesByCurrency["EUR"]?.["bo"]?.netBalance, -13.5);
  const there = withOwnWrites(lisbon(), [{ debts, mark: { lastUpdatedAt: seconds(2000) } }]);
  assert.deepEqual(there, { balance: lisbon(), updating: false });
});

/** An API behind which stand these answers. */
function api(...answers: [number, unknown, Record<string, string>?][]): BalanceApi {
  const next = async () => {
    const [status, body, headers = {}] = answers.shift() ?? [500, {}];
    return new Response(JSON.stringify(body), { status, headers });
  };
  return balanceApi({ url: "https://example.com", token: async () => "t", fetch: next });
}

test("the list of groups goes on to the last page, and says what is wrong", async () => {
  const entry = (groupId: string) => ({ groupId, error: { code: "BALANCE_READ_ERROR", message: "..." } });
  const pages = api([200, { groups: [entry("a")], nextPageToken: "a" }], [200, { groups: [entry("b")], nextPageToken: null }]);
  assert.deepEqual(await myGroups(pages), [entry("a"), entry("b")]);
  assert.equal(await myGroups(api([429, {}, { "Retry-After": "20" }])), "Try again in 20 s.");
  assert.equal(await myGroups(api([401, {}], [401, {}])), "Please sign in again.");
  assert.equal(await myGroups(api([500, {}])), "Your groups cannot be shown.");
});
