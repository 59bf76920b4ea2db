// begin screen
import { format, net, type Balance, type Watched } from "@example/group-balance";

/** What a group's screen says about one user: the amount, if it is known, and a note where the amount needs one. */
export function screen(watched: Watched, uid: string, currency: string, locale?: string): { amount?: string; note?: string } {
  const amountIn = (balance: Balance) => {
    const amount = net(balance, currency, uid);
    return amount === undefined ? {} : { amount: format(amount, currency, locale === undefined ? {} : { locale }) };
  };
  switch (watched.state) {
    case "current": {
      const { faults } = watched.balance;
      const note = faults === 0 ? {} : { note: `Not included: ${faults} expenses or payments that could not be read.` };
      return { ...amountIn(watched.balance), ...note };
    }
    case "cached":
      return { ...amountIn(watched.balance), note: "Offline: last known balance." };
    case "stale":
    case "other version":
      return watched.balance ? { ...amountIn(watched.balance), note: "Updating ..." } : { note: "Updating ..." };
    case "missing":
      return { amount: format(0, currency, locale === undefined ? {} : { locale }), note: "Nothing spent yet." };
    case "offline":
      return { note: "Offline: the balance is not known on this device." };
    case "not stored":
    case "invalid":
      return { note: "Ask the read API." };
    case "denied":
      return { note: "You are not a member of this group." };
    case "failed":
      return { note: "Could not be loaded. Try again." };
  }
}
// end screen
