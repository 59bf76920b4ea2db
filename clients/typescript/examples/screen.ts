// begin screen
import { format, net, type Balance, type Watched } from "@example/group-balance";

export interface Line {
  /** Undefined when it is not known. */
  amount: string | undefined;
  /** What the user must know about the amount. */
  notes: string[];
}

/** What a group's screen says about one user. */
export function screen(watched: Watched, uid: string, currency: string, locale?: string): Line {
  switch (watched.state) {
    case "current":
      return line(watched.balance);
    case "cached":
      return line(watched.balance, "Offline: last known balance.");
    case "stale":
    case "other version":
      return line(watched.balance, "Updating ...");
    case "missing":
      return { amount: format(0, currency, { locale }), notes: ["Nothing spent yet."] };
    case "offline":
      return line(undefined, "Offline: the balance is not known on this device.");
    case "not stored":
    case "invalid":
      return line(undefined, "Loading ..."); // ask the read API
    case "denied":
      return line(undefined, "You are not a member of this group.");
    case "failed":
      return line(undefined, "Could not be loaded. Try again.");
  }

  function line(balance: Balance | undefined, ...notes: string[]): Line {
    const amount = balance && net(balance, currency, uid);
    const leftOut = balance?.faults ? [`Not included: ${balance.faults} expenses or payments that cannot be read.`] : [];
    return { amount: amount === undefined ? undefined : format(amount, currency, { locale }), notes: [...notes, ...leftOut] };
  }
}
// end screen
