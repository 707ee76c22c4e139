"""Which responses can stand on which side of a pair.

    correct, finished                     chosen
    incorrect, finished                   rejected, kind "correctness"
    no final answer, finished             rejected, kind "format"
    not right, cut at max_tokens          rejected, kind "truncated"
    a response and its own continuation   chosen and rejected, kind "dropout_ntp"
    from before the first wrong step of a wrong response a continuation that gets to a right
      answer, and the response            chosen and rejected, kind "step"
    the better and the worse of two texts, to a judge that was asked in both orders
                                          chosen and rejected, kind "judged"

All sides are distinct texts, in an order drawn by a hash of the seed's id, the texts and the random
seed, whatever the order of the responses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from mmpr_builder.config import PairingConfig
from mmpr_builder.quality.filters import Filtered
from mmpr_builder.records import (
    IMAGE_PLACEHOLDER,
    Continuation,
    Kind,
    Response,
    Seed,
    Verdict,
    content_id,
)
from mmpr_builder.steps import faithfulness


@dataclass(frozen=True, slots=True)
class Material:
    """What the pairs of one seed are made of; `verdicts` and `models` (needed for
    `pairing.chosen_from` and `rejected_from` only) are parallel to `responses`."""

    seed: Seed
    responses: Sequence[Response]
    verdicts: Sequence[Verdict]
    policy: PairingConfig
    models: Sequence[str] = ()
    rng_seed: int = 0
    filtered: Filtered = field(default_factory=Filtered)
    even: float | None = None
    """Tolerance within which the two sides are to be equally long; None: they need not."""

    def judged(self) -> Iterator[tuple[int, Response, Verdict]]:
        """Each response with its index and its verdict."""
        for index, response in enumerate(self.responses):
            yield index, response, self.verdicts[index]

    def may_be_chosen(self, index: int) -> bool:
        """Whether the model of a response may write the chosen side, or a DropoutNTP pair."""
        wanted = self.policy.chosen_from
        return not wanted or self.models[index] in wanted

    def may_be_rejected(self, index: int) -> bool:
        wanted = self.policy.rejected_from
        return not wanted or self.models[index] in wanted

    def may_stand(self, index: int) -> bool:
        """Whether a response may stand where its verdict puts it."""
        if self.verdicts[index].outcome in ("incorrect", "no_answer"):
            return self.may_be_rejected(index)
        return self.may_be_chosen(index)

    def of_any_length(self) -> Material:
        """The same without any wish about lengths."""
        partner = "spread" if self.policy.partner == "like_length" else self.policy.partner
        free = self.policy.model_copy(update={"max_gap": None, "partner": partner})
        return replace(self, policy=free, even=None)

    def of_any_model(self) -> Material:
        """The same where every model may write both sides."""
        free = self.policy.model_copy(update={"chosen_from": (), "rejected_from": ()})
        return replace(self, policy=free)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a candidate pair: a text, as it is compared (`normal`), where it comes from, its
    answer, and of a continuation the ratio that was kept, or the steps."""

    kind: Kind
    text: str
    normal: str
    answer: str | None
    tokens: int
    index: int
    finish_reason: str
    keep: float | None = None
    faithfulness: float | None = None


Candidate = tuple[Side, Side]
"""(chosen, rejected): two texts that can become a pair."""


