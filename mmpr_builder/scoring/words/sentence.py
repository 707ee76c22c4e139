"""What a sentence says, read from the words of its question.

    value_said("Kim pays $9 for 3 apples.", "How much does Kim pay for 3 apples?")    -> "$9"
    value_said("Half of it is $9.", "How much does Kim pay for 3 apples?")            -> None
    says("The umbrella is blue", "blue", "What colour is the umbrella?")              -> True

Beside the value may stand words of the question, inflected, its other numbers as given, and words
that only hold a sentence together. Any other word may change what is said: then nothing is read,
and the answer is neither right nor wrong. A Chinese answer is the clause that asks with its gap
filled, from which parts may be left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from mmpr_builder.scoring.clean import lemma, normalise_characters, squeezed, words
from mmpr_builder.scoring.latex import CURRENCY, has_chinese, plain
from mmpr_builder.scoring.numbers.number import ENGLISH, PARTS, SCALES, parse_number, parse_words
from mmpr_builder.scoring.numbers.quantity import COMPOUND_ZH, parse_compound
from mmpr_builder.scoring.numbers.readings import DATE_IN_TEXT
from mmpr_builder.scoring.numbers.table import GENERIC, money_behind
from mmpr_builder.scoring.numbers.units import known_unit, unit_length, unit_zh

_MAX_CHARS, _MAX_TOKENS = 600, 80
_DETERMINERS = frozenset(words("the a an this that these those his her its their my our your"))
_PREPOSITIONS = frozenset(words("of in on at for with by to from into during as and"))
_COPULAS = frozenset(words("is are was were be been being equals"))
FUNCTION = frozenset(
    words("""
    it he she they we i you him them us there here which who whom has have had having do does did
    will would should so thus hence therefore then finally total altogether together overall
    answer solution result value number amount exactly mr mrs ms dr about approximately approx
    around roughly see count must can located it's that's there's
    """)
).union(_DETERMINERS, _PREPOSITIONS, _COPULAS)
"""Words that hold a sentence together and leave a value as it is."""
CHANGING = frozenset(
    words("""
    not cannot no never none nothing neither nor without except but unless or either maybe perhaps
    possibly could might may if instead rather though although however than more most less least few
    fewer half halves twice thrice double triple squared cubed times multiplied divided minus plus
    negative root opposite inverse reciprocal over under above below exceed within through up down
    off away out per each every only until before since next last previous almost nearly short other
    others another bound always both wrong incorrect false left dozen pair couple everyone larger
    smaller higher lower longer shorter after when while between
    """)
)
"""Words that may say another value than the one beside them. They leave it as it is only where the
sentence that asks has them, too."""
_SUBORDINATE = frozenset(words("after when while if because since as"))
"""These begin an aside, which may say what the question gives."""
_KEPT = frozenset(words("not no never without except other another"))
"""What sets a thing apart from others of its kind: no answer leaves it out and means the same."""
_PARTICLES = frozenset(words("out up off away down through left last next"))
_GLOSS = frozenset(words("with which who where whose as because since having"))
_PERSONS = frozenset(words("he she they his her him their"))
_NO_NAMES = (
    FUNCTION | CHANGING | frozenset(words("how many much what which when where find calculate"))
)
_AUXILIARY = frozenset(
    words("do does did will would can could must should has have had is are was were that which")
).union(_PERSONS, words("i you we it there"))
_TALL = frozenset(words("long wide tall high deep thick old"))
_NAME = re.compile(
    r"m?\\(?:angle|triangle|odot|overline|vec|alpha|beta|gamma|theta|lambda|mu|rho|omega|phi)\s?"
    r"(?:[A-Z]{0,4}|[0-9]|\{[A-Z]{1,4}\})\Z|[A-Z]{1,4}'?\Z|[b-hj-zB-HJ-Z](?:_\{?\w{1,3}\}?)?'?\Z"
    r"|[a-zA-Z]\([a-z0-9]\)\Z"
)
_VALUE = re.compile(
    r"(?![0-9]+(?:st|nd|rd|th)\b)[^a-zA-Z]*[0-9∞]|[-+(\[{]*\\[a-zA-Z{]|[-+*/=<>^|√±×÷≈]+\Z|\w*\x00"
)
_HYPHEN = re.compile(r"(?<=[a-z])-(?=[a-z0-9])|(?<=[0-9])-(?=[a-z]{3})", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[a-z0-9)%$°\]}])[.!;]\s++(?=[A-Z])|(?<=\?)\s++|(?<!\s)[^\S\n]*+\n\s*+")
_NOT = re.compile(r"(?<=ca)n't\b|(?<=wo)n't\b|n't\b|(?<=can)not\b")
_CONDITION = re.compile(
    r"\b(?:if|when|since|given that|assuming)\b[^,?]*(?:,|\?|\Z)", re.IGNORECASE
)
_GAP = re.compile(r"\b(?:how(?: many| much)?|what|which|who|where|when)\b(?:'s)?", re.IGNORECASE)
_FIND = re.compile(r"\b(?:find|calculate|compute|determine|solve|evaluate|identify|give)\b", re.I)
_COUNTED = re.compile(r"\b(?:how many|number of)\b")
_IN_PAIR = re.compile(r"(?<=[0-9]),\s+(?=[-0-9., ]*[)\]])")  # (4, 1)
_STRIP = ".,;:!?\"'()*“”"


@dataclass(frozen=True, slots=True)
class Question:
    """An English question. `lemmas`: all its words, `clause`: those of the sentences that ask;
    `orders`: what each of these asks, without conditions, from the gap on; `given`: its numbers
    with what stands behind them; `labels`: with the noun before them, `(pair, 2)`; `rivals`: the
    words beside `or`; `subjects`: whom a pronoun may mean."""

    text: str
    lemmas: frozenset[str]
    clause: frozenset[str]
    orders: tuple[tuple[frozenset[str], tuple[str, ...]], ...]
    subjects: frozenset[str]
    labels: frozenset[tuple[str, str]]
    given: frozenset[tuple[Fraction | None, str]]
    rivals: frozenset[str]


@lru_cache(maxsize=256)
def read_question(question: str | None) -> Question | None:
    """The words of a question's last 2,000 characters; None where there is none."""
    if not question:
        return None
    text = _NOT.sub(" not", plain(question[-2000:]))
    tokens = [_bare(token) for token in _split(text)]
    lemmas = [lemma(token) for token in tokens if token and token not in _DETERMINERS]
    given = frozenset((n, b) for a, b in pairwise([*lemmas, ""]) if (n := _number(a)) is not None)
    choice: set[str] = set()
    for i in (i for i, word in enumerate(lemmas) if word == "or"):
        choice |= {*lemmas[i - 1 : i]} ^ {*lemmas[i + 1 : i + 2]}
    sentences = _SENTENCE.split(text)
    asking = [s for s in sentences if _GAP.search(s) or _FIND.search(s)] or [text]
    sides = (pair for pair in pairwise(lemmas) if pair[0] not in FUNCTION and pair[1].isdigit())
    clause = frozenset(word for sentence in asking for word in _lemmas(sentence))
    return Question(
        text,
        frozenset(lemmas),
        clause,
        tuple(_order(sentence) for sentence in asking),
        _subjects(text, clause),
        frozenset(sides),
        given,
        frozenset(choice) - FUNCTION,
    )


