// begin watch
import type { Firestore } from "firebase/firestore";
import { watchBalance } from "@example/group-balance";
import { screen, type Line } from "./screen.js";

/** Follow a user's balance in a group. Call what is returned when the screen goes away. */
export function openGroup(firestore: Firestore, groupId: string, uid: string, render: (line: Line) => void): () => void {
  return watchBalance(firestore, groupId, (watched) => render(screen(watched, uid, "EUR", "en-US")));
}
// end watch
