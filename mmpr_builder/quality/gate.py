"""Faults of DropoutNTP continuations, and what they share with other filters: loops, near-copies.

    near_equal      it says what the response itself said: nothing to learn from the pair
    missing_image   "I cannot see the image": true without one, and no error to learn from
    loop            "the area is 12, so the area is 12, so the area is 12, so …"
    runaway         several times as long as what it stands for

Pairing itself looks for continuations that equal the response, were cut, or are still right
(pairing/candidates.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmpr_builder.quality.likeness import in_order, similarity, words
from mmpr_builder.records import Continuation, Response

LONGEST_PERIOD = 64
"""Words in the longest run that is looked for."""
_LEAST_WORDS = 24  # A loop is at least so long; "red circle, red circle, red circle" is a row.
_LEAST_TURNS = 4
_LEAST_NUMBERS = 80  # Tables, matrices and digits of a number repeat without going in circles.
_SAME_SENTENCES = 5
_SENTENCE_WORDS = 8
_SENTENCE_END = re.compile(r"[\n。！？]|[.!?](?=\s|$)")


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
        needed = max(_LEAST_WORDS - period, (_LEAST_TURNS - 1) * period)
        if again < needed:
            continue
        same = sequence[period:] == sequence[:-period]
        if np.count_nonzero(same) < needed:
            continue
        end, length = _longest_run(same)
        turn = all_words[end : end + period]
        least = _LEAST_NUMBERS if all(word.isdecimal() for word in turn) else _LEAST_WORDS
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
    counts = Counter(words(sentence) for sentence in _SENTENCE_END.split(text))
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


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a text: `reason` is a word for counting, `detail` says it."""

    reason: str
    detail: str


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


def distinct_responses(texts: Sequence[str], least: float = 0.95) -> list[int]:
    """For each text the index of the one that stands for it; its own where nothing is like it.

        "There are 3 red and 2 blue ones, 5 in all."
        "There are 3 red and 2 blue ones: 5 in total."     near-copies at `least` = 0.7

    Near-copies share `least` of their words (`in_order`). Texts are taken in alphabetical order and
    join the first earlier one that they are near to, so groups do not depend on the order of
    `texts`. Quadratic in the number of distinct texts.
    """
    of_text: dict[str, int] = {}
    for index, text in enumerate(texts):
        of_text.setdefault(text, index)
    leaders: list[tuple[tuple[str, ...], int]] = []
    stands_for: dict[str, int] = {}
    for text in sorted(of_text):
        mine, own = words(text), of_text[text]
        near = (index for theirs, index in leaders if in_order(mine, theirs, least) >= least)
        stands_for[text] = next(near, own)
        if stands_for[text] == own:
            leaders.append((mine, own))
    return [stands_for[text] for text in texts]
