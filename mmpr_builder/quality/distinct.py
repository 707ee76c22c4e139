"""Near-copies among the responses to one question.

"There are 3 red and 2 blue ones, 5 in all."
"There are 3 red and 2 blue ones: 5 in total."     -> one group at 0.7
"""

from __future__ import annotations

from collections.abc import Sequence

from mmpr_builder.quality.words import words


def distinct_responses(texts: Sequence[str], least: float = 0.95) -> list[int]:
    """For each text the index of the one that stands for it; its own where nothing is like it.

    Two texts are near-copies if they share `least` of their words in order (insertions and
    deletions of words over both lengths). Texts are taken in alphabetical order and join the
    first earlier one that they are near to, so the groups do not depend on the order of `texts`;
    of equal texts the first index stands for all. Quadratic in the number of distinct texts.
    """
    from rapidfuzz.distance import Indel

    of_text: dict[str, int] = {}
    for index, text in enumerate(texts):
        of_text.setdefault(text, index)
    leaders: list[tuple[tuple[str, ...], int]] = []
    stands_for: dict[str, int] = {}
    for text in sorted(of_text):
        mine = words(text)
        for theirs, index in leaders:
            if Indel.normalized_similarity(mine, theirs, score_cutoff=least) >= least:
                stands_for[text] = index
                break
        else:
            leaders.append((mine, of_text[text]))
            stands_for[text] = of_text[text]
    return [stands_for[text] for text in texts]
