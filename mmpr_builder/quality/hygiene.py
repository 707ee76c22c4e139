"""What is wrong with a response, whatever its answer.

    leaked_token     a token of a chat template, or an image placeholder
    refusal          "I'm sorry, but I can't …"
    loop             it goes round in circles
    wrong_language   Chinese for an English question, or the other way round
    contradiction    the last step says 12, the final answer 13, or the letter of 13

Such a response is never chosen. One with a leaked token or a refusal is not rejected either: what
is wrong with it is not its reasoning, and a pair would teach the difference at a glance.
"""

from __future__ import annotations

import re
from fractions import Fraction

from mmpr_builder.extraction import SPECIAL_TOKEN
from mmpr_builder.quality.gate import Fault, find_loop
from mmpr_builder.records import Language

NEVER_REJECTED = frozenset({"leaked_token", "refusal"})  # Nor chosen.

_PLACEHOLDER = re.compile(
    r"<(?:image|img|video|audio|IMG_CONTEXT|image_soft_token|start_of_image|end_of_image)>"
    r"|</?(?:img|ref|box|quad)>|<\|[A-Za-z][A-Za-z0-9_]{1,40}\|>|\[/?IMG\]",
)
_HEAD = 240  # A refusal stands at the beginning of a response.
_REFUSAL = re.compile(
    r"\A\W*(?:i'?m|i am) (?:very |really |so |terribly )?sorry,? (?:but )?(?:i|as an)\b"
    r"|\A\W*(?:i apologi[sz]e|my apologies|sorry),? (?:but )?(?:i|as an)\b"
    r"|\A\W*(?:unfortunately,? )?i (?:can ?not|can'?t|am unable to|'?m unable to|am not able to)"
    r" (?:assist|help|answer|provide|fulfil|comply|do that|view|see|identify|process|analy[sz]e)"
    r"|\bas an ai(?: language)?(?: model| assistant)?,? i\b"
    r"|\bas a (?:large )?language model,? i\b",
    re.IGNORECASE,
)
_REFUSAL_ZH = re.compile(
    r"\A\W*(?:很|非常|十分)?(?:抱歉|对不起|不好意思)[，,。！]?\s*(?:但|但是|作为|我)"
    r"|\A\W*(?:作为(?:一个|一名)?(?:AI|人工智能|语言模型))"
    r"|\A\W*我(?:无法|不能)(?:回答|协助|帮助|提供|满足|查看|处理)"
)
_FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]*\$|\\\[.*?\\\]|\\\(.*?\\\)|\\[A-Za-z]+", re.DOTALL)
_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
_FOREIGN_WORD = re.compile(r"[^\W\d_\u0000-\u024f\u0370-\u03ff\u1e00-\u1eff\u3400-\u9fff]+")
_LATIN_WORD = re.compile(r"[A-Za-z]{2,}")
_LEAST_WORDS = 20
_STRANGE = 0.3  # Of the words of a response; names and quotations stay below.
_CHINESE_AT_LEAST = 0.15

_FINAL = re.compile(
    r"(?:\*\*|#+\s*)?final answer|the (?:correct )?answer is|最终答案|最后答案|答案\s*[:：是为]"
    r"|\\boxed",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"\b(?:so|therefore|thus|hence|consequently|in total|altogether|we get|this gives)\b"
    r"|因此|所以|故|从而|一共|总共|综上|可得",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"\n|[。！？；]|[.!?;](?=\s|$)")
_LAST_VALUE = re.compile(r"=\s*\$?(-?\d[\d,]*(?:\.\d+)?)\$?\s*\Z")
_ANY_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_SAYS_LAST = re.compile(
    r"(?:=|≈|\b(?:is|are|equals|be|makes|gives|to|say|guess)\b|[是为得到等于有]|大[概约])\s*"
    r"(?:(?:is|are|about|approximately|around|roughly|probably|maybe|perhaps|大[概约]|可能)\s*|[是为]\s*)*"
    r"(?P<value>[^=≈是为得到等于有]{1,80}?)[\s*_`)\]}$]*\Z",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:not|no|never|neither|too|than|except|unlike|but)\b|n't\b|[不没非无错除]|但"
)
_LONGEST_OPTION = 80
_LONGEST = 24  # Characters of a number; longer ones are no results of a step.
_SCALES = {Fraction(n) for n in (10, 100, 1000, 10_000, 10**6, 12, 24, 60, 3600, 7)}


