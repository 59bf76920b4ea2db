/** The balance document `groups/{groupId}/metadata/balance`: its type, and the check that a document is one. */

import type { Time } from "./times.js";

// begin document
/** A number in the app's unit: 12.5 is 12.50 USD (or 1250, when the functions run with AMOUNT_UNIT=minor). */
export type Amount = number;

/** One user in one currency. */
export interface Row {
  uid: string;
  /** What this user owes, by the uid of the creditor. Always positive; absent means zero. */
  owes: Record<string, Amount>;
  /** What this user is owed, by the uid of the debtor. Always positive; absent means zero. */
  owedBy: Record<string, Amount>;
  /** What the user is owed in total less what the user owes. Negative: has to pay. */
  netBalance: Amount;
}

/** A suggested payment. All suggestions together settle everything. */
export interface Suggestion {
  from: { uid: string };
  to: { uid: string };
  amount: Amount;
  currency: string;
}

/** How much the document tells; see `Balance.detail`. */
export type Detail = "pairs" | "nets" | "none";

/** By currency (ISO 4217 or the app's own CURRENCIES, upper case) and uid. Absent means zero. */
export type BalancesByCurrency = Record<string, Record<string, Row>>;

/** The balance document. */
export interface Balance {
  groupId: string;
  balancesByCurrency: BalancesByCurrency;
  simplifiedDebts: Suggestion[];
  /** When the functions last wrote the document, by the server's clock. */
  lastUpdatedAt: Time;
  /** 0: stale, waiting to be rebuilt. Else the version of the schema and of the rules by which it was calculated. */
  version: number;
  /** The instant of the last full recalculation. Later changes were added one by one. */
  asOf: Time;
  /** How many expenses and settlements of the group cannot be understood and are in no sum. Tell the user when it is not 0. */
  faults: number;
  /** For the functions: by which rules they read the app's documents. */
  rules: string;
  /** For the functions: the create time of the group's document for which the balance was made. */
  incarnation: Time;
  /**
   * "pairs": everything is told. "nets": the group is too large for its pairs; `owes` and `owedBy` are empty, net balances
   * and suggestions are exact. "none": nothing is told; the maps are empty, which here does NOT mean zero.
   */
  detail: Detail;
}

// end document

/** A document that is not a balance document of this version; the message names the field and what is wrong with it. */
export class InvalidBalance extends Error {
  override readonly name = "InvalidBalance";

  constructor(
    /** Where, such as `balancesByCurrency.EUR.ana.netBalance`. */
    readonly field: string,
    /** What is wrong, such as `is a string, not a number`. */
    readonly reason: string,
  ) {
    super(`${field} ${reason}`);
  }
}

/**
 * The data of a document as a balance; throws InvalidBalance, which names the field and the fault.
 *
 * Fields that this package does not know are left alone, so that a later version may add some.
 * `groupId` is the group that it must be of, if you know.
 */
export function checkBalance(data: unknown, groupId?: string): Balance {
  const fields = map(data, "the document");
  const detail = fields["detail"];
  if (detail !== "pairs" && detail !== "nets" && detail !== "none") {
    throw new InvalidBalance("detail", `${described(detail)}, not "pairs", "nets" or "none"`);
  }
  const found = text(fields["groupId"], "groupId");
  if (groupId !== undefined && found !== groupId) {
    throw new InvalidBalance("groupId", `is ${JSON.stringify(found)}, not ${JSON.stringify(groupId)}`);
  }
  checkCurrencies(fields["balancesByCurrency"], detail);
  checkSuggestions(fields["simplifiedDebts"], detail);
  time(fields["lastUpdatedAt"], "lastUpdatedAt");
  count(fields["version"], "version");
  time(fields["asOf"], "asOf");
  text(fields["rules"], "rules");
  count(fields["faults"], "faults");
  time(fields["incarnation"], "incarnation");
  return data as Balance;
}