def sides_of(material: Material) -> tuple[list[Side], list[Side], list[Candidate]]:
    """Distinct texts to choose and to reject against each other, and the candidates of responses
    with their own continuations: DropoutNTP and steps."""
    positives, negatives = [], []
    for index, response, verdict in material.judged():
        if is_positive(response, verdict):
            positives.append(_side("correctness", index, response, verdict))
        elif (kind := negative_kind(response, verdict)) is not None:
            negatives.append(_side(kind, index, response, verdict))
    # A text that is right once is no negative, whichever model wrote it.
    right = {side.normal for side in positives}
    positives = [side for side in positives if material.may_be_chosen(side.index)]
    negatives = [
        side
        for side in negatives
        if material.may_be_rejected(side.index) and side.normal not in right
    ]
    # Only one of equal texts was continued.
    faith = {side.text: side.faithfulness for side in positives if side.faithfulness is not None}
    positives = [replace(side, faithfulness=faith.get(side.text)) for side in positives]
    filtered, kinds = material.filtered, material.policy.kinds
    return (
        [side for side in _distinct(positives, material) if side.text not in filtered.chosen],
        [
            side
            for side in _distinct(negatives, material)
            if side.kind in kinds and side.text not in filtered.rejected
        ],
        [
            *(_judged(material) if "judged" in kinds else ()),
            *(_continued(material) if "dropout_ntp" in kinds else ()),
            *(_stepped(material, right) if "step" in kinds else ()),
        ],
    )


def _continued(material: Material) -> list[Candidate]:
    """Usable responses with their own continuations, drawn from all ratios."""
    found: list[Candidate] = []
    filtered = material.filtered.continuations
    for index, response, verdict in material.judged():
        for continuation in usable_continuations(material.seed, response, verdict):
            if (index, continuation.keep) in filtered:
                continue
            whole = _side("dropout_ntp", index, response, verdict)
            found.append((whole, _continued_side("dropout_ntp", index, response, continuation)))
    ordered = _in_rounds(material, found, place=0)
    return [one for one in ordered if material.may_be_chosen(one[0].index)]


def _judged(material: Material) -> list[Candidate]:
    """Texts of an open question of which a judge found one better, in both orders. A continuation
    without the image is never chosen."""
    found: list[Candidate] = []
    filtered, judged = material.filtered, [] if material.seed.has_truth else [*material.judged()]
    whole = {content_id(r.text): _side("judged", i, r, v) for i, r, v in reversed(judged)}
    for index, response, _ in judged:
        for one in response.compared:
            sides = whole[content_id(response.text)], whole.get(one.other)
            for own in response.continuations:
                kept = (index, own.keep) not in filtered.continuations
                if one.other == content_id(own.prefix + own.text) and kept:
                    sides = sides[0], _continued_side("judged", index, response, own)
            chosen, rejected = sides[::-1] if one.outcome == "worse" else sides
            if one.outcome not in ("better", "worse") or chosen is None or rejected is None:
                continue
            clean = chosen.text not in filtered.chosen and rejected.text not in filtered.rejected
            fit = material.may_be_chosen(chosen.index) and material.may_be_rejected(rejected.index)
            if clean and fit and chosen.keep is None:
                found.append((chosen, rejected))
    return _in_rounds(material, found, place=0)


def _stepped(material: Material, right: Collection[str]) -> list[Candidate]:
    """Wrong responses with what goes on rightly from before their first wrong step; a text that is
    a right response too (`right`) meets them as such."""
    found: list[Candidate] = []
    filtered = material.filtered
    for index, response, verdict in material.judged():
        fit = material.may_be_chosen(index) and material.may_be_rejected(index)
        if not response.first_wrong or response.text in filtered.rejected or not fit:
            continue
        if negative_kind(response, verdict) not in ("correctness", "format"):
            continue
        for continuation in response.with_image:
            one = _continued_side("step", index, response, continuation)
            text = continuation.prefix + continuation.text
            if continuation.keep != response.first_wrong or continuation.verdict is None:
                continue
            ended = replace(response, text=text, finish_reason=continuation.finish_reason)
            usable = is_positive(ended, continuation.verdict) and text not in filtered.chosen
            if usable and one.normal not in right:
                found.append((one, _side("step", index, response, verdict)))
    return _in_rounds(material, found, place=1)


