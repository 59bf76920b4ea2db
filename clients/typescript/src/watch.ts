/** Following a group's balance with the Firebase SDK. */

import { doc, onSnapshot, type Firestore, type FirestoreError, type Unsubscribe } from "firebase/firestore";
import { shown, type Shown } from "./shown.js";

/** What `watchBalance` tells: what can be shown, or why there is nothing more to come. */
export type Watched =
  | Shown
  /** The rules refuse it: the user is signed out or no longer a member, or the group is gone. The watch has ended. */
  | { state: "denied"; error: FirestoreError }
  /** Anything else that Firestore cannot go on after. The watch has ended; start another one. */
  | { state: "failed"; error: FirestoreError };

/** Where the documents are, when not in the usual place. */
export interface Place {
  /** GROUPS_COLLECTION of the functions; "groups" by default. */
  groups?: string | undefined;
}

/**
 * Call `show` with the group's balance now and after each change, until the function that is returned is called.
 *
 * It is also called when nothing changes but what is known about it: when the device goes offline, and when the server
 * confirms what the cache held.
 */
export function watchBalance(
  firestore: Firestore,
  groupId: string,
  show: (watched: Watched) => void,
  { groups = "groups" }: Place = {},
): Unsubscribe {
  return onSnapshot(
    doc(firestore, groups, groupId, "metadata", "balance"),
    // Without this, a copy in the cache that is still right would be "from the cache" for ever.
    { includeMetadataChanges: true },
    (snapshot) => show(shown({ data: snapshot.data(), fromCache: snapshot.metadata.fromCache }, groupId)),
    (error) => show({ state: error.code === "permission-denied" ? "denied" : "failed", error }),
  );
}
