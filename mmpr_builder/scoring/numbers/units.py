"""Units, kept apart from the mathematics: what they measure and by how much.

    parse_unit("km/h")   -> Unit({"length": 1, "time": -1}, 5/18)
    parse_unit("apples") -> Unit of an unknown kind, comparable by name only
    unit_asked_for("How many milliliters are left?")          -> mL
    scale_asked("What was the revenue, in billion dollars?")  -> 1,000,000,000

Two known units fit if they measure the same; their ratio is exact. A unit that only one side
names is no contradiction ("10 weeks" answers "how many weeks?" as well as "10" does).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from mmpr_builder.scoring.latex import CURRENCY
from mmpr_builder.scoring.numbers import table
from mmpr_builder.scoring.numbers.number import ENGLISH, SCALES
from mmpr_builder.scoring.numbers.table import GENERIC, MULTIPLYING, WEAK, spellings

Dimension = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """`dimension` is empty for an unknown unit, which is then known by `name` only."""

    name: str
    dimension: Dimension = ()
    factor: Fraction = Fraction(1)


def _dimension(kind: str) -> Dimension:
    powers = {"area": ("length", 2), "volume": ("length", 3)}
    return (powers.get(kind, (kind, 1)),)


_KNOWN = {
    spelling: Unit(name, _dimension(kind), size)
    for spelling, (name, kind, size) in spellings().items()
}
PERCENT, DEGREE, RADIAN = _KNOWN["%"], _KNOWN["°"], _KNOWN["rad"]
_TOKEN = re.compile(
    r"\s*(?:(?P<op>/|\bper\b|\\cdot|\*|·|-(?=[a-zA-Z]))|(?P<shape>square(?![a-z])|sq\.?|cubic(?![a-z])|cu\.?(?![a-z])|平方|立方)"
    r"|(?P<name>°[CF]?|US¤|[%¢€£¥¤Ω]|\\[a-zA-Z]+|[a-zA-Z]+|[\u3400-\u9fff]+))"
    r"(?:\s*\^\s*\{?(?P<power>-?\d)\}?|\s*(?P<power_word>squared|cubed)|(?P<power_digit>[23])(?!\d))?"
)


_WORDING = [
    (re.compile(pattern, re.IGNORECASE), spelling)
    for pattern, spelling in (
        (r"degrees?\s+(celsius|fahrenheit|kelvin|[CF])\b", r"°\1"),
        (r"°\s*(celsius|fahrenheit|kelvin)", r"\1"),
        (r"\bper\s+cent\b", "percent"),
        (r"\bfl\.?\s*oz\.?|\bfluid\s+ounces?", "floz"),
        (r"\bsq\.\s*(?=[a-z])", "square "),
        (r"\bcu\.\s*(?=[a-z])", "cubic "),
        (r"\bpercentage\s+points?\b|\bpp\b", "%"),
        (r"\b(years?|yrs?|months?|days?|weeks?)(?:\s+old|\s+of\s+age)\b", r"\1"),
        (r"\bms(?=\s*\^\s*\{?-)", "m s"),  # metres per second, not milliseconds
        (r"/\s*\(([^()]*)\)", r"/\1"),  # J/(mol K): all that follows a stroke is below it
        (r"(?<=[\u3400-\u9fff])每(?=[\u3400-\u9fff])", "/"),
        (r"美金", "美元"),
        (r"\b(mph|kph|kmh|kmph)\b", lambda found: f"{'mi' if found[0] == 'mph' else 'km'}/h"),
        (r"W(?:\s*+(?:\\cdot|·|\*|-)\s*+|\s++)h(?![a-zA-Z])", "Wh"),
        (r"\\mu\s*(?=[A-Za-z\\])", "u"),
    )
]
_WORDED = re.compile("|".join(pattern.pattern for pattern, _ in _WORDING), re.IGNORECASE)
ATTACHED_K = "K?"
"""What `300K` has for a unit: kelvins, or thousands."""
_PRIMES = {"'": "ft", "\\prime": "ft", '"': "in", "''": "in"}


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit | None:
    """A unit, or None when the text is none. A unit that is not in the table keeps its name."""
    text = text.strip()
    found = _KNOWN.get(text)
    if found is not None:
        return found
    text = _PRIMES.get(text, text).rstrip(".")
    for pattern, spelling in _WORDING if _WORDED.search(text) else ():
        text = pattern.sub(spelling, text)
    text = table.one_word_dollars(text)
    if not text or len(text) > 60:
        return None
    found = _lookup(text) or _compound(text)
    return found if found is not None else _unknown(text)


def known_unit(text: str) -> Unit | None:
    """A unit of the table (or a product of such), or None."""
    found = parse_unit(text)
    return found if found is not None and found.dimension else None


def attached_unit(text: str) -> Unit | None:
    """What follows a number without a blank: a unit of the table, not the name of a variable."""
    if text == "K":
        return Unit(ATTACHED_K, _KNOWN["K"].dimension)
    weak = text[-1:] in WEAK and len(text) < 3  # the name of a variable as well, as in 3kT
    return None if weak else known_unit(text)


def _lookup(text: str) -> Unit | None:
    found = _KNOWN.get(text)
    if found is None and (len(text) > 2 or not text.isascii()):
        found = _KNOWN.get(text.lower())
    return found


def _compound(text: str) -> Unit | None:
    powers: dict[str, int] = {}
    factor = Fraction(1)
    sign, shape, at = 1, 1, 0
    any_name = False
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or token.end() == at:
            return None
        at = token.end()
        if token["op"]:
            sign = -1 if token["op"] in ("/", "per") else sign
            continue
        if token["shape"]:
            shape = 3 if token["shape"].startswith(("cu", "立")) else 2
            continue
        unit, extra = _named(token["name"])
        if unit is None:
            return None
        word = {"squared": 2, "cubed": 3}.get(token["power_word"] or "", 1)
        power = sign * shape * extra * int(token["power"] or token["power_digit"] or word)
        factor *= unit.factor**power
        for kind, times in unit.dimension:
            powers[kind] = powers.get(kind, 0) + times * power
        shape, any_name = 1, True
    kinds = tuple(sorted((kind, power) for kind, power in powers.items() if power))
    return Unit(text, kinds, factor) if any_name and kinds and shape == 1 else None


def _named(name: str) -> tuple[Unit | None, int]:
    """平方厘米 is written in one word: strip the shape off it."""
    for prefix, power in (("平方", 2), ("立方", 3)):
        if name.startswith(prefix):
            return _lookup(name[2:]), power
    return _lookup(name), 1


_WORDS = re.compile(
    r"(?!(?:and|the|for|but|not|per|are|was|mod)\b)[A-Za-z]{2,}\Z|[\u3400-\u9fff]{1,6}\Z"
    r"|(?:[A-Za-z]{3,}[ -]){1,2}[A-Za-z]{2,}[A-Zabcd-rtv-z]s\Z",
    re.IGNORECASE,
)


_NO_UNIT_ZH = re.compile(  # 60的一半, 60以内, 60多个
    r"的(?:一?半|平方|立方|倒数|相反数|绝对值|[一二两三四五六七八九十]+)|[以之][内外上下前后间]|^[多余]|[不非没或除乘加减]|左右"
    r"|至少|至多"
)
_SHAPES = {"square": 2, "sq": 2, "平方": 2, "cubic": 3, "cu": 3, "立方": 3}


def _unknown(text: str) -> Unit | None:
    if not _WORDS.match(text):
        return None
    parts = text.lower().replace("-", " ").split()
    if _NO_UNIT_ZH.search(text) or (len(text) == 2 and text.isascii()) or parts[0] in ENGLISH:
        return None
    return Unit(" ".join(_singular(part) for part in parts))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def _shape(unit: Unit) -> int:
    """2 for "square units", 3 for 立方单位 and cm^3, 0 where nothing is said of it."""
    return next((power for word, power in _SHAPES.items() if unit.name.startswith(word)), 0)


def is_generic(unit: Unit) -> bool:
    """Whether the unit says nothing ("units", "个")."""
    if unit.dimension:
        return False
    names = unit.name.replace("平方", "").replace("立方", "").split()
    return all(part in GENERIC or part in _SHAPES for part in names)


_AMBIGUOUS = {("pound", "£"), ("C", "°C"), ("F", "°F"), ("°", "°C"), ("°", "°F")}
"""Units of one spelling and two meanings: "pounds", "25 C"."""


def _kind(unit: Unit) -> str:
    """What a unit of one dimension measures: `length`, `MYR`."""
    return unit.dimension[0][0] if len(unit.dimension) == 1 and unit.dimension[0][1] == 1 else ""


def depends_on_country(predicted: Unit | None, gold: Unit | None) -> bool:
    """Whether two signs of money may mean one: `$5` for `S$5`, `SEK 5` for `5 kr`."""
    if predicted is None or gold is None:
        return False
    without_rate = {*predicted.dimension} < {*gold.dimension} and _kind(predicted) in table.MONEY
    return without_rate or table.fits(_kind(predicted), _kind(gold)) is None


def ratio(predicted: Unit | None, gold: Unit | None) -> Fraction | None:
    """By what a predicted value is multiplied to compare with the gold one; None: no fit."""
    if predicted is None or gold is None:
        return Fraction(1)
    if is_generic(predicted) or is_generic(gold):
        money = table.MONEY if "块" not in (predicted.name, gold.name) else ()
        if {_kind(predicted), _kind(gold)} & {_kind(PERCENT), *money}:
            return None  # no share, and no price
        shapes = {_shape(predicted), _shape(gold)} - {0}
        people = {predicted.name, gold.name} & {"人", "名", "位"}
        if people and (predicted.dimension or gold.dimension):
            return None  # 12万元 are no 12万人
        bare = "unit" in (predicted.name, gold.name)  # units are lengths, no square units
        return Fraction(1) if len(shapes) < 2 and not (bare and shapes) else None
    if predicted.dimension and gold.dimension:
        if predicted.dimension == gold.dimension or table.fits(_kind(predicted), _kind(gold)):
            return predicted.factor / gold.factor
        if {*gold.dimension} < {*predicted.dimension} and _kind(gold) in table.MONEY:
            return Fraction(1)  # $140 per week
        names = (predicted.name, gold.name)
        return Fraction(1) if names in _AMBIGUOUS or names[::-1] in _AMBIGUOUS else None
    a, b = predicted.name, gold.name
    same = a == b or a in b.split() or b in a.split() or (not a.isascii() and (a in b or b in a))
    return Fraction(1) if same else None


_ASKS_UNIT = re.compile(
    r"\bhow many ([a-z]+(?: [a-z]+)?)\b|多少(?:个)?([\u3400-\u9fff]{1,4})"
    r"|几(?!分之)([\u3400-\u9fff]{1,4})|(?:[=＝]\s*[(（]\s*[)）]|(?<!_)_{2,}+)\s*([\u3400-\u9fff]{1,4})"
    r"|\bin ((?:(?:square|cubic) )?[a-z]{3,}s|(?:square|cubic) feet|feet|[a-z]+s per [a-z]+)"
    r"\s*(?:[?.,;)]|\Z)",
    re.IGNORECASE,
)
_SHAPED = re.compile(r"(?:square|cubic) units?\Z", re.IGNORECASE)
_IN_SYMBOLS = re.compile(
    r"\bin (?P<unit>°\s?[CF]|℃|℉|degrees? (?:Celsius|Fahrenheit)"
    r"|(?:[mgs]|[a-zµ]{1,3}[A-Z]?[a-z]?)"
    r"(?:\^?[23²³])?(?:/(?:[a-z]{1,3})(?:\^?[23²³])?)?)\s*(?:[?.,;)]|\Z|\b(?:if|when|given)\b)"
)
_NEAREST = re.compile(
    r"\bto the nearest (?P<part>(?:tenth|hundredth|thousandth) of an? )?(?:whole )?"
    r"(?P<unit>[a-z]{2,})\s*(?:[?.,;)]|\Z)",
    re.IGNORECASE,
)
_BEHIND = re.compile(
    r"[(（]\s*+(?:单位\s*+(?:[:：]\s*+)?)?(?P<unit>[\u3400-\u9fff]{1,5}|[a-zA-Z°℃]{1,4}[23²³]?)"
    r"\s*+[)）]\s*+(?:[。.？?]\s*+)?\Z"
)
_SHORT_POWERS = str.maketrans({"²": "2", "³": "3"})


def unit_asked_for(question: str | None, *, whole: bool = True) -> Unit | None:
    """The unit of the table that a question names. `whole`: the truth has no decimals, so that `to
    the nearest inch` can only mean inches (a height in metres may be given to the centimetre)."""
    if not question:
        return None
    question = question[-2000:]
    found = _ASKS_UNIT.search(question)
    unit = _unit_named(next(group for group in found.groups() if group)) if found else None
    if unit is None:
        symbols = _IN_SYMBOLS.search(question) or _BEHIND.search(question)
        unit = known_unit(symbols["unit"].translate(_SHORT_POWERS)) if symbols else None
    if unit is None:
        nearest = _NEAREST.search(question)
        unit = known_unit(nearest["unit"]) if nearest and (whole or nearest["part"]) else None
        if unit is not None and unit.dimension[0][0] not in ("length", "mass", "time", "volume"):
            unit = None  # degrees may be of angles and of temperature, cents of dollars
    return unit


def _unit_named(said: str) -> Unit | None:
    if _SHAPED.match(said):
        return parse_unit(said)
    whole = said.lower().startswith(("square ", "cubic ")) or " per " in said
    ascii_cuts = [said if whole else "", said.split()[0]]
    cuts = ascii_cuts if said.isascii() else [said[:n] for n in range(4, 0, -1)]
    return next((unit for cut in cuts if (unit := known_unit(cut)) is not None), None)


_COUNTED = re.compile(
    r"(?:多少|几)(?:[人名位只本张条件棵辆支颗朵头匹座间道题枚根粒]|个(?![\u3400-\u9fff]?(?:百分|小时|月|星期)))"
    r"|\bhow many (?P<thing>[a-z]+)\b",
    re.IGNORECASE,
)
_SHARE = re.compile(r"%|per ?cent|百分|几分之|fraction", re.IGNORECASE)


def asks_for_count(question: str | None) -> bool:
    """Whether a question asks how many there are of something that is no unit: 有多少人."""
    if not question or _SHARE.search(question[-2000:]):
        return False
    found = _COUNTED.search(question[-2000:])
    if found is None or found["thing"] is None:
        return found is not None
    thing = found["thing"].lower()
    plural = thing.endswith("s") or thing in ("people", "children", "men", "women", "of")
    return plural and known_unit(thing) is None


_SCALE = r"(thousand|million|billion|trillion)s?\b"
_ASKS_SCALE = re.compile(
    rf"(?:\bin|\bhow many|\()\s++(?:(?:[$€£]|us\$|u\.?s\.?|usd|eur|units of)\s*+)?{_SCALE}"
    rf"|\({_SCALE}",
    re.IGNORECASE,
)


def scale_asked(question: str | None) -> int | None:
    """What `in billion dollars` and `how many million` leave out of the value; else None."""
    found = _ASKS_SCALE.search(question[-2000:]) if question else None
    return SCALES[(found[1] or found[2]).lower()] if found else None


def unit_length(value: str, behind: list[str]) -> int:
    """How many of the words behind a value make a known unit; a half of the day is one."""
    for size in range(min(len(behind), 4), 0, -1):
        name = " ".join(behind[:size]).rstrip(".,;:!")
        if name.split()[-1:] == ["in"] and size < len(behind):
            continue  # 44 in 2016: no inches
        unit = parse_unit(name) if value[0] != CURRENCY else None
        known = unit is not None and (unit.dimension or (is_generic(unit) and name.isascii()))
        if known or re.match(r"[ap]\.?m\Z", name, re.IGNORECASE):
            return size
    return 0


def unit_zh(text: str) -> str:
    """The unit or measure word that a text begins with; none for those that multiply, as 双."""
    units = (text[:size] for size in range(min(len(text), 6), 0, -1))
    known = (u for u in units if u not in MULTIPLYING and (u in GENERIC or known_unit(u)))
    return next(known, "")
