r"""What stands beside a value and does not change it.

12, because 3 x 4 = 12        1/2 (0.5)        36 (thirty-six)        64 (units)
2\sqrt{3}, or about 3.46      -> both, as a chain that the caller checks
"""

from __future__ import annotations

import re

from mmpr_builder.scoring.decision import no
from mmpr_builder.scoring.quantity import Quantity, compare_quantities, parse_quantity
from mmpr_builder.scoring.sentence import is_subject, may_change
from mmpr_builder.scoring.units import is_generic, parse_unit

_BEFORE = r"(?P<value>.*?\S)\s*(?:[,;]\s*|\(\s*|\s(?=because|since|due))"
_REASON = re.compile(
    _BEFORE + r"(?P<why>(?:because|since|due to|as\s|i\.e|rounded|which|where|so\s|given"
    r"|因为|由于|即).*)\Z",
    re.DOTALL | re.IGNORECASE,
)
_ABOUT = re.compile(
    _BEFORE
    + r"(?:or\s+)?(?:about|approximately|approx\.?|\\approx|约为?)\s*(?P<again>[^()]+?)\)?\Z",
    re.DOTALL | re.IGNORECASE,
)
_SUPPORTS = re.compile(r"because|since|due to|given|因为|由于|即|i\.e", re.IGNORECASE)
_RESTATED = re.compile(r"(?P<value>.*\S)\s*(?:\((?P<in>[^()]+)\)|\s(?:or|i\.e\.)\s+(?P<or>.+))\Z")
_WORKING = re.compile(r"\\times|\\cdot|\\div|\*")
_PRODUCT = re.compile(r"([\w.]+) (?:times|multiplied by) ([\w.]+)")
_WORDS = re.compile(r"[A-Za-z]{3}|[\u3400-\u9fff]")


def without_explanation(text: str) -> str | None:
    """`12, since 3 x 4 = 12` -> `12`; None where nothing is explained.

    A reason may say what the answer is not ("since it is not 13"), other clauses may not.
    """
    about = _ABOUT.match(text)
    if about and parse_quantity(about["again"]) is not None:
        return rf"{about['value']} \approx {about['again']}"
    found = _REASON.match(text)
    if not found or not (_SUPPORTS.match(found["why"]) or not may_change(found["why"])):
        return None
    return str(found["value"])


def without_restatement(p: str) -> str | None:
    """`1/2 (0.5)`, `36 (thirty-six)`, `1/2 or 50%` -> the first: both must be one value."""
    found = _RESTATED.match(p) if "(" in p or " or " in p or "i.e." in p else None
    if not found:
        return None
    first, again = parse_quantity(found["value"]), parse_quantity(found["in"] or found["or"])
    if first is None or first.number is None:
        return None
    if found["in"]:
        shorter = _with_remark(found["value"], found["in"], first)
        if shorter is not None:
            return shorter
    if again is None or again.number is None:
        return None
    same = compare_quantities(first, again, lambda query: no("symbolic"))
    return str(found["value"]) if same.equal and first.number.value != 1 else None


def _with_remark(value: str, remark: str, first: Quantity) -> str | None:
    """A value with the words or the working in brackets behind it, as one text."""
    if _WORKING.search(remark) and parse_quantity(remark) is not None:
        return f"{value} = {remark}"  # 54 (6 x 9)
    product = _PRODUCT.fullmatch(remark)
    factors = [parse_quantity(part) for part in product.groups()] if product else []
    heads = [str(f.number.value) for f in factors if f is not None and f.number is not None]
    if len(heads) == 2:
        return rf"{value} = ({heads[0]}) \cdot ({heads[1]})"  # 21 (seven times three)
    if "\\" in remark:
        return None
    unit = parse_unit(remark)
    if first.unit is None and unit is not None and (unit.dimension or is_generic(unit)):
        return f"{value} {remark}"  # 64 (units)
    return value if _WORDS.search(remark) and is_subject(remark) else None
