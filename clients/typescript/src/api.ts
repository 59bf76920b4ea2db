/** The read API: its answers, its errors, its calls. Needs nothing of Firebase but an ID token. */

import type { Amount, BalancesByCurrency, Suggestion } from "./balance.js";
import { textOf, type Time } from "./times.js";

/** A group's balance as the API tells it. Each member has a row in each of the group's currencies. */
export interface BalanceAnswer {
  groupId: string;
  balancesByCurrency: BalancesByCurrency;
  simplifiedDebts: Suggestion[];
  /** ISO 8601 in UTC, with microseconds; `timeOf` reads it. For a recalculated balance: when it was read. */
  lastUpdatedAt: string;
  version: number;
  asOf: string;
  /** Never "none": what cannot be stored is recalculated. */
  detail: "pairs" | "nets";
  /** "recalculated": the stored balance was of no use. */
  source: "precomputed" | "recalculated";
  /** How many expenses and settlements of the group cannot be understood and are in no sum. */
  faults: number;
  /** Only when writes were asked for: whether the balance holds them. */
  includes?: Record<string, boolean>;
}

/** One of the caller's groups: its balance, or why it cannot be read at the moment. */
export type GroupEntry =
  | { groupId: string; netByCurrency: Record<string, Amount>; balance: BalanceAnswer; error?: never }
  | { groupId: string; error: { code: string; message: string }; netByCurrency?: never; balance?: never };

/** A page of the caller's groups. */
export interface GroupPage {
  groups: GroupEntry[];
  /** What to give as `pageToken` for the next page; null on the last one. */
  nextPageToken: string | null;
}

/** Why one user owes another. */
export interface Explanation {
  groupId: string;
  from: { uid: string };
  to: { uid: string };
  asOf: string;
  /** As in `BalanceAnswer`. */
  faults: number;
  byCurrency: Record<string, ExplainedCurrency>;
  /** What to give as `pageToken` for earlier transactions; null when there are none. */
  nextPageToken: string | null;
}

export interface ExplainedCurrency {
  /** The suggested payment; 0 when none is suggested. */
  suggested: Amount;
  /** What `from` owes `to` directly; negative when it is the other way round. */
  owed: Amount;
  /** Of the two users, by uid. */
  netBalances: Record<string, Amount>;
  /** Every pair in which either of them stands; the pair of the two comes first. */
  pairs: ExplainedPair[];
}

export interface ExplainedPair {
  from: { uid: string };
  to: { uid: string };
  amount: Amount;
  /** Those on this page, the latest first. `amount`: by how much `from` owes `to` more because of it; negative for less. */
  transactions: { kind: "expense" | "settlement"; source: string; amount: Amount; updatedAt: string }[];
  /** Those of later pages. */
  leftOut: { count: number; amount: Amount };
}

/** What a user owes and is owed, in one currency. */
export interface Total {
  /** Always zero or more. */
  owes: Amount;
  /** Always zero or more. */
  isOwed: Amount;
  netBalance: Amount;
  /** The groups behind the figure, each with its part of `netBalance`. */
  groups: { groupId: string; netBalance: Amount }[];
}

/** What the caller owes and is owed over all groups. */
export interface Totals {
  byCurrency: Record<string, Total>;
  /** By the other's uid and by currency: what is between the caller and that person. */
  byPerson: Record<string, Record<string, Total>>;
  /** Groups too large to store who owes whom: they count by currency only. */
  withoutPairs: string[];
  /** How many expenses and settlements of these groups cannot be understood and are in no sum. */
  faults: number;
  /** Groups that cannot be read at the moment: they are in no figure. */
  unreadable: { groupId: string; error: { code: string; message: string } }[];
}

/** What a call can fail with. `message` is for developers; show the user a text of your own. */
export type ApiError =
  /** 400: correct the request; the message names the parameter. */
  | { kind: "invalid"; status: number; message: string }
  /** 401, also with a fresh token: the user must sign in again. */
  | { kind: "unauthenticated"; status: 401; message: string }
  /** 403: the user is not a member of the group (any more): leave its screen. */
  | { kind: "forbidden"; status: 403; message: string }
  /** 404: the group is gone. */
  | { kind: "group not found"; status: 404; message: string }
  /** 404: there is no such path: the API's address is wrong, or its version is older. */
  | { kind: "not found"; status: 404; message: string }
  /** 429: too many requests; try again after so many seconds. */
  | { kind: "too many requests"; status: 429; message: string; retryAfterSeconds: number }
  /** 502, 503, 504: not at the moment; try again after so many seconds. */
  | { kind: "unavailable"; status: number; message: string; retryAfterSeconds: number }
  /** Any other status: show the last numbers. */
  | { kind: "failed"; status: number; message: string }
  /** There was no answer: offline, or the browser refused it (ALLOWED_ORIGINS). */
  | { kind: "network"; message: string }
  /** The call was ended by its `signal`. */
  | { kind: "aborted"; message: string };

/** What a call gives: its value, or what went wrong. Calls do not throw. */
export type Answer<T> = { ok: true; value: T } | { ok: false; error: ApiError };

/** Where the API is, and who calls. */
export interface ApiOptions {
  /** The function's address, such as "https://us-central1-your-project.cloudfunctions.net/balance_api". */
  url: string;
  /** The caller's ID token; a fresh one when `refresh` is true: `(refresh) => user.getIdToken(refresh)`. */
  token: (refresh: boolean) => Promise<string>;
  /** For each request: `() => ({ "X-Firebase-AppCheck": token })`. */
  headers?: (() => Promise<Record<string, string>> | Record<string, string>) | undefined;
  /** By default the global one. */
  fetch?: typeof globalThis.fetch | undefined;
}

