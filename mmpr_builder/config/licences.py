"""Which licences of sources allow commercial use: for `licenses: commercial`.

    CC BY 4.0          allowed
    CC BY-NC-SA 4.0    refused: non-commercial use only
    unknown, see …     refused: not known
    my-own-terms       refused: not in this table

A licence is read as people write it or as SPDX spells it; `A AND B` must both allow it, one of
`A OR B` is enough. Only a source's `license` counts; images often have other licences. Nothing here
is legal advice.
"""

from __future__ import annotations

import re

_DUTY_FREE = "nothing is asked for"
_NAMES = "the authors must be named"
_ALIKE = "what is made of it must be passed on under the same terms"

ALLOWED: dict[str, str] = {
    # Given away.
    **dict.fromkeys(("cc0", "pddl", "unlicense", "public-domain", "wtfpl", "0bsd"), _DUTY_FREE),
    # Creative Commons without "non-commercial" and without "no derivatives".
    "cc-by": _NAMES,
    "cc-by-sa": _ALIKE,
    # Open Data Commons and the Linux Foundation's licences for data.
    **dict.fromkeys(("odc-by", "cdla-permissive"), _NAMES),
    **dict.fromkeys(("odbl", "cdla-sharing"), _ALIKE),
    # Of software, under which data sets are published, too. None of them restricts use; copyleft
    # (GPL and its like) restricts how what is made of it may be passed on.
    **dict.fromkeys(
        (
            *("mit", "apache", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "zlib", "bsl-1.0"),
            "afl",
        ),
        _NAMES,
    ),
    **dict.fromkeys(("gpl", "lgpl", "agpl", "mpl", "epl", "eupl"), _ALIKE),
}
"""Licence, without its version, -> on what condition it allows commercial use."""

_NON_COMMERCIAL = re.compile(r"\bnc\b|non[- ]?commercial", re.IGNORECASE)
_RESEARCH = re.compile(r"\b(?:research|academic|educational)\b", re.IGNORECASE)
_NO_DERIVATIVES = re.compile(r"\bnd\b|no[- ]?deriv", re.IGNORECASE)
_UNKNOWN = re.compile(r"\s*(?:unknown|other|not stated|unspecified|none|n/a)\b", re.IGNORECASE)
_OR = re.compile(r"(?<!\s)\s++or\s+(?!later)", re.IGNORECASE)
_AND = re.compile(r"(?<!\s)\s++(?:and|with)\s+|(?:(?<!\s)\s++)?[,;/&+]\s+(?!v?\d)", re.IGNORECASE)
_VERSION = re.compile(
    r"(?:(?<![-v])[-v]++|(?<![-v\d])(?<!\d\.))\d++(?:\.\d++)*+(?:-(?:only|or-later))?\+?\Z"
)
_LONG_NAMES = (
    (re.compile(r"\b(?:creative commons|cc)[- ]*(?:zero|0)\b"), "cc0"),
    (re.compile(r"\bcreative commons\b"), "cc"),
    (re.compile(r"\battribution\b"), "by"),
    (re.compile(r"\bshare-?alike\b"), "sa"),
    (re.compile(r"\bpublic domain\b"), "public-domain"),
    (re.compile(r"\bapache license\b"), "apache"),
    (re.compile(r"\b(?:licen[cs]e|version|international|universal|unported|the)\b"), " "),
)


def forbids_commercial_use(licence: str | None) -> str | None:
    """Why a source under this licence must be left out of a commercial data set; None if it need
    not be."""
    if licence is None or not licence.strip():
        return "no licence is stated"
    if _UNKNOWN.match(licence):
        return f"its licence is not known ({licence})"
    each = (_AND.split(one.strip(" ()")) for one in _OR.split(licence.strip()))
    reasons = [next(filter(None, map(_reason, one)), None) for one in each]
    return None if None in reasons else reasons[0]


def _reason(licence: str) -> str | None:
    if _NON_COMMERCIAL.search(licence):
        return f"{licence} allows non-commercial use only"
    if _RESEARCH.search(licence):
        return f"{licence} is for research"
    if _NO_DERIVATIVES.search(licence):
        return f"{licence} allows no derived works, which pairs are"
    if not _allows(licence):
        return f"{licence} is not among the licences known to allow commercial use"
    return None


def _allows(licence: str) -> bool:
    name = licence.strip(" ().").lower().replace("_", "-").replace(",", " ")
    for pattern, short in _LONG_NAMES:
        name = pattern.sub(short, name)
    name = re.sub(r"[\s-]+", "-", name).strip("-")
    return name in ALLOWED or _VERSION.sub("", name).rstrip("-v") in ALLOWED
