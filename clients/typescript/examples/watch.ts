// begin watch
import { getFirestore } from "firebase/firestore";
import { watchBalance } from "@example/group-balance";
import { screen } from "./screen.js";

export function openGroup(groupId: string, uid: string, render: (amount: string | undefined, note: string | undefined) => void) {
  // Returns a function: call it when the screen goes away.
  return watchBalance(getFirestore(), groupId, (watched) => {
    const { amount, note } = screen(watched, uid, "EUR");
    render(amount, note);
  });
}
// end watch
