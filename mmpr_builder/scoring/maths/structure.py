r"""The shape of a mathematical answer: list, tuple, set, union, matrix, or one expression.

    parse("x=2 or x=3")        -> Node("list", ("x=2", "x=3"))
    parse(r"[0, \infty)")      -> Node("bracket", ("0", r"\infty"), "[)")
    parse(r"\begin{pmatrix}1&2\\3&4\end{pmatrix}") -> Node("matrix", ("1","2","3","4"), "2x2")

Everything is a string of `plain` LaTeX; nothing is evaluated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from mmpr_builder.scoring.latex import compact, has_words, plain
from mmpr_builder.scoring.numbers.number import parse_number


@dataclass(frozen=True, slots=True)
class Node:
    """`kind`: expression, list, bracket, set, union, matrix, determinant. `mark`: the brackets of a
    `bracket` ("[)"), the shape of a matrix ("2x3")."""

    kind: str
    items: tuple[str, ...]
    mark: str = ""


MAX_ITEMS = 64
"""More items than this are screened out by the caller."""

_OPENERS, _CLOSERS = "([{", ")]}"
_MATRIX = re.compile(
    r"(?P<open>[(\[|]?)\s*\\begin\{(?P<env>[pbvBV]?matrix|smallmatrix|array)\}(?:\{[lcr| ]*\})?"
    r"(?P<body>(?:(?!\\begin).)*?)\\end\{(?P=env)\}\s*(?P<close>[)\]|]?)\Z",
    re.DOTALL,
)
RELATION = re.compile(r"\\(?:leq|geq|neq|approx|in|equiv|cong)(?![a-zA-Z])|[<>=]")
_SEPARATING_WORD = re.compile(
    r"(?<!\s)\s++(?:and|or)\s++|(?:(?<!\s)\s++)?(?:或者|以及|或|和|及|与|、)\s*+|\\(?:lor|land|vee|wedge)(?![a-zA-Z])"
)
_BUILDER = re.compile(
    r"\\?\{\s*+([a-zA-Z])\s*+(?:\\in\s*+(?:R|\\R|\\mathbb\{R\})\s*+)?(?:\||:)(.+?)\\?\}\Z",
    re.DOTALL,
)


def top_level(text: str) -> Iterator[tuple[int, str]]:
    """(index, character) of what stands outside all brackets; `[0,1)` closes what it opens."""
    depth = i = 0
    while i < len(text):
        size = 2 if text[i] == "\\" and i + 1 < len(text) else 1
        bracket = text[i + size - 1]
        if bracket in _OPENERS:
            depth += 1
        elif bracket in _CLOSERS:
            depth -= 1
        elif depth <= 0:
            yield from zip(range(i, i + size), text[i : i + size], strict=True)
        i += size


def split_commas(text: str) -> tuple[str, ...]:
    """Items of a list. With `, ` present a bare comma belongs to a number (`1,200, 3,400`)."""
    outside = list(top_level(text))
    semicolons = [i for i, char in outside if char == ";"]
    commas = [i for i, char in outside if char == ","]
    cuts = semicolons or commas
    if cuts is commas:
        spaced = [i for i in commas if text[i + 1 : i + 2].isspace()]
        tight = [i for i in commas if i not in spaced]
        if spaced and tight and all(re.match(r",[0-9]{3}(?![0-9])", text[i:]) for i in tight):
            cuts = spaced
    parts = [text[a + 1 : b].strip() for a, b in zip([-1, *cuts], [*cuts, len(text)], strict=True)]
    return tuple(part for part in parts if part)


def _separate_words(text: str) -> str:
    """`6 and 8` -> `6 , 8` outside brackets. A list in words counts as one with commas."""
    outside = {i for i, _ in top_level(text)}
    mark = ";" if any(text[i] == ";" for i in outside) else ","
    return _SEPARATING_WORD.sub(
        lambda found: f"{mark} " if found.start() in outside else found[0], text
    )


def parse(text: str) -> Node:
    """The shape of a `plain` text."""
    text = text.strip()
    matrix = _MATRIX.match(text)
    if matrix:
        return _matrix(matrix)
    unions = [part.strip() for part in text.split("\\cup")]
    if len(unions) > 1 and all(unions):
        return Node("union", tuple(unions))
    if "\\begin" not in text:
        items = split_commas(_separate_words(text).strip(" ,;"))
        if len(items) > 1:
            return Node("list", items)
        text = items[0] if items else text
    return bracketed(text) or Node("expression", (text,))


def condition_of_set(text: str) -> str:
    r"""`\{x | x > 3\}` -> `x > 3`; anything else stays."""
    builder = _BUILDER.match(text.strip())
    return builder[2].strip() if builder and RELATION.search(builder[2]) else text


_CASES = re.compile(
    r"(?:\\?\{\s*)?\\begin\{(cases|aligned|array|matrix)\}(?:\{[lcr ]*\})?"
    r"(?P<body>[^&]*?)\\end\{\1\}\s*\.?\Z"
)


def without_cases(text: str) -> str:
    r"""`\begin{cases} x=1 \cr y=2 \end{cases}` -> `x=1, y=2`; anything else stays."""
    found = _CASES.match(text.strip()) if "\\begin" in text else None
    rows = re.split(r"\\cr(?![a-zA-Z])", found["body"]) if found else []
    rows = [row.strip(" ,;.") for row in rows if row.strip(" ,;.")]
    return ", ".join(rows) if rows and all(RELATION.search(row) for row in rows) else text


def _matrix(found: re.Match[str]) -> Node:
    rows = [row for row in re.split(r"\\cr(?![a-zA-Z])", found["body"]) if row.strip()]
    cells = [[cell.strip() for cell in row.replace("\\hline", "").split("&")] for row in rows]
    shape = f"{len(cells)}x{len(cells[0]) if cells else 0}"
    if any(len(row) != len(cells[0]) for row in cells):
        shape = "ragged"
    bars = found["env"] in ("vmatrix", "Vmatrix") or found["open"] == "|"
    kind = "determinant" if bars else "matrix"
    return Node(kind, tuple(cell for row in cells for cell in row), shape)


def bracketed(text: str) -> Node | None:
    is_set = text.startswith("\\{") and text.endswith("\\}")
    if is_set:
        return Node("set", split_commas(_separate_words(text[2:-2]))) if _encloses(text) else None
    if len(text) < 2 or text[0] not in "([{" or text[-1] not in ")]}" or not _encloses(text):
        return None
    items = split_commas(text[1:-1])
    if text[0] == "{" or text[-1] == "}":
        return Node("set", items) if text[0] + text[-1] == "{}" and len(items) > 1 else None
    if text[:2] + text[-2:] == "[[]]" and all(_is_row(item) for item in items):
        cells = [split_commas(item[1:-1]) for item in items]
        if len({len(row) for row in cells}) == 1:
            flat = tuple(cell for row in cells for cell in row)
            return Node("matrix", flat, f"{len(cells)}x{len(cells[0])}")
    return Node("bracket", items, text[0] + text[-1]) if len(items) > 1 else None


def _is_row(text: str) -> bool:
    return text.startswith("[") and text.endswith("]") and _encloses(text)


def _encloses(text: str) -> bool:
    """Whether the first bracket closes only at the end: `(1,2)` does, `(a)(b)` does not."""
    inner = text[1 + text.startswith("\\{") : len(text) - 1 - text.endswith("\\}")]
    steps = (1 if char in _OPENERS else -1 for char in inner if char in _OPENERS + _CLOSERS)
    depths = [0, *accumulate(steps)]
    return min(depths) == 0 == depths[-1]


def split_relation(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(`sides`, `operators`) of `-2 \\leq x < 7`; no operators for a plain expression."""
    if not RELATION.search(text):
        return (text.strip(),), ()
    outside = {i for i, _ in top_level(text)}
    sides: list[str] = []
    operators: list[str] = []
    at = 0
    for found in RELATION.finditer(text):
        if found.start() in outside:
            sides.append(text[at : found.start()].strip())
            operators.append("\\approx" if found[0] == "\\cong" else found[0])
            at = found.end()
    return (*sides, text[at:].strip()), tuple(operators)