def _subjects(text: str, clause: frozenset[str]) -> frozenset[str]:
    """The name that a question begins with, where it asks about no other one; all names where it
    asks about several."""
    names = [
        word
        for token in _split(text)
        if token[0].isupper() and (word := lemma(_bare(token))) not in _NO_NAMES
    ]
    if clause & {"they", "them", "their", "two", "three"}:
        return frozenset(names)
    return frozenset(names[:1] if clause & _PERSONS or not clause & {*names} else ())


def _lemmas(text: str) -> list[str]:
    return _stems(_bare_all(_split(text)))


def _stems(bare: list[str]) -> list[str]:
    return [word if word == "A" else lemma(word) for word in bare]


def _split(text: str) -> list[str]:
    """`doesn't`, `cannot` and `red-hot` are two words each."""
    if "n't" in text or "cannot" in text:
        text = _NOT.sub(" not", text)
    return (_HYPHEN.sub(" ", text) if "-" in text else text).split()


def _order(sentence: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """What a sentence asks: the nouns of its gap (`how many hours`, `what is the area`), and its
    other words in order, from the gap on; those before it come last."""
    main = _CONDITION.sub(" ", sentence)
    main = main if _GAP.search(main) or _FIND.search(main) else sentence
    gap = _GAP.search(main) or _FIND.search(main)
    at = gap.end() if gap else 0
    asked = re.sub(r"\A(?: (?:is|are|was|were|the|a|an)\b)+", "", main[at:])
    tokens = _split(asked)
    ends = (i for i, t in enumerate(tokens) if _bare(t) in _AUXILIARY or t[0].isupper())
    size = next(ends, len(tokens))
    stems = _stems(_bare_all(tokens))
    rest = [*stems[size:], *_lemmas(main[:at])]
    return frozenset(stems[:size]), tuple(w for w in rest if w not in FUNCTION)


def _bare(token: str) -> str:
    return token.strip(_STRIP).lower()


def _bare_all(tokens: list[str]) -> list[str]:
    """All tokens in lower case; an A that is no article stays apart, and so does A'."""
    bare = [_bare(token) for token in tokens]
    for i, token in enumerate(tokens):
        if "'" in token and re.fullmatch(r"[A-Z]'[.,]?", token):
            bare[i] = token.strip(".,")
        elif token[:1] in _STRIP + "A" and token.strip(_STRIP) == "A" and (i or len(tokens) == 1):
            bare[i] = "A"
    return bare


def _number(token: str) -> Fraction | None:
    token = token.strip("%$" + CURRENCY)
    number = parse_number(token) if token[:1].isdigit() or token in ENGLISH else None
    return number.value if number else None


def value_said(text: str, question: str | None = None) -> str | None:
    """The value of a sentence with its unit, or None where a word may change it.

    Expects `plain` text. Without words it is None too: there is nothing to leave out. Of several
    sentences the last one counts.
    """
    if not 0 < len(text) <= _MAX_CHARS:
        return None
    if has_chinese(text):
        return _value_zh(text, question)
    text = DATE_IN_TEXT.sub(lambda found: "\x00".join(found[0].split()), text.strip(" .!;"))
    text = _IN_PAIR.sub(",", text)
    text = _SENTENCE.split(money_behind(text))[-1]
    tokens = _split(text)
    if not 1 < len(tokens) <= _MAX_TOKENS:
        return None
    values = [i for i in range(len(tokens)) if _is_value(tokens, i)]
    asked = read_question(question) if values else None
    span = _value(tokens, values, asked) if values else None
    if span is None:
        return None
    start, stop = span
    end = stop + unit_length(tokens[start], tokens[stop:])
    if (start, end) == (0, len(tokens)) or not _is_frame(tokens[:start], tokens[end:], asked):
        return None
    return " ".join(tokens[start:end]).rstrip(".,;:!").replace("\x00", " ")


def _is_frame(before: list[str], after: list[str], asked: Question | None) -> bool:
    """Whether all words around a value, which is `#`, leave it as it is."""
    tokens = [*before, "#", *after]
    bare = _bare_all(tokens)
    lemmas, at = _stems(bare), len(before)
    words = [i for i, word in enumerate(bare) if word not in ("", "#", "=")]
    if asked is None:
        if len(before) == 1 + (before[-1:] == ["="]) and before[-1][-1] in ":=":
            return not after and not CHANGING & {*bare, *lemmas}  # Momentum = 5
        return all(_is_known(tokens, bare, lemmas, i) for i in words)
    if bare[at + 1 : at + 2] == ["a"] or not all(_is_given(bare, lemmas, i, asked) for i in words):
        return False  # 12 hours a week
    beside, text = {*bare[max(0, at - 1) : at + 2]} - {"#"}, f" {asked.text.lower()}"
    plurals = {word for word in beside if word[-1:] == "s" and f" {word}" not in text}
    nouns = frozenset[str]().union(*(free for free, _ in asked.orders))
    if not _COUNTED.search(text) and any(word[:-1] in nouns for word in plurals):
        return False  # 12 pages for the page number
    behind = range(at + 1, len(tokens))  # An aside says what the question gives.
    ends = (i for i in behind if tokens[i - 1][-1:] == "," or bare[i] in _SUBORDINATE)
    last = next(ends, len(tokens))
    sides = [[*zip(bare[a:b], lemmas[a:b], strict=True)] for a, b in ((0, at), (at + 1, last))]
    return any(
        _goes_along(sides, {*lemmas}, asked, *order) or _retells(sides, {*lemmas}, asked, *order)
        for order in asked.orders
    )


def _is_given(bare: list[str], lemmas: list[str], i: int, asked: Question) -> bool:
    """Whether a word beside the value is the question's, or only holds the sentence together."""
    word, stem, at = bare[i], lemmas[i], bare.index("#")
    if {word, stem} & CHANGING:
        turns = word not in _PARTICLES and bare[i - 1] not in _DETERMINERS and i < at
        if turns and {*bare[i:at]} <= FUNCTION | CHANGING:  # more than 5
            return False
        return stem in asked.clause or word in _SUBORDINATE
    if (number := _number(word)) is None:
        return word in FUNCTION or stem in asked.lemmas or (word in _TALL and bare[i - 1] == "#")
    noun = next(iter(lemmas[i + 1 :]), "")
    alone = not noun or noun in FUNCTION
    return any(n == number and (b == noun or (alone and not b)) for n, b in asked.given)


Sides = list[list[tuple[str, str]]]
"""The words and lemmas before and behind a value, without those that stand apart."""


def _goes_along(
    sides: Sides, said: set[str], asked: Question, free: frozenset[str], order: tuple[str, ...]
) -> bool:
    """Whether an answer is a clause that asks with its gap filled: its words in its order, on
    either side of the value, and none left out that sets apart."""
    loose = ((FUNCTION | _TALL | asked.subjects | {"", "="}) - {*order}) | free
    for side in sides:
        rest = iter(order)
        stems = (b for a, b in side if not {a, b} & loose and (b in order or _number(a) is None))
        if not all(stem in rest for stem in stems):
            return False
    apart = (_KEPT & {*free, *order}) - said or ("than" in order and "than" not in said)
    return not (apart and said & {*order})


def _retells(
    sides: Sides, said: set[str], asked: Question, free: frozenset[str], order: tuple[str, ...]
) -> bool:
    """Whether an answer is made of the question's words, whatever their order, and has at least
    half of a clause that asks: `Roy has saved $42`, asked how much money Roy has, who saved."""
    asks = {*order, *free}
    own = {*order} - _NO_NAMES or free - _NO_NAMES
    given, numbers = ({_number(word) for word in words} - {None} for words in (asks, said))
    replaced = given and numbers - given  # 8 liters for 100 km, asked for 350 km
    if replaced or CHANGING & (said ^ asks) or "than" in asked.clause:
        return False
    if sides[0] and sides[0][-1][0] in _COPULAS and not free - FUNCTION <= said:
        return False
    return 0 < len(own) <= 2 * len(own & said) and len(said - FUNCTION - {"#", ""}) > 1


def _is_known(tokens: list[str], bare: list[str], lemmas: list[str], i: int) -> bool:
    """Without a question: whether a word can only be the name of a thing."""
    word, before, at = bare[i], bare[i - 1] if i else "", bare.index("#")
    if word in CHANGING or lemmas[i] in CHANGING:
        return False
    if word in FUNCTION or _NAME.match(tokens[i].strip(_STRIP)) or (word in _TALL and i > at):
        return True
    if not word.replace("'", "").isalpha() or lemmas[i] in ENGLISH or word.endswith("ths"):
        return False
    named = before in _DETERMINERS or (i > 1 and bare[i - 2] in _DETERMINERS - {before})
    if i > at:  # 5 red apples on the table
        end = next((j for j in range(i, len(bare)) if bare[j] in FUNCTION), len(bare)) - 1
        plural = bare[end] == "people" or (bare[end][-1] == "s" and lemmas[end] != bare[end])
        things = end - at < 4 and plural and bare[end + 1 : end + 2] != ["of"]
        return (things and before not in _COPULAS) or (named and bare[i - 2] in _PREPOSITIONS)
    return bare[i + 1 : i + 3] != ["of", "#"] and (named or before == "of")  # a quarter of 28


def _value(tokens: list[str], at: list[int], asked: Question | None) -> tuple[int, int] | None:
    """Where the one value of a sentence begins and ends; None with several. `at`: all values."""
    bare = [_bare(token) for token in tokens]
    if len(at) > 1 and asked is not None:
        behind = [*map(lemma, bare[1:]), ""]
        known = {*asked.lemmas, *(number for number, _ in asked.given)}
        new = [i for i in at if not {bare[i], _number(bare[i])} & known]
        at = new or [i for i in at if (_number(bare[i]), behind[i]) not in asked.given] or at
    if asked is not None and _names_another(bare, at[0], asked):
        return None
    start, end = at[0], at[-1] + 1
    if re.match(r"[0-9]+[A-Z]\Z", tokens[start]):
        return None  # track 12A
    if tokens[start] in ("=", "\\approx"):  # the roots are x = 1 and x = 2; Total = 5
        start += -1 if start and _NAME.match(tokens[start - 1]) else 1
    inside = [tokens[i].strip(".,;:") for i in range(start, end) if i not in at]
    joins = [word == "and" or _NAME.match(word) or known_unit(word) for word in inside]
    return (start, end) if start < end and all(joins) else None


_NUMBERED = re.compile(r"\b(?:in|of|on|for|the) (?=(\S+) [0-9]+\s*(?:[?.,;)]|\Z))", re.IGNORECASE)


def _names_another(bare: list[str], at: int, asked: Question) -> bool:
    """Whether an answer is about figure 6, where the question is about figure 4; or about pair 2
    alone, where it compares that with pair 1. `at`: the value, which such a number is not."""
    noun = lemma(bare[at - 1]) if at else ""
    if noun in asked.lemmas and noun not in FUNCTION:
        named = {found[1].lower() for found in _NUMBERED.finditer(asked.text)}
        if {noun, f"{noun}s"} & named:
            return True
    said = {(lemma(a), b) for a, b in pairwise(bare)} & asked.labels
    return len(said) == 1 < len([word for word, _ in asked.labels if word in dict(said)])


def _is_value(tokens: list[str], i: int) -> bool:
    word = _bare(tokens[i])
    if word.removesuffix("s") in PARTS or word in SCALES:  # "two thirds"; "a third side" is none
        return (i > 0 and _is_value(tokens, i - 1)) or word == "half"
    if word and set(word.split("-")) <= ENGLISH.keys():
        return True
    return bool(_VALUE.match(tokens[i])) and not _NAME.match(tokens[i].strip(_STRIP))


def says(text: str, gold: str, question: str | None = None) -> bool:
    """Whether a sentence says a truth in words: `The umbrella is blue`, `It says "stop".`"""
    if not 0 < len(text) <= _MAX_CHARS or not gold:
        return False
    if has_chinese(text):
        return _says_zh(text, gold, question)
    tokens = _split(_SENTENCE.split(text.strip(" .!;"))[-1])
    bare, wanted = _bare_all(tokens), _bare_all(_split(gold))
    places = [i for i in range(len(bare)) if bare[i : i + len(wanted)] == wanted]
    if len(places) != 1 or not len(wanted) < len(tokens) <= _MAX_TOKENS:
        return False  # said twice, or nothing but it
    asked = read_question(question)
    start, end = places[0], places[0] + len(wanted)
    before, after = {*bare[max(0, start - 1) : start]}, {*bare[end:]}
    joined = {*before, *bare[end : end + 1]} & {"and", "or", "then"} or before & _SUBORDINATE
    listed = before - (FUNCTION - {"i"}) and tokens[start - 1][-1] == ","  # I, II and III
    rivals = asked.rivals - {*map(lemma, wanted)} if asked else {*map(lemma, after - FUNCTION)}
    if joined or listed or rivals & {lemma(word) for word in (*bare[:start], *after)}:
        return False
    if asked is not None and _names_another([*bare[:start], *bare[end:]], 0, asked):
        return False
    explained = asked and start and tokens[end - 1][-1] in ",(" and {*bare[end : end + 1]} & _GLOSS
    rest = [] if explained and not CHANGING & after else tokens[end:]  # Seville, with 80,000 people
    return _is_frame(tokens[:start], rest, asked)


# What Chinese sentences say.
_ZH = "\u3400-\u9fff"
_MARKS = "，。；：、,;:!.！ "
_HOLDS = re.compile(
    "因此|所以|综上(?:所述)?|由此可知|可知|最[终后]|正确|答案?|即|也就是|就是|那么|[一总]共|总计|合计"
    "|共计|大约|约|可得|得[到出]?|解得|应该?|等于|[是为有共了则故在叫]|[恰正刚]好|写着|需要?|占|现在|今年"
    rf"|一[个种只条张辆位名座本幅把件棵朵](?=[{_ZH}])|[=:：,，.。;；、 ]"
)
"""Words that hold a sentence together."""
_LEADS = re.compile(r"(?:[是为在叫有共约得:：=]|写着|等于|答案)(?:一[个种只条张辆位名])?\s*\Z")
_CHANGES = re.compile(
    "[不非没无未除超少减加乘倍半折反倒余多比近或至到第以之前后内外下另几双对打错负过弱强够缺欠差百千万亿"
    "成组套每各剩借原左右还离和与一二两三四五六七八九十]|[大小高低早晚]于"
)
"""What may say another value than the one beside it, where there is no question to have it."""
_APART = re.compile("不(?!等式)|[没非未无剩另最余比多少每各半除原真前后被差和与跟及]|其[余他它]")
"""What sets a thing apart from others of its kind: no answer leaves it out and means the same."""
_COMPARES = re.compile("[多少高低大小快慢长短重轻贵]|便宜")
_CLAUSE = re.compile(r"[，。；？！?!;\n]|,(?![0-9])|\.(?![0-9])")
_ASKS = re.compile(
    r"多少|几(?!何)|什么|哪|求|谁|各[有是为]|怎[么样]|如何|写[作出成]|计算|[是为有得约=]\s*+\(?\s*+\)?\s*+\Z"
)
_GAP_ZH = re.compile(
    rf"[(（]\s*[)）]|_{{2,}}|百分之几|几分之几|多少|几|什么[时地]?候?|哪一?[{_ZH}]|谁|怎么样?|\Z"
)
_SPANS = re.compile(
    rf"[^{_ZH}]+(?:(?:或者?|和|与)[^{_ZH}]+)*\Z|[0-9.]+(?::[0-9.]+)+|[(][^(){_ZH}]*[)]"
    rf"|[^{_ZH}，。；：、,;:]*[0-9\\][^{_ZH}，。；：、,;:]*|(?:百分之)?[负零〇一二两三四五六七八九十百千万亿点又分之]+"
)


@lru_cache(maxsize=256)
def _clauses(question: str | None) -> list[tuple[str, str, str]] | None:
    """A Chinese question, with what stands before and behind the gap of each clause that asks."""
    if not question or not has_chinese(question):
        return None
    text = squeezed(plain(normalise_characters(question[-2000:])))
    clauses = [clause for part in _CLAUSE.split(text) if (clause := part.strip())]
    asking = [clause for clause in clauses if _ASKS.search(clause)] or clauses[-1:]
    gaps = [(clause, gap) for clause in asking if (gap := _GAP_ZH.search(clause))]
    return [(text, c[: gap.start()].removeprefix("求"), c[gap.end() :]) for c, gap in gaps]


def _value_zh(text: str, question: str | None) -> str | None:
    """The value of a Chinese sentence: what fills the gap of the clause that asks."""
    text = squeezed(text.strip(_MARKS))
    steps = (found for found in COMPOUND_ZH.finditer(text) if parse_compound(found[0]))
    for found in (*steps, *_SPANS.finditer(text)):
        start = found.end() - len(found[0].lstrip(_MARKS))
        value, unit = found[0].strip(_MARKS), unit_zh(text[found.end() :])
        before, after = text[:start], text[found.end() + len(unit) :]
        numeral = found.re is _SPANS and has_chinese(value) and not re.search(r"[0-9\\]", value)
        counted = unit or not after or after[0] in _MARKS
        if numeral and (not counted or parse_words(value) is None):
            continue  # the 三 of 三角形
        if _fits(before, after, unit, _clauses(question)):
            return re.sub("或者?", " or ", re.sub("[和与]", " and ", value)) + unit
    return None


def _fits(before: str, after: str, unit: str, asked: list[tuple[str, str, str]] | None) -> bool:
    """Whether an answer is a clause that asks with its gap filled. Without a question: a subject
    and the name of what is counted, and nothing that may change the value."""
    if asked is not None:
        return any(_fills(before, after, unit, *clause) for clause in asked)
    leads = not before or _LEADS.search(before)
    subject, thing = _HOLDS.sub("", before), after.strip(_MARKS)
    if _CHANGES.search(subject + thing) or (subject and not leads):
        return False
    return not thing or (bool(unit) and re.fullmatch(f"[{_ZH}]{{1,4}}", thing) is not None)


def _fills(before: str, after: str, unit: str, text: str, head: str, tail: str) -> bool:
    """Whether an answer is this clause of the question with its gap filled."""
    counted = tail[:1] in GENERIC or unit in GENERIC
    if counted and unit and tail and unit not in tail and unit not in "个人名位只种":
        return False  # 页 where it is 字
    compares = "比" in head and head.endswith(before) and _COMPARES.search(before)
    return (bool(compares) or _follows(before, head, text)) and _follows(after, tail)


def _follows(part: str, clause: str, text: str = "") -> bool:
    """Whether a part of an answer goes along a clause, in its order, has no other words and leaves
    out nothing that sets apart. Other words of the question's `text` may stand before it."""
    at = reached = 0
    while at < len(part):
        holds = _HOLDS.match(part, at)
        size = _longest(part, at, clause[reached:])
        if size > (len(holds[0]) if holds else 0):
            found = clause.index(part[at : at + size], reached)
            if _APART.search(clause[reached:found]):
                return False
            reached, at = found + size, at + size
        elif holds:
            at = holds.end()
        elif not reached and (size := _longest(part, at, text)) > 1:
            at += size
            if not clause.startswith(part[at : at + 1] or "\0"):
                return False
        else:
            return False
    if not reached:  # no word of its own: 有5元 is none for 还差多少元
        return not (re.search("[有共总占]", part) and re.search("每|平均|[差剩]", clause))
    return not text or not _APART.search(clause[reached:])


def _longest(part: str, at: int, text: str) -> int:
    """The length of the longest run that begins here and stands in a text."""
    return next((n for n in range(len(part) - at, 0, -1) if part[at : at + n] in text), 0)


def _says_zh(text: str, gold: str, question: str | None) -> bool:
    """Whether a Chinese sentence says a truth in words: 颜色是红色, 这是一个圆."""
    text, gold = squeezed(plain(text)).strip(_MARKS), squeezed(plain(gold))
    if text.count(gold) != 1 or text == gold:
        return False
    before, _, after = (part.strip('"“”') for part in text.partition(gold))
    return _fits(before, "" if after == "的" else after, "", _clauses(question))
