/** Balance documents for tests. */

import { VERSION, type Balance, type Time } from "@example/group-balance";

export const seconds = (value: number, microseconds = 0): Time => ({ seconds: value, nanoseconds: microseconds * 1000 });

/** In EUR bo owes ana 12.5; in JPY ana owes bo 300. */
export function lisbon(changes: Partial<Balance> = {}): Balance {
  return {
    groupId: "lisbon",
    balancesByCurrency: {
      EUR: {
        ana: { uid: "ana", owes: {}, owedBy: { bo: 12.5 }, netBalance: 12.5 },
        bo: { uid: "bo", owes: { ana: 12.5 }, owedBy: {}, netBalance: -12.5 },
      },
      JPY: {
        ana: { uid: "ana", owes: { bo: 300 }, owedBy: {}, netBalance: -300 },
        bo: { uid: "bo", owes: {}, owedBy: { ana: 300 }, netBalance: 300 },
      },
    },
    simplifiedDebts: [
      { from: { uid: "bo" }, to: { uid: "ana" }, amount: 12.5, currency: "EUR" },
      { from: { uid: "ana" }, to: { uid: "bo" }, amount: 300, currency: "JPY" },
    ],
    lastUpdatedAt: seconds(2000),
    version: VERSION,
    asOf: seconds(1000),
    rules: "0:0123456789abcdef",
    faults: 0,
    incarnation: seconds(500),
    detail: "pairs",
    ...changes,
  };
}
