r"""The final answer of a response, by the style that its prompt asked for; None if there is none.

    final_answer   ... **Final answer:** 12 cm          答案：12厘米
    boxed          ... so the area is $\boxed{12}$
    think_boxed    <think> ... </think> ... \boxed{12}

The last marker wins, whatever follows it. What stands inside a think block is no answer, and the
whole text never is: a response without the marker it was asked for has broken the format. Answers
between tokens of their own (`<answer>12</answer>`, `<|begin_of_box|>12<|end_of_box|>`) count in
every style.
"""

from __future__ import annotations

import re

from mmpr_builder.errors import ConfigError

SPECIAL_TOKEN = re.compile(
    r"<\|?(?:im_end|im_start|endoftext|end_of_text|eot_id|eom_id|end|eos|pad|begin_of_text|assistant"
    r"|end_of_utterance|end_of_turn|end_of_sentence|end▁of▁sentence)\|?>|</s>|<s>|<pad>|<unk>"
    r"|\[/?INST\]|<｜[^｜<>]{1,40}｜>"
)
"""Tokens of chat templates that an engine may leave in a text."""

_CLOSING_TOKEN = re.compile(
    r"<(?!image>|/(?:answer|strong|su[bp])>)\|?/?[A-Za-z][A-Za-z0-9_▁|-]{2,30}\|?>\Z"
)
"""Whatever token stands at the very end, such as `<eoa>`; an option can be an `<image>`."""
_WISHES = re.compile(
    r"(?:(?<=[\s.])|\A)(?:i hope (?:this|that|it) helps|(?:please )?let me know if|feel free to"
    r"|hope this helps)\b[^\n]*\Z",
    re.IGNORECASE,
)
_TAIL = 200
_THINK = re.compile(r"[<◁](/?)(?:think|thinking|reasoning)[>▷]", re.IGNORECASE)
_WRAPPED = re.compile(
    r"<answer>(.{0,2000}?)</answer>|<\|begin_of_box\|>(.{0,2000}?)<\|end_of_box\|>",
    re.DOTALL | re.IGNORECASE,
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")

_HTML = re.compile(r"</?(?:answer|b|strong|i|em|u|p|span|div|h[1-6]|center|big)\s*>|<br\s*/?>")
BOLD_INSIDE = re.compile(r"(?<![\w)*])\*\*([^*\s](?:[^*\n]*[^*\s])?)\*\*(?!\*)")

_DRESS = r"[*_\s]{0,40}+"  # Bounds keep extraction linear in the length of a response.
_STRONG = re.compile(
    r"(?:final answer|最终答案|最后答案)s?[*_`#\s]{0,40}"
    rf"(?:[:：=]|-\s|\n|(?:应该)?[是为]{_DRESS}[:：]?"
    rf"|\b(?:is|are|should be|would be)\b{_DRESS}[:：]?)",
    re.IGNORECASE,
)
"""`Final answer` counts with a colon, "is", or as a heading of its own line."""
_LINE_START = r"(?:\A|\n|\{)[*_#>\[【\-\s]{0,40}+"
_CORRECT = r"(?:most\s+)?(?:correct|right|best|appropriate)\s+"
_OF_QUESTION = rf"(?:\s+to\s+(?:the|this|your)\s+question)?{_DRESS}"
_COLON = r"(?:[:：]|\](?:\s*+[:：](?=\s*\n)|\s*(?=\n)))"
_WEAK = re.compile(
    rf"{_LINE_START}(?:(?:{_CORRECT})?answer{_OF_QUESTION}{_COLON}|答[:：]"
    r"|答案[*_#]*(?:】[*_]*[:：]?|[ \t]*\n)\s*)"
    rf"|\bthe\s+(?:(?:{_CORRECT})?answer|{_CORRECT}(?:option|choice)){_OF_QUESTION}"
    rf"(?:{_COLON}|(?:is|are|should be|would be|must be)\b\s*[:：]?)"
    rf"|答案{_DRESS}(?:应该|应)?[:：是为选]{_DRESS}[:：]?"
    r"|(?:故选|应选|所以选|因此选)(?!项)"
    r"|(?:正确的?|对应)选项\s*+(?:[是为:：]\s*+)?(?=[(（]?(?-i:[A-Z]))",
    re.IGNORECASE,
)
"""`Answer:` at the start of a line, `the answer is`, 答案是, 故选, 【答案】, a line of 答案."""
_CONFIRMED = re.compile(
    r"\(?\b(?P<letter>[A-Z])\)?\**\s+is\s+(?:the\s+)?(?:correct|right|best)(?:\s+(?:answer|option|choice))?\b"
    r"|选项\s*(?P<zh>[A-Z])\s*(?:是|为)?(?:最)?正确"
)
"""`B is the correct answer`, 选项B正确: the letter stands before its marker."""
STYLES = ("final_answer", "boxed", "think_boxed")


def extract_answer(text: str, style: str) -> str | None:
    """The final answer without markdown and wrappers, or None. Linear in the length of `text`.

    Raises `ConfigError` for an unknown style. "open" responses have no final answer: None.
    """
    check_style(style)
    if style == "open":
        return None
    visible = _after_thinking(text)
    if visible is None:
        return None
    wrapped = [found[1] or found[2] or "" for found in _WRAPPED.finditer(visible)]
    if wrapped:
        visible = _WRAPPED.sub(lambda found: found[1] or found[2] or "", visible)
    visible = without_tail(visible)
    if "</" in visible or "<br" in visible:
        visible = _HTML.sub(lambda tag: "\n" if tag[0][:3].lower() == "<br" else "", visible)
    answer = _marked_answer(visible) if style == "final_answer" else _boxed_answer(visible)
    if answer is None and wrapped:
        return _boxed_answer(wrapped[-1]) if _BOX.search(wrapped[-1]) else tidy(wrapped[-1])
    return answer


def check_style(style: str) -> None:
    """Raise `ConfigError` unless a style is one of `STYLES` or "open"."""
    if style not in (*STYLES, "open"):
        raise ConfigError(f"answer style {style!r} is unknown: use one of {', '.join(STYLES)}")


def without_tail(text: str) -> str:
    """A text without closing tokens and good wishes at its end."""
    while True:
        head, tail = text[:-_TAIL], text[-_TAIL:]
        shorter = head + _WISHES.sub("", _CLOSING_TOKEN.sub("", tail.rstrip()))
        if len(shorter.rstrip()) == len(text.rstrip()):
            return text
        text = shorter.rstrip()


def _after_thinking(text: str) -> str | None:
    """The text outside think blocks; None if one is left open."""
    found = thought_of(text)
    if found is None:
        return None if open_thought(text) else text
    return text[found[2] :]


def thought_of(text: str) -> tuple[int, int, int] | None:
    """Where a finished thought begins and ends, and where what follows its closing tag begins.

    None without one. Before the last closing tag lies thinking: the opening one may be in the
    prompt.
    """
    tags = _think_tags(text)
    if not tags or not tags[-1][1]:
        return None
    first = tags[0]
    return 0 if first[1] else first.end(), tags[-1].start(), tags[-1].end()


def open_thought(text: str) -> str:
    """The end of a text from a tag on that opens a thought and leaves it open; "" if none does."""
    tags = _think_tags(text)
    return text[tags[-1].start() :] if tags and not tags[-1][1] else ""


def opened_by(prompt: str) -> str:
    """`<think>\\n` at the very end of a prompt that opens the thought of its response; else ""."""
    found = open_thought(prompt)
    return found if len(found.split()) == 1 else ""


def _think_tags(text: str) -> list[re.Match[str]]:
    return list(_THINK.finditer(text)) if "<" in text or "◁" in text else []


def _boxed_answer(text: str) -> str | None:
    """The last box; boxes that are joined by "and", "or" or a comma are one list."""
    boxes = list(_BOX.finditer(text))[-_MAX_BOXES:]
    last = _box_at(text, boxes[-1].end()) if boxes else None
    if last is None:
        return None
    answers, start = [last[0]], boxes[-1].start()
    for found in boxes[-2::-1]:
        box = _box_at(text[:start], found.end())
        if box is None or not _JOINS.fullmatch(text[box[1] : start]):
            break
        answers.insert(0, box[0])
        start = found.start()
    return tidy(", ".join(answers))


_MAX_BOXES = 12
_JOINS = re.compile(r"[\s$)(\\]*(?:,|、|;|\band\b|\bor\b|和|或)[\s$()\\]*(?:[a-z]\s*=\s*)?")


def _box_at(text: str, at: int) -> tuple[str, int] | None:
    """What a box holds whose macro ends here, and where it ends; None if it is left open."""
    if text[at : at + 1] != "{":
        found = re.compile(r"[0-9A-Za-z]+").match(text, at)
        return (found[0], found.end()) if found else None
    end = closing_bracket(text, at)
    return None if end < 0 else (text[at + 1 : end], end + 1)


def _marked_answer(text: str) -> str | None:
    """What follows the last marker. `The answer is` counts only where `Final answer` is absent."""
    ends = (max(map(re.Match.end, mark.finditer(text)), default=0) for mark in (_STRONG, _WEAK))
    start = next(ends) or next(ends)
    if not start:
        return _confirmed_letter(text)
    answer = _first_piece(text[start:])
    if answer is None or (answer.rstrip("*_ ").endswith((":", "：")) and not _OPTION.match(answer)):
        return None  # 【答案】首先，解方程组：
    return _boxed_answer(answer) if _BOX.search(answer) else tidy(answer)


def _confirmed_letter(text: str) -> str | None:
    """The one letter that is said to be correct, or the option that a colon sets apart at the very
    end; else None."""
    letters = {found["letter"] or found["zh"] for found in _CONFIRMED.finditer(text)}
    if len(letters) == 1:
        return letters.pop()
    lines = [line for line in text[-_LAST_LINES:].split("\n") if line.strip()]
    set_apart = (
        len(lines) > 1 and lines[-2].rstrip().endswith((":", "：")) and _LINE.match(lines[-1])
    )
    return tidy(lines[-1]) if set_apart else None


_LAST_LINES = 1000
_LINE = re.compile(r"\s*\([A-Z]\)\s*\S")  # The climate is:\n(C) temperate


_LINES = (("\\[", "\\]"), ("$$", "$$"), ("\\begin{", "\\end{"), ("```", "```"))
_LEADING_DRESS = re.compile(r"[*_#`~:：\s]*")
_DRESS_OF_LINE = re.compile(r"(?:[*_#>`~:：\s]|-(?=[-\s]))*")
"""Marks of quotations and lists only begin a line: behind the marker `- 12` has a sign."""
_OPTION = re.compile(r"\s*[(（]?([A-Z])[)）.:：]")


def _first_piece(text: str) -> str | None:
    """The first line with content; a display formula counts as one line."""
    text = SPECIAL_TOKEN.sub("\n", text)
    text = text[_leading_dress(text) :]
    if not text:
        return None
    for left, right in _LINES:
        end = text.find(right, len(left)) if text.startswith(left) else -1
        if end > 0:
            line = text.find("\n", end)
            return text[: line if line > 0 else len(text)]
    first, _, rest = text.partition("\n")
    letters = [found[1] if (found := _OPTION.match(line)) else "" for line in (first, rest[:80])]
    if letters == ["A", "B"]:
        return text[:MAX_OPTIONS]  # the options over again, which are no answer
    box = _BOX.search(first)
    if box is not None:  # a box may run over several lines
        close = closing_bracket(text, box.end())
        return text[: close + 1] if close > len(first) else first
    return first


MAX_OPTIONS = 2000


def _leading_dress(text: str) -> int:
    found = _LEADING_DRESS.match(text)
    end = found.end() if found else 0
    if "\n" in text[:end]:
        found = _DRESS_OF_LINE.match(text, end)
        end = found.end() if found else end
    return end


_NESTED_MARKER = re.compile(
    r"^(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is|:|：)\s*:?\s*|^(?:答案|最终答案)\s*(?:是|为|[:：])\s*",
    re.IGNORECASE,
)


_PLAIN = re.compile(r"[A-Za-z0-9]{1,20}(?: [0-9]{1,20})?\s*\Z")
_TICK = re.compile(r"(?<!\s)\s++[✓✔✅☑\ufe0f]++\Z")
_ENDS_WITH_POINTS = re.compile(r"(?:\.\.|(?:\b\w\.){2})\Z")  # an ellipsis, U.S.


def tidy(answer: str) -> str | None:
    """The answer without markdown, wrappers of LaTeX and a closing full stop; None if empty."""
    if _PLAIN.match(answer):
        return answer.strip() or None
    answer = without_tail(SPECIAL_TOKEN.sub(" ", answer)).strip()
    if "**" in answer:
        answer = re.sub(r"\A([^*]*[^*\s])\*\*(?=[\s.,])", r"\1", BOLD_INSIDE.sub(r"\1", answer))
    for _ in range(8):
        before = answer
        answer = _NESTED_MARKER.sub("", answer).strip().strip("*`").strip()
        if answer.endswith(".") and not _ENDS_WITH_POINTS.search(answer[-5:]):
            answer = answer[:-1]
        answer = _TICK.sub("", answer)
        if _left_open(answer):
            answer = answer[:-1]
        answer = _unwrap(answer.removesuffix("。").strip())
        if answer == before:
            break
    if not answer.isascii():
        answer = re.sub("[\ud800-\udfff]", "\ufffd", answer)
    return answer if answer.strip(".… $") else None


def _left_open(answer: str) -> bool:
    r"""`7)` of "(Final answer: 7)", `C}` of `\text{Answer: C}`; a half-open
    interval has its square bracket."""
    closed = answer.endswith(")") and answer.count(")") == answer.count("(") + 1
    braced = answer.endswith("}") and answer.count("}") == answer.count("{") + 1
    return (closed and len(answer) > 1 and not set("[]") & set(answer)) or braced


def _unwrap(answer: str) -> str:
    for left, right in (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$")):
        wraps = answer.startswith(left) and answer.endswith(right)
        inner = answer[len(left) : -len(right)]
        if wraps and inner and left not in inner and right not in inner:
            return inner.strip()
    return answer


_BRACKETS = {pair: re.compile(rf"\\.|[{re.escape(pair)}]", re.DOTALL) for pair in ("{}", "()")}


def closing_bracket(text: str, start: int, pair: str = "{}") -> int:
    """Index of what closes the bracket at `start`, or -1; escaped ones do not count."""
    depth = 0
    for found in _BRACKETS[pair].finditer(text, start):
        if found[0] in pair:
            depth += 1 if found[0] == pair[0] else -1
            if depth == 0:
                return found.start()
    return -1
