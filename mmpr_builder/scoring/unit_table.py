"""The units that are known, as data: what each measures and its size in the kind's base unit.

Spellings of one or two letters and those with a metric prefix are case-sensitive (m is no M), all
others are not. Words that only count ("5个", "5 units") are listed here too.
"""

from __future__ import annotations

from fractions import Fraction

from mmpr_builder.scoring.clean import words
from mmpr_builder.scoring.currency import currency_spellings

_INCH = Fraction(254, 10000)
_POUND = Fraction(45359237, 10**8)
TABLE: dict[str, list[tuple[str, Fraction | int]]] = {
    "length": [
        ("nm nanometer nanometers nanometre nanometres 纳米", Fraction(1, 10**9)),
        ("um \\mum micrometer micrometers micron microns 微米", Fraction(1, 10**6)),
        ("mm millimeter millimeters millimetre millimetres 毫米", Fraction(1, 1000)),
        ("cm centimeter centimeters centimetre centimetres cms 厘米 公分", Fraction(1, 100)),
        ("dm decimeter decimeters decimetre decimetres 分米", Fraction(1, 10)),
        ("m meter meters metre metres 米", 1),
        ("km kilometer kilometers kilometre kilometres kms 千米 公里", 1000),
        ("in inch inches 英寸", _INCH),
        ("ft foot feet 英尺", 12 * _INCH),
        ("yd yds yard yards 码", 36 * _INCH),
        ("mi mile miles 英里", 63360 * _INCH),
    ],
    "area": [
        ("acre acres 英亩", Fraction(40468564224, 10**7)),
        ("hectare hectares ha 公顷", 10**4),
        ("sqm", 1),
        ("亩", Fraction(2000, 3)),
    ],
    "volume": [
        ("mL ml milliliter milliliters millilitre millilitres cc 毫升", Fraction(1, 10**6)),
        ("cL cl centiliter centiliters centilitre centilitres", Fraction(1, 10**5)),
        ("L l liter liters litre litres 升", Fraction(1, 1000)),
        ("gal gallon gallons 加仑", Fraction(231) * _INCH**3),
        ("qt quart quarts", Fraction(231, 4) * _INCH**3),
        ("pint pints", Fraction(231, 8) * _INCH**3),
    ],
    "mass": [
        ("mg milligram milligrams 毫克", Fraction(1, 10**6)),
        ("g gram grams 克", Fraction(1, 1000)),
        ("kg kilogram kilograms kgs kilo kilos 千克 公斤", 1),
        ("t ton tons tonne tonnes 吨", 1000),
        ("lb lbs 磅", _POUND),
        ("pound pounds", _POUND),
        ("oz ounce ounces 盎司", _POUND / 16),
        ("斤", Fraction(1, 2)),
    ],
    "time": [
        ("ms millisecond milliseconds 毫秒", Fraction(1, 1000)),
        ("s sec secs second seconds 秒 秒钟", 1),
        ("min mins minute minutes 分钟 分", 60),
        ("h hr hrs hour hours 小时 时 个小时", 3600),
        ("day days 天 日", 86400),
        ("week weeks wk wks 周 星期 个星期", 604800),
    ],
    "months": [("month months 个月", 1), ("year years yr yrs 年 岁 周岁", 12)],
    "angle": [("° degree degrees deg degs 度", 1)],
    "radians": [("rad rads radian radians 弧度", 1)],
    "temperature": [("°C celsius 摄氏度", 1)],
    "fahrenheit": [("°F fahrenheit 华氏度", 1)],
    "kelvin": [("K kelvin kelvins 开尔文", 1)],
    "percent": [("% percent pct percentage-point percentage-points 个百分点 百分点", 1)],
    "dollar": [
        ("¤ $ dollar dollars usd US$ US¤ 美元", 1),
        ("¢ \\cent cent cents 美分", Fraction(1, 100)),
    ],
    "euro": [("€ euro euros eur 欧元", 1)],
    "sterling": [("£ gbp quid 英镑", 1), ("pence", Fraction(1, 100))],
    "yuan": [
        ("元 yuan rmb cny 人民币 块钱", 1),
        ("角 毛", Fraction(1, 10)),
    ],
    "yuan_or_yen": [("¥", 1)],
    "yen": [("yen jpy 日元 日圆", 1)],
    "byte": [("byte bytes 字节", 1)],
}
# Symbol, spellings, kind, size: these take metric prefixes.
_METRIC: tuple[tuple[str, str, str, Fraction | int], ...] = (
    ("N", "newton newtons 牛 牛顿", "force", 1),
    ("J", "joule joules 焦耳 焦", "energy", 1),
    ("cal", "calorie calories 卡路里 卡", "energy", Fraction(4184, 1000)),
    ("Wh", "watt-hour watt-hours 瓦时", "energy", 3600),
    ("eV", "electronvolt electronvolts", "electronvolt", 1),
    ("W", "watt watts 瓦 瓦特", "power", 1),
    ("V", "volt volts 伏 伏特", "voltage", 1),
    ("A", "amp amps ampere amperes 安 安培", "current", 1),
    ("Ω", "ohm ohms 欧姆 欧 \\Omega", "resistance", 1),
    ("Hz", "hertz 赫兹 赫", "frequency", 1),
    ("Pa", "pascal pascals 帕 帕斯卡", "pressure", 1),
    ("mol", "mole moles 摩尔", "amount", 1),
    ("C", "coulomb coulombs 库仑 库", "charge", 1),
    ("F", "farad farads 法拉", "capacitance", 1),
    ("H", "henry henries 亨利", "inductance", 1),
    ("T", "tesla teslas 特斯拉", "flux_density", 1),
    ("Wb", "weber webers 韦伯", "flux", 1),
    ("s", "", "time", 1),
    ("B", "", "byte", 1),
)
_PREFIXES: tuple[tuple[str, str, str, Fraction | int], ...] = (
    ("p", "pico", "皮", Fraction(1, 10**12)),
    ("n", "nano", "纳", Fraction(1, 10**9)),
    ("u", "micro", "微", Fraction(1, 10**6)),
    ("\\mu", "", "", Fraction(1, 10**6)),
    ("m", "milli", "毫", Fraction(1, 1000)),
    ("h", "hecto", "百", 100),
    ("k", "kilo", "千", 1000),
    ("M", "mega", "兆", 10**6),
    ("G", "giga", "吉", 10**9),
)
WEAK = frozenset("CFHTB")
"""Symbols that end so are names of variables as often (kT): units only where they stand apart."""

