"""Which responses can stand on which side of a pair.

    correct, finished                     chosen
    incorrect, finished                   rejected, kind "correctness"
    no final answer, finished             rejected, kind "format"
    not right, cut at max_tokens          rejected, kind "truncated"
    a response and its own continuation   chosen and rejected, kind "dropout_ntp"

All sides are distinct texts, in an order drawn by hash: it depends on the seed's id, the texts
and the random seed, not on the order in which responses came.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmpr_builder.config import PairingConfig
from mmpr_builder.records import (
    IMAGE_PLACEHOLDER,
    Continuation,
    Drop,
    Kind,
    Outcome,
    Response,
    Seed,
    Verdict,
    content_id,
)
from mmpr_builder.scoring.clean import MAX_CHARS
from mmpr_builder.scoring.letters import LETTERS, read_letters
from mmpr_builder.scoring.yes_no import polarity

# ---- writers
# Who may write which side of a pair: `pairing.chosen_from` and `pairing.rejected_from`.
#
#     chosen_from: [strong]   rejected_from: [weak]   a right response of strong, a wrong one of
# weak
#
# DropoutNTP pairs stay within one response, whose model is then both: `chosen_from` decides there.


@dataclass(frozen=True, slots=True)
class Eligible:
    """Indices of the responses that may stand on a side; None: all may."""

    chosen: frozenset[int] | None = None
    rejected: frozenset[int] | None = None

    def may_be_chosen(self, index: int) -> bool:
        return self.chosen is None or index in self.chosen

    def may_be_rejected(self, index: int) -> bool:
        return self.rejected is None or index in self.rejected

    def may_stand(self, index: int, outcome: Outcome) -> bool:
        """Whether a response may stand where its verdict puts it."""
        if outcome in ("incorrect", "no_answer"):
            return self.may_be_rejected(index)
        return self.may_be_chosen(index)


ALL = Eligible()


def eligible(models: Sequence[str] | None, policy: PairingConfig, seed: Seed) -> Eligible:
    """Who may stand where by `pairing.chosen_from` and `pairing.rejected_from`.

    Raises `ValueError` when these are set and nobody says who wrote the responses.
    """
    if not policy.chosen_from and not policy.rejected_from:
        return ALL
    if models is None:
        raise ValueError(
            f"seed {seed.id!r}: pairing.chosen_from or rejected_from is set, and the models that"
            " wrote the responses are not given: pass models=[…], one for each response"
        )
    sides = (
        frozenset(i for i, model in enumerate(models) if model in wanted) if wanted else None
        for wanted in (policy.chosen_from, policy.rejected_from)
    )
    return Eligible(*sides)


def not_wanted(seed: Seed, models: Sequence[str], verdicts: Sequence[Verdict]) -> Drop:
    """The drop of a seed whose pairs would all have a side by another model than asked for."""
    counts = Counter(
        (model, verdict.outcome) for model, verdict in zip(models, verdicts, strict=True)
    )
    said = ", ".join(
        f"{model}: {n} {outcome}" if seed.has_truth else f"{model}: {n}"
        for (model, outcome), n in sorted(counts.items())
    )
    return Drop(seed.id, "pairing", "model_not_wanted", f"{len(models)} responses: {said}")


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair to be: a text, where it comes from, and what was said of it."""

    kind: Kind
    text: str
    answer: str | None
    tokens: int
    index: int
    finish_reason: str
    keep: float | None = None
    """Of a continuation: the ratio that was kept."""


def two_sides(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    rng_seed: int,
    writers: Eligible = ALL,
) -> tuple[list[Side], list[Side]]:
    """Distinct positives and negatives, each in an order drawn by hash.

    `writers` says who may stand where; a text that anybody's verdict calls right is no negative.
    """
    positives, negatives = [], []
    for index, (response, verdict) in enumerate(zip(responses, verdicts, strict=True)):
        kind = negative_kind(response, verdict)
        side = _side(index, response, verdict, kind or "correctness")
        if is_positive(response, verdict):
            positives.append(side)
        elif kind is not None:
            negatives.append(side)
    taken = {normal(side.text) for side in positives}
    positives = [side for side in positives if writers.may_be_chosen(side.index)]
    negatives = [
        side
        for side in negatives
        if writers.may_be_rejected(side.index) and normal(side.text) not in taken
    ]
    return _distinct(positives, seed, rng_seed), _distinct(negatives, seed, rng_seed)