_SUBSCRIPT = re.compile(r"_(?:\{[^{}]*\}|\\?[A-Za-z0-9]+)")
_NAME_COMMAND = re.compile(
    r"\\(?:frac|overline|overrightarrow|vec|angle|triangle|Delta|widehat|hat|bar|sin|cos|tan|log|ln"
    r"|measuredangle|alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|rho|sigma|tau|epsilon|odot"
    r"|parallel|perp|Omega|hbar|cot|arcsin|arccos|arctan)(?![a-zA-Z])"
)
_CALL = re.compile(r"(?<=[A-Za-z'])\([^()]{0,20}\)")
_CALL_OF_CALL = re.compile(r"(?<=[A-Za-z'])\([a-z]\(([0-9a-z-]{1,6})\)\)")
_INVERSE = re.compile(r"(?<=[a-zA-Z])\s*\^\s*\{?\s*-1\s*\}?\s*(?=\([a-z0-9]\))")
_NUMBERED = re.compile(
    r"(?:(?<=\\angle)|(?<=\\angle )|(?<=(?<![0-9a-zA-Z\\])[A-Za-z]))[0-9](?![0-9])"
)
_PRODUCT = re.compile(r"[a-z]\s?[a-z]\Z")
_MAGNITUDE = re.compile(r"\|\s*[a-z]\s*\|\Z")  # |x| = 5 leaves two values
_PROBABILITY = re.compile(r"P ?\([^()=]{1,30}\)\Z")
_TUPLE_NAME = re.compile(r"\(\s*[a-zA-Z](?:\s*,\s*[a-zA-Z])+\s*\)\Z")


