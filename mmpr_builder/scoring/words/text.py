"""Short answers in words, yes and no, text of documents, and values that sentences say.

    normalise("A Don't-Walk sign.")                     -> "dont walk sign"
    polarity("No, it is not.")                          -> "no"
    compare_anls("TOBACC0 \\& CANDY", "TOBACCO & CANDY") -> no, digits differ

VQA's own normalisation deletes signs and operators as well (`-5` becomes `5`, `x^2+1` becomes
`x21`); here they stay, and an answer that is a number is compared as a number.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from rapidfuzz.distance import OSA

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.decision import Decision, Symbolic, no, unknown, yes
from mmpr_builder.scoring.latex import compact, has_chinese, has_words, plain
from mmpr_builder.scoring.maths.expression import REALS, compare_math, spoken
from mmpr_builder.scoring.maths.structure import (
    named_point,
    named_value,
    names_another,
    parse,
    split_relation,
    without_cases,
)
from mmpr_builder.scoring.numbers.number import ENGLISH, NUMBER, evaluate, parse_number
from mmpr_builder.scoring.numbers.quantity import (
    COMPOUND_ZH,
    as_asked,
    compare_as_asked,
    compare_quantities,
    drops_scale,
    parse_compound,
    parse_quantity,
    without_asked_scale,
)
from mmpr_builder.scoring.numbers.readings import (
    compare_labels,
    is_label,
    is_ratio,
    is_reversed,
)
from mmpr_builder.scoring.numbers.table import MULTIPLYING
from mmpr_builder.scoring.numbers.units import is_generic, parse_unit, ratio
from mmpr_builder.scoring.words.sentence import says, value_said

_YES = "yes yeah yep 是 是的 对 对的 对呀 有 有的 会 会的 能 可以"
_NO = "no nope 否 不 不是 不对 不是的 不对的 没有 不会 不能 不可以"
_WORDS: dict[str, str] = {
    **dict.fromkeys(words(_YES), "yes"),
    **dict.fromkeys(words(_NO), "no"),
    **dict.fromkeys(("true", "正确", "正确的", "√", "✓"), "true"),
    **dict.fromkeys(("false", "错误", "错误的", "错", "错的", "×", "✗"), "false"),
}
# 对 and 错 say yes and no as well as true and false.
_RIGHT = frozenset(["对", "对的", "正确", "正确的", "√", "✓"])
_WRONG = frozenset(["错", "错的", "错误", "错误的", "不对", "不对的", "不正确", "×", "✗"])
_HEAD = re.compile(
    r"(?P<head>[a-z]+|[\u3400-\u9fff√✓×✗]+)\s*"
    r"(?:[,.;:!(，。；！—\n]|-{1,2}\s|\Z|\s(?=(?:it|they|there|he|she|because|since|as)\b))\s*(?P<rest>.*)\Z",
    re.DOTALL,
)
_OTHER = re.compile(
    r"\b(?:yes|no|true|false|maybe|perhaps)\b(?! (?:one|longer|more)\b)|或|也许|可能|不一定"
)
_NONE = re.compile(r"\A(?:there (?:is|are|was|were)|it has|they have) no\b")  # no dogs
_CONTRAST = re.compile(
    r"\b(?:but|however|although|though|except|unless|if|when|only|part(?:ly|ially)|sometimes"
    r"|depends?|wait|actually|unsure|until)\b|但|不过|除非|如果|有时"
)
"""What may take a verdict back: only closed classes of words can, so these are listed."""
_DENIAL = re.compile(r"\b(?:not|never|neither|nor|cannot|without|no)\b|n't\b|不|没|非")
_BECAUSE = re.compile(r"(?:because|since|as|for)\b|因为|由于")


def polarity(text: str, question: str | None = None) -> str | None:
    """The words yes, no, true or false that a text stands for; None if it is no such answer.

    A reason may follow, without words that may take the answer back: contrasts, and denials behind
    a yes, count only where the question has them or "because" leads them in.
    """
    found = _WORDS.get(text)
    if found is not None:
        return found
    head = _HEAD.match(text.lower().strip())
    if not head or head["head"] not in _WORDS:
        return None
    said, rest = _WORDS[head["head"]], head["rest"]
    marks = (_CONTRAST, _DENIAL) if said in ("yes", "true") else (_CONTRAST,)
    turns = {match[0] for mark in marks for match in mark.finditer(rest)}
    asked = {match[0] for mark in marks for match in mark.finditer((question or "").lower())}
    others = {match[0] for match in _OTHER.finditer(_NONE.sub("", rest))} - {said}
    if others or (said != "no" and _OTHER.search(rest)):
        return None
    return None if turns - asked and not _BECAUSE.match(rest) else said


def same_polarity(left: str, right: str) -> bool:
    """Two bare words that say one thing: 对 and 正确, Yes and yes."""
    said = _WORDS.get(left.lower())
    return said is not None and said == _WORDS.get(right.lower())


def is_yes_no(gold: str) -> bool:
    """Whether a truth is a bare yes/no word."""
    return gold.lower() in _WORDS


def compare_yes_no(predicted: str, gold: str, question: str | None = None) -> Decision:
    """`gold` is a bare word of `is_yes_no`; expects cleaned texts."""
    gold = gold.lower()
    lowered = predicted.lower().strip().rstrip(".!。！")
    if lowered == gold or any({lowered, gold} <= group for group in (_RIGHT, _WRONG)):
        return yes("yes_no")
    said = polarity(lowered, question)
    if said is None and gold.isascii() and says(plain(predicted), gold, question):
        return yes("sentence")
    if said is None and holds(lowered, gold):
        return unknown("words", "what stands beside it may take it back")
    if said is None or said != _WORDS[gold]:
        return no("yes_no", f"{predicted[:40]!r} does not say {gold!r}")
    return yes("yes_no")


_FIGURES = re.compile(
    rf"(?:(?<![A-Za-z0-9_)])-)?(?:[0-9]+/[0-9]+|(?<![0-9.]){NUMBER})|[零〇一二两三四五六七八九十百千万亿点]+"
)


def holds(text: str, gold: str) -> bool:
    """Whether a truth stands anywhere in an answer: as a word, a number or a formula."""
    truth = parse_quantity(gold)
    number = truth.number if truth is not None else None
    if number is not None and number.value in _numbers(text):
        return True
    if has_chinese(gold) or (number is not None and gold[0] != "\\"):
        return has_chinese(gold) and gold in text
    items = re.split(r"\s*(?:[,;、]|\band\b|\bor\b)\s*", gold.strip("()[]{}\\ "))
    if len(items) > 1 and all(item and holds(text, item) for item in items):
        return True
    left, right = (re.sub(r"[^\w\s]", " ", side).lower().split() for side in (text, gold))
    if (
        right
        and f" {' '.join(right)} " in f" {' '.join(left)} "
        and not re.search(r"[=^/<>+]", gold)
    ):
        return True
    formula, said = "".join(gold.split()), "".join(text.split())
    if formula not in said:
        return False
    starts = r"(?<![A-Za-z0-9.])" if formula[0].isalnum() else ""
    return re.search(rf"{starts}{re.escape(formula)}(?![A-Za-z0-9])", said) is not None


def _numbers(text: str) -> set[Fraction]:
    """All numbers of a text, in figures or words."""
    bare = re.sub(r"[^\w\s-]", "", text).lower().split() if re.search("[a-z]{3}", text) else []
    said = (" ".join(bare[i : i + n]) for i in range(len(bare)) for n in (1, 2, 3))
    found = [*_FIGURES.findall(text), *(part for part in said if part.split()[0] in ENGLISH)]
    numbers = {number.value for part in found if (number := parse_number(part)) is not None}
    steps = (parse_compound(match[0]) for match in COMPOUND_ZH.finditer(text))
    return numbers | {step[0] for step in steps if step is not None}


_ARTICLES = frozenset(("a", "an", "the"))
_ABBREVIATION = re.compile(r"(?<![a-z0-9])(?:[a-z]\.)+[a-z]\.?(?![a-z0-9])")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
_PUNCTUATION = re.compile(
    r"(?<![0-9])[.,:](?=[0-9])(?<![.])|[.,:](?![0-9])|(?<![0-9])!|[;?\"()\[\]{}<>|`~。，、；：！？“”‘’《》（）【】…]"
)
_RELATION = re.compile(r"(?<=[\w)])\s*[<>]\s*(?=[-+.\w(\\])|(?:\A|(?<=\s))[<>]\s*(?=[-+.]?[0-9])")
"""A relation, as in c < 0 and < 5 km; other angle brackets are dress."""
_KEPT = {ord("<"): "\ue000", ord(">"): "\ue001", ord(" "): ""}
_PUT_BACK = {0xE000: "<", 0xE001: ">"}
_BARE_WORDS = re.compile(r"[a-z0-9\s]*\Z")
_CIRCLED = re.compile("[①-⑳]")
"""Marks of statements and options, which NFKC would make numbers of."""
_UNDERSCORE = re.compile(r"(?<![0-9])_(?![0-9])")
_DRESS_OF_DIGITS = re.compile(r"\W|(?<![0-9])0+(?=[0-9])")
_WORD_DASH = re.compile(r"(?<=[^\W\d])\s*[-/–—]\s*(?=[^\W\d])")


@lru_cache(maxsize=8192)
def normalise(text: str) -> str:
    """Lower case, no articles, no punctuation of sentences; signs and operators stay."""
    text = text.replace("\\&", "&")
    if not text.isascii():
        text = _CIRCLED.sub(lambda mark: f" mark{ord(mark[0])} ", text)
        text = unicodedata.normalize("NFKC", text)
    text = text.casefold().replace("'", "").replace("’", "")
    if not _BARE_WORDS.match(text):
        text = _ABBREVIATION.sub(lambda found: found[0].replace(".", "") + " ", text)
        text = _THOUSANDS.sub("", text)
        text = _UNDERSCORE.sub(" ", text)
        text = _RELATION.sub(lambda found: found[0].strip().translate(_KEPT), text)
        text = _PUNCTUATION.sub(" ", text).translate(_PUT_BACK)
        text = _WORD_DASH.sub(" ", text)
    words = text.split()  # the A of "vitamin A" is none
    content = [w for i, w in enumerate(words) if w not in _ARTICLES or 0 < i == len(words) - 1]
    content = content or words
    return " ".join(str(ENGLISH.get(word, word)) for word in content)


def compare_text(
    predicted: str, gold: str, symbolic: Symbolic, question: str | None = None
) -> Decision:
    """Two short answers in words; expects cleaned texts. A truth that is a value is compared as
    one."""
    left, right = normalise(predicted), normalise(gold)
    if not right:
        return yes("text") if predicted == gold else no("text", "differs")
    if left == right:
        return no("text", "other signs") if _signs_differ(predicted, gold) else yes("text")
    if is_yes_no(gold):
        return compare_yes_no(predicted, gold, question)
    p, g = plain(predicted), plain(gold)
    if is_value(g):
        return compare_value(predicted, gold, symbolic, question, label=is_label(g))
    if _FORMULA.match(flat(p)) and flat(p) == flat(g):
        return yes("text", "a formula with other subscripts")
    if _sequence(predicted) == _sequence(gold) and not _signs_differ(predicted, gold):
        return yes("text", "a list with other separators")
    if says(p, g, question):
        return yes("sentence")
    if holds(left, right):
        return unknown("words", "the truth stands among words that are not known to be neutral")
    if has_chinese(g) and _numbers(g):
        return _in_words(p, g, question)
    return no("text", f"{left[:40]!r} is not {right[:40]!r}")


def is_value(g: str) -> bool:
    """Whether a `plain` truth is a number, a ratio, a time, a date or another label."""
    return parse_quantity(g) is not None or is_ratio(g) or is_label(g)


_FORMULA = re.compile(r"[A-Za-z0-9()+-]{2,40}\Z")
_FLATTENED = re.compile(r"\^(?=\{?[0-9]?[-+])|[_{}\s]")


def flat(text: str) -> str:
    """`C_6H_{12}` -> `C6H12`."""
    return _FLATTENED.sub("", text)


def _sequence(text: str) -> list[str]:
    """`India and China` -> ["india", "china"], as `India, China`; the order counts."""
    parts = re.split(r"\s*,\s*(?:and\s+)?|\s+(?:and|&)\s+|、|和", text.lower())
    return [normalise(part) for part in parts]


def _signs_differ(predicted: str, gold: str) -> bool:
    """`c++` against `c`, `(2)` against `2`, `f'` against `f`: equal words do not excuse other
    operators."""
    words = (_WORD_DASH.sub("", unicodedata.normalize("NFKC", side)) for side in (predicted, gold))
    left, right = (_SIGNS.findall(side) for side in words)
    return left != right


_SIGNS = re.compile(r"[-+*/^=%$<>#@]|(?<=(?<![A-Za-z])[A-Za-z])'(?![A-Za-z])")


def is_sentence(p: str, g: str = "") -> bool:
    """Whether a `plain` answer has words beside what may be its value: no quantity, no list. The
    name of what is counted is such a word where the truth has none."""
    if not has_words(p) or is_ratio(p) or is_label(p) or named_point(p):
        return False
    name, value = named_value(p)
    if name is not None and (not has_words(value) or parse_quantity(value) is not None):
        return False
    if " " not in p and not has_chinese(p) and parse_quantity(p) is None:
        return False  # one formula: PV=nRT
    said, truth = parse_quantity(p), parse_quantity(g)
    if said is not None:
        unit = said.unit
        named = unit is not None and not unit.dimension
        counts = unit is not None and is_generic(unit) and unit.name not in MULTIPLYING
        wanted = truth.unit if truth is not None else None
        if not named or counts or unit is None or wanted is None:
            return named and not counts
        if not unit.name.isascii() and (wanted.dimension or is_generic(wanted)):
            return True  # 年降水量最多 is no unit
        return wanted.name != unit.name and ratio(unit, wanted) is not None
    items = parse(p).items
    return not (len(items) > 1 and all(parse_quantity(item) is not None for item in items))


_UNIT_LAST = re.compile(r"(?P<sum>[^=]*+=.*[0-9}])\s*+\((?P<unit>[^()=0-9]{1,12})\)\Z", re.DOTALL)


def _without_brackets(text: str) -> str:
    r"""`2\times (8+5)=26(厘米)` -> `2\times (8+5)=26 厘米`: the unit belongs to the last value."""
    found = _UNIT_LAST.match(text) if text.endswith(")") else None
    unit = parse_unit(found["unit"]) if found else None
    return f"{found['sum']} {found['unit'].strip()}" if found and unit else text


def compare_value(
    predicted: str,
    gold: str,
    symbolic: Symbolic,
    question: str | None = None,
    *,
    label: bool = False,
) -> Decision:
    """A value, alone or in a sentence, against a truth that is one; expects cleaned texts.
    `label`: the truth is a range or another name in figures, and no sum.

    What a sentence says must be read for certain, or else it is undecided where the truth stands in
    it. The unit and scale that the question names belong to a truth without them.
    """
    p, g = (plain(spoken(side)).rstrip(" .;,") for side in (predicted, gold))
    p, g = _without_brackets(without_cases(p)), without_cases(g)
    if not g:
        return yes("exact") if predicted == gold else no("text", "differs")
    if compact(p) == compact(g):
        return yes("latex")
    if {p, g} in ({"R", REALS}, {"no solution", "\\emptyset"}):
        return yes("phrase")
    if has_words(g) and not is_value(g) and not _is_mathematical(g):
        return _in_words(p, g, question)
    if question and names_another(p, question):
        return unknown("name", "the question asks for another value")
    if question and is_ratio(g) and is_reversed(p, plain(question)):
        return unknown("ratio", "the other way round")
    if label and compare_labels(p, g).equal:
        return yes("label")
    said = value_said(p, question) if is_sentence(p, g) else p
    if said is None:
        return unread(p, g)
    if label:
        return compare_labels(said, g) if said != f"{g} years" else yes("label")
    decision = _as_asked(said, g, symbolic, question)
    if decision.equal:
        return decision
    if said is p:
        more = _with_more(p, g) if decision.equal is False else None
        return _last_side(p, g, symbolic, question) or more or decision
    if decision.equal is False and holds(p, g):
        return unknown("words", "the truth stands beside what is said")
    return decision


def _result(p: str) -> str:
    """`18` of `30-12 = 18`, where all sides are one value."""
    sides = split_relation(p)[0]
    same = all(_is_one(left, right) for left, right in pairwise(sides))
    return sides[-1] if len(sides) > 1 and same else p


_PART = re.compile(
    r"[()=,;]|\\(?:to|approx|Rightarrow|implies|therefore)(?![a-zA-Z])|=>|\s(?:or|i\.e\.)\s"
)


def _with_more(p: str, g: str) -> Decision | None:
    """Undecided where an answer has the truth as one of its parts, and is no list of values: `54 (6
    x 9)`, `2x = 6, x = 3`, `No. 7`; or differs from it in case and dashes only."""
    node = parse(p)
    values = node.kind != "expression" and all(parse_quantity(item) for item in node.items)
    values = values and not re.search(r"\b(?:about|approx\w*|roughly)\b", p)
    parts = [part.strip() for part in _PART.split(p)] if not values else []
    same = len(parts) > 1 and any(part and _is_one(part, g) for part in parts)
    numbered = re.match(r"[A-Za-z]{1,4}[.:]?\s*#?\s*[-0-9.]+\Z", p) and holds(p, g)
    spelling = re.fullmatch(r"[A-Za-z/ .-]+", p + g) and normalise(p) == normalise(g)
    if same or numbered or spelling or (len(parts) > 1 and _sides(parts, g)):
        return unknown("structure", "the truth is a part of the answer")
    return None


def _is_one(part: str, g: str) -> bool:
    said, truth = parse_quantity(part), parse_quantity(g)
    if said and truth and said.number and truth.number:
        return said.number.value == truth.number.value
    return compact(part) == compact(g)


def _sides(parts: list[str], g: str) -> bool:
    """Whether the last parts are a relation that the truth is: `x = 7` of `4x = 28, x = 7`."""
    name, _, value = g.rpartition("=")
    return bool(name) and [name.strip(), value.strip()] == parts[-2:]


_NO_SUM = re.compile(r"[¤$°]|\\(?=[%$])")
"""What sums of money and angles have beside their numbers."""


def _last_side(p: str, g: str, symbolic: Symbolic, question: str | None) -> Decision | None:
    r"""`$2 + $4 = $6`, `G+J = 6`: right where the left side comes to the truth or the question
    names it, else undecided; None where the last side is not the truth."""
    sides, operators = split_relation(p)
    if (
        not operators
        or split_relation(g)[1]
        or not _as_asked(sides[-1], g, symbolic, question).equal
    ):
        return None
    shown, truth = evaluate(_NO_SUM.sub("", sides[0]).replace("%", "/100")), parse_quantity(g)
    if set(operators) == {"="} and truth and truth.number and truth.number.value == shown:
        return yes("chain")
    name, asked = compact(sides[0]), compact(plain(question or ""))
    if set(operators) == {"="} and len(name) > 1 and name in asked:
        return yes("named")
    return unknown("chain", "the truth is the last side of a relation")


def _is_mathematical(g: str) -> bool:
    """Whether a truth with words is a list or relation of values, as `x=2 or x=3`."""
    return bool(split_relation(g)[1]) or all(
        parse_quantity(item) or split_relation(item)[1] for item in parse(g).items
    )


def _in_words(p: str, g: str, question: str | None) -> Decision:
    """The truth is language: its wording counts."""
    if normalise(p) == normalise(g) or _sequence(p) == _sequence(g) or says(p, g, question):
        return yes("text")
    numbers = _numbers(g)
    if (
        holds(p, g)
        or holds(g, p)
        or (numbers and numbers <= _numbers(p))
        or sorted(_sequence(p)) == sorted(_sequence(g))
    ):
        return unknown("words", "the truth is a sentence, and not every word of it is the same")
    return no("text", "differs")


def unread(p: str, g: str) -> Decision:
    """No word makes an answer wrong: it is where the truth stands nowhere in it."""
    clock = is_ratio(g) and re.search("[点时]", p)
    parts = set[Fraction]() if parse_quantity(g) else _numbers(g)
    if clock or holds(p, g) or (parts and parts <= _numbers(p)):
        return unknown("words", "not every word beside the value is the question's or neutral")
    return no("words", f"{p[:40]!r} does not say {g[:40]!r}")


def _as_asked(p: str, g: str, symbolic: Symbolic, question: str | None) -> Decision:
    """With the unit and scale that the question asks for."""
    names_scale, p = p, _result(without_asked_scale(p, g, question))
    quantity_p, quantity_g = (parse_quantity(side) for side in (p, g))
    if quantity_p and quantity_g:
        if drops_scale(names_scale, quantity_p, quantity_g, question):
            return unknown("scale", "the answer leaves out the scale that the question asks for")
        scaled = as_asked(quantity_p, quantity_g, question)
        asked = compare_as_asked(scaled, quantity_g, question, symbolic)
        return asked or compare_quantities(scaled, quantity_g, symbolic)
    inner = [parse_quantity(split_relation(side)[0][-1]) for side in (p, g)]
    if inner[0] and inner[1]:
        asked = compare_as_asked(inner[0], inner[1], question, symbolic)
        if asked is not None and asked.equal is False:
            return asked  # t = 6 minutes, asked in seconds
    return compare_math(p, g, symbolic, question)


def compare_anls(
    predicted: str, gold: str, symbolic: Symbolic, question: str | None = None
) -> Decision:
    """Two readings of a document; expects cleaned texts.

    A similarity of 0.5, the threshold of ANLS (arXiv 1905.13648), takes "South Carolina" for
    "North Carolina", and one telephone number for another. Here digits must be the same, and every
    word the same but for a slip of spelling, which is much more alike.
    """
    decision = compare_text(predicted, gold, symbolic, question)
    if decision.equal or decision.rule in ("number", "unit", "yes_no", "time", "ratio"):
        return decision
    left, right = (normalise(side).replace("rn", "m") for side in (predicted, gold))
    if _letters(predicted) == _letters(gold) and _letters(gold):
        return yes("anls", "differs in blanks and punctuation only")
    if decision.equal is None:
        return decision
    if left != right and _DRESS_OF_DIGITS.sub("", left) == _DRESS_OF_DIGITS.sub("", right):
        return unknown("anls", "other marks, or zeros in front")
    if _digits(left) != _digits(right):
        return no("digits", "the digits differ")
    if len(left.split()) != len(right.split()):
        return no("anls", "words are missing or added")
    pairs = [*zip(left.split(), right.split(), strict=True)]
    if all(_same_word(a, b) for a, b in pairs):
        return yes("anls", "a slip of spelling")
    if all(OSA.distance(a, b) <= (len(a) > 4) for a, b in pairs):
        return unknown("anls", "a slip of spelling, or another name")
    return no("anls", "another word")


def _digits(text: str) -> str:
    return re.sub(r"[^0-9]", "", text)


def _letters(text: str) -> str:
    """What is left without blanks and punctuation; points within numbers and operators stay."""
    return re.sub(
        r"(?<![0-9])[.,:]|[.,:](?![0-9])|[;!?'\"()\[\]`]|(?<![0-9])_(?![0-9])|\s"
        r"|(?:-(?![0-9])|(?<=\w)-)(?!\S*\.[a-z]{2,4}\b)",
        "",
        text.casefold(),
    )


def _same_word(left: str, right: str) -> bool:
    """Equal, or one slip in a word of ten letters or more that begins and ends alike.

    Shorter words, first letters (un-, non-, North, South) and endings (-s, -ed) carry meaning:
    Johnson is not Johnston. Each Chinese character is a word of its own.
    """
    long = min(len(left), len(right)) > 9 and (left + right).isalpha() and (left + right).isascii()
    alike = left[:2] == right[:2] and left[-1] == right[-1]
    return left == right or (long and alike and OSA.distance(left, right) == 1)