def continued(
    seed: Seed, responses: Sequence[Response], verdicts: Sequence[Verdict], rng_seed: int
) -> list[tuple[Side, Side]]:
    """DropoutNTP couples: usable responses with their own continuations.

    Each distinct response comes once, with a continuation drawn from all its ratios, before any
    comes a second time with another one.
    """
    couples: dict[tuple[str, str], tuple[Side, Side]] = {}
    for index, (response, verdict) in enumerate(zip(responses, verdicts, strict=True)):
        for continuation in usable_continuations(seed, response, verdict):
            couple = (
                _side(index, response, verdict, "dropout_ntp"),
                _continued_side(index, response, continuation),
            )
            texts = (normal(couple[0].text), normal(couple[1].text))
            # Of texts that differ in blanks only, the same one whatever the order they came in.
            couples[texts] = min(couples.get(texts, couple), couple, key=_by_texts)
    # Backwards: where both branches share a seed, this one begins with other positives.
    drawn = sorted(couples, key=lambda texts: _draw(seed, rng_seed, *texts), reverse=True)
    return [couples[texts] for texts in _one_of_each_first(drawn)]


def unusable(seed: Seed, response: Response, verdict: Verdict) -> str | None:
    """Why a response makes no DropoutNTP pair; None if it makes one.

    Where none of several continuations can be used, what is wrong with the first one.
    """
    if not response.continuations:
        return _unusable_response(seed, response, verdict) or "no_continuation"
    whys = [unusable_with(seed, response, verdict, c) for c in response.continuations]
    return None if None in whys else whys[0]


def usable_continuations(
    seed: Seed, response: Response, verdict: Verdict
) -> tuple[Continuation, ...]:
    """The continuations with which a response makes DropoutNTP pairs."""
    return tuple(
        continuation
        for continuation in response.continuations
        if unusable_with(seed, response, verdict, continuation) is None
    )


def unusable_with(
    seed: Seed, response: Response, verdict: Verdict, continuation: Continuation
) -> str | None:
    """Why a response and this continuation of it make no pair; None if they do."""
    fault = _unusable_response(seed, response, verdict)
    if fault is not None:
        return fault
    if continuation.finish_reason != "stop":
        return "continuation_unfinished"
    if not continuation.text.strip():
        return "continuation_empty"
    if not _can_be_trained_on(continuation.prefix + continuation.text):
        return "continuation_unusable"
    if normal(continuation.prefix + continuation.text) == normal(response.text):
        return "continuation_equal"
    return None


def _unusable_response(seed: Seed, response: Response, verdict: Verdict) -> str | None:
    if response.finish_reason == "length":
        return "only_truncated"
    if response.finish_reason != "stop":
        return "response_unfinished"
    if not _can_be_trained_on(response.text):
        return "response_unusable"
    if seed.has_truth and verdict.outcome != "correct":
        return "no_correct"
    return None


def is_positive(response: Response, verdict: Verdict) -> bool:
    """Whether a response may be chosen against another one."""
    return (
        verdict.outcome == "correct"
        and response.finish_reason == "stop"
        and _can_be_trained_on(response.text)
    )


def negative_kind(response: Response, verdict: Verdict) -> Kind | None:
    """The kind of pair in which a response may be rejected; None if it may not."""
    if verdict.outcome not in ("incorrect", "no_answer"):
        return None
    if not _can_be_trained_on(response.text):
        return None
    if response.finish_reason == "length":
        return "truncated"
    if response.finish_reason != "stop":
        return None  # Aborted: neither its length nor its end says anything.
    return "correctness" if verdict.outcome == "incorrect" else "format"


