// begin own-write
import { collection, doc, setDoc, type Firestore } from "firebase/firestore";
import { markOf, writeOf, type Balance, type BalanceApi, type OwnWrite } from "@example/group-balance";

export interface Expense {
  groupId: string;
  paidBy: string;
  amount: number;
  currency: string;
  splits: { uid: string; amount: number }[];
}

/**
 * Write an expense. What is returned goes to `pending` with each snapshot of the balance; `changed` says when to do so again.
 * `seen` is the balance on the screen, if there is one.
 */
export function addExpense(
  firestore: Firestore,
  api: BalanceApi,
  expense: Expense,
  seen: Balance | undefined,
  changed: () => void,
): OwnWrite & { done: Promise<void> } {
  const { groupId, paidBy, currency, splits } = expense;
  const reference = doc(collection(firestore, "expenses"));
  const debts = splits.filter(({ uid }) => uid !== paidBy).map(({ uid, amount }) => ({ from: uid, to: paidBy, amount, currency }));
  const write: OwnWrite = { debts, seen: seen?.lastUpdatedAt };
  const followed = async () => {
    await setDoc(reference, expense); // resolves when the server has it
    // A few tries of five seconds each: an event is normally there within the first.
    for (let tries = 0; write.mark === undefined && tries < 6; tries++) {
      const answer = await api.balance(groupId, { includes: [writeOf(reference.path)] });
      if (!answer.ok) break; // then it stays "unknown", until the balance is recalculated
      write.mark = markOf(answer.value);
    }
    changed();
  };
  return Object.assign(write, { done: followed() });
}
// end own-write

// begin show-own-write
import { pending } from "@example/group-balance";

/** What to show of a snapshot while own writes may be missing from it. */
export function withOwnWrites(balance: Balance, writes: OwnWrite[]): { balance: Balance; updating: boolean } {
  const shown = pending(balance, writes);
  return { balance: shown.balance, updating: shown.added.length + shown.unknown.length > 0 };
}
// end show-own-write