GENERIC = frozenset(
    words("""
    unit units item items piece pieces time times
    个 個 人 名 只 本 张 条 块 次 件 位 种 棵 辆 支 颗 朵 头 匹 座 间 道 题 倍 步 项 组 份 处 点
    单位 枚 根 粒 盒 袋 瓶 杯 盏 面 把 艘 架 台 幅 页 层 排 行 列 对 双 套 号
    """)
)
# These join numbers or hedge; text with them is not "number and unit".
NO_UNIT = frozenset(
    words("""
    or and to not less more than out of between from am pm none no over under least most
    about plus minus divided equals is are a an the if but by at in on with only both
    either neither unknown undefined nan thousand million billion trillion hundred dozen
    half percentages squared cubed multiplied halves doubled tripled halved twice added subtracted
    raised mod modulo above below beyond within near else maybe perhaps possibly probably could
    might instead wrong incorrect bigger larger smaller greater fewer higher lower negative
    factorial
    """)
)


def spellings() -> dict[str, tuple[str, str, Fraction]]:
    """Spelling -> (name, kind, size). The name is the same for all spellings of a unit."""
    known: dict[str, tuple[str, str, Fraction]] = {}
    for kind, rows in TABLE.items():
        for names, size in rows:
            _add(known, names.split(), names.split()[0], kind, Fraction(size))
    for symbol, names, kind, size in _METRIC:
        _add(known, [symbol, *names.split()], symbol, kind, Fraction(size))
        for short, long, chinese, times in _PREFIXES:
            value = Fraction(size) * times
            known.setdefault(short + symbol, (short + symbol, kind, value))
            for name in names.split():
                prefix = long if name.isascii() else chinese
                if prefix and name.isalpha():
                    known.setdefault(prefix + name, (short + symbol, kind, value))
                elif name == "\\Omega":
                    known.setdefault(short + name, (short + symbol, kind, value))
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
