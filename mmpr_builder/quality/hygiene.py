"""What is wrong with a response, whatever its answer, and with its continuations.

    leaked_token     a token of a chat template, or an image placeholder
    refusal          "I'm sorry, but I can't …"
    loop             it goes round in circles
    wrong_language   Chinese for an English question, or the other way round
    contradiction    the last step says 12, the final answer 13, or the letter of 13

Such a response is never chosen. One with a leaked token or a refusal is not rejected either: what
is wrong with it is not its reasoning, and a pair would teach the difference at a glance.

Of a DropoutNTP continuation (that equal the response, were cut, or are still right, pairing itself
looks for):

    near_equal       it says what the response itself said: nothing to learn from the pair
    missing_image    "I cannot see the image": true without one, and no error to learn from
    loop             "the area is 12, so the area is 12, so the area is 12, so …"
    runaway          several times as long as what it stands for
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from mmpr_builder.extraction import SPECIAL_TOKEN
from mmpr_builder.quality.likeness import similarity, words
from mmpr_builder.records import Continuation, Language, Response

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
    r"(?:\*\*|(?<!#)#++\s*+)?final answer|the (?:correct )?answer is|最终答案|最后答案"
    r"|答案\s*[:：是为]|\\boxed",
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
    r"(?:=|≈|\b(?:is|are|equals|be|makes|gives|to|say|guess)\b|[是为得到等于有]|大[概约])\s*+"
    r"(?:(?:is|are|about|approximately|around|roughly|probably|maybe|perhaps|大[概约]|可能|[是为])\s*+)*"
    r"(?P<value>[^=≈是为得到等于有]{0,79}?[^=≈是为得到等于有\s*_`)\]}$])[\s*_`)\]}$]*+\Z",
    re.IGNORECASE,
)
_DENIES = re.compile(
    r"\b(?:not|no|never|neither|too|than|except|unlike|but)\b|n't\b|[不没非无错除]|但"
)
_LONGEST_OPTION = 80
_LONGEST = 24  # Characters of a number; longer ones are no results of a step.
_SCALES = {Fraction(n) for n in (10, 100, 1000, 10_000, 10**6, 12, 24, 60, 3600, 7)}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a text: `reason` is a word for counting, `detail` says it."""

    reason: str
    detail: str


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


LONGEST_PERIOD = 64
"""Words in the longest run that is looked for."""
_LOOP_WORDS = 24  # A loop is at least so long; "red circle, red circle, red circle" is a row.
_LEAST_TURNS = 4
_LEAST_NUMBERS = 80  # Tables, matrices and digits of a number repeat without going in circles.
_SAME_SENTENCES = 5
_SENTENCE_WORDS = 8
_ANY_END = re.compile(r"[\n。！？]|[.!?](?=\s|$)")


