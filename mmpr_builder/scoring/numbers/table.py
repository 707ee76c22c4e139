r"""The units that are known, and money, whose codes and signs stand before or behind an amount.

    money_behind("RM 45.20")        -> "45.20 MYR"
    money_behind("Total: HK¤ 12")   -> "Total: 12 HKD"

A sign that several countries share (`$`, `kr`, `¥`, `Rs`) is a kind of its own, with members. The
table is our own: lists of all currencies give signs that are units or variables here (K, L, R, T)
and codes that are words (ALL, CUP, TOP).
"""

from __future__ import annotations

import re
from fractions import Fraction
from importlib.resources import files

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.numbers.number import NUMBER

Rows = dict[str, list[tuple[str, str]]]


def _read() -> Rows:
    """The sections of `units.txt`, each with its pairs of what stands left and right of `=`."""
    sections: Rows = {}
    for line in files(__package__).joinpath("units.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            rows = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            left, _, right = line.partition("=")
            rows.append((left.strip(), right.strip()))
    return sections


_SECTIONS = _read()
_ROWS = dict(_SECTIONS.pop("money"))
_METRIC, _PREFIXES = _SECTIONS.pop("metric"), _SECTIONS.pop("prefixes")
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
MONEY = frozenset(("dollar", "euro", "sterling", "yuan", "yen", *_SHARED, *_ROWS))
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
    country, which is not named (`$5` for `S$5`, `SEK 5` for `5 kr`)."""
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
    return _IN_FRONT.sub(
        lambda found: f"{found['minus']}{found['amount']} {_SIGNS[found['sign']]}", text
    )


def one_word_dollars(text: str) -> str:
    """`5 Hong Kong dollars` -> `5 HKD`."""
    return _NAMED.sub(lambda found: _NAMED_DOLLARS[found[1].lower()], text)


WEAK = frozenset("CFHTB")
"""Symbols that end so are names of variables as often (kT): units only where they stand apart."""

GENERIC = frozenset(
    words("""
    unit units item items piece pieces time times
    个 個 人 名 只 本 张 条 块 次 件 位 种 棵 辆 支 颗 朵 头 匹 座 间 道 题 倍 步 项 组 份 处 点
    单位 枚 根 粒 盒 袋 瓶 杯 盏 面 把 艘 架 台 幅 页 层 排 行 列 对 双 套 号
    """)
)
MULTIPLYING = frozenset("双对打倍成折组套层排行列号点")
"""Measure words of more than one thing: 5双 are ten."""


def spellings() -> dict[str, tuple[str, str, Fraction]]:
    """Spelling -> (name, kind, size). The name is the same for all spellings of a unit."""
    known: dict[str, tuple[str, str, Fraction]] = {}
    for kind, rows in _SECTIONS.items():
        for size, names in rows:
            _add(known, names.split(), names.split()[0], kind, Fraction(size))
    for left, names in _METRIC:
        kind, size, symbol = left.split()
        _add(known, [symbol, *names.split()], symbol, kind, Fraction(size))
        for prefix, ways in _PREFIXES:
            times, short = prefix.split()
            long, chinese = (*ways.split(), "", "")[:2]
            unit = (short + symbol, kind, Fraction(size) * Fraction(times))
            known.setdefault(short + symbol, unit)
            for name in names.split():
                before = long if name.isascii() else chinese
                if before and name.isalpha():
                    known.setdefault(before + name, unit)
                elif name == "\\Omega":
                    known.setdefault(short + name, unit)
    for name in [name for name in known if name.isascii() and name[:1] not in "mM"]:
        if len(name) > 2:  # "khz" and "kpa" for kHz and kPa
            known.setdefault(name.lower(), known[name])
    for spelling, (name, kind) in currency_spellings().items():
        known.setdefault(spelling, (name, kind, Fraction(1)))
    return known


def _add(
    known: dict[str, tuple[str, str, Fraction]],
    names: list[str],
    name: str,
    kind: str,
    size: Fraction,
) -> None:
    for spelling in names:
        key = spelling if len(spelling) <= 2 or not spelling.isascii() else spelling.lower()
        known[key] = (name, kind, size)
        known[spelling] = (name, kind, size)
