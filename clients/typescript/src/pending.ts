/** Reading one's own writes: whether a balance holds a write, and showing one that it does not hold yet. */

import { fromMinor, toMinor, type Units } from "./amounts.js";
import { own, type Amount, type Balance, type Row } from "./balance.js";
import { compareTimes, timeOf, type Time } from "./times.js";
import type { BalanceAnswer } from "./api.js";

/**
 * From which version of the balance document on a write is in it. The read API's answer to `includes` gives it (`markOf`).
 *
 * Once a version of the document holds a write, all later ones do. So one answer is enough for all snapshots after it.
 */
export type Mark = { lastUpdatedAt: Time } | { asOf: Time };

/** What a client knows about when its write was committed. All times are the server's; never use the device's clock. */
export interface Written {
  /** `lastUpdatedAt` of a balance that was read before the write was made: that version cannot hold it. */
  seen?: Time | undefined;
  /**
   * What the server put in for `serverTimestamp()` in this very write: from a snapshot without pending writes, and not of a
   * later write of somebody else's. Undefined or null until the server has acknowledged the write.
   */
  servedAt?: Time | null | undefined;
  /** The exact commit time: `updateTime` of the server SDKs and of the REST API. The web and mobile SDKs do not tell it. */
  updateTime?: Time | undefined;
  /** What the read API told. */
  mark?: Mark | undefined;
}

/**
 * Longer than Firestore lets any commit take (a transaction ends after 270 seconds), so that a write that the server began
 * to serve this long before an instant was committed by then.
 */
export const LONGEST_COMMIT_SECONDS = 300;

/**
 * Whether a balance document holds a write: "yes" and "no" are certain, "unknown" cannot be told from the document.
 *
 * The rule, whose first line that matches decides:
 * 1. The document is at the mark that the read API gave, or later: yes.
 * 2. `asOf` is at or after the commit: yes, since the last recalculation read it.
 * 3. `lastUpdatedAt` is before the write: no, since a balance is written after the writes that it holds.
 * 4. `lastUpdatedAt` is no later than that of a version which was read before the write was made: no.
 * 5. Otherwise the document was written after the write, but perhaps because of somebody else's: unknown.
 *
 * A write that is not acknowledged yet is not therefore absent: the acknowledgement may be late, or lost.
 */
export function holds(balance: Pick<Balance, "asOf" | "lastUpdatedAt">, written: Written): "yes" | "no" | "unknown" {
  const { seen, servedAt, updateTime, mark } = written;
  const { asOf, lastUpdatedAt } = balance;
  if (mark !== undefined) {
    const reached = "asOf" in mark ? compareTimes(asOf, mark.asOf) : compareTimes(lastUpdatedAt, mark.lastUpdatedAt);
    if (reached >= 0) return "yes";
  }
  const committedBy = updateTime ?? (servedAt && { ...servedAt, seconds: servedAt.seconds + LONGEST_COMMIT_SECONDS });
  if (committedBy && compareTimes(committedBy, asOf) <= 0) return "yes";
  const notBefore = updateTime ?? servedAt;
  if (notBefore && compareTimes(endOfMillisecond(lastUpdatedAt), notBefore) <= 0) return "no";
  return seen && compareTimes(lastUpdatedAt, seen) <= 0 ? "no" : "unknown";
}

/** `lastUpdatedAt` is the server's time cut off to milliseconds; a commit time has microseconds. */
function endOfMillisecond({ seconds, nanoseconds }: Time): Time {
  return { seconds, nanoseconds: nanoseconds - (nanoseconds % 1_000_000) + 1_000_000 };
}

/** The mark in an answer to `includes`; undefined when a write that was asked for is not in it yet. */
export function markOf(answer: BalanceAnswer): Mark | undefined {
  const asked = Object.values(answer.includes ?? {});
  if (asked.length === 0 || asked.includes(false)) return undefined;
  // A recalculated answer is not the stored document, whose times it would have in this order. But a document that was
  // recalculated as late as it holds as much.
  const isStored = answer.source === "precomputed" && answer.lastUpdatedAt > answer.asOf;
  return isStored ? { lastUpdatedAt: timeOf(answer.lastUpdatedAt) } : { asOf: timeOf(answer.asOf) };
}

