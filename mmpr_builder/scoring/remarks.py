"""What stands beside a value and does not change it.

12, because 3 x 4 = 12        1/2 (0.5)        36 (thirty-six)        64 (units)
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.decision import no
from mmpr_builder.scoring.quantity import compare_quantities, parse_quantity
from mmpr_builder.scoring.units import parse_unit

_EXPLANATION = re.compile(
    r"\s*(?:[,;]\s*|\(\s*|\s(?=because|since|due))(?:because|since|due to|as\s|i\.e|rounded|which"
    r"|where|so\s|given|or\s+about|approximately|about|approx|\\approx|因为|由于|约|即).*\Z",
    re.DOTALL | re.IGNORECASE,
)


def without_explanation(text: str) -> str | None:
    """`12, since 3 x 4 = 12` -> `12`; None where nothing is explained."""
    shorter = _EXPLANATION.sub("", text)
    return shorter if shorter and shorter != text else None


_RESTATED = re.compile(r"(?P<value>.*\S)\s*(?:\((?P<in>[^()]+)\)|\s(?:or|i\.e\.)\s+(?P<or>.+))\Z")


_REMARK = re.compile(  # words in brackets behind a number, unless they are a second thought
    r"(?!.*\\[a-z])(?!.*\b(?:or|not|but|mod|base|plus|minus|about|to)\b|.*(?:或|不|至|进制))(?=.*(?:[A-Za-z]{3}|[\u3400-\u9fff]))",
    re.IGNORECASE | re.DOTALL,
)


_WORKING = re.compile(r"\\times|\\cdot|\\div|\*")


def without_restatement(p: str) -> str | None:
    """`1/2 (0.5)`, `36 (thirty-six)`, `1/2 or 50%` -> the first: both must be one value."""
    found = _RESTATED.match(p) if "(" in p or " or " in p or "i.e." in p else None
    if not found:
        return None
    first, again = parse_quantity(found["value"]), parse_quantity(found["in"] or found["or"])
    if first is None or first.number is None:
        return None
    if found["in"] and _WORKING.search(found["in"]) and parse_quantity(found["in"]) is not None:
        return f"{found['value']} = {found['in']}"  # 54 (6 x 9)
    if first.unit is None and found["in"] and parse_unit(found["in"]):
        return f"{found['value']} {found['in']}"  # 64 (units)
    if found["in"] and _REMARK.match(found["in"]):
        return found["value"]
    if again is None or again.number is None:
        return None
    same = compare_quantities(first, again, lambda query: no("symbolic"))
    return found["value"] if same.equal and first.number.value != 1 else None