def is_name(text: str) -> bool:
    r"""Whether a side of an equation only names a value: `x`, `AB`, `f(x)`, `\angle A`, `S_1:S`."""
    text = _INVERSE.sub("", _CALL_OF_CALL.sub(r"(\1)", text.strip()))
    if not text or len(text) > 60:
        return False
    if _TUPLE_NAME.match(text) or _PROBABILITY.match(text):
        return True
    if _PRODUCT.match(text) or _MAGNITUDE.match(text):
        return False
    bare = _NUMBERED.sub("", _CALL.sub("", _SUBSCRIPT.sub("", text)))
    bare, commands = _NAME_COMMAND.subn("", bare)
    bare = re.sub(r"[{}|'′∠△:/\s°]", "", bare)
    if has_words(text):
        return False
    return (0 < len(bare) <= 6 and bare.isalpha()) or (commands > 0 and not bare)


def named_value(text: str) -> tuple[str | None, str]:
    """(`name`, value) of `k = 5`, `5 = k`, `P = 4/12 = 1/3`; (None, text) for anything else.

    `7 = 11a+c` names nothing: it is an equation, and stays one.
    """
    sides, operators = split_relation(text)
    if not operators:
        return None, text
    if any(op not in ("=", "\\in", "\\approx") for op in operators):
        return None, text
    if is_name(sides[0]) and sides[-1]:
        if "\\approx" in operators[1:]:  # d = \\sqrt{13} \\approx 3.606: one of the two is meant
            cut = operators.index("\\approx", 1)
            return compact(sides[0]), " \\approx ".join((sides[cut], sides[-1]))
        return compact(sides[0]), sides[-1]
    if (
        len(sides) == 2
        and is_name(sides[1])
        and not re.search("[A-Za-z]", re.sub(r"\\[a-zA-Z]+", "", sides[0]))
    ):
        return compact(sides[1]), sides[0]
    return None, text


# AB and AC, f(2) and f(3), xy and x/y are different things; P and P(A), S and "area" may be one.
_SPECIFIC = re.compile(r"[A-Z]{2}|\\angle|\\triangle|[/:_0-9(]|\A[a-z]{2}\Z")
_FUNCTION = re.compile(r"(?:y|[a-z](?:\^\{-1\})?\([a-z]\))\Z")


