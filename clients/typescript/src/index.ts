/** Group balances for clients: read the document, follow it, show it, and ask the read API. */

export * from "./amounts.js";
export * from "./api.js";
export {
  checkBalance,
  InvalidBalance,
  type Amount,
  type Balance,
  type BalancesByCurrency,
  type Detail,
  type Row,
  type Suggestion,
} from "./balance.js";
export { EXPONENTS, VERSION } from "./contract.js";
export * from "./pending.js";
export * from "./shown.js";
export * from "./times.js";
export * from "./watch.js";
