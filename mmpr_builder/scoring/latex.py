r"""LaTeX and Unicode mathematics brought to one spelling, without evaluating anything.

    plain(r"12 \mathrm{~cm}^2")  -> "12 cm^2"           macros of layout gone, words readable
    compact(r"\dfrac12 √3")      -> r"\frac{1}{2}\sqrt{3}"   one spelling, for equality

`plain` keeps blanks (lists, units and words are read from it); `compact` drops them.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mmpr_builder.extraction import closing_bracket
from mmpr_builder.scoring.clean import words

CURRENCY = "¤"
"""Stands for the dollar sign as money, so that a `$` of LaTeX cannot be taken for it."""

_SYMBOLS = {
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "•": r"\cdot ",
    "÷": r"\div ", "≤": r"\leq ", "⩽": r"\leq ", "≦": r"\leq ", "≥": r"\geq ", "⩾": r"\geq ",
    "≧": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "≅": r"\cong ", "±": r"\pm ", "∓": r"\mp ",
    "≌": r"\cong ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
    "π": r"\pi ", "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ",
    "ε": r"\epsilon ", "θ": r"\theta ", "λ": r"\lambda ", "μ": r"\mu ", "µ": r"\mu ",
    "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ", "ω": r"\omega ",
    "Δ": r"\Delta ", "Ω": r"\Omega ", "ℏ": r"\hbar ", "ħ": r"\hbar ", "∠": r"\angle ",
    "△": r"\triangle ", "√": r"\sqrt ", "∛": r"\sqrt[3] ", "…": r"\ldots ", "⋯": r"\ldots ",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}", "⅛": r"\frac{1}{8}", "º": "°", "˚": "°",
    "〈": "(", "〉": ")", "⟨": "(", "⟩": ")", "【": "[", "】": "]", "℃": "°C", "℉": "°F", "′": "'",
    "″": "''", "㎡": "m^2", "㎥": "m^3", "㎝": "cm", "㎜": "mm", "㎞": "km", "㎏": "kg", "㎎": "mg",
    "㎠": "cm^2", "㎤": "cm^3", "㎖": "mL", "⅙": r"\frac{1}{6}", "⅖": r"\frac{2}{5}",
    "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}",
    "⅞": r"\frac{7}{8}", "⅚": r"\frac{5}{6}", "η": r"\eta ", "ν": r"\nu ", "ψ": r"\psi ",
    "χ": r"\chi ", "Σ": r"\Sigma ", "∑": r"\sum ", "∫": r"\int ", "∥": r"\parallel ",
    "⊥": r"\perp ", "→": r"\to ", "⇒": r"\to ", "−": "-",
}  # fmt: skip
_SUPERSCRIPT = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n", strict=True))
_SUBSCRIPT = dict(zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True))
_SUPERSCRIPTS = re.compile("[" + "".join(_SUPERSCRIPT) + "]+")
_SUBSCRIPTS = re.compile("[" + "".join(_SUBSCRIPT) + "]+")
_UNICODE = re.compile("[" + re.escape("".join(_SYMBOLS)) + "]")

_LAYOUT = re.compile(
    r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|limits|nolimits|rm|bf|it|phantom\{\}"
    r"|hspace\{[^{}]*\}|vspace\{[^{}]*\}|label\{[^{}]*\})(?![a-zA-Z])\.?"
)
_NEGATIVE_SPACE = re.compile(r"\\!\s*")
_SPACES = re.compile(
    r"\\(?:[,;:> ]|(?:q?quad|enspace|enskip|thinspace|medspace|thickspace)(?![a-zA-Z]))|(?<=\S)~"
)
_TEXT_MACRO = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|textup|texttt|mathrm|mathbf|mathit|mathsf|mathbb"
    r"|mathcal|mbox|hbox|operatorname\*?|boldsymbol|bm|boxed|fbox|rm|bf)\s*\{"
)
# What braces hold, without the blanks at its ends; possessive, or many blanks take cubic time.
_INSIDE = r"(?:[^{}\\\s]++|\s++(?=[^{}\\\s]))*+"
_COMMANDS = {
    command: spelling
    for spelling, commands in {
        r"\frac": "dfrac tfrac cfrac", r"\ldots ": "dots cdots dotsc dotsb dotsm hdots",
        r"\leq ": "leqslant leqq le", r"\geq ": "geqslant geqq ge", r"\neq ": "ne",
        r"\approx ": "simeq thickapprox", r"\emptyset ": "varnothing", "<": "lt", ">": "gt",
        r"\{": "lbrace lcurly", r"\}": "rbrace rcurly", "[": "lbrack", "]": "rbrack",
        "(": "langle", ")": "rangle", "|": "lvert rvert vert mid", "*": "ast star",
        r"\epsilon": "varepsilon", r"\phi": "varphi", r"\theta": "vartheta", r"\rho": "varrho",
        r"\sigma": "varsigma", "°": "textdegree degree degrees", "'": "prime", "£": "pounds",
        "¥": "yen yuan", "€": "euro texteuro",
    }.items()
    for command in commands.split()
}  # fmt: skip
_NAMED = re.compile(r"\\([a-zA-Z]+)")
_SPELLINGS = [
    (re.compile(pattern), spelling)
    for pattern, spelling in (
        (r"\\frac\s*([0-9])\s*([0-9])(?![0-9])", r"\\frac{\1}{\2}"),
        (rf"\{{\s*+({_INSIDE})\s*+\\over(?![a-zA-Z])\s*+({_INSIDE})\s*+\}}", r"\\frac{\1}{\2}"),
        (rf"\A(?!\\)(\s*+{_INSIDE})\s*+\\over(?![a-zA-Z])\s*+([^{{}}\\]+)\Z", r"\\frac{\1}{\2}"),
        (r"\.\.\.+", r"\\ldots "),
        (r"<=|=<", r"\\leq "),
        (r">=", r"\\geq "),
        (r"\\not\s*=|!=", r"\\neq "),
        (
            r"(?:(?<!\s)\s++)?(?:\^\s*+(?:\{\s*+)?\\circ\s*+\}?|\^\s*+\{?°\}?|°)",
            "°",
        ),
        (r"\^\s*\{?'\}?", "'"),
        (r"\\pmod\s*+(?:\{\s*+)?([0-9a-zA-Z]++)\s*+\}?", r"\\pmod{\1}"),
        (r"\\math(?:bb|bf|rm|cal)\s+([a-zA-Z])(?![a-zA-Z])", r"\1"),
        (r"(?<![a-zA-Z}])\{\s*(\w+)\s*\\choose\s*(\w+)\s*\}", r"\\binom{\1}{\2}"),
        (r"(?<!\w)(\w++)\s*+\\choose\s*+(\w++)", r"\\binom{\1}{\2}"),
        (r"\\([%#&_])", r"\1"),
    )
]
_RESPELLED = re.compile(r"[\\=^°]|\.{3}")
"""What only a text with another spelling has."""
_JOINING_WORD = re.compile("或者|或|以及|和|及|与|且")
_CJK = re.compile("[\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af]")
_NOTHING_TO_DO = re.compile(r"[A-Za-z0-9 ,;:()\[\]+*/-]*(?:\.[A-Za-z0-9 ,;:()\[\]+*/-]+)*\Z")
_GLUED_FUNCTION = re.compile(  # mgsin\\theta, xlnx; not the words "using" and "casino"
    r"(?<![A-Za-z\\])([a-zA-Z]{1,2})(sin|cos|tan|ln|log)(?=\s*[({\\]|\s*[0-9]|\s*[xyt](?![a-zA-Z]))"
)
_NOT = re.compile(r"(?:\A|(?<=[(\s]))[~¬](?=\s*[a-zA-Z(])")
_MONEY = re.compile(r"\$(?=\s*[-+]?[.\d])")
_GLUED = re.compile(r"\\\\(?=[a-zA-Z]{2})")
_ROW_END = re.compile(r"\\\\(?:\[[^\[\]]*\])?")


@lru_cache(maxsize=8192)
def plain(text: str) -> str:
    """One spelling for macros of layout, text and symbols; words and blanks stay readable."""
    if _NOTHING_TO_DO.match(text):
        return " ".join(text.split())
    if not text.isascii():
        if len(_CJK.findall(text)) == len("".join(_JOINING_WORD.findall(text))):
            text = _JOINING_WORD.sub(lambda m: " or " if m[0][0] == "或" else " and ", text)
        text = _SUPERSCRIPTS.sub(lambda m: "^{%s}" % "".join(map(_SUPERSCRIPT.get, m[0])), text)  # type: ignore[arg-type]  # noqa: UP031
        text = _SUBSCRIPTS.sub(lambda m: "_{%s}" % "".join(map(_SUBSCRIPT.get, m[0])), text)  # type: ignore[arg-type]  # noqa: UP031
        text = _UNICODE.sub(lambda m: _SYMBOLS[m[0]], text)
    if "$" in text:
        text = _dollars(text)
    text = text.replace("{,}", ",")
    if "~" in text or "¬" in text:
        text = _NOT.sub(r"\\neg ", text)
    if "\\" in text:
        # Rows of a matrix end in `\\cr`; elsewhere a doubled backslash is an escape too many.
        text = _ROW_END.sub(r"\\cr ", text) if "\\begin" in text else _GLUED.sub(r"\\", text)
        text = _NEGATIVE_SPACE.sub("", text).replace("\\(", " ").replace("\\)", " ")
        text = _LAYOUT.sub("", text)
        text = _flatten_text(_SPACES.sub(" ", text))
        text = _NAMED.sub(lambda found: _COMMANDS.get(found[1], found[0]), text)
    for pattern, spelling in _SPELLINGS if _RESPELLED.search(text) else ():
        text = pattern.sub(spelling, text)
    text = _GLUED_FUNCTION.sub(r"\1 \\\2 ", text)
    return " ".join(text.split())


def _dollars(text: str) -> str:
    text = text.replace("\\$", CURRENCY)
    if text.count("$") % 2:
        text = _MONEY.sub(CURRENCY, text)
    return text.replace("$", " ")


def _flatten_text(text: str) -> str:
    r"""`12\text{ and }13` -> `12 and 13`; the braces of text macros go, their blanks stay."""
    for _ in range(MAX_DEPTH):
        macro = _TEXT_MACRO.search(text)
        if not macro:
            break
        end = closing_bracket(text, macro.end() - 1)
        if end < 0:
            break
        inner = text[macro.end() : end]
        glue = " " if len(inner.strip()) > 1 or not inner.strip().isalpha() else ""
        text = f"{text[: macro.start()]}{glue or ' '}{inner}{glue or ' '}{text[end + 1 :]}"
    return text


_FUNCTIONS = words("arcsin arccos arctan sinh cosh tanh sin cos tan cot sec csc log lg ln exp sqrt")
_BARE_FUNCTION = re.compile(rf"(?<![\\a-zA-Z])({'|'.join(_FUNCTIONS)})(?=[\s({{\d^_]|[a-z]\b|\\)")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?\Z")
_BARE_PI = re.compile(r"(?<![\\a-zA-Z])(?:pi|Pi|PI)(?![a-zA-Z])")
_BETWEEN_NUMBERS = re.compile(r"(?<=[0-9])\s+(?=[0-9])")  # 1 1/2 is not 11/2
_NO_END = re.compile(r"(?<=[a-zA-Z]) (?![a-zA-Z])")
_COMMAND_BLANK = re.compile(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])")


@lru_cache(maxsize=8192)
def compact(text: str) -> str:
    r"""One spelling of a `plain` expression without blanks: `\frac 1 2 x` -> `\frac{1}{2}x`.

    A blank stays only where it ends a command (`\pi r`).
    """
    if _NUMBER.match(text):
        return text
    if "pi" in text.lower():
        text = _BARE_PI.sub(r"\\pi ", text)
    text = _BARE_FUNCTION.sub(r"\\\1", text)
    text = text.replace("**", "^").replace("\\times", "\\cdot").replace("*", "\\cdot ")
    if "\\" in text:
        text = _COMMAND_BLANK.sub(rf"\1{NEEDED_BLANK}", text)
    if any(mark in text for mark in ("\\frac", "\\sqrt", "\\binom", "^", "_")):
        text = brace_arguments(text)
    text = "".join(_BETWEEN_NUMBERS.sub(NEEDED_BLANK, text).split())
    # `\pi (x)` and `\pi(x)` are one; a doubled blank cannot occur.
    return _NO_END.sub("", text.replace(NEEDED_BLANK, " ")) if NEEDED_BLANK in text else text


_CHINESE = re.compile("[\u3400-\u9fff]")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}")
_SHORT_WORD = re.compile(
    r"(?<![\\a-zA-Z])(?:(?:[Ii]t|is|are|[Ww]e|[Ss]o|of)(?![a-zA-Z])|[Ii]n(?=\s+[0-9]))"
)
_SCRIPT = re.compile(r"[_^]\{[^{}]*\}")
_NOT_WORDS = frozenset([*_FUNCTIONS, "mod", "lim", "max", "min", "gcd", "lcm", "det", "and"])


def has_chinese(text: str) -> bool:
    """Whether a text has Chinese characters."""
    return not text.isascii() and _CHINESE.search(text) is not None


def has_words(text: str) -> bool:
    """Whether a `plain` text is language rather than mathematics."""
    if not text.isascii() and _CJK.search(text):
        return True
    if "\\begin" in text:
        return False
    if _SHORT_WORD.search(text):
        return True
    return any(
        not found[0].isupper() and found[0].lower() not in _NOT_WORDS
        for found in _WORD.finditer(_SCRIPT.sub("", text))
    )


MAX_DEPTH = 40
_TAKES_ARGUMENTS = re.compile(r"\\frac|\\binom|\\sqrt|[\^_]")
_INDEX = re.compile(r"\s*\[([^\[\]{}]{1,9})\]")
_CHARACTER = re.compile(r"\\[a-zA-Z]+|\\.|.", re.DOTALL)
_CHARACTER_OR_NUMBER = re.compile(rf"[-+]?\d+|{_CHARACTER.pattern}", re.DOTALL)
NEEDED_BLANK = "\x00"
"""Marks a blank that ends a command, while all others go."""


def brace_arguments(text: str, depth: int = 0) -> str:
    """Braces around each argument of a fraction, root, binomial, power and index."""
    out: list[str] = []
    i = 0
    while found := _TAKES_ARGUMENTS.search(text, i):
        out.append(text[i : found.start()])
        sign, i = found[0], found.end()
        if sign in ("^", "_"):
            digits = sign == "_" or _is_plain(text, found.start())
            body, i = _argument(text, i, depth, digits=digits)
            out.append(f"{sign}{{{body}}}")
        elif sign == "\\sqrt":
            index = _INDEX.match(text, i)
            i = index.end() if index else i
            body, i = _argument(text, i, depth, digits=True)
            out.append(f"\\sqrt{f'[{index[1]}]' if index else ''}{{{body}}}")
        elif text[i : i + 1].isalpha():
            out.append(sign)
        else:
            top, i = _argument(text, i, depth, digits=False)
            bottom, i = _argument(text, i, depth, digits=False)
            out.append(f"{sign}{{{top}}}{{{bottom}}}")
    return "".join([*out, text[i:]])


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
        end = closing_bracket(text, i)
        end = len(text) if end < 0 else end
        return brace_arguments(text[i + 1 : end], depth + 1), end + 1
    if text[i] == "(" and digits:
        end = closing_bracket(text, i, "()")
        if end > 0:
            return brace_arguments(text[i + 1 : end], depth + 1), end + 1
    found = (_CHARACTER_OR_NUMBER if digits else _CHARACTER).match(text, i)
    assert found is not None
    return found[0], found.end()