/** For a single call. */
export interface CallOptions {
  signal?: AbortSignal | undefined;
}

/** For a call that answers page by page. */
export interface PageOptions extends CallOptions {
  pageSize?: number | undefined;
  pageToken?: string | undefined;
}

/** The calls of the API. */
export interface BalanceApi {
  /**
   * A group's balance.
   *
   * With `includes` (see `writeOf`) the API waits for a few seconds until the balance holds these writes; `includes` of the
   * answer tells of each whether it does.
   */
  balance(groupId: string, options?: CallOptions & { includes?: string[] | undefined }): Promise<Answer<BalanceAnswer>>;
  /** Why one user owes another. Reads the group's whole history: for a page that somebody opens. */
  explain(groupId: string, from: string, to: string, options?: PageOptions): Promise<Answer<Explanation>>;
  /** The caller's groups in the order of their ids, a page at a time. */
  balances(options?: PageOptions): Promise<Answer<GroupPage>>;
  /** What the caller owes and is owed over all groups, by currency, and by person and currency. */
  totals(options?: CallOptions): Promise<Answer<Totals>>;
}

/** The read API of a project. */
export function balanceApi(api: ApiOptions): BalanceApi {
  const get = <T>(path: string[], query: [string, string | undefined][], { signal }: CallOptions): Promise<Answer<T>> => {
    const parameters = query.flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${encodeURIComponent(value)}`]));
    const url = `${api.url.replace(/\/+$/, "")}/${path.map(encodeURIComponent).join("/")}`;
    return call(api, parameters.length > 0 ? `${url}?${parameters.join("&")}` : url, signal);
  };
  return {
    balance: (groupId, options = {}) =>
      get(["groups", groupId, "balance"], (options.includes ?? []).map((value) => ["includes", value]), options),
    explain: (groupId, from, to, options = {}) =>
      get(["groups", groupId, "explain"], [["from", from], ["to", to], ...pageOf(options)], options),
    balances: (options = {}) => get(["balances"], pageOf(options), options),
    totals: (options = {}) => get(["totals"], [], options),
  };
}

const pageOf = (options: PageOptions): [string, string | undefined][] => [
  ["pageSize", options.pageSize?.toString()],
  ["pageToken", options.pageToken],
];

/**
 * What to ask for in `includes`.
 *
 * `time` is the write's `updateTime`, which server SDKs and the REST API tell. The web and mobile SDKs do not: without it
 * the write that made the document what it is now is meant, a delete included.
 */
export function writeOf(path: string, time?: Time | string): string {
  return `${path}@${time === undefined ? "latest" : typeof time === "string" ? time : textOf(time)}`;
}

async function call<T>(api: ApiOptions, url: string, signal: AbortSignal | undefined): Promise<Answer<T>> {
  const first = await attempt<T>(api, url, signal, false);
  // A token is valid for an hour, and the clock of a device may be wrong: a fresh one is worth one more try.
  return !first.ok && first.error.kind === "unauthenticated" ? attempt<T>(api, url, signal, true) : first;
}

async function attempt<T>(api: ApiOptions, url: string, signal: AbortSignal | undefined, refresh: boolean): Promise<Answer<T>> {
  try {
    const headers = { ...(await api.headers?.()), Authorization: `Bearer ${await api.token(refresh)}` };
    // Called as a plain function: browsers' fetch must not be called as a method of another object.
    const fetch = api.fetch ?? globalThis.fetch;
    const response = await fetch(url, signal ? { headers, signal } : { headers });
    const text = await response.text();
    return response.ok ? succeeded<T>(response.status, text) : { ok: false, error: errorOf(response, text) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { ok: false, error: { kind: signal?.aborted ? "aborted" : "network", message } };
  }
}

function succeeded<T>(status: number, text: string): Answer<T> {
  const value = parsed(text);
  return typeof value === "object" && value !== null
    ? { ok: true, value: value as T }
    : { ok: false, error: { kind: "failed", status, message: `the answer is not JSON: is the address right? ${text.slice(0, 80)}` } };
}

function errorOf(response: Response, text: string): ApiError {
  const { status } = response;
  // What stands between us and the functions answers in its own words: Cloud Run, for one, when no instance is free.
  const told = (parsed(text) as { error?: { code?: unknown; message?: unknown } } | null | undefined)?.error;
  const message = typeof told?.message === "string" ? told.message : `HTTP ${status}`;
  switch (status) {
    case 400:
      return { kind: "invalid", status, message };
    case 401:
      return { kind: "unauthenticated", status, message };
    case 403:
      return { kind: "forbidden", status, message };
    case 404:
      return { kind: told?.code === "GROUP_NOT_FOUND" ? "group not found" : "not found", status, message };
    case 429:
      return { kind: "too many requests", status, message, retryAfterSeconds: retryAfterSeconds(response) };
    case 502:
    case 503:
    case 504:
      return { kind: "unavailable", status, message, retryAfterSeconds: retryAfterSeconds(response) };
    default:
      return { kind: "failed", status, message };
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Of the header `Retry-After`, which holds seconds or a date; 1 where it is missing. */
function retryAfterSeconds(response: Response): number {
  const value = response.headers.get("Retry-After") ?? "";
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? 1 : Math.max(0, Math.ceil(seconds));
}