def _in_rounds(material: Material, candidates: Iterable[Candidate], place: int) -> list[Candidate]:
    """Each pair of texts once; each distinct response, which stands at this place, comes once
    before any comes a second time."""
    found: dict[tuple[str, str], Candidate] = {}
    for one in candidates:
        texts = (one[0].normal, one[1].normal)
        # Of equal texts the same one, whatever the order they came in.
        found[texts] = min(found.get(texts, one), one, key=_by_texts)
    used: Counter[str] = Counter()
    rounds: list[tuple[int, Candidate]] = []
    # Backwards: where both branches share a seed, this one begins with other positives.
    for texts in sorted(found, key=lambda texts: _draw(material, *texts), reverse=True):
        rounds.append((used[texts[place]], found[texts]))
        used[texts[place]] += 1
    rounds.sort(key=lambda numbered: numbered[0])
    return [one for _, one in rounds]


def continuation_outcomes(material: Material) -> Iterator[tuple[float, str]]:
    """(ratio kept, why it is not fit to be rejected; "" if it is) of each continuation."""
    filtered = material.filtered.continuations
    for index, response, verdict in material.judged():
        for continuation in response.continuations:
            own = unusable_with(material.seed, response, verdict, continuation)
            yield continuation.keep, own or filtered.get((index, continuation.keep), "")


def unusable(seed: Seed, response: Response, verdict: Verdict) -> str | None:
    """Why a response makes no DropoutNTP pair, by its first continuation; None if it makes one."""
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
    """Why a response and this continuation of it make no DropoutNTP pair; None if they do. Where a
    judge has decided on both, it is by what it says."""
    fault = _unusable_response(seed, response, verdict)
    if fault is not None:
        return fault
    if continuation.finish_reason != "stop":
        return "continuation_unfinished"
    if not continuation.text.strip():
        return "continuation_empty"
    text = continuation.prefix + continuation.text
    if not _can_be_trained_on(text):
        return "continuation_unusable"
    if normal(text) == normal(response.text):
        return "continuation_equal"
    decided = (one.other for one in response.compared if one.outcome in ("better", "worse"))
    return "continuation_judged" if any(other == content_id(text) for other in decided) else None


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


def normal(text: str) -> str:
    """A text with its blanks alike: texts that differ in nothing else are the same text."""
    return " ".join(text.split())


def _can_be_trained_on(text: str) -> bool:
    """Neither blank nor with an image placeholder, for which trainers would want an image."""
    return bool(text.strip()) and IMAGE_PLACEHOLDER not in text


def _distinct(sides: list[Side], material: Material) -> list[Side]:
    """One side per text (blanks aside), in the order of a hash of seed, text and `rng_seed`."""
    kept: dict[str, Side] = {}
    for side in sorted(sides, key=_by_text):
        kept.setdefault(side.normal, side)
    return sorted(kept.values(), key=lambda side: _draw(material, side.normal))


def _draw(material: Material, *texts: str) -> str:
    return content_id(str(material.rng_seed), material.seed.id, *texts)


def _side(kind: Kind, index: int, response: Response, verdict: Verdict) -> Side:
    text, tokens, finish = response.text, response.tokens, response.finish_reason
    faith = faithfulness(response) if verdict.outcome == "correct" else None
    return Side(kind, text, normal(text), verdict.answer, tokens, index, finish, faithfulness=faith)


def _continued_side(kind: Kind, index: int, response: Response, continuation: Continuation) -> Side:
    text, tokens = continuation.prefix + continuation.text, joined_tokens(response, continuation)
    finish, keep = continuation.finish_reason, continuation.keep
    answer = None if continuation.verdict is None else continuation.verdict.answer
    return Side(kind, text, normal(text), answer, tokens, index, finish, keep)


def _by_text(side: Side) -> tuple[str, str, int, str, str, float]:
    """All of a side but its index: equal texts can differ in their tokens, for one."""
    answer, keep = side.answer or "", side.keep or 0.0
    return side.text, side.kind, side.tokens, side.finish_reason, answer, keep


def _by_texts(candidate: Candidate) -> tuple[tuple[str, str, int, str, str, float], ...]:
    chosen, rejected = candidate
    return _by_text(chosen), _by_text(rejected)