def joined_tokens(response: Response, continuation: Continuation) -> int:
    """Tokens of prefix + continuation; where no tokens are known, by the prefix's share of text."""
    if continuation.prefix_tokens is not None:
        return continuation.prefix_tokens + continuation.tokens
    share = len(continuation.prefix) / max(1, len(response.text))
    return round(min(1.0, share) * response.tokens) + continuation.tokens


def _can_be_trained_on(text: str) -> bool:
    """Neither blank nor with an image placeholder, for which trainers would want an image."""
    return bool(text.strip()) and IMAGE_PLACEHOLDER not in text


def _distinct(sides: list[Side], seed: Seed, rng_seed: int) -> list[Side]:
    """One side per text (blanks aside), in the order of a hash of seed, text and `rng_seed`."""
    kept: dict[str, Side] = {}
    for side in sorted(sides, key=lambda side: (side.text, side.kind)):
        kept.setdefault(normal(side.text), side)
    return sorted(kept.values(), key=lambda side: _draw(seed, rng_seed, normal(side.text)))


def _one_of_each_first(drawn: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(chosen, rejected) texts in rounds: every chosen text once, then all those left, …"""
    used: Counter[str] = Counter()
    rounds = []
    for chosen, rejected in drawn:
        rounds.append((used[chosen], chosen, rejected))
        used[chosen] += 1
    return [(chosen, rejected) for _, chosen, rejected in sorted(rounds, key=lambda r: r[0])]


def _draw(seed: Seed, rng_seed: int, *texts: str) -> str:
    return content_id(str(rng_seed), seed.id, *texts)


def _side(index: int, response: Response, verdict: Verdict, kind: Kind) -> Side:
    return Side(
        kind=kind,
        text=response.text,
        answer=verdict.answer,
        tokens=response.tokens,
        index=index,
        finish_reason=response.finish_reason,
    )


def _continued_side(index: int, response: Response, continuation: Continuation) -> Side:
    return Side(
        kind="dropout_ntp",
        text=continuation.prefix + continuation.text,
        answer=None,
        tokens=joined_tokens(response, continuation),
        index=index,
        finish_reason=continuation.finish_reason,
        keep=continuation.keep,
    )


def _by_texts(couple: tuple[Side, Side]) -> tuple[str, str, float]:
    chosen, rejected = couple
    return chosen.text, rejected.text, rejected.keep or 0.0


def normal(text: str) -> str:
    """A text with its blanks alike: texts that differ in nothing else are the same text."""
    return " ".join(text.split())


# ---- answers
# Answers that every question of their kind has, so that a habit shows: yes and no, letters.
#
# "Yes, it is."  -> yes      "是的"  -> yes      "False"  -> false
# "(B)", "B. 12 cm"  -> B    "12 cm", "yes and no"  -> None


_OPTIONS = 8
"""Letters that count where the number of options is not known: A to H."""


@functools.lru_cache(maxsize=65536)
def common_answer(answer: str | None, options: int = 0) -> str | None:
    """ "yes", "no", "true", "false", the letter of an option, or None for any other answer.

    `options` is how many the question has; 0: not known. A text that repeats an option without
    its letter is none: the habit is in the letter.
    """
    if not answer or len(answer) > MAX_CHARS:
        return None
    said = polarity(answer.strip())
    if said is not None:
        return said
    reading = read_letters(answer.strip())
    if len(reading.letters) != 1 or not reading.dressed:
        return None
    (number,) = reading.letters
    return LETTERS[number] if number < (options or _OPTIONS) else None


def common_answers(
    chosen: str | None, rejected: str | None, options: int = 0
) -> tuple[str, str] | None:
    """Both answers of a pair if they are of the same family, yes and no or letters; else None."""
    names = common_answer(chosen, options), common_answer(rejected, options)
    if names[0] is None or names[1] is None or is_letter(names[0]) != is_letter(names[1]):
        return None
    return names[0], names[1]


def is_letter(name: str) -> bool:
    """Whether a name is the letter of an option, not yes or no."""
    return len(name) == 1
