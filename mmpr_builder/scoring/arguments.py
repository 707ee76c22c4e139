r"""The arguments of LaTeX commands, braced: `\frac 1 2` -> `\frac{1}{2}`, `x^10` -> `x^{10}`."""

from __future__ import annotations

import re

from mmpr_builder.extraction import closing_brace

MAX_DEPTH = 40
NEEDED_BLANK = "\x00"
"""Marks a blank that ends a command, while all others go."""


def brace_arguments(text: str, depth: int = 0) -> str:
    """Braces around each argument of a fraction, root, binomial, power and index."""
    out: list[str] = []
    i = 0
    while i < len(text):
        command = next((c for c in ("\\frac", "\\binom") if text.startswith(c, i)), None)
        if command is not None and not text[i + len(command) : i + len(command) + 1].isalpha():
            top, i = _argument(text, i + len(command), depth, digits=False)
            bottom, i = _argument(text, i, depth, digits=False)
            out.append(f"{command}{{{top}}}{{{bottom}}}")
        elif text.startswith("\\sqrt", i):
            i += 5
            index = re.compile(r"\s*\[([^\[\]{}]{1,9})\]").match(text, i)
            i = index.end() if index else i
            body, i = _argument(text, i, depth, digits=True)
            out.append(f"\\sqrt{f'[{index[1]}]' if index else ''}{{{body}}}")
        elif text[i] in "^_":
            body, after = _argument(text, i + 1, depth, digits=text[i] == "_" or _is_plain(text, i))
            out.append(f"{text[i]}{{{body}}}")
            i = after
        else:
            out.append(text[i])
            i += 1
    return "".join(out)


def _is_plain(text: str, i: int) -> bool:
    """Outside LaTeX `2^10` means the tenth power; in LaTeX it would be 2^1 and a 0."""
    return "\\" not in text or text[i + 1 : i + 4].strip().isdigit()


def _argument(text: str, start: int, depth: int, *, digits: bool) -> tuple[str, int]:
    """The argument that begins at `start` (braced, bracketed, a command, a number, a character)."""
    i = start
    while i < len(text) and (text[i].isspace() or text[i] == NEEDED_BLANK):
        i += 1
    if i >= len(text) or depth > MAX_DEPTH:
        return text[i:], len(text)
    if text[i] == "{":
        end = closing_brace(text, i)
        end = len(text) if end < 0 else end
        return brace_arguments(text[i + 1 : end], depth + 1), end + 1
    if text[i] == "(" and digits:
        end = _closing_parenthesis(text, i)
        if end > 0:
            return brace_arguments(text[i + 1 : end], depth + 1), end + 1
    pattern = r"[-+]?\d+|\\[a-zA-Z]+|\\.|." if digits else r"\\[a-zA-Z]+|\\.|."
    found = re.compile(pattern, re.DOTALL).match(text, i)
    assert found is not None
    if found[0] in ("\\frac", "\\sqrt"):
        return _nested_command(text, i, depth)
    return found[0], found.end()


def _nested_command(text: str, start: int, depth: int) -> tuple[str, int]:
    r"""`\frac\sqrt{3}2`: the argument is the command with arguments of its own."""
    name = text[start : start + 5]
    i = start + 5
    parts: list[str] = []
    for _ in range(2 if name == "\\frac" else 1):
        part, i = _argument(text, i, depth + 1, digits=name == "\\sqrt")
        parts.append(f"{{{part}}}")
    return name + "".join(parts), i


def _closing_parenthesis(text: str, start: int) -> int:
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    return -1
