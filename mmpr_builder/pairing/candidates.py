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

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mmpr_builder.pairing.writers import ALL, Eligible
from mmpr_builder.records import (
    IMAGE_PLACEHOLDER,
    Continuation,
    Kind,
    Response,
    Seed,
    Verdict,
    content_id,
)


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
