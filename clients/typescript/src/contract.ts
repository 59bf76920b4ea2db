/** What the client and the functions must agree on. Written by `python -m scripts.update_client`; do not edit. */

/** The version of the balance document that this package was made for; the functions write it to `version`. */
export const VERSION = 1;

const CODES_BY_EXPONENT: readonly (readonly [number, string])[] = [
  [0, `
    BIF BYR CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF
  `],
  [2, `
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE
    CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD
    HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL LTL MAD MDL MGA MKD MMK MNT
    MOP MRO MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR
    SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STD STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN
    UYU UZS VED VEF VES WST XAD XCD XCG YER ZAR ZMW ZWG ZWL
  `],
  [3, `
    BHD IQD JOD KWD LYD OMR TND
  `],
  [4, `
    CLF UYW
  `],
];

/** The number of decimals of each currency by ISO 4217, the withdrawn ones included. */
export const EXPONENTS: Record<string, number> = Object.fromEntries(
  CODES_BY_EXPONENT.flatMap(([exponent, codes]) => codes.trim().split(/\s+/).map((code) => [code, exponent])),
);