function checkCurrencies(value: unknown, detail: Detail): void {
  for (const [currency, rows] of Object.entries(map(value, "balancesByCurrency"))) {
    const path = `balancesByCurrency.${currency}`;
    if (detail === "none") {
      throw new InvalidBalance(path, 'is there, although detail is "none"');
    }
    const byUid = map(rows, path);
    for (const [uid, row] of Object.entries(byUid)) {
      checkRow(row, uid, `${path}.${uid}`, detail);
    }
    // Each debt stands twice, with the debtor and with the creditor: the two must agree.
    checkMirror(byUid as Record<string, Row>, "owes", "owedBy", path);
    checkMirror(byUid as Record<string, Row>, "owedBy", "owes", path);
  }
}

function checkRow(value: unknown, uid: string, path: string, detail: Detail): void {
  const row = map(value, path);
  if (row["uid"] !== uid) {
    throw new InvalidBalance(`${path}.uid`, `${described(row["uid"])}, not ${JSON.stringify(uid)}`);
  }
  for (const side of ["owes", "owedBy"] as const) {
    for (const [other, amount] of Object.entries(map(row[side], `${path}.${side}`))) {
      const at = `${path}.${side}.${other}`;
      if (detail !== "pairs") {
        throw new InvalidBalance(at, `is there, although detail is "${detail}"`);
      }
      if (finite(amount, at) <= 0) {
        throw new InvalidBalance(at, `is ${String(amount)}; amounts of debts are above zero`);
      }
    }
  }
  finite(row["netBalance"], `${path}.netBalance`);
}

function checkMirror(rows: Record<string, Row>, side: "owes" | "owedBy", mirror: "owes" | "owedBy", path: string): void {
  for (const [uid, row] of Object.entries(rows)) {
    for (const [other, amount] of Object.entries(row[side])) {
      const opposite = own(own(rows, other)?.[mirror], uid);
      if (opposite !== amount) {
        const what = `is ${amount}, but ${path}.${other}.${mirror}.${uid} is ${String(opposite ?? "missing")}`;
        throw new InvalidBalance(`${path}.${uid}.${side}.${other}`, what);
      }
    }
  }
}

function checkSuggestions(value: unknown, detail: Detail): void {
  if (!Array.isArray(value)) {
    throw new InvalidBalance("simplifiedDebts", `${described(value)}, not a list`);
  }
  if (detail === "none" && value.length > 0) {
    throw new InvalidBalance("simplifiedDebts", 'is not empty, although detail is "none"');
  }
  value.forEach((item: unknown, index) => {
    const path = `simplifiedDebts[${index}]`;
    const suggestion = map(item, path);
    text(map(suggestion["from"], `${path}.from`)["uid"], `${path}.from.uid`);
    text(map(suggestion["to"], `${path}.to`)["uid"], `${path}.to.uid`);
    text(suggestion["currency"], `${path}.currency`);
    if (finite(suggestion["amount"], `${path}.amount`) <= 0) {
      throw new InvalidBalance(`${path}.amount`, `is ${String(suggestion["amount"])}; payments are above zero`);
    }
  });
}

function map(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidBalance(path, `${described(value)}, not a map`);
  }
  return value as Record<string, unknown>;
}

function text(value: unknown, path: string): string {
  if (typeof value !== "string") {
    throw new InvalidBalance(path, `${described(value)}, not a string`);
  }
  return value;
}

function finite(value: unknown, path: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw new InvalidBalance(path, `${described(value)}, not a finite number`);
  }
  return value;
}

function count(value: unknown, path: string): void {
  if (!Number.isSafeInteger(value) || (value as number) < 0) {
    throw new InvalidBalance(path, `${described(value)}, not a whole number from 0`);
  }
}

function time(value: unknown, path: string): void {
  const { seconds, nanoseconds } = map(value, path);
  if (!Number.isSafeInteger(seconds) || !Number.isSafeInteger(nanoseconds)) {
    throw new InvalidBalance(path, `${described(value)}, not a Timestamp`);
  }
}

function described(value: unknown): string {
  if (value === undefined) return "is missing";
  if (value === null) return "is null";
  if (Array.isArray(value)) return "is a list";
  return typeof value === "object" ? "is a map" : `is ${typeof value === "string" ? JSON.stringify(value) : String(value)}`;
}

/** An entry of a map that is keyed by what users chose: a uid may be "constructor", which every object inherits. */
export function own<T>(entries: Record<string, T> | undefined, key: string): T | undefined {
  return entries !== undefined && Object.hasOwn(entries, key) ? entries[key] : undefined;
}
