"""A clear majority of the answers as the truth of a closed question that has none.

    24 of 32 answers say 7, 1 of 8 blind ones     answers=("7",), truth_source "majority"
    24 of 32 answers say 7, 6 of 8 blind ones     none: that is known, or guessed, without looking
    14 of 32 answers say 7                        none: "no_majority"

The test is that for suspect truths (`quality.suspects`) turned round: so many votes for one answer
as draws would give once in a thousand times. Where half of the samples without the image give the
same answer, or a question with images has none of them, nothing is taken. A model that is wrong and
sure is not found out; majorities as truths: arXiv 2512.05145.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import replace

from mmpr_builder.config import Config, asks_majority
from mmpr_builder.extraction import extract_answer
from mmpr_builder.pairing.pooled import PooledRollout
from mmpr_builder.pairing.verdicts import Scores, asked_of, right_with, scorer_for
from mmpr_builder.quality.suspects import CONTROL, agreement
from mmpr_builder.records import Rollout, Verdict


def settled(rollout: Rollout, config: Config, judge: Scores) -> Rollout:
    """The rollout with the majority of its answers as its truth where it is to have one, or why it
    has none; every other one, and a pooled one, as it is."""
    seed = rollout.seed
    if isinstance(rollout, PooledRollout) or rollout.error or not asks_majority(seed, config):
        return rollout

    is_right = right_with(judge, asked_of(seed, scorer_for(seed, config), rollout.style))

    @functools.cache
    def judged(text: str) -> Verdict:
        """An answer that can be compared counts as one that is not the truth."""
        answer = extract_answer(text, rollout.style) or None
        comparable = answer is not None and is_right(answer, answer)
        return Verdict("incorrect" if comparable else "undecided", answer)

    verdicts = [judged(response.text) for response in rollout.responses]
    said = Counter(verdict.answer for verdict in verdicts if verdict.answer)
    # Whether its answers are offered (yes, B) is read off them, as it has no truth.
    offers = replace(seed, answers=tuple(answer for answer, _ in said.most_common(1)))
    found = agreement(offers, verdicts, is_right, CONTROL)
    if found is None:
        return replace(rollout, seed=replace(seed, truth_source="no_majority"))
    blind = filter(None, (extract_answer(r.text, rollout.style) for r in rollout.blind))
    shared = sum(is_right(answer, found.answer) for answer in blind)
    if seed.images and 2 * shared >= len(rollout.blind):
        return replace(rollout, seed=replace(seed, truth_source="majority_blind"))
    return replace(rollout, seed=replace(seed, answers=(found.answer,), truth_source="majority"))
