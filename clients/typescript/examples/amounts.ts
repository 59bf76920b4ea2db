import { lisbon } from "../tests/documents.js";

const balance = lisbon();
export const told: unknown[] = [];
const tell = (value: unknown) => told.push(value);

// begin amounts
import { format, fromMinor, net, owes, toMinor } from "@example/group-balance";

tell(net(balance, "EUR", "bo")); // -12.5: bo has to pay
tell(owes(balance, "EUR", "bo", "ana")); // 12.5
tell(net(balance, "USD", "bo")); // 0: absent means zero

tell(format(12.5, "USD", { locale: "en-US" })); // "$12.50"
tell(format(1250, "JPY", { locale: "en-US" })); // "¥1,250"
tell(format(0.5, "HUF", { locale: "en-US" })); // "HUF 0.50"
tell(format(1250, "USD", { locale: "en-US", unit: "minor" })); // "$12.50", with AMOUNT_UNIT=minor
tell(format(40, "POINTS", { locale: "en-US", currencies: { POINTS: 0 } })); // "40 POINTS", with CURRENCIES=POINTS:0

// Add up in whole minor units: 0.1 + 0.2 is not 0.3.
tell(fromMinor(toMinor(0.1, "EUR") + toMinor(0.2, "EUR"), "EUR")); // 0.3
// end amounts
