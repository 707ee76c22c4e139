"""Text from settings, rows and models, made fit to be written down or shown.

redacted("https://bob:pw@host/x.jsonl?sig=9f")    "https://host/x.jsonl?…"
redacted({"engine": {"hf_token": "hf_a1"}})       {"engine": {"hf_token": "***"}}
visible("a\\x1b[2J")                               "a␛[2J"
markdown("![x](http://h/p.png)")                  "\\\\!\\\\[x\\\\](http://h/p.png)"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")

HIDDEN = "***"

# A password may hold what a URL may not; only a port is digits alone.
_USER = re.compile(r"://(?P<user>[^/\n]{0,300}|[^\s/@:]{1,100}:(?!\d+/)[^\s@]{1,300})@")
_AZURE = ("abfs", "abfss", "wasb", "wasbs")  # Here `CONTAINER@ACCOUNT` is a place.
_QUERY = re.compile(r"[?#]")
_WORD = re.compile(r"\S+")
_CLOSING = "'\",:;)]}>`"  # A quotation, a bracket or a sentence behind a URL.
# The words a name ends with; `api_key_env` names a variable and hides nothing.
_SECRET = (
    r"(?<![A-Za-z])(?:[a-z]+(?=[A-Z]))?"
    r"(?i:token|secret|passw(?:or)?d|pwd|passphrase|credentials?|auth|authorization|bearer|cookies?"
    r"|signature|sas|headers|connection[-_]?string"
    r"|(?:api|access|account|private|secret|shared)[-_.]?key(?:[-_]?id)?s?)"
)
_SECRET_NAME = re.compile(rf"{_SECRET}\Z")
_ASSIGNED = re.compile(
    rf"(?P<name>{_SECRET}(?:[\"']\s*:|=)\s*)(?P<value>\"[^\"]*\"|'[^']*'|[^\s\"',}}\]]+)"
)
_HEADER = re.compile(r"(?i:\bauthorization\s*:\s*(?:bearer|basic)?\s*)[^\s\"',}\]]+")
# What cannot be seen or turns the direction of a line: a text would look like another one. Marks
# that join or vary a letter of a script, or an emoji, stay behind one.
_JOIN, _VARY = r"\u200c\u200d", r"\ufe00-\ufe0f\U000e0100-\U000e01ef"
_UNSEEN = re.compile(
    r"[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f"
    rf"\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e00ff{_JOIN}{_VARY}]"
    rf"(?<![^\0-\x7f{_JOIN}][{_JOIN}])(?<![^\0-\x7f{_JOIN}{_VARY}][{_VARY}])(?!(?<=[{_VARY}])\u20e3)"
)
# With what GitHub makes links of by itself: a scheme, `www.`, an address of mail.
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~$&<>@]|:(?=//)|(?<=\bwww)\.)", re.IGNORECASE)


def redacted(value: T, *, names: bool = True) -> T:
    """`value` (text, or JSON-like tables and lists) without what gives access to something.

    URLs lose user names, passwords, queries and fragments, and so do values behind a secret-looking
    name in a text. With `names` keys of tables count as such names: for settings, whose keys are
    not from data. Redacting twice changes nothing more.
    """
    return _redacted(value, names)  # type: ignore[no-any-return]


def _redacted(value: Any, names: bool) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {
            _text(key) if isinstance(key, str) else key: HIDDEN
            if names and _is_secret(str(key), item)
            else _redacted(item, names)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_redacted(item, names) for item in value)
    return value


def _is_secret(name: str, value: Any) -> bool:
    kept = value is None or isinstance(value, bool) or value in ("", HIDDEN)
    return not kept and _SECRET_NAME.search(name) is not None


def _text(text: str) -> str:
    if "://" in text:
        text = _WORD.sub(_without_query, _USER.sub(_no_user, text))
    text = _ASSIGNED.sub(lambda found: found["name"] + HIDDEN, text)
    return _HEADER.sub(HIDDEN, text)


def _no_user(found: re.Match[str]) -> str:
    is_place = found.string.endswith(_AZURE, 0, found.start()) and ":" not in found["user"]
    return found[0] if is_place else "://"


def _without_query(word: re.Match[str]) -> str:
    scheme, mark, url = word[0].partition("://")
    place, *rest = _QUERY.split(url, maxsplit=1)
    if not mark or not rest or not rest[0].strip(_CLOSING):
        return word[0]
    return f"{scheme}://{place}?…{rest[0][len(rest[0].rstrip(_CLOSING)) :]}"


def public_url(url: str) -> str:
    """A URL without user name and password, over HTTP without query and fragment; else the text."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    user, at, _ = re.split(r"(?=[/?#])", rest, maxsplit=1)[0].rpartition("@")
    if at and not (scheme in _AZURE and ":" not in user):
        rest = rest[len(user) + 1 :]
    place = f"{scheme}://{rest}"
    return _QUERY.split(place, maxsplit=1)[0] if scheme in ("http", "https") else place


def visible(text: str) -> str:
    """Characters that cannot be seen, as signs that can; line ends and tabs stay."""
    return _UNSEEN.sub(
        lambda found: chr(0x2400 + ord(found[0])) if found[0] < " " else "\ufffd", text
    )


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON in which every character that `visible` replaces is an escape: the values are kept."""
    import json

    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _UNSEEN.sub(lambda found: json.dumps(found[0])[1:-1], text)


def line(text: str) -> str:
    """One line of text for a terminal or a log: nothing hidden, nothing secret."""
    return visible(redacted(text))


def markdown(text: str) -> str:
    """Text as Markdown that shows it and does nothing else, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(visible(text).split()))
