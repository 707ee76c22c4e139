"""Units, kept apart from the mathematics: what they measure and by how much.

    parse_unit("km/h")   -> Unit({"length": 1, "time": -1}, 5/18)
    parse_unit("apples") -> Unit of an unknown kind, comparable by name only

Two known units fit if they measure the same; their ratio is exact. A unit that only one side
names is no contradiction ("10 weeks" answers "how many weeks?" as well as "10" does).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from mmpr_builder.scoring.clean import words

Dimension = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """`dimension` is empty for an unknown unit, which is then known by `name` only."""

    name: str
    dimension: Dimension = ()
    factor: Fraction = Fraction(1)


_INCH = Fraction(254, 10000)
_POUND = Fraction(45359237, 10**8)
# kind: (spellings, size in the kind's base unit). Spellings of one or two letters are
# case-sensitive (m is no M), longer ones are not.
_TABLE: dict[str, list[tuple[str, Fraction | int]]] = {
    "length": [
        ("nm nanometer nanometers", Fraction(1, 10**9)),
        ("um \\mum micrometer micrometers micron microns", Fraction(1, 10**6)),
        ("mm millimeter millimeters millimetre millimetres 毫米", Fraction(1, 1000)),
        ("cm centimeter centimeters centimetre centimetres 厘米", Fraction(1, 100)),
        ("dm decimeter decimeters 分米", Fraction(1, 10)),
        ("m meter meters metre metres 米", 1),
        ("km kilometer kilometers kilometre kilometres 千米 公里", 1000),
        ("in inch inches 英寸", _INCH),
        ("ft foot feet 英尺", 12 * _INCH),
        ("yd yds yard yards 码", 36 * _INCH),
        ("mi mile miles 英里", 63360 * _INCH),
    ],
    "area": [("acre acres", Fraction(40468564224, 10**7)), ("hectare hectares ha 公顷", 10**4)],
    "volume": [
        ("mL ml milliliter milliliters millilitre millilitres 毫升", Fraction(1, 10**6)),
        ("L l liter liters litre litres 升", Fraction(1, 1000)),
        ("gal gallon gallons", Fraction(231) * _INCH**3),
    ],
    "mass": [
        ("mg milligram milligrams 毫克", Fraction(1, 10**6)),
        ("g gram grams 克", Fraction(1, 1000)),
        ("kg kilogram kilograms kgs 千克 公斤", 1),
        ("t ton tons tonne tonnes 吨", 1000),
        ("lb lbs pound pounds 磅", _POUND),
        ("oz ounce ounces", _POUND / 16),
    ],
    "time": [
        ("ms millisecond milliseconds 毫秒", Fraction(1, 1000)),
        ("s sec secs second seconds 秒 秒钟", 1),
        ("min mins minute minutes 分钟 分", 60),
        ("h hr hrs hour hours 小时 时", 3600),
        ("day days 天 日", 86400),
        ("week weeks 周 星期", 604800),
    ],
    "months": [("month months 个月", 1), ("year years yr yrs 年 岁", 12)],
    "angle": [("° degree degrees deg degs 度", 1)],
    "radians": [("rad radian radians 弧度", 1)],
    "temperature": [("°C celsius 摄氏度", 1)],
    "fahrenheit": [("°F fahrenheit 华氏度", 1)],
    "kelvin": [("K kelvin kelvins", 1)],
    "percent": [("% percent 个百分点", 1)],
    "dollar": [
        ("¤ $ dollar dollars usd US$ US¤ 美元", 1),
        ("¢ \\cent cent cents 美分", Fraction(1, 100)),
    ],
    "euro": [("€ euro euros eur 欧元", 1)],
    "sterling": [("£ gbp 英镑", 1)],
    "yuan": [("¥ 元 yuan rmb cny 人民币 块钱", 1), ("角", Fraction(1, 10))],
    "force": [("N newton newtons 牛 牛顿", 1), ("kN", 1000)],
    "energy": [
        ("J joule joules 焦耳 焦", 1),
        ("kJ kilojoule kilojoules 千焦", 1000),
        ("kcal kilocalorie kilocalories 千卡", 4184),
        ("cal calorie calories 卡路里", Fraction(4184, 1000)),
        ("kWh kilowatt-hours 千瓦时", 3600000),
    ],
    "power": [("W watt watts 瓦 瓦特", 1), ("kW kilowatt kilowatts 千瓦", 1000)],
    "voltage": [("V volt volts 伏 伏特", 1)],
    "current": [("A amp amps ampere amperes 安 安培", 1), ("mA", Fraction(1, 1000))],
    "resistance": [("Ω \\Omega ohm ohms 欧姆 欧", 1)],
    "frequency": [("Hz hertz 赫兹", 1), ("kHz", 1000), ("MHz", 10**6)],
    "pressure": [("Pa pascal pascals 帕", 1), ("kPa", 1000)],
    "amount": [("mol mole moles 摩尔", 1)],
    "speed_mph": [("mph", 1)],
}
# Words that count things say nothing about which: "5个", "5 units".
_GENERIC = frozenset(
    words("""
    unit units item items piece pieces time times
    个 人 名 只 本 张 条 块 次 件 位 种 棵 辆 支 颗 朵 头 匹 座 间 道 题 倍 步 项 组 份 处 点
    """)
)
# These join numbers or hedge; text with them is not "number and unit".
_NO_UNIT = frozenset(
    words("""
    or and to not less more than out of between from am pm none no over under least most
    about plus minus divided equals is are a an the if but by at in on with only both
    either neither unknown undefined nan thousand million billion trillion hundred dozen
    half percentages
    """)
)


def _build() -> dict[str, Unit]:
    known: dict[str, Unit] = {}
    for kind, rows in _TABLE.items():
        for spellings, factor in rows:
            names = spellings.split()
            for name in names:
                key = name if len(name) <= 3 and name != name.lower() else name.lower()
                known[key] = Unit(names[0], _dimension(kind), Fraction(factor))
    return known


def _dimension(kind: str) -> Dimension:
    powers = {"area": ("length", 2), "volume": ("length", 3)}
    return (powers.get(kind, (kind, 1)),)


_KNOWN = _build()
PERCENT = _KNOWN["%"]
_TOKEN = re.compile(
    r"\s*(?:(?P<op>/|\bper\b|\\cdot|\*|·|-(?=[a-zA-Z]))|(?P<shape>square|sq\.?|cubic|cu\.?|平方|立方)"
    r"|(?P<name>°[CF]?|US¤|[%¢€£¥¤Ω]|\\[a-zA-Z]+|[a-zA-Z]+|[\u3400-\u9fff]+))"
    r"(?:\s*\^\s*\{?(?P<power>-?\d)\}?|\s*(?P<power_word>squared|cubed)|(?P<power_digit>[23])(?!\d))?"
)


_NAMED_DEGREES = re.compile(r"degrees?\s+(celsius|fahrenheit|kelvin)", re.IGNORECASE)


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit | None:
    """A unit, or None when the text is none. A unit that is not in the table keeps its name."""
    text = _NAMED_DEGREES.sub(r"\1", text.strip().rstrip("."))
    if not text or len(text) > 60:
        return None
    found = _lookup(text) or _compound(text)
    return found if found is not None else _unknown(text)


def known_unit(text: str) -> Unit | None:
    """A unit of the table (or a product of such), or None."""
    found = parse_unit(text)
    return found if found is not None and found.dimension else None


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


_WORDS = re.compile(r"[A-Za-z]{2,}(?:[ -][A-Za-z]{2,}){0,3}\Z|[\u3400-\u9fff]{1,6}\Z")


def _unknown(text: str) -> Unit | None:
    if not _WORDS.match(text):
        return None
    parts = text.lower().replace("-", " ").split()
    if any(part in _NO_UNIT for part in parts) or (len(parts) == 1 and len(parts[0]) == 2):
        return None
    return Unit(" ".join(_singular(part) for part in parts))


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def is_generic(unit: Unit) -> bool:
    """Whether the unit says nothing ("units", "个")."""
    if unit.dimension:
        return False
    shapes = ("square", "cubic", "平方", "立方")
    return all(part in _GENERIC or part in shapes for part in unit.name.split())


def ratio(predicted: Unit | None, gold: Unit | None) -> Fraction | None:
    """By what a predicted value is multiplied to compare with the gold one; None: no fit."""
    if predicted is None or gold is None or is_generic(predicted) or is_generic(gold):
        return Fraction(1)
    if predicted.dimension and gold.dimension:
        return predicted.factor / gold.factor if predicted.dimension == gold.dimension else None
    if predicted.dimension or gold.dimension:
        return None
    a, b = predicted.name, gold.name
    same = a == b or a in b.split() or b in a.split() or (not a.isascii() and (a in b or b in a))
    return Fraction(1) if same else None
