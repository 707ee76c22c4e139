"""Steps: where those of a response end, and the first one from which no way leads to the truth.

    Row 1: a red circle.\\n | Row 2: two squares.\\n | Three in all.\\n | Final answer: 4
    12 of 16 get there        0 of 16                  0 of 16           wrong

A step ends with a line, with a sentence, or with a text of one's own (`steps.cut`); of a response
with more than twelve neighbours are joined. From its end the same model goes on, with the image. A
step is right if any continuation gets to a right answer, and wrong if all end in another one or in
none; VisualPRM's labels (arXiv 2503.10291) are made so, with 16 continuations. What leads to a
right answer from a later step does so from an earlier one, too: no step of a right response is
wrong, and what two responses begin with is worth the same in both.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from mmpr_builder.config import Config
from mmpr_builder.records import Continuation, Response, Seed, Verdict

MOST = 12
"""Steps of a response (arXiv 2503.10291)."""

MIDDLE = 0.5
"""What is kept of a right response whose faithfulness is measured; steps are counted from 1."""

Gap = tuple[int, int]
"""Where a step ends in a text, and where the next one begins: blanks lie between."""
Label = bool | None
"""Whether a step is right; None: not known."""

_ENDS = {
    "lines": r"\n",
    "sentences": r"[.!?][\"')\]*_]{0,4}(?=\s)|[。！？][”’」』）*]{0,4}|\n",
}

_TAG = re.compile(r"\s*<[^<>\s]{1,20}>")  # What opens a thought is no step of its own.


def wants_steps(seed: Seed, config: Config) -> bool:
    """Whether a seed's responses are continued from their steps: only with a truth to judge by."""
    return config.steps.is_on and seed.has_truth


def most_continuations(config: Config) -> int:
    """How many continuations from steps, and from the middle, one seed can take."""
    steps, middle = config.steps, config.steps.faithful * config.sampling.n
    if steps.apply == "none":
        return middle
    # By bisection, and once more for a way on from the last right step.
    places = MOST - 1 if steps.apply == "exact" else math.ceil(math.log2(MOST)) + 1
    return min(steps.responses, config.sampling.n) * places * steps.samples + middle


def gaps_of(text: str, cut: str) -> list[Gap]:
    """The gaps between the steps of a text; one less than it has steps."""
    found, start = [], 0
    for match in re.finditer(rf"(?:{_ENDS.get(cut) or re.escape(cut)})\s*", text):
        end = match.end()
        left = end
        while left > start and text[left - 1].isspace():
            left -= 1
        if left > start and end < len(text) and not _TAG.fullmatch(text, 0, left):
            found.append((left, end))
        start = end
    steps = len(found) + 1
    if steps <= MOST:
        return found
    return [found[round(number * steps / MOST) - 1] for number in range(1, MOST)]


def steps_of(text: str, cut: str) -> list[str]:
    """The steps themselves, without the blanks between them."""
    edges = [0, *(place for gap in gaps_of(text, cut) for place in gap), len(text)]
    return [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]


def tried(responses: Sequence[Response], verdicts: Sequence[Verdict], most: int) -> list[int]:
    """The responses whose steps are tried, by index: finished and decided ones, wrong and right in
    turn, each text once."""
    lanes: dict[bool, dict[str, int]] = {False: {}, True: {}}
    for index, (response, verdict) in enumerate(zip(responses, verdicts, strict=True)):
        if response.finish_reason == "stop" and verdict.outcome != "undecided":
            lanes[verdict.outcome == "correct"].setdefault(response.text, index)
    turns = zip_longest(lanes[False].values(), lanes[True].values())
    return sorted([index for turn in turns for index in turn if index is not None][:most])


def is_right(finish_reason: str, verdict: Verdict | None) -> Label:
    """Whether a text gets to a right answer; one that was cut might have got there."""
    if verdict is None or verdict.outcome == "undecided":
        return None
    return True if verdict.outcome == "correct" else False if finish_reason == "stop" else None


def label_of(ends: Sequence[Label]) -> Label:
    """Whether a step is right, from where its continuations end."""
    return True if True in ends else False if ends and None not in ends else None


def ends_from(continuations: Iterable[Continuation], step: float) -> list[Label]:
    """Where the judged continuations from the end of a step (the first is 1), or `MIDDLE`, get."""
    return [is_right(c.finish_reason, c.verdict) for c in continuations if c.keep == step]


def faithfulness(response: Response) -> float | None:
    """The share of the judged continuations from a right response's middle that get to a right
    answer, too: low where it was a guess (self-consistency sampling, arXiv 2511.10648). None
    without any."""
    ends = [end for end in ends_from(response.with_image, MIDDLE) if end is not None]
    return sum(ends) / len(ends) if ends else None


def shares_beginning(texts: Iterable[str], text: str, gap: Gap) -> bool:
    """Whether one of these texts has the same steps up to a gap."""
    return any(other.startswith(text[: gap[1]]) for other in texts)


def labels_of(response: Response, verdict: Verdict, cut: str, right: Sequence[str]) -> list[Label]:
    """Whether each step of a judged response is right; `right` are the seed's right texts."""
    gaps = gaps_of(response.text, cut)
    own = defaultdict(list)
    for continuation in response.with_image:
        own[continuation.keep].append(is_right(continuation.finish_reason, continuation.verdict))
    found = [
        True if shares_beginning(right, response.text, gap) else label_of(own[step])
        for step, gap in enumerate(gaps, 1)
    ]
    found.append(is_right(response.finish_reason, verdict))
    for step in reversed(range(len(gaps))):
        found[step] = True if found[step + 1] else found[step]
    for step in range(1, len(found)):
        if found[step] is None and found[step - 1] is False:
            found[step] = False
    return found


def first_wrong(labels: Sequence[Label]) -> int | None:
    """How many right steps stand before the first wrong one; None where that is not certain."""
    wrong = labels.index(False) if False in labels else 0
    return wrong if False in labels and None not in labels[:wrong] else None