def may_be_one(left: str, right: str, *, constants: bool) -> bool:
    """Whether two different names of values may name the same: `y` and `f(x)`; where the values
    are constants, `P(A)` and `P`."""
    if _FUNCTION.match(left) and _FUNCTION.match(right):
        return "y" in (left, right) or ("^" in left) == ("^" in right)
    both_specific = bool(_SPECIFIC.search(left)) and bool(_SPECIFIC.search(right))
    return constants and max(len(left), len(right)) > 1 and not both_specific


_ASKED_NAME = re.compile(  # in a text with single blanks
    r"(?:\b(?i:value of|find|solve for|determine|calculate|compute|what is"
    r"|(?:measure|size|length) of)(?: the)?|求) ?(?:side|segment|line|线段|边)? ?\$? ?"
    r"(?P<name>(?:m ?)?(?:\\angle|∠|angle|角) ?(?:[A-Z]{3}|[A-Z]|[0-9])|[0-9]*[a-z]|[A-Z]{2}"
    r"|[a-z]'{0,2}\([a-z0-9]\)) ?\$? ?"
    r"(?:[?.,;:。？，；]|\Z|(?:in|if|when|to|given|for)\b|的|(?P<said>(?:is|are|equals|=)(?!\w)))"
)
_ANGLE_NAME = re.compile(r"(?:m ?)?(?:\\angle|∠|angle|角) ?(?P<at>[A-Z]{1,3}|[0-9])\Z")


def names_another(answer: str, question: str) -> bool:
    r"""Whether an answer names a value of the kind that a question asks for, but another one: `y`
    where it asks for x, `\angle A` for angle B, `CD` for the length of AB, or one that it gives."""
    question = question[-2000:]
    found = _ASKED_NAME.finditer(" ".join(question.split()))
    asked = {_identity(name["name"]) for name in found if name["said"] is None}
    said = _ASKED_NAME.search(" ".join(answer[:2000].split()))
    named, value = named_value(answer)
    name = said["name"] if said and said["said"] else named
    given = _identity(name) if name else ("", "")
    if named and given not in asked:
        at = rf"(?<![-+*/0-z])(?<![-+*/=] ){re.escape(named)}"  # no term of a sum
        told = re.findall(rf"{at} ?= ?([-+0-9./]*[0-9]|)", plain(question))
        if told and all(told) and value.split(" ")[0].strip("°") not in told:
            return True
    return len(asked) == 1 and given[0] in {kind for kind, _ in asked} and given not in asked