def response_fault(
    text: str,
    *,
    question: str = "",
    language: Language = "en",
    answer: str | None = None,
    choices: tuple[str, ...] = (),
) -> Fault | None:
    """The first thing found wrong with a response, in the order of the list above, or None.

    `question` excuses tokens that it shows itself, `answer` is what was extracted as the final
    answer, `choices` are the option texts. Linear in the length of `text`.
    """
    leaked = SPECIAL_TOKEN.search(text) or _PLACEHOLDER.search(text)
    if leaked and leaked[0] not in question.replace("<image>", ""):
        return Fault("leaked_token", leaked[0])
    head = text.lstrip()[:_HEAD].replace("’", "'")
    refused = _REFUSAL.search(head) or _REFUSAL_ZH.search(head)
    if refused:
        return Fault("refusal", refused[0].strip())
    looped = find_loop(text)
    if looped is not None:
        return Fault("loop", looped)
    strange = _strange_language(text, question, language)
    if strange is not None:
        return Fault("wrong_language", strange)
    clash = contradiction(text, answer, choices)
    return Fault("contradiction", clash) if clash else None


def contradiction(text: str, answer: str | None, choices: tuple[str, ...] = ()) -> str | None:
    """How the last step of the reasoning contradicts a final answer, or None.

    Only the clear cases. An answer that is a number: the last sentence before it draws a conclusion
    and ends with "= NUMBER", that number is another one, and the answer stands neither in that
    sentence nor in the one before. Other forms of one value (rounded, per cent, another unit, the
    opposite sign) contradict nothing. A letter: that sentence ends by saying another option, denies
    nothing, and names the letter's own nowhere.
    """
    markers = list(_FINAL.finditer(text))
    if not answer or not markers:
        return None
    steps = [s.strip() for s in _SENTENCE_END.split(text[: markers[-1].start()])]
    # Marks of Markdown between the steps and the answer are no steps.
    steps = [step for step in steps if any(character.isalnum() for character in step)]
    if steps and choices:
        return _another_option(steps, answer, choices)
    value = _number(answer)
    if value is None or not steps or not _CONCLUDES.search(steps[-1]):
        return None
    found = _LAST_VALUE.search(steps[-1].rstrip("*_` )]}\\$."))
    last = _number(found[1]) if found else None
    if last is None or _same_value(last, value):
        return None
    nearby = _ANY_NUMBER.findall(" ".join(steps[-2:]))
    if any(_number(number) == value for number in nearby):
        return None
    return f"the last step gives {found[1] if found else ''}, the final answer is {answer}"


def _another_option(steps: list[str], answer: str, choices: tuple[str, ...]) -> str | None:
    from mmpr_builder.scoring.words.choice import LETTERS, match_option, read_letters

    said, letters = _SAYS_LAST.search(steps[-1]), read_letters(answer).letters
    if said is None or len(letters) != 1 or max(letters) >= len(choices):
        return None
    value, (letter,) = said["value"].strip("$*`“”\"' "), letters
    option = match_option(value, choices) if len(value) <= _LONGEST_OPTION else None
    near = " ".join(steps[-2:])
    own = choices[letter]
    if option in (None, letter) or _DENIES.search(steps[-1]) or (own and own in near):
        return None
    if re.search(rf"(?<![A-Za-z]){LETTERS[letter]}(?![A-Za-z])", near):
        return None
    return f"the last step gives {value}, the final answer is {answer} ({own})"


def _strange_language(text: str, question: str, language: Language) -> str | None:
    plain = _FORMULA.sub(" ", text)
    if plain.isascii() and language == "en":
        return None
    chinese, latin = len(_CJK.findall(plain)), len(_LATIN_WORD.findall(plain))
    foreign = len(_FOREIGN_WORD.findall(plain))
    size = chinese / 2 + latin + foreign  # Two Chinese characters are about one word.
    if size < _LEAST_WORDS:
        return None
    if language == "zh":
        share = (chinese / 2) / size
        return f"{share:.0%} Chinese" if share < _CHINESE_AT_LEAST else None
    if _CJK.search(question) or _FOREIGN_WORD.search(question):
        return None  # It asks about other scripts: an answer in them is none of our business.
    share = (chinese / 2 + foreign) / size
    return f"{share:.0%} not in Latin script" if share > _STRANGE else None


def _number(text: str) -> Fraction | None:
    plain = text.strip().strip("$").strip().replace(",", "")
    if len(plain) > _LONGEST or not re.fullmatch(r"-?\d+(?:\.\d+)?", plain, re.ASCII):
        return None
    return Fraction(plain)


def _same_value(one: Fraction, other: Fraction) -> bool:
    """Equal, or the same but for rounding, sign or unit."""
    one, other = abs(one), abs(other)
    if one == other:
        return True
    large, small = max(one, other), min(one, other)
    if small == 0:
        return False
    return (
        large / small in _SCALES
        or large - small <= large * Fraction(1, 50)
        or ((one.denominator > 1 or other.denominator > 1) and large - small < 1)
    )
