"""Finds texts that go round in circles: a run of words over and over again.

"the area is 12, so the area is 12, so the area is 12, so …"   -> "the area is 12 so"
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from mmpr_builder.quality.words import words

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

    A loop is a run of 1 to 64 words that comes four times or more in a row and fills 24 words (80
    if they are numbers only), or one sentence of 8 words or more that stands there five times.
    """
    import numpy as np

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
    import numpy as np

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