def _identity(name: str) -> tuple[str, str]:
    """(kind, what tells one of its kind from another): vertex of an angle, ends of a line."""
    angle = _ANGLE_NAME.match(name.strip())
    if angle:
        return "angle", angle["at"][len(angle["at"]) // 2]
    if re.match(r"[A-Z]{2}\Z", name):
        return "line", "".join(sorted(name))
    if name.endswith(")"):
        return "function", name
    return ("letter", name) if re.match(r"[0-9]*[a-z]\Z", name) else ("", name)


@dataclass(frozen=True, slots=True)
class Interval:
    """Ends as `compact` texts; `low_closed`, `high_closed` say whether they belong to it."""

    name: str
    low: str
    low_closed: bool
    high: str
    high_closed: bool


_FLIP = {"<": ">", ">": "<", "\\leq": "\\geq", "\\geq": "\\leq", "=": "=", "\\neq": "\\neq"}


_POINT = re.compile(
    r"(?:(?:the\s+)?(?:points?|coordinates?|vertex|center|点|坐标)\s*+(?:are|is|为|是)?\s*+)?"
    r"(?P<name>[A-Z]'?)?\s*+=?\s*+(?P<at>\([^()]*,[^()]*(?:\([^()]*\)[^()]*)*\))\Z"
)


_WITHOUT = re.compile(r"\(-\\infty,(?P<a>[^()\[\],]+)\)\\cup\((?P<b>[^()\[\],]+),\+?\\infty\)\Z")


def named_point(text: str) -> tuple[str, str] | None:
    """`A(2,3)`, `P = (2, 3)`, `point (2, 3)` -> (name, coordinates); None for anything else."""
    found = _POINT.match(text.strip())
    if not found or found["at"] == text.strip():
        return None
    return found["name"] or "", found["at"]


def as_exclusion(text: str) -> tuple[str, str] | None:
    r"""`x \neq 2` -> ("x", "2"); `(-\infty,2)\cup(2,\infty)` -> ("", "2"); else None."""
    sides, operators = split_relation(text)
    if operators == ("\\neq",) and is_name(sides[0]):
        return compact(sides[0]), compact(sides[1])
    found = _WITHOUT.match(compact(text))
    return ("", found["a"]) if found and found["a"] == found["b"] else None


_ABSOLUTE = re.compile(r"\|\s*([a-zA-Z])\s*(?:([+-])\s*([0-9./]+)\s*)?\|\Z")


def without_bars(text: str) -> str:
    r"""`|x-2| < 3` -> `-1 < x < 5`, `|x| > 2` -> `x < -2 or x > 2`; anything else stays."""
    sides, operators = split_relation(text) if "|" in text else ((), ())
    if len(operators) != 1 or operators[0] not in _FLIP or operators[0] in ("=", "\\neq"):
        return text
    around, reach = _ABSOLUTE.match(sides[0]), parse_number(sides[1])
    shift = parse_number(around[3] or "0") if around else None
    if around is None or shift is None or reach is None or reach.value <= 0:
        return text
    middle = shift.value if around[2] == "-" else -shift.value
    low, high, name, operator = middle - reach.value, middle + reach.value, around[1], operators[0]
    if operator in ("<", "\\leq"):
        return f"{low} {operator} {name} {operator} {high}"
    return f"{name} {_FLIP[operator]} {low} or {name} {operator} {high}"


def _both(text: str) -> Interval | None:
    """`x > -1 and x < 5` -> the interval between them."""
    parts = text.split(" and ")
    halves = [as_interval(part) for part in parts] if len(parts) == 2 else []
    if len(halves) != 2 or halves[0] is None or halves[1] is None:
        return None
    below, above = halves if halves[1].low == "-\\infty" else halves[::-1]
    assert below is not None
    assert above is not None
    if (below.high, above.low, below.name) != ("\\infty", "-\\infty", above.name) or not below.name:
        return None
    return Interval(below.name, below.low, below.low_closed, above.high, above.high_closed)


def as_interval(text: str) -> Interval | None:
    r"""`-2 \leq x < 7`, `x > 5` and `[-2, 7)` as an interval; None for what is none."""
    if " and " in text:
        return _both(text)
    node = bracketed(text.strip())
    if node is not None and node.kind == "bracket" and len(node.items) == 2:
        low, high = (_end(item) for item in node.items)
        return Interval("", low, node.mark[0] == "[", high, node.mark[1] == "]")
    sides, operators = split_relation(text)
    if operators == ("\\in",) and is_name(sides[0]):
        return as_interval(sides[1])
    if len(operators) == 2 and is_name(sides[1]):
        if operators[0] in (">", "\\geq"):
            sides, operators = sides[::-1], tuple(_FLIP.get(op, "?") for op in operators[::-1])
        if set(operators) <= {"<", "\\leq"}:
            closed = [op == "\\leq" for op in operators]
            return Interval(compact(sides[1]), _end(sides[0]), closed[0], _end(sides[2]), closed[1])
    if len(operators) == 1 and operators[0] in ("<", ">", "\\leq", "\\geq"):
        if is_name(sides[1]) and not is_name(sides[0]):
            sides, operators = sides[::-1], (_FLIP[operators[0]],)
        if is_name(sides[0]) and not is_name(sides[1]):
            return _half_line(compact(sides[0]), _end(sides[1]), operators[0])
    return None


def _half_line(name: str, end: str, operator: str) -> Interval:
    closed = operator in ("\\leq", "\\geq")
    if operator in ("<", "\\leq"):
        return Interval(name, "-\\infty", False, end, closed)
    return Interval(name, end, closed, "\\infty", False)


def _end(text: str) -> str:
    return compact(text).replace("+\\infty", "\\infty")
