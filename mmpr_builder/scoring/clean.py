"""Takes the dress off an answer: `**$\\boxed{42}$**.` -> `42`. The wording itself stays.

Only what cannot carry meaning goes: invisible characters, full-width twins of ASCII, wrappers
around the whole, trailing full stops. What may carry meaning (signs, brackets of tuples, `%`,
`!` after a number) is left to the scorers.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mmpr_builder.extraction import BOLD_INSIDE, SPECIAL_TOKEN, closing_bracket, without_tail

MAX_CHARS = 2000
"""Longer answers are screened out: no truth of the supported kinds is that long, and every rule
below may then be at worst quadratic in the length."""

# Full-width ASCII, typographic minus and quotes, no-break and thin spaces; invisible ones vanish.
_TWINS: dict[int, str] = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_TWINS |= dict.fromkeys(map(ord, "−–﹣‐‑‒"), "-")
_TWINS |= dict.fromkeys(map(ord, "“”„″「」『』"), '"')
_TWINS |= dict.fromkeys(map(ord, "‘’′‛"), "'")
_TWINS |= dict.fromkeys(map(ord, "\u00a0\u3000\u2002\u2003\u2004\u2005\u2006\u2007\u2008"), " ")
_TWINS |= dict.fromkeys(map(ord, "\u2009\u200a\u202f\u205f"), " ")
_TWINS |= dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u00ad"), "")
_TWINS |= {ord("￥"): "¥", ord("∶"): ":", ord("﹪"): "%", ord("⁄"): "/", ord("∕"): "/"}
# Mathematical bold, italic … digits: five alphabets of ten in a row.
_TWINS |= {0x1D7CE + i: str(i % 10) for i in range(50)}

_BROKEN = re.compile("[\ud800-\udfff\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BROKEN_FACES = re.compile(
    "(?<=[0-9])[\u0300-\u0304\u0306-\u036f\u20d0-\u20ff]|[\u202a-\u202e\u2066-\u2069]"
)
_NAKED = re.compile(r"[A-Za-z0-9 ]*(?:[A-Za-z0-9][,.%/-][A-Za-z0-9 ]+)*\Z")
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("**", "**"),
    ("__", "__"),
    ("```", "```"),
    ("`", "`"),
    ('"', '"'),
    ("'", "'"),
    ("*", "*"),
    *((f"<{tag}>", f"</{tag}>") for tag in ("answer", "b", "strong", "i", "em", "u")),
)
_OPEN = {left[0] for left, _ in _WRAPPERS}
_AT_THE_END = re.compile(
    r"(?<![\s！])(?<!<br>)(?<!<br/>)(?<!<br />)(?<!\s[✓✔✅☑])"  # From where they begin.
    r"(?:\s|！|<br\s*+/?>|(?<=\s)[✓✔✅☑])++\Z"  # No factorial is written in full width.
)
_STYLE = re.compile(r"\\(?:displaystyle|textstyle|rm|bf)(?![a-zA-Z{])\s*")
_MACRO = re.compile(
    r"\\(?:boxed|fbox|text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mathsf|mbox|bf|rm"
    r"|underline|displaystyle|textstyle)\s*\{"
)


def normalise_characters(text: str) -> str:
    """Full-width, typographic and invisible characters to plain ones; lone surrogates, control
    characters, marks on digits and turns of direction to U+FFFD, which no rule takes for any."""
    if not text.isascii():
        text = _BROKEN_FACES.sub("\ufffd", text.translate(_TWINS))
    return _BROKEN.sub("\ufffd", text)


@lru_cache(maxsize=8192)
def clean(text: str) -> str:
    """The answer without its dress. Expects at most `MAX_CHARS` characters; never raises."""
    if _NAKED.match(text):
        return text.strip()
    if not text[-1:].isalnum():
        text = _AT_THE_END.sub("", text)
    text = normalise_characters(text)
    if "<" in text or "[" in text:
        text = SPECIAL_TOKEN.sub(" ", text)
    text = without_tail(text.strip())
    if "**" in text:
        text = BOLD_INSIDE.sub(r"\1", text)
    for _ in range(12):
        shorter = _undress_once(text)
        if shorter == text:
            break
        text = shorter
    return text


def _undress_once(text: str) -> str:
    text = _STYLE.sub("", text.strip())
    for left, right in _WRAPPERS if text[:1] in _OPEN else ():
        inner = text[len(left) : len(text) - len(right)]
        if (
            len(text) > len(left) + len(right)
            and text.startswith(left)
            and text.endswith(right)
            and left not in inner
            and right not in inner
        ):
            return inner.strip()
    macro = _MACRO.match(text)
    if macro and closing_bracket(text, macro.end() - 1) == len(text) - 1:
        return text[macro.end() : -1].strip()
    braced = text.startswith("{") and closing_bracket(text, 0) == len(text) - 1
    if braced and not set(",;，；|:") & set(text):  # {1, 2} is a set
        return text[1:-1].strip()
    if text[-1:] in ".。,，;；" and not text.endswith(("..", "\\,", "\\;")):
        return text[:-1].rstrip()
    if text.endswith(("\\]", "\\)")) and text.count("\\[") + text.count("\\(") == 0:
        return text[:-2].rstrip()
    if text.endswith(("\\", "\\,", "\\;", "\\:", "\\!")):
        return text.rstrip("\\,;:!")
    return text[1:].lstrip() if text[:1] in (":", "：", "=") else text


_SAYS_NOTHING = frozenset(
    ("thought process", "solution", "answer", "final answer", "respuesta", "解", "答案", "かいせつ")
)
_LETS = re.compile(r"let'?s (?:solve|think|work|go through) .{0,60}step by step\Z|let'?s think\Z")


def says_nothing(text: str) -> bool:
    """Whether an answer only opens one: blanks, marks, "Solution". Judges that are models take
    such texts for right (arXiv 2507.08794)."""
    bare = clean(text[:200]).strip(" .,:;!?*#。，：；、…-").casefold() if len(text) < 200 else text
    return not bare or bare in _SAYS_NOTHING or _LETS.match(bare) is not None


def words(table: str) -> tuple[str, ...]:
    """The words of a table written as text."""
    return tuple(table.split())


_LEFT = dict.fromkeys(("remaining", "remain", "remains", "leftover"), "left")


@lru_cache(maxsize=16384)
def lemma(word: str) -> str:
    """`threw` -> `throw`, `Boxes` -> `box`, `Omar's` -> `omar`."""
    import simplemma  # Its dictionary takes a quarter of a second, once.

    word = word.lower().replace("’", "'").removesuffix("'s")
    found = simplemma.lemmatize(word, "en").lower() if word.isalpha() else word
    if found.endswith("ing") and len(found) > 5:  # buying is no noun here
        stems = (found[:-3], found[:-3] + "e")
        found = next((stem for stem in stems if simplemma.is_known(stem, "en")), found)
    found = found[:-1] if found.endswith(("aye", "oye")) else found  # of playing
    return _LEFT.get(found, found)


def squeezed(text: str) -> str:
    """Without the blanks beside Chinese characters, which mean nothing there."""
    return re.sub("(?<=[\u3400-\u9fff]) +| +(?=[\u3400-\u9fff])", "", text)
