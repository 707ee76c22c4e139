r"""Money of the world, as data: its codes and signs stand before or behind an amount.

    money_behind("RM 45.20")        -> "45.20 MYR"
    money_behind("Total: HK¤ 12")   -> "Total: 12 HKD"

A sign that several countries share (`$`, `kr`, `¥`, `Rs`) is a kind of its own, with members. The
table is our own: lists of all currencies give signs that are units or variables here (K, L, R, T)
and codes that are words (ALL, CUP, TOP).
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.number import NUMBER

# Code: signs in front of or behind the amount | words behind it. `¤` is the dollar sign.
_ROWS: dict[str, str] = {
    "MYR": "RM | ringgit ringgits 令吉 林吉特",
    "SGD": "S¤ SG¤ | 新元 新加坡元",
    "HKD": "HK¤ | 港元 港币",
    "TWD": "NT¤ | 新台币 台币",
    "AUD": "A¤ AU¤ | 澳元",
    "NZD": "NZ¤ | 纽元",
    "CAD": "C¤ CA¤ | 加元",
    "MXN": "MX¤ | ",
    "BRL": "R¤ | reais",
    "CHF": "SFr. SFr | 瑞士法郎",
    "SEK": " | ",
    "NOK": " | ",
    "DKK": " | ",
    "ISK": " | ",
    "CZK": "Kč | koruna korunas",
    "PLN": "zł | zloty zlotys zlotych",
    "RUB": "₽ | ruble rubles rouble roubles 卢布",
    "UAH": "₴ | hryvnia hryvnias",
    "TRY": "₺ | lira liras",
    "ILS": "₪ | shekel shekels",
    "AED": "Dhs Dh | dirham dirhams",
    "SAR": " | riyal riyals",
    "QAR": " | ",
    "KWD": " | ",
    "EGP": " | ",
    "ZAR": " | rand",
    "NGN": "₦ | naira",
    "KES": "KSh Ksh | ",
    "KRW": "₩ | won 韩元",
    "THB": "฿ | baht 泰铢",
    "VND": "₫ đ | dong 越南盾",
    "IDR": "Rp. Rp | rupiah rupiahs 印尼盾",
    "PHP": "₱ | ",
    "PKR": " | ",
    "LKR": " | ",
    "NPR": " | ",
    "BDT": "৳ | taka",
    "INR": "₹ | 卢比",
    "peso": " | peso pesos",
    "franc": " | franc francs",
    "rupee": "Rs. Rs | rupee rupees",
    "kr": "kr. kr | kronor kroner krona krone",
}
_NAMED_DOLLARS = {
    **{"singapore": "SGD", "singaporean": "SGD", "hong kong": "HKD", "australian": "AUD"},
    **{"canadian": "CAD", "new zealand": "NZD", "american": "USD", "us": "USD", "u.s.": "USD"},
}
_SHARED: dict[str, tuple[str, ...]] = {
    "dollar": ("SGD", "HKD", "TWD", "AUD", "NZD", "CAD", "MXN", "BRL"),
    "yuan_or_yen": ("yuan", "yen"),
    "rupee": ("INR", "PKR", "LKR", "NPR"),
    "kr": ("SEK", "NOK", "DKK", "ISK"),
    "franc": ("CHF",),
    "peso": ("PHP", "MXN"),
}
_USUAL = {"yuan_or_yen": "yuan", "rupee": "INR", "franc": "CHF"}
"""What a shared sign means, where nothing else is said."""
_OLDER = ("USD", "RMB", "CNY", "EUR", "GBP", "JPY")  # their spellings are in `unit_table`
_CODES = tuple(code for code in _ROWS if code.isupper())


def currency_spellings() -> dict[str, tuple[str, str]]:
    """Spelling -> (name, kind). Codes and signs are case-sensitive: TRY is money, try is none."""
    known: dict[str, tuple[str, str]] = {}
    for code, row in _ROWS.items():
        for spelling in (code, *row.replace("|", " ").split()):
            known[spelling] = (code, code)
    return known


def fits(predicted: str, gold: str) -> bool | None:
    """Whether one kind of money may be written for another: `kr` for SEK. None: it depends on the
    country, which nobody names (`$5` for `S$5`, `SEK 5` for `5 kr`)."""
    if gold in _SHARED.get(predicted, ()):
        return None if predicted == "dollar" else True
    if predicted in _SHARED.get(gold, ()) and gold != "dollar":
        return True if _USUAL.get(gold) == predicted else None
    return False


def _signs() -> dict[str, str]:
    signs = {sign: code for code, row in _ROWS.items() for sign in row.partition("|")[0].split()}
    return signs | {code: code for code in (*_CODES, *_OLDER)}


_SIGNS = _signs()
_LONGEST_FIRST = sorted(_SIGNS, key=lambda sign: (-len(sign), sign))
_IN_FRONT = re.compile(
    rf"(?<![A-Za-z¤])(?P<sign>{'|'.join(map(re.escape, _LONGEST_FIRST))})\s?(?P<minus>-?)"
    rf"(?P<amount>{NUMBER}(?:\s?(?:thousand|million|billion|trillion|mn|bn|[kKMB])(?![A-Za-z]))?)"
    r"(?![,.]?[0-9])"
)
_NAMED = re.compile(
    rf"\b({'|'.join(re.escape(name) for name in _NAMED_DOLLARS)})\s*dollars?\b", re.IGNORECASE
)


def money_behind(text: str) -> str:
    """Amounts with a sign or code in front, with their code behind; other texts as they are."""
    if not any(char.isdigit() for char in text):
        return text
    return _IN_FRONT.sub(
        lambda found: f"{found['minus']}{found['amount']} {_SIGNS[found['sign']]}", text
    )


def one_word_dollars(text: str) -> str:
    """`5 Hong Kong dollars` -> `5 HKD`."""
    return _NAMED.sub(lambda found: _NAMED_DOLLARS[found[1].lower()], text)
