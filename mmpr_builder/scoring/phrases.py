r"""Mathematics said in words, and the same said in symbols: `empty set` is `\emptyset`.

    spoken("negative infinity") -> r"-\infty"        spoken("无解") -> "no solution"

Only whole answers are looked up; a phrase inside a sentence stays what it is.
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.numerals import parse_words

REALS = r"(-\infty,\infty)"
_PHRASES: dict[str, str] = {}
for _meaning, _ways in {
    r"\infty": ("infinity", "positive infinity", "plus infinity", "无穷大", "正无穷", "正无穷大"),
    r"-\infty": ("negative infinity", "minus infinity", "负无穷", "负无穷大"),
    r"\emptyset": (
        *("empty set", "the empty set", "null set", "空集", "\\{\\}", "\\{ \\}", "{}", "{ }"),
    ),
    REALS: (
        *("all real numbers", "all reals", "any real number", "the set of all real numbers"),
        *("the set of real numbers", "全体实数", "一切实数", "任意实数", "所有实数", "实数集"),
        *("\\mathbb{r}", "\\mathbb r", "ℝ", "\\mathbf{r}", "x \\in \\mathbb{r}"),
        *("x\\in\\mathbb{r}", "x \\in ℝ", "x∈ℝ", "x∈r", "x \\in r", "x\\in r"),
    ),
    "no solution": (
        *("no solution", "no solutions", "there is no solution", "there are no solutions"),
        *("has no solution", "has no solutions", "the equation has no solution", "无解"),
        *("the equation has no solutions", "方程无解", "没有解"),
    ),
    "no real solution": (
        *("no real solution", "no real solutions", "there are no real solutions", "无实数解"),
        *("there is no real solution", "no real roots", "无实数根", "无实根", "没有实数根"),
    ),
    "infinitely many solutions": (
        *("infinitely many solutions", "infinitely many", "there are infinitely many solutions"),
        *(
            "infinite solutions",
            "an infinite number of solutions",
            "无数解",
            "无穷多解",
            "有无数个解",
        ),
        *("infinitely many solution", "有无穷多个解", "有无数解"),
    ),
    "does not exist": ("does not exist", "doesn't exist", "dne", "不存在", "it does not exist"),
    "undefined": (
        "undefined",
        "not defined",
        "is undefined",
        "无意义",
        "没有意义",
        "it is undefined",
    ),
}.items():
    _PHRASES |= dict.fromkeys(_ways, _meaning)

_CHINESE = [
    (re.compile(pattern), spelling)
    for pattern, spelling in (
        (r"根号下?\s*(?=[0-9a-z({\\])", r"\\sqrt "),
        (r"(?<=[0-9a-z)])\s*的平方(?![\u3400-\u9fff])", "^2"),
        (r"(?<=[0-9a-z)])\s*的立方(?![\u3400-\u9fff])", "^3"),
        (r"(?<=[0-9a-zA-Z\u3400-\u9fff)])\s*(?:不等于)\s*(?=[-0-9a-zA-Z(])", r"\\neq "),
        (r"(?<=[0-9a-zA-Z)])\s*(?:大于等于|大于或等于|不小于)\s*(?=[-0-9a-zA-Z(])", r"\\geq "),
        (r"(?<=[0-9a-zA-Z)])\s*(?:小于等于|小于或等于|不大于)\s*(?=[-0-9a-zA-Z(])", r"\\leq "),
        (r"(?<=[0-9a-zA-Z)])\s*大于\s*(?=[-0-9a-zA-Z(])", ">"),
        (r"(?<=[0-9a-zA-Z)])\s*小于\s*(?=[-0-9a-zA-Z(])", "<"),
        (r"(?<=[0-9a-zA-Z)])\s*(?:乘以?)\s*(?=[-0-9a-zA-Z(])", r"\\times "),
        (r"(?<=[0-9])\s*比\s*(?=[0-9])", ":"),
        (r"零下\s*(?=[0-9])", "-"),
        (r"(?<=[零一二三四五六七八九十百千万亿])(?:写作|记作):?\s*(?=[0-9])", "="),
    )
]


_EQUATION = re.compile(  # in 原方程组无解
    "\\A(?:所以|因此|故|答[:：]?)?[,，]?(?:原|此|该|这个)?(?:分式)?(?:方程|不等式)组?(?=[无没有])"
)
_SHARE = re.compile(r"([0-9]{1,6}) (?:out of|in) ([0-9]{1,6})\Z")  # 3 out of 4
_COMPARED = re.compile(
    r"(?P<name>[a-zA-Z]) is (?P<how>greater|less|larger|smaller) than"
    r"(?P<equal> or equal to)? (?P<value>-?[0-9.a-z/]{1,12})\Z",
    re.IGNORECASE,
)


_EXCEPT = re.compile(
    r"(?:the set of )?(?:all|any) (?:the )?(?:real numbers?|reals)(?: [a-z])?"
    r"(?: except| other than| excluding)(?: for)?(?: [a-z] ?=)? (?P<value>-?[0-9a-z./\\{}]{1,20})\Z"
    r"|除了?(?:[a-z]=)?(?P<out>-?[0-9./]{1,12})以?外的?(?:所有|一切|全体|任意)实数"
    r"|不等于(?P<not>-?[0-9./]{1,12})的(?:所有|一切|全体|任意)实数",
    re.IGNORECASE,
)


def is_phrase(text: str) -> bool:
    """Whether a whole answer is a phrase of mathematics: `no solution`, 无解."""
    return len(text) <= 60 and " ".join(text.lower().split()).rstrip(".") in _PHRASES


def spoken(text: str) -> str:
    """What a cleaned answer says in symbols; any other text comes back as it is."""
    if len(text) > 60:
        return text
    meaning = _PHRASES.get(" ".join(text.lower().split()).rstrip("."))
    if meaning is None and not text.isascii():
        meaning = _PHRASES.get(_EQUATION.sub("", text).rstrip("。."))
    if meaning is not None:
        return meaning
    out = _EXCEPT.match(text.rstrip(".。"))
    if out:
        value = out["value"] or out["out"] or out["not"]
        return rf"(-\infty,{value})\cup({value},\infty)"
    share = _SHARE.match(text)
    if share:
        return f"{share[1]}/{share[2]}"
    compared = _COMPARED.match(text)
    if compared:
        sign = "<" if compared["how"].lower() in ("less", "smaller") else ">"
        return f"{compared['name']} {sign}{'=' if compared['equal'] else ''} {compared['value']}"
    if not text.isascii():
        percent = parse_words(text) if text.startswith("百分之") else None
        if percent is not None:
            return f"{percent * 100}%"
        sides = [parse_words(side) for side in text.split("比")]
        if len(sides) == 2 and None not in sides:
            return f"{sides[0]}:{sides[1]}"
        for pattern, spelling in _CHINESE:
            text = pattern.sub(spelling, text)
    return text
