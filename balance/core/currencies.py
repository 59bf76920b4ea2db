"""ISO 4217 minor-unit exponents: how many decimals an amount in each currency has, historic currencies included.

A code that ISO's list one has held since 2014: as published there, by the `iso4217` package (a development dependency: a
trigger's cold start pays nothing for it); a test compares the two. One that was withdrawn since the late 1990s: as in Java's
table, which kept what ISO's list said; a test compares the two where there is a Java. One that was withdrawn before (ISO's list
three gives no exponents): 2, as nearly every currency has; should that be too many, no amount is rounded that ought not to be.

Codes are never removed: a group with old expenses keeps its balance when ISO withdraws a currency. Codes to which ISO gives no
exponent (gold, testing, "no currency") are absent. `balance currencies` merges a new release. A changed
exponent changes what stored integers mean, so it needs a new `VERSION` in balances.py. ADR 9 has the reasons.
"""

_CODES_BY_EXPONENT = {
    0: (
        "ADP BEF BIF BYB BYR CLP DJF ESP GNF GRD ISK ITL JPY KMF KRW LUF MGF PTE PYG ROL RWF TPE TRL UGX "
        "UYI VND VUV XAF XOF XPF "
    ),
    2: (
        "AED AFA AFN ALK ALL AMD ANG AOA AOK AON AOR ARA ARP ARS ARY ATS AUD AWG AYM AZM AZN BAD BAM BBD "
        "BDT BEC BEL BGJ BGK BGL BGN BMD BND BOB BOP BOV BRB BRC BRE BRL BRN BRR BSD BTN BUK BWP BYN BZD "
        "CAD CDF CHC CHE CHF CHW CNY COP COU CRC CSD CSJ CSK CUC CUP CVE CYP CZK DDM DEM DKK DOP DZD ECS "
        "ECV EEK EGP ERN ESA ESB ETB EUR FIM FJD FKP FRF GBP GEK GEL GHC GHP GHS GIP GMD GNE GNS GQE GTQ "
        "GWE GWP GYD HKD HNL HRD HRK HTG HUF IDR IEP ILP ILR ILS INR IRR ISJ JMD KES KGS KHR KPW KYD KZT "
        "LAJ LAK LBP LKR LRD LSL LSM LTL LTT LUC LUL LVL LVR MAD MDL MGA MKD MLF MMK MNT MOP MRO MRU MTL "
        "MTP MUR MVQ MVR MWK MXN MXP MXV MYR MZE MZM MZN NAD NGN NIC NIO NLG NOK NPR NZD PAB PEH PEI PEN "
        "PES PGK PHP PKR PLN PLZ QAR RHD ROK RON RSD RUB RUR SAR SBD SCR SDD SDG SDP SEK SGD SHP SIT SKK "
        "SLE SLL SOS SRD SRG SSP STD STN SUR SVC SYP SZL THB TJR TJS TMM TMT TOP TRY TTD TWD TZS UAH UAK "
        "UGS UGW USD USN USS UYN UYP UYU UZS VEB VED VEF VES VNC WST XAD XCD XCG XEU YDD YER YUD YUM YUN "
        "ZAL ZAR ZMK ZMW ZRN ZRZ ZWC ZWD ZWG ZWL ZWN ZWR "
    ),
    3: ("BHD IQD JOD KWD LYD OMR TND "),
    4: ("CLF UYW "),
}

EXPONENTS: dict[str, int] = {code: exponent for exponent, codes in _CODES_BY_EXPONENT.items() for code in codes.split()}
