"""Quantities in two or three steps: `2 h 30 min`, `5 ft 6 in`, `35°15'`, `3元5角`.

parse_compound("2小时30分钟")  -> (5/2, hours)
"""

from __future__ import annotations

import re
from fractions import Fraction

from mmpr_builder.scoring import units
from mmpr_builder.scoring.number import NUMBER, parse_number
from mmpr_builder.scoring.units import Unit

_STEP = re.compile(
    rf"\s*(?:and\s+|,\s*)?(?P<number>{NUMBER})\s*(?P<unit>°|''|[\"']|[A-Za-z]+\.?|[\u3400-\u9fff]{{1,2}})"
)
_ARC = {
    **dict.fromkeys(("'", "分", "min", "minutes", "arcmin"), Fraction(1, 60)),
    **dict.fromkeys(("''", '"', "秒", "sec", "seconds", "arcsec"), Fraction(1, 3600)),
}
_MAX_CHARS = 60


def parse_compound(text: str) -> tuple[Fraction, Unit] | None:
    """(value, unit of the first step), or None. Steps get smaller, none fills the one before."""
    if len(text) > _MAX_CHARS or sum(char.isdigit() for char in text) < 2:
        return None
    negative = text.startswith("-")
    at, first, total, before = int(negative), None, Fraction(0), None
    while at < len(text):
        step = _STEP.match(text, at)
        number = parse_number(step["number"]) if step else None
        if step is None or number is None:
            return None
        minutes = step["unit"] == "m" and first is not None and first.name == "h"
        unit = units.known_unit("min" if minutes else step["unit"])
        if first is not None and first.name == "°":
            unit = (
                Unit("arc", first.dimension, _ARC[step["unit"]]) if step["unit"] in _ARC else None
            )
        if unit is None or (first is not None and unit.dimension != first.dimension):
            return None
        value = number.value * unit.factor
        if before is not None and value >= before:
            return None
        first, before, total, at = first or unit, unit.factor, total + value, step.end()
    if first is None or before == first.factor:
        return None
    return (-total if negative else total) / first.factor, first