def find_loop(text: str) -> str | None:
    """The words that repeat (at most 12 of them), or None. Linear in the length of `text`.

    A loop is a run of 1 to 64 words four times or more in a row that fills 24 words (80 if they are
    numbers only), or a sentence of 8 words or more that stands there five times.
    """
    whole = words(text)
    all_words = [word for word in whole if word.isalnum()]
    ids = {word: number for number, word in enumerate(dict.fromkeys(all_words))}
    sequence = np.fromiter((ids[word] for word in all_words), np.int64, len(all_words))
    again = len(all_words) - len(ids)  # Words that stood there before, as all of a run's do.
    for period in range(1, min(LONGEST_PERIOD, len(all_words) // _LEAST_TURNS) + 1):
        needed = max(_LOOP_WORDS - period, (_LEAST_TURNS - 1) * period)
        if again < needed:
            continue
        same = sequence[period:] == sequence[:-period]
        if np.count_nonzero(same) < needed:
            continue
        end, length = _longest_run(same)
        turn = all_words[end : end + period]
        least = _LEAST_NUMBERS if all(word.isdecimal() for word in turn) else _LOOP_WORDS
        if length + period >= max(least, _LEAST_TURNS * period):
            return " ".join(turn[:12])
    if len(whole) < _SAME_SENTENCES * _SENTENCE_WORDS:
        return None
    return _repeated_sentence(text)


def _longest_run(flags: Any) -> tuple[int, int]:
    """(start, length) of the longest run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest] - starts[longest])


def _repeated_sentence(text: str) -> str | None:
    counts = Counter(words(sentence) for sentence in _ANY_END.split(text))
    for sentence, count in counts.items():
        if count >= _SAME_SENTENCES and len(sentence) >= _SENTENCE_WORDS:
            return " ".join(sentence[:12])
    return None


NEAR_EQUAL = 0.9
"""Share of words in common with the part of the response that was cut off."""
RUNAWAY_FACTOR = 4.0
"""Longest continuation, as a multiple of what was cut off."""
RUNAWAY_TOKENS = 256
"""Below so many tokens a continuation is not called a runaway, whatever it stands for."""

_PICTURE = r"(?:image|picture|photo|photograph|figure|diagram|chart)s?"
_SHOWN = r"(?:provided|attached|available|visible|included|uploaded|supplied|given|shown|displayed)"
_DET = r"(?:the |an? |any |this |that |your |actual |provided |attached |original )*"
_ENGLISH = re.compile(
    rf"(?:can ?not|can'?t|could not|couldn'?t|unable to|not able to|don'?t|do not|didn'?t)"
    rf" (?:actually |directly |currently )?(?:see|view|access|open|have access to|receive|load)"
    rf" {_DET}{_PICTURE}\b(?! of| with| showing)"
    rf"|\b(?:no|without) {_DET}{_PICTURE} (?:was |is |were |has been |have been |being )?{_SHOWN}"
    rf"|there (?:is|was|seems to be|appears to be) no {_DET}{_PICTURE}(?: {_SHOWN}|\s*[.,;:!]|\s*$)"
    rf"|{_PICTURE} (?:is|was|are|were|seems to be|appears to be|has been)"
    rf" (?:missing|not (?:been )?{_SHOWN}|unavailable)"
    rf"|please (?:provide|upload|attach|share|send)(?: me| us)? {_DET}{_PICTURE}\b"
    rf"|(?:without|no access to|unless) (?:i |we )?(?:seeing|viewing|access to|having|being able to"
    rf" (?:see|view)|can (?:see|view))? ?{_DET}{_PICTURE}, i (?:can|could|am|will)"
    rf"|since (?:there is no|i (?:have no|lack)) {_DET}{_PICTURE}"
    rf"|(?:based on|from) the (?:text|description) alone,? (?:as|since|because)"
    rf" .{{0,40}}{_PICTURE}",
    re.IGNORECASE,
)
_TU = r"(?:图片|图像|照片|图形|题图|插图)"
_CHINESE = re.compile(
    rf"(?:没有|未能?|并未|尚未)(?:提供|看到|看见|收到|上传|附上|给出|附)(?:任何|该|这张|相关|具体)?的?{_TU}"
    rf"|(?:无法|不能|没法|没办法)(?:直接|实际)?(?:看到|看见|查看|访问|获取|打开|加载|显示)"
    rf"(?:这张|该|任何|到|您提供的|你提供的|您上传的|题目中的)?{_TU}"
    rf"|看不(?:到|见)(?:这张|该|任何|您提供的|题目中的)?{_TU}"
    rf"|{_TU}(?:缺失|丢失|未(?:能)?(?:提供|上传|显示|加载|给出)|没有(?:提供|上传|显示|加载|给出)"
    rf"|无法(?:显示|查看|看到|加载))"
    rf"|请(?:您|你)?(?:先|重新)?(?:提供|上传|发送|附上)(?:一张|这张|该)?(?:相关|清晰|完整)?的?{_TU}"
    rf"|(?:由于|因为)(?:我)?(?:没有|缺少|缺乏|不存在){_TU}"
)


def misses_image(text: str) -> str | None:
    """The words with which a text says that it has no image, in English or Chinese, or None."""
    found = _ENGLISH.search(text.replace("’", "'")) or _CHINESE.search(text)
    return found[0] if found else None


def continuation_fault(response: Response, continuation: Continuation) -> Fault | None:
    """Why what a continuation adds to a response is not fit to be rejected; None if it is.

    Where the response itself speaks of a missing image, so may its continuation.
    """
    missed = misses_image(continuation.text)
    if missed is not None and misses_image(response.text) is None:
        return Fault("missing_image", missed)
    looped = find_loop(continuation.text)
    if looped is not None:
        return Fault("loop", looped)
    rest = response.text.removeprefix(continuation.prefix)
    alike = similarity(words(continuation.text), words(rest), NEAR_EQUAL) if rest.strip() else 0.0
    if alike >= NEAR_EQUAL:
        return Fault("near_equal", f"{alike:.2f} of the words in common")
    share = min(1.0, len(rest) / max(1, len(response.text)))
    expected = max(1.0, share * response.tokens)
    if continuation.tokens > max(RUNAWAY_TOKENS, RUNAWAY_FACTOR * expected):
        return Fault("runaway", f"{continuation.tokens} tokens for {expected:.0f}")
    return None
