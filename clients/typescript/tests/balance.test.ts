import assert from "node:assert/strict";
import { test } from "node:test";
import { checkBalance, InvalidBalance, type Balance } from "@example/group-balance";
import { lisbon } from "./documents.js";

/** The document with one place changed; `undefined` takes the field away. */
function bent(path: (string | number)[], value: unknown, from: Balance = lisbon()): unknown {
  const document = structuredClone(from) as unknown as Record<string | number, unknown>;
  let place = document;
  for (const step of path.slice(0, -1)) place = place[step] as Record<string | number, unknown>;
  const last = path.at(-1) as string;
  if (value === undefined) delete place[last];
  else place[last] = value;
  return document;
}

test("a balance document passes as it is, also with fields that are not known yet", () => {
  const document = { ...lisbon(), later: { version: "may add this" } };
  assert.equal(checkBalance(document, "lisbon"), document);
});

const EUR = "balancesByCurrency.EUR";
const wrong: [string, unknown, string][] = [
  ["no document", undefined, "the document is missing, not a map"],
  ["a list", [], "the document is a list, not a map"],
  ["no group", bent(["groupId"], undefined), "groupId is missing, not a string"],
  ["another group", bent(["groupId"], "porto"), 'groupId is "porto", not "lisbon"'],
  ["an unknown detail", bent(["detail"], "some"), 'detail is "some", not "pairs", "nets" or "none"'],
  ["no currencies", bent(["balancesByCurrency"], null), "balancesByCurrency is null, not a map"],
  ["a row of another uid", bent(["balancesByCurrency", "EUR", "bo", "uid"], "cy"), `${EUR}.bo.uid is "cy", not "bo"`],
  ["no net", bent(["balancesByCurrency", "EUR", "bo", "netBalance"], undefined), `${EUR}.bo.netBalance is missing, not a finite number`],
  ["text for a net", bent(["balancesByCurrency", "EUR", "bo", "netBalance"], "1"), `${EUR}.bo.netBalance is "1", not a finite number`],
  ["NaN for a net", bent(["balancesByCurrency", "EUR", "bo", "netBalance"], Number.NaN), `${EUR}.bo.netBalance is NaN, not a finite number`],
  ["a negative debt", bent(["balancesByCurrency", "EUR", "bo", "owes", "ana"], -1), `${EUR}.bo.owes.ana is -1; amounts of debts are above zero`],
  ["debts that differ", bent(["balancesByCurrency", "EUR", "bo", "owes", "ana"], 13), `${EUR}.bo.owes.ana is 13, but ${EUR}.ana.owedBy.bo is 12.5`],
  ["half a debt", bent(["balancesByCurrency", "EUR", "ana", "owedBy"], {}), `${EUR}.bo.owes.ana is 12.5, but ${EUR}.ana.owedBy.bo is missing`],
  ["no suggestions", bent(["simplifiedDebts"], {}), "simplifiedDebts is a map, not a list"],
  ["a suggestion of nothing", bent(["simplifiedDebts", 1, "amount"], 0), "simplifiedDebts[1].amount is 0; payments are above zero"],
  ["a suggestion by nobody", bent(["simplifiedDebts", 0, "from"], "bo"), 'simplifiedDebts[0].from is "bo", not a map'],
  ["a time as text", bent(["lastUpdatedAt"], "2026-03-01"), 'lastUpdatedAt is "2026-03-01", not a map'],
  ["a time of text", bent(["asOf"], { seconds: "1", nanoseconds: 0 }), "asOf is a map, not a Timestamp"],
  ["half a version", bent(["version"], 1.5), "version is 1.5, not a whole number from 0"],
  ["no rules", bent(["rules"], undefined), "rules is missing, not a string"],
  ["no count of faults", bent(["faults"], undefined), "faults is missing, not a whole number from 0"],
  ["faults below zero", bent(["faults"], -1), "faults is -1, not a whole number from 0"],
  ["no incarnation", bent(["incarnation"], undefined), "incarnation is missing, not a map"],
  ["pairs at nets", bent(["detail"], "nets"), `${EUR}.ana.owedBy.bo is there, although detail is "nets"`],
  ["currencies at none", bent(["detail"], "none"), `${EUR} is there, although detail is "none"`],
  ["suggestions at none", bent(["detail"], "none", lisbon({ balancesByCurrency: {} })), 'simplifiedDebts is not empty, although detail is "none"'],
];

for (const [what, document, message] of wrong) {
  test(`refused, naming field and fault: ${what}`, () => {
    assert.throws(
      () => checkBalance(document, "lisbon"),
      (error) => error instanceof InvalidBalance && error.message === message,
      message,
    );
  });
}

test("a debtor called constructor needs a row of its own", () => {
  const rows = { ana: { uid: "ana", owes: {}, owedBy: { constructor: 1 }, netBalance: 1 } };
  assert.throws(() => checkBalance(lisbon({ balancesByCurrency: { EUR: rows } })), /owedBy\.constructor is 1, but .* is missing/);
});
