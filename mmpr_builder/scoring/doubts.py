r"""What makes an answer uncertain that has the right value: it says that it is of another thing.

doubt(r"2\pi r = 12", "12", "What is the area?")                     -> the formula of a length
doubt("boys to girls = 3:4", "3:4", "the ratio of girls to boys?")   -> the other way round
doubt("20 adults", "20", "How many children are there?")             -> another thing is counted
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.asked import scale_asked
from mmpr_builder.scoring.doubts_zh import doubt_in_chinese
from mmpr_builder.scoring.grammar import stem
from mmpr_builder.scoring.latex import compact, plain
from mmpr_builder.scoring.quantity import Quantity, parse_quantity
from mmpr_builder.scoring.ratio import is_ratio
from mmpr_builder.scoring.relation import names_another, split_relation
from mmpr_builder.scoring.sentence import value_said
from mmpr_builder.scoring.units import is_generic

_MAX_CHARS = 300


def doubt(predicted: str, gold: str, choices: tuple[str, ...], question: str | None) -> str | None:
    """Why an answer that was found equal to a truth may be about another thing; None for no
    reason. Expects cleaned texts."""
    if predicted == gold or len(predicted) > _MAX_CHARS:
        return None
    p, g = plain(predicted), plain(gold)
    asked = question[-2000:] if question else ""
    left = _left_side(p, g, asked) or _mixed(parse_quantity(p), parse_quantity(g))
    if left is not None or not asked:
        return left
    if choices:
        return "the question asks for another value" if names_another(p, asked) else None
    if is_ratio(g):
        return "the ratio the other way round" if _reversed_ratio(p, plain(asked)) else None
    truth = parse_quantity(g)
    if truth is None:
        return None
    said = parse_quantity(value_said(p, question) or p)
    if said is not None:
        if _drops_scale(p, said, truth, asked):
            return "the question asks for it in a scale that the answer leaves out"
        if _counts_another(said, truth, asked):
            return "another thing is counted"
    return doubt_in_chinese(p, asked)


def _mixed(said: Quantity | None, truth: Quantity | None) -> str | None:
    """12万元 against 12万人: an amount is no count."""
    if said is None or truth is None or said.unit is None or truth.unit is None:
        return None
    counted = is_generic(truth.unit) and truth.unit.name in ("人", "名", "位")
    return "an amount against a count" if counted and said.unit.dimension else None


_AREA, _ROUND = re.compile("area|面积", re.I), re.compile("circumference|perimeter|周长", re.I)
_VOLUME = re.compile("volume|capacity|体积|容积", re.I)
_SPREAD = re.compile(r"standard deviation|标准差", re.I)
_BOTH, _EITHER = re.compile(r"交|intersect|\\cap|∩", re.I), re.compile(r"并|union|\\cup|∪", re.I)
_ROUND_FORMULA = re.compile(r"(?:2\\pi[rR]|\\pi[dD])\Z")
_SQUARE = re.compile(r"(?:\\sigma|[sS])\^\{?2\}?\Z")
_SUM_OF_NAMES = re.compile(r"[0-9]*[a-z](?:[-+][0-9]*[a-z])+\Z")
_MARKS = re.compile(r"\\(?:vec|overrightarrow|overline|bar|mathbf)(?![a-zA-Z])|[{}\s$]")


def _left_side(p: str, g: str, asked: str) -> str | None:
    """A formula or combination before the value that is not the one that the question asks for."""
    sides, operators = split_relation(p)
    if not operators or operators[0] != "=" or split_relation(g)[1]:
        return None
    left = _MARKS.sub("", compact(sides[0]))
    if "\\pi" in left and re.search(
        "[rRdlhab]", re.sub(r"\\(?:pi|cdot|frac|times|sqrt)", "", left)
    ):
        return None if _formula_fits(left, asked) else "a formula that may be of another measure"
    if _SQUARE.match(left):
        return "a variance may not be what is asked for" if _SPREAD.search(asked) else None
    if re.match(r"[A-Z]\\c[au]p", left):
        wanted, other = (_BOTH, _EITHER) if "\\cap" in left else (_EITHER, _BOTH)
        named = left in _MARKS.sub("", plain(asked))
        unfit = other.search(asked) and not named and not wanted.search(asked)
        return "another combination of the sets" if unfit else None
    if _SUM_OF_NAMES.match(left) and len(sides) > 1 and sides[-1][:1] in ("(", "[", "\\"):
        fits = left in _MARKS.sub("", plain(asked))
        return None if fits else "another combination than the question's"
    return None


def _formula_fits(left: str, asked: str) -> bool:
    if _ROUND_FORMULA.match(left):
        return _ROUND.search(asked) is not None
    volume = re.search(r"\^\{?3|\^\{?2\}?[hH]|[hH].*\^\{?2", left)
    return (_VOLUME if volume else _AREA).search(asked) is not None


_BETWEEN = re.compile(r"\s*(?::|(?<![a-zA-Z])to(?![a-zA-Z])|[与和跟比])\s*")
_ARTICLES = re.compile(r"(?<![a-zA-Z])(?:the|a|number of)(?![a-zA-Z])\s*", re.I)
_PAIR = re.compile(r"([A-Za-z']+|[\u3400-\u9fff]{1,8}):(?=([A-Za-z']+|[\u3400-\u9fff]{1,8}))")


def _reversed_ratio(p: str, asked: str) -> bool:
    """Whether the two names of a ratio stand in the question in the other order."""
    said, wanted = (_BETWEEN.sub(":", _ARTICLES.sub("", side)).lower() for side in (p, asked))
    for left, right in _PAIR.findall(said):
        for first in _ends(left, last=True):
            for second in _ends(right, last=False):
                turned = rf"(?<![a-z]){re.escape(second)}:{re.escape(first)}(?![a-z])"
                if first != second and re.search(turned, wanted):
                    return True
    return False


def _ends(name: str, *, last: bool) -> list[str]:
    """A word in letters; of Chinese, which has no blanks, all that may be the name."""
    if name.isascii():
        return [name]
    cuts = range(1, len(name) + 1)
    return [name[-n:] for n in cuts] if last else [name[:n] for n in cuts]


_SCALED = re.compile(
    r"(?<![a-z])(?:thousand|million|billion|trillion|mn|bn)|[0-9]\s?[KMBT]\b|[千万亿]", re.I
)
_SCALE_ZH = re.compile("(?:多少|几)(?:万亿|千万|百万|十亿|万|亿|千(?![克米瓦卡帕]))")


def _drops_scale(p: str, said: Quantity, truth: Quantity, asked: str) -> bool:
    """`$5` where it is asked for in millions of dollars; a bare `5` says the same as the truth."""
    if said.unit is None or truth.unit is not None or _SCALED.search(p):
        return False
    if said.number is None or truth.number is None or said.number.value != truth.number.value:
        return False
    return scale_asked(asked) is not None or _SCALE_ZH.search(asked) is not None


_COUNTED = re.compile(r"\b(?:how many|number of)\b(?P<thing>[^?.;]*)", re.I)
_ANY_THING = frozenset(("people", "person", "unit", "item", "piece", "time", "thing", "object"))


def _counts_another(said: Quantity, truth: Quantity, asked: str) -> bool:
    """`20 adults` where it is asked how many children; the name must be in that clause."""
    unit, found = said.unit, _COUNTED.search(asked)
    if unit is None or unit.dimension or is_generic(unit) or found is None or truth.unit:
        return False
    name = unit.name.split()[-1].lower()
    if not name.isascii() or name in _ANY_THING:
        return False
    words = {word.lower() for word in re.findall("[A-Za-z]+", found["thing"])}
    words |= {word[:-3] + "y" for word in words if word.endswith("ies")}
    return name not in words and stem(name) not in {stem(word) for word in words}
