/** Reading amounts from a balance, and showing them. */

import { own, type Amount, type BalancesByCurrency, type Detail } from "./balance.js";
import { EXPONENTS } from "./contract.js";

/** What the functions of this package need of a balance: the document has it, and so have the read API's answers. */
export interface Amounts {
  balancesByCurrency: BalancesByCurrency;
  detail: Detail;
}

/**
 * A user's net balance: positive when the user is owed money, negative when the user has to pay.
 *
 * Undefined when the balance does not tell (`detail: "none"`): ask the read API then.
 */
export function net(balance: Amounts, currency: string, uid: string): Amount | undefined {
  if (balance.detail === "none") return undefined;
  return own(own(balance.balancesByCurrency, currency), uid)?.netBalance ?? 0;
}

/**
 * What one user owes another directly.
 *
 * Undefined when the balance does not tell (`detail: "nets"` or `"none"`): hide "who owes whom" then.
 */
export function owes(balance: Amounts, currency: string, from: string, to: string): Amount | undefined {
  if (balance.detail !== "pairs") return undefined;
  return own(own(own(balance.balancesByCurrency, currency), from)?.owes, to) ?? 0;
}

/** How the functions are set up to read amounts. Both must be as in the functions' `.env`. */
export interface Units {
  /** AMOUNT_UNIT: whether the app's numbers are 12.5 ("major", the default) or 1250 ("minor") for 12.50 USD. */
  unit?: "major" | "minor" | undefined;
  /** CURRENCIES: the app's own units with their number of decimals, such as `{ BTC: 8, POINTS: 0 }`. */
  currencies?: Record<string, number> | undefined;
}

/** How many decimals a currency has: by ISO 4217, or as the app has set it; undefined for one that is unknown. */
export function exponentOf(currency: string, units: Units = {}): number | undefined {
  return own(units.currencies, currency) ?? own(EXPONENTS, currency);
}

/** An amount as a whole number of minor units, so that it can be added up: 0.1 + 0.2 is not 0.3, but 10 + 20 is 30. */
export function toMinor(amount: Amount, currency: string, units: Units = {}): number {
  return units.unit === "minor" ? amount : Math.round(amount * scaleOf(currency, units));
}

/** The reverse of `toMinor`. */
export function fromMinor(amountMinor: number, currency: string, units: Units = {}): Amount {
  return units.unit === "minor" ? amountMinor : amountMinor / scaleOf(currency, units);
}

function scaleOf(currency: string, units: Units): number {
  const exponent = exponentOf(currency, units);
  if (exponent === undefined) {
    throw new RangeError(`${currency} is no currency of ISO 4217; give its decimals, as in { currencies: { ${currency}: 2 } }`);
  }
  return 10 ** exponent;
}

/** How an amount is shown. */
export interface Format extends Units {
  /** A BCP 47 language tag, such as "de-AT"; by default the browser's. */
  locale?: string | undefined;
}

/**
 * An amount as text in the user's language, never rounded.
 *
 * By default browsers and phones show some currencies without decimals (HUF, IDR, COP and others), although ISO 4217 gives
 * them two: half a forint would be shown as 0 or 1. Here a whole amount is shown as people are used to, any other with all
 * decimals of its currency. A unit of the app's own is shown behind the number.
 */
export function format(amount: Amount, currency: string, options: Format = {}): string {
  const exponent = exponentOf(currency, options);
  const major = options.unit === "minor" ? amount / scaleOf(currency, options) : amount;
  const whole = Number.isInteger(major);
  if (own(EXPONENTS, currency) === undefined) {
    const digits = exponent === undefined ? { maximumFractionDigits: 20 } : fraction(whole ? 0 : exponent, exponent);
    return `${new Intl.NumberFormat(options.locale, digits).format(major)}\u00a0${currency}`;
  }
  const style = { style: "currency", currency } as const;
  const usual = new Intl.NumberFormat(options.locale, style).resolvedOptions().minimumFractionDigits ?? 0;
  const decimals = exponent as number;
  return new Intl.NumberFormat(options.locale, {
    ...style,
    ...fraction(whole ? Math.min(usual, decimals) : decimals, decimals),
  }).format(major);
}

function fraction(minimumFractionDigits: number, maximumFractionDigits: number) {
  return { minimumFractionDigits, maximumFractionDigits };
}