/** By how much `from` owes `to` more because of a write; a negative amount for less. */
export interface Debt {
  from: string;
  to: string;
  amount: Amount;
  currency: string;
}

/** A write of this client. */
export interface OwnWrite extends Written {
  /** What it does: for a new expense one entry for each share that is not the payer's. */
  debts: Debt[];
}

/** A balance with this client's own writes. */
export interface Pending<W extends OwnWrite = OwnWrite> {
  /** The balance with the writes in `added`. Suggestions in their currencies are left out: they are from before. */
  balance: Balance;
  /** Those that are certainly not in the document. They were added to `balance`. */
  added: W[];
  /** Those of which the document does not tell. They were not added: they might count twice. Ask the read API. */
  unknown: W[];
}

/**
 * The balance with those of this client's own writes that the document certainly does not hold yet.
 *
 * For showing only: start no payment from it. `balance` itself stays as it is. Throws RangeError for an unknown currency.
 */
export function pending<W extends OwnWrite>(balance: Balance, writes: readonly W[], units: Units = {}): Pending<W> {
  const added = writes.filter((write) => holds(balance, write) === "no");
  const unknown = writes.filter((write) => holds(balance, write) === "unknown");
  const debts = added.flatMap((write) => write.debts).filter(({ from, to, amount }) => from !== to && amount !== 0);
  if (debts.length === 0 || balance.detail === "none") return { balance, added, unknown };
  const balancesByCurrency = structuredClone(balance.balancesByCurrency);
  for (const debt of debts) {
    add(byKey(balancesByCurrency, debt.currency, () => ({})), debt, units, balance.detail === "pairs");
  }
  const touched = new Set(debts.map((debt) => debt.currency));
  for (const currency of touched) {
    prune(balancesByCurrency, currency);
  }
  const simplifiedDebts = balance.simplifiedDebts.filter((suggestion) => !touched.has(suggestion.currency));
  return { balance: { ...balance, balancesByCurrency, simplifiedDebts }, added, unknown };
}

/** Add a debt to the rows of its currency, in whole minor units. */
function add(rows: Record<string, Row>, { from, to, amount, currency }: Debt, units: Units, withPairs: boolean): void {
  const amountMinor = toMinor(amount, currency, units);
  const debtor = byKey(rows, from, () => emptyRow(from));
  const creditor = byKey(rows, to, () => emptyRow(to));
  const sum = (present: Amount, moreMinor: number) => fromMinor(toMinor(present, currency, units) + moreMinor, currency, units);
  debtor.netBalance = sum(debtor.netBalance, -amountMinor);
  creditor.netBalance = sum(creditor.netBalance, amountMinor);
  if (withPairs) {
    // At most one of the two owes the other.
    const before = sum(own(debtor.owes, to) ?? 0, -toMinor(own(debtor.owedBy, to) ?? 0, currency, units));
    const after = sum(before, amountMinor);
    setPair(debtor, creditor, after);
    setPair(creditor, debtor, -after);
  }
}

function setPair(debtor: Row, creditor: Row, amount: Amount): void {
  if (amount > 0) {
    put(debtor.owes, creditor.uid, amount);
    put(creditor.owedBy, debtor.uid, amount);
  } else {
    delete debtor.owes[creditor.uid];
    delete creditor.owedBy[debtor.uid];
  }
}

/** The document holds nothing that is zero. */
function prune(balancesByCurrency: Record<string, Record<string, Row>>, currency: string): void {
  const rows = balancesByCurrency[currency] ?? {};
  for (const [uid, row] of Object.entries(rows)) {
    if (row.netBalance === 0 && Object.keys(row.owes).length === 0 && Object.keys(row.owedBy).length === 0) delete rows[uid];
  }
  if (Object.keys(rows).length === 0) delete balancesByCurrency[currency];
}

function emptyRow(uid: string): Row {
  return { uid, owes: {}, owedBy: {}, netBalance: 0 };
}

function byKey<T>(entries: Record<string, T>, key: string, make: () => T): T {
  const found = own(entries, key);
  return found ?? put(entries, key, make());
}

function put<T>(entries: Record<string, T>, key: string, value: T): T {
  entries[key] = value;
  return value;
}
