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
    r"\s+(?:and|or)\s+|\s*(?:或者|以及|或|和|及|与|、)\s*|\\(?:lor|land|vee|wedge)(?![a-zA-Z])"
)
_BUILDER = re.compile(
    r"\\?\{\s*([a-zA-Z])\s*(?:\\in\s*(?:R|\\R|\\mathbb\{R\}))?\s*(?:\||:)(.+?)\\?\}\Z", re.DOTALL
)


def top_level(text: str) -> Iterator[tuple[int, str]]:
    """(index, character) of what stands outside all brackets; `[0,1)` closes what it opens."""
    depth = 0
    i = 0
    while i < len(text):
        char = text[i]
        if char == "\\" and i + 1 < len(text):
            if text[i + 1] in _OPENERS:
                depth += 1
            elif text[i + 1] in _CLOSERS:
                depth -= 1
            elif depth <= 0:
                yield i, char
                yield i + 1, text[i + 1]
            i += 2
            continue
        if char in _OPENERS:
            depth += 1
        elif char in _CLOSERS:
            depth -= 1
        elif depth <= 0:
            yield i, char
        i += 1


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
    unions = re.split(r"\s*\\cup\s*", text)
    if len(unions) > 1 and all(unions):
        return Node("union", tuple(unions))
    if not re.search(r"\\begin", text):
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
    start = 2 if text.startswith("\\{") else 1
    end = len(text) - (2 if text.endswith("\\}") else 1)
    depth, i = 1, start
    while i < end:
        if text[i] == "\\" and i + 1 < end:
            char, i = text[i + 1], i + 1
        else:
            char = text[i]
        depth += (char in _OPENERS) - (char in _CLOSERS)
        if depth == 0:
            return False
        i += 1
    return depth == 1
