/** What a client may show: a snapshot of the balance document, judged. */

import { checkBalance, InvalidBalance, type Balance } from "./balance.js";
import { VERSION } from "./contract.js";

/** What a client knows about a group's balance. `fromCache`: the server has not confirmed it (yet). */
export type Shown =
  /** The server's present document. Show it. */
  | { state: "current"; balance: Balance; fromCache: false }
  /** The device's copy: offline, or the server has not answered yet. Show it, marked as "last known". */
  | { state: "cached"; balance: Balance; fromCache: true }
  /** `version` is 0: the balance missed something and waits to be rebuilt. Show the numbers, if any, as "updating". */
  | { state: "stale"; balance: Balance | undefined; fromCache: boolean }
  /**
   * Written by older or newer functions than this package was made for. Treat an older one as stale. With a newer one, show
   * the numbers, if any, and think of an update of the app.
   */
  | { state: "other version"; version: number; balance: Balance | undefined; fromCache: boolean }
  /** `detail` is "none": the group is too large for its balance to be stored. Ask the read API. */
  | { state: "not stored"; balance: Balance; fromCache: boolean }
  /** The server says: there is no document. Nothing was spent yet; before the end of the backfill, ask the read API. */
  | { state: "missing"; fromCache: false }
  /** No document on the device, and no answer of the server: nothing is known. This is NOT zero. */
  | { state: "offline"; fromCache: true }
  /** The document is not what this package knows; `problem` names the field. Ask the read API. */
  | { state: "invalid"; problem: InvalidBalance; fromCache: boolean };

/** What the SDKs tell with a snapshot of the balance document. */
export interface Snapshot {
  /** The document's data; undefined when the snapshot holds no document. */
  data: unknown;
  /** The snapshot's `metadata.fromCache`. */
  fromCache: boolean;
}

/** What may be shown of a snapshot of a group's balance document. */
export function shown({ data, fromCache }: Snapshot, groupId?: string): Shown {
  if (data === undefined) {
    // From the cache this says only that the device has no copy.
    return fromCache ? { state: "offline", fromCache } : { state: "missing", fromCache };
  }
  const checked = attempt(data, groupId);
  const version = (data as { version?: unknown } | null)?.version;
  const balance = checked instanceof InvalidBalance ? undefined : checked;
  // Judged before the rest: the schema of another version may be another one.
  if (version === 0) return { state: "stale", balance, fromCache };
  if (typeof version === "number" && version !== VERSION) return { state: "other version", version, balance, fromCache };
  if (checked instanceof InvalidBalance) return { state: "invalid", problem: checked, fromCache };
  if (checked.detail === "none") return { state: "not stored", balance: checked, fromCache };
  return fromCache ? { state: "cached", balance: checked, fromCache } : { state: "current", balance: checked, fromCache };
}

function attempt(data: unknown, groupId: string | undefined): Balance | InvalidBalance {
  try {
    return checkBalance(data, groupId);
  } catch (error) {
    if (error instanceof InvalidBalance) return error;
    throw error;
  }
}
