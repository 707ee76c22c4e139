r"""Options of a multiple-choice question, found in the text of the question.

    Find $y$.                            Choices("5", "5 \\sqrt { 2 }", "10")
    Choices:                             start = where "(A)" stands
    (A) 5
    (B) 5 \\sqrt { 2 }
    (C) 10

Letters must run A, B, C, … in one style of label ("A.", "(A)", "A)", "A:", "A、", full-width too),
on lines of their own or in one line. Behind the last option only lines may follow that ask nothing
("Please think carefully."); they are no part of it. "A. Lincoln" in prose, `P(A)` and "6:00 A.M."
are no labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mmpr_builder.records import IMAGE_PLACEHOLDER

MAX_CHOICES = 26


@dataclass(frozen=True, slots=True)
class FoundChoices:
    """Option texts for A, B, C, …; `start` is where the label of A begins in the question."""

    texts: tuple[str, ...]
    start: int


# One pattern per style of label; a run keeps to one. Full-width forms are NFKC twins of the others.
_LETTER = r"(?P<letter>[A-ZＡ-Ｚ])"
_STYLES = {
    "paren": re.compile(rf"[(（]\s?{_LETTER}\s?[)）]"),
    "bracket": re.compile(rf"\[{_LETTER}\]"),
    "dot": re.compile(rf"{_LETTER}\s?[.．](?![A-Za-z]\.)"),
    "half": re.compile(rf"(?<![(（]){_LETTER}[)）]"),
    "colon": re.compile(rf"{_LETTER}[:：]"),
    "comma": re.compile(rf"{_LETTER}、"),
}
_FIRST = re.compile(r"[AＡ]\s?([)）\].．:：、])")
_SECOND = re.compile(r"[BＢ]\s?([)）\].．:：、])")
# What stands behind a letter -> the styles of label that it may be of.
_STYLES_BY_END = {
    **dict.fromkeys(")）", ("paren", "half")),
    **{"]": ("bracket",), "、": ("comma",)},
    **dict.fromkeys(".．", ("dot",)),
    **dict.fromkeys(":：", ("colon",)),
}
_LINE_START = re.compile(r"(?:^|\n)[ \t　]*(?:[-*•][ \t]+)?\Z")
# The look-aheads keep the search linear in text that opens formulas and never closes them.
_MATH = re.compile(
    r"\$\$.+?\$\$|\$[^$\n]+\$|\\\((?:(?!\\\().)+?\\\)|\\\[(?:(?!\\\[).)+?\\\]", re.DOTALL
)
# Before A in running text: the stem has come to its end.
_STEM_ENDS = tuple('?？:：.。!！)）]】_$>;；”"')
_KEYWORD = re.compile(
    r"(?:\b(?:options?|choices|candidates)(?: are)?|选项(?:为|是|如下)?)\s?[:：]?\Z",
    re.I,
)
_PROSE = re.compile(
    r"\A(?:and|or|和|与|或|及)(?:\W|\Z)|\A(?:[,.;?!，。；？！、]|'s\b)|(?:\A|\s)(?:and|or)\Z", re.I
)
_BULLET = re.compile(r"\n[ \t]*[-*•][ \t]*\Z")
_INITIAL = re.compile(r"\b[A-Z]\.\Z")
_SEPARATORS = ",;，；"


def find_choices(question: str) -> FoundChoices | None:
    """The options at the end of `question`, or None where it is not a multiple choice.

    Known answer instructions must be gone already (`instructions.strip_instructions`).
    """
    styles = _styles_in(question)
    if not styles:
        return None
    end = len(_without_tail_images(question))
    # Formulas hold no labels. Then again without formulas: dollars can be money.
    formulas = [found.span() for found in _MATH.finditer(question)]
    for on_lines in (True, False):
        for style, pattern in styles:
            for spans in (formulas, []) if formulas else ([],):
                found = _last_run(question, end, pattern, spans, style, on_lines=on_lines)
                if found is not None:
                    return found
    return None


def _styles_in(question: str) -> list[tuple[str, re.Pattern[str]]]:
    """The styles in which both an A and a B may be labels: the cheap test before the search."""
    firsts = {style for end in set(_FIRST.findall(question)) for style in _STYLES_BY_END[end]}
    if not firsts:
        return []
    both = {style for end in set(_SECOND.findall(question)) for style in _STYLES_BY_END[end]}
    both &= firsts
    return [(name, pattern) for name, pattern in _STYLES.items() if name in both]


def _without_tail_images(text: str) -> str:
    """The text without lines of placeholders behind the last option. "A. <image>" is an option."""
    text = text.rstrip()
    while text.endswith(IMAGE_PLACEHOLDER):
        shorter = text.removesuffix(IMAGE_PLACEHOLDER)
        if shorter.strip() and not shorter.rstrip(" \t").endswith(("\n", IMAGE_PLACEHOLDER)):
            break
        text = shorter.rstrip()
    return text


def _last_run(
    question: str,
    end: int,
    pattern: re.Pattern[str],
    math: Sequence[tuple[int, int]],
    style: str,
    *,
    on_lines: bool,
) -> FoundChoices | None:
    labels = _labels(question, end, pattern, math, _starts_line if on_lines else _stands_apart)
    firsts = [i for i, (letter, _) in enumerate(labels) if letter == 0]
    for i in reversed(firsts[-4:]):
        letters, run = zip(*labels[i:], strict=True)
        if not 2 <= len(run) <= MAX_CHOICES or letters != tuple(range(len(run))):
            continue
        ends = [label.start() for label in run[1:]] + [end]
        # A bullet before the next label belongs to neither option.
        texts = [
            _BULLET.sub("", question[label.end() : stop]).strip()
            for label, stop in zip(run, ends, strict=True)
        ]
        before = question[: run[0].start()]
        texts[-1] = _without_tail(before, texts)
        # Lines after the last option are its own only if other options run over lines as well.
        apart = "\n" not in texts[-1] or any("\n" in text for text in texts[:-1])
        if all(texts) and (apart if on_lines else _fit_inline(before, texts, style)):
            if all(text[-1] in _SEPARATORS for text in texts[:-1]):  # "A: yes, B: no"
                texts = [text.rstrip(_SEPARATORS + " ") or text for text in texts]
            return FoundChoices(tuple(texts), len(before))
    return None


def _without_tail(before: str, texts: Sequence[str]) -> str:
    """The last option without lines behind it that are none of its own: the other options have one
    line, or one paragraph, and these lines ask nothing that was to be asked before the options."""
    *others, last = texts
    between = "\n\n" if any("\n" in text for text in others) else "\n"
    own, mark, tail = last.partition(between)
    alike = between == "\n" or not any(between in text for text in others)
    is_sentence = tail.rstrip().endswith((".", "!", "。", "！", ":", "："))
    asked_before = before.replace(IMAGE_PLACEHOLDER, "").strip()
    fits = mark and alike and is_sentence and asked_before and not ("?" in tail or "？" in tail)
    return own.rstrip() if fits else last


def _labels(
    question: str,
    end: int,
    pattern: re.Pattern[str],
    math: Sequence[tuple[int, int]],
    fits: Callable[[str, int], bool],
) -> list[tuple[int, re.Match[str]]]:
    """(0 for A, its label) in order."""
    labels, m = [], 0
    for found in pattern.finditer(question, 0, end):
        while m < len(math) and math[m][1] <= found.start():
            m += 1
        in_math = m < len(math) and math[m][0] <= found.start()
        if not in_math and fits(question, found.start()):
            code = ord(found["letter"])
            labels.append((code - (ord("A") if code < 128 else ord("Ａ")), found))
    return labels


def _starts_line(question: str, at: int) -> bool:
    line = question.rfind("\n", 0, at) + 1
    if line == at:
        return True
    return at - line <= 16 and _LINE_START.search(question[max(0, line - 1) : at]) is not None


def _stands_apart(question: str, at: int) -> bool:
    """A label needs a blank before it, or (`A. 3B. 4`) anything but a Latin letter."""
    before = question[at - 1 : at]
    return not (before.isascii() and (before.isalpha() or before in "\\{^_(['-=+/"))


def _fit_inline(before: str, texts: Sequence[str], style: str) -> bool:
    if any(_PROSE.search(text) for text in texts) or "\n" in texts[-1]:
        return False
    stem = before.rstrip()
    if _KEYWORD.search(stem[-40:]):
        return True
    if style == "colon":  # "A: Hello! B: Hi!" is a dialogue
        return False
    if style == "dot" and _INITIAL.search(stem[-4:]):  # "J. A. Smith met B. Jones"
        return False
    is_asked = texts[-1].endswith(("?", "？"))
    if not stem or stem.endswith(_STEM_ENDS) or before.endswith("\n"):
        # A question mark after "the options" alone: the question was not asked before them.
        return not is_asked or "?" in stem or "？" in stem
    return len(texts) >= 3 and not is_asked
