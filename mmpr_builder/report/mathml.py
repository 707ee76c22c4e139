r"""LaTeX inside a text -> MathML, which browsers draw by themselves, without a script or a font.

    "so $\frac{1}{2}$ of it"  ->  "so ", ["math", {}, ["mfrac", {}, ["mn", {}, "1"], …]], " of it"

The result is a tree of element names from a fixed list, not markup: whatever a model wrote inside
a formula ends as the text of an element. What cannot be drawn for certain stays as it was written.
"""

from __future__ import annotations

import functools
import re
import xml.etree.ElementTree as ET
from typing import Any

LONGEST = 500
"""Longer formulas stay as they were written."""

FORMULA = re.compile(
    rf"\$\$(?:[^$\\]|\\[\s\S]){{1,{LONGEST}}}?\$\$"
    rf"|\\\[(?:[^\\]|\\(?!\])[\s\S]){{1,{LONGEST}}}?\\\]"
    rf"|\\\((?:[^\\]|\\(?!\))[\s\S]){{1,{LONGEST}}}?\\\)"
    # As pandoc reads it: "$5 and $10" is money.
    rf"|\$(?=[^\s$])(?:[^$\\\n]|\\.){{1,{LONGEST}}}?(?<=\S)\$(?!\d)"
    r"|\\boxed\s?\{(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*+\})*+\})*+\}"
)
"""A formula with its marks; a box needs none."""

Tree = list[Any]
"""[name, {attribute: value}, child or text, …]"""

_CHILDREN = {
    "mfrac": 2,
    "mroot": 2,
    "msub": 2,
    "msup": 2,
    "mover": 2,
    "munder": 2,
    "msubsup": 3,
    "munderover": 3,
}
_ANY_CHILDREN = {"math", "mrow", "mstyle", "msqrt", "mpadded", "mphantom", "menclose"}
_ANY_CHILDREN |= {"mtable", "mtr", "mtd"}
_TEXTS = {"mi", "mn", "mo", "mtext", "mspace"}
_ATTRIBUTES = {
    "columnalign": re.compile(r"(?:left|right|center)(?: (?:left|right|center))*"),
    "display": re.compile(r"block|inline"),
    "displaystyle": re.compile(r"true|false"),
    "fence": re.compile(r"true|false"),
    "form": re.compile(r"prefix|infix|postfix"),
    "linethickness": re.compile(r"\d(?:\.\d+)?(?:em|px|pt)?"),
    "mathvariant": re.compile(r"normal"),
    "separator": re.compile(r"true|false"),
    "stretchy": re.compile(r"true|false"),
    "accent": re.compile(r"true|false"),
    "width": re.compile(r"-?\d{1,2}(?:\.\d+)?em"),
}


@functools.lru_cache(maxsize=4096)
def to_mathml(formula: str) -> Tree | None:
    """The tree of a formula given with its marks; None where it should stay as it was written."""
    latex, display = _bare(formula)
    if not latex or len(latex) > LONGEST:
        return None
    from latex2mathml.converter import convert_to_element

    try:
        tree = _tree(convert_to_element(latex, display="block" if display else "inline"))
    # Its parser answers malformed LaTeX with whatever its lists and stack happen to raise.
    except Exception:  # noqa: BLE001
        return None
    return tree


def _bare(formula: str) -> tuple[str, bool]:
    """(LaTeX without its marks, whether it stands on a line of its own)."""
    if formula.startswith("$$"):
        return formula[2:-2].strip(), True
    if formula.startswith(("\\[", "\\(")):
        return formula[2:-2].strip(), formula[1] == "["
    if formula.startswith("$"):
        return formula[1:-1].strip(), False
    return formula.strip(), False


def _tree(element: ET.Element) -> Tree | None:
    """None as soon as one part is not what it should be: half a formula is a wrong formula."""
    name = element.tag.rpartition("}")[2]
    text = element.text or ""
    # An unknown command comes out as a name; "\\" at its front tells.
    if name in _TEXTS:
        said = text.replace("&#x000A0;", "\xa0") if name == "mtext" else _read(text)
        return None if len(element) or text.startswith("\\") else [name, _kept(element), said]
    if text.strip() or (name not in _ANY_CHILDREN and len(element) != _CHILDREN.get(name)):
        return None
    children = [_tree(child) for child in element]
    if any(child is None for child in children) or any((c.tail or "").strip() for c in element):
        return None
    return [name, _kept(element), *children]


def _kept(element: ET.Element) -> dict[str, str]:
    return {
        name: value
        for name, value in element.attrib.items()
        if name in _ATTRIBUTES and _ATTRIBUTES[name].fullmatch(value)
    }


def _read(text: str) -> str:
    """Operators come as character references (`&#x0003C;`); nothing else is read out of them."""
    return re.sub(r"&#x([0-9A-Fa-f]{2,6});", _character, text)


def _character(match: re.Match[str]) -> str:
    code = int(match[1], 16)
    return chr(code) if 0x20 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else match[0]
