"""Judged responses -> chosen/rejected pairs, spread over as many different responses as there are.

    positives   correct and finished ("stop")
    negatives   incorrect and finished            kind "correctness"
                finished without a final answer   kind "format"
                cut at max_tokens                 kind "truncated" (off by default)
    dropout_ntp a finished response x its own image-free continuation

Undecided responses are on neither side. A response that was cut is a class of its own, whatever
it says: as a rejected text it teaches brevity rather than reasoning, so it is used only when
`pairing.kinds` asks for "truncated"; as a chosen text it would teach never to end, so it is never
one, even if right.

The paper pairs every positive with every negative and keeps at most 15 per query
(arXiv 2411.10442, section 7). Drawn at random from that product one response can fill all 15;
here no distinct response is used a second time before all others were used once.
"""

from __future__ import annotations

import fnmatch
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from math import lcm
from pathlib import PurePosixPath
from typing import Protocol

from mmpr_builder.config import Config, PairingConfig, SourceConfig
from mmpr_builder.pairing.candidates import Side, continued, two_sides
from mmpr_builder.pairing.pass_rate import pass_rate
from mmpr_builder.pairing.unpaired import explain
from mmpr_builder.quality import Bars, barred
from mmpr_builder.records import (
    Drop,
    Kind,
    Pair,
    Response,
    Rollout,
    Seed,
    Style,
    Verdict,
    content_id,
)

NO_TRUTH = Verdict("undecided", rule="no_truth", reason="the truth of this question is not known")


class Scores(Protocol):
    """What pairing needs of a judge (`scoring.Judge` is one)."""

    def score_response(
        self,
        text: str,
        gold: Sequence[str],
        *,
        style: Style,
        scorer: str,
        choices: Sequence[str] | None,
        question: str | None,
    ) -> Verdict: ...


def judge_and_pair(
    rollout: Rollout, config: Config, judge: Scores, *, faults: Counter[str] | None = None
) -> tuple[list[Verdict], list[Pair], list[Drop]]:
    """Score all responses of a rollout and pair them; `faults` as in `build_pairs`.

    A rollout that could not be sampled gives its error as a `Drop` of stage "sampling". Scorers
    are taken from today's config, so that a changed recipe re-scores stored rollouts.
    """
    seed = rollout.seed
    if rollout.error is not None:
        reason, detail = rollout.error
        return [], [], [Drop(seed.id, "sampling", reason, detail)]
    verdicts, responses = judge_responses(rollout, config, judge)
    pairs, drops = build_pairs(
        seed, responses, verdicts, config, rng_seed=config.pairing.seed, faults=faults
    )
    return verdicts, pairs, drops


def judge_responses(
    rollout: Rollout, config: Config, judge: Scores
) -> tuple[list[Verdict], tuple[Response, ...]]:
    """Score the responses of a rollout; returns them as pairing may use them, too.

    Blocks for as long as the judge takes. Without a truth nothing is scored.
    """
    if not rollout.seed.has_truth:
        return [NO_TRUTH] * len(rollout.responses), rollout.responses
    score = _scores_of(rollout, config, judge)
    verdicts = [score(response.text) for response in rollout.responses]
    responses = tuple(
        _without_right_continuation(response, verdict, score)
        for response, verdict in zip(rollout.responses, verdicts, strict=True)
    )
    return verdicts, responses


def scorer_for(seed: Seed, config: Config) -> str:
    """The scorer of a seed: its source's in this recipe, else its own, else `scoring.scorer`.

    Its own, noted when it was read, also decides where several sources bear its name.
    """
    found = {
        source.scorer
        for source in config.seeds
        if len(config.seeds) == 1 or _comes_from(seed, source)
    }
    scorer = found.pop() if len(found) == 1 else seed.scorer
    return config.scoring.scorer if scorer == "auto" else scorer


def _comes_from(seed: Seed, source: SourceConfig) -> bool:
    """Whether a seed was read from this source: by name, else by the file that `origin` names."""
    path = PurePosixPath(source.path)
    if seed.source:
        names = (source.name,) if source.name else (path.stem, path.name.split(".", 1)[0])
        if seed.source in names:
            return True
    file = seed.origin.rpartition(":")[0]
    return bool(file) and fnmatch.fnmatchcase(PurePosixPath(file).name, path.name)


def build_pairs(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    config: Config | PairingConfig,
    *,
    rng_seed: int = 0,
    faults: Counter[str] | None = None,
) -> tuple[list[Pair], list[Drop]]:
    """Pairs of one seed, at most `max_per_seed`; without any, exactly one `Drop` saying why.

    What the controls of `config.quality` leave aside is counted in `faults` by reason.

    `verdicts` are parallel to `responses`; they may be empty for a seed without a truth. The
    result depends on the seed's id, the texts with their verdicts and `rng_seed`, not on the
    order of the responses. Raises `ValueError` when the two do not have the same length.
    """
    policy = config.pairing if isinstance(config, Config) else config
    if not seed.has_truth and not verdicts:
        verdicts = [NO_TRUTH] * len(responses)
    if len(verdicts) != len(responses):
        raise ValueError(
            f"seed {seed.id!r}: {len(verdicts)} verdicts for {len(responses)} responses;"
            " give one verdict per response, in their order"
        )
    bars = Bars()
    if isinstance(config, Config):
        bars = barred(seed, responses, verdicts, config.quality)
        if faults is not None:
            faults.update(bars.reasons)
    couples = _couples(seed, responses, verdicts, policy, rng_seed, bars)
    if not couples:
        if bars.reasons and _couples(seed, responses, verdicts, policy, rng_seed, Bars()):
            return [], [Drop(seed.id, "quality", "no_clean_pair", bars.detail)]
        positives, _ = two_sides(seed, responses, verdicts, rng_seed)
        return [], [explain(seed, responses, verdicts, policy, has_positive=bool(positives))]
    rate = pass_rate(seed, responses, verdicts, config)
    return [_pair(seed, c, rate, len(responses), rng_seed) for c in couples], []


def _couples(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    policy: PairingConfig,
    rng_seed: int,
    bars: Bars,
) -> list[tuple[Side, Side]]:
    """(chosen, rejected) of the pairs to make, best first."""
    positives, negatives = two_sides(seed, responses, verdicts, rng_seed)
    positives = [side for side in positives if side.text not in bars.chosen]
    negatives = [
        side for side in negatives if side.kind in policy.kinds and side.text not in bars.rejected
    ]
    crossed = _spread(positives, _by_turns(negatives))
    used = [
        replace(response, continuation=None) if index in bars.continuations else response
        for index, response in enumerate(responses)
    ]
    alone = continued(seed, used, verdicts, rng_seed) if "dropout_ntp" in policy.kinds else []
    # Both branches on one seed (dropout.apply=all) share the places by turns.
    couples = [c for turn in zip_longest(crossed, alone) for c in turn if c is not None]
    return couples[: policy.max_per_seed]


def _scores_of(rollout: Rollout, config: Config, judge: Scores) -> Callable[[str], Verdict]:
    """What the judge says of a text of this rollout; equal texts are looked at once."""
    seed = rollout.seed
    scorer = scorer_for(seed, config)
    gold, choices = list(seed.answers), list(seed.choices) or None

    @functools.cache
    def score(text: str) -> Verdict:
        return judge.score_response(
            text,
            gold,
            style=rollout.style,
            scorer=scorer,
            choices=choices,
            question=seed.question,
        )

    return score


def _without_right_continuation(
    response: Response, verdict: Verdict, score: Callable[[str], Verdict]
) -> Response:
    """Where the truth is known, a continuation is rejected only if it is known not to be right."""
    continuation = response.continuation
    if continuation is None or verdict.outcome != "correct":
        return response
    if score(continuation.prefix + continuation.text).outcome in ("incorrect", "no_answer"):
        return response
    return replace(response, continuation=None)


def _by_turns(negatives: list[Side]) -> list[Side]:
    """Kinds take turns until one has no more texts, so that none crowds out another."""
    kinds: tuple[Kind, ...] = ("correctness", "format", "truncated")
    lanes = [[side for side in negatives if side.kind == kind] for kind in kinds]
    return [side for side in chain.from_iterable(zip_longest(*lanes)) if side is not None]


def _spread(positives: list[Side], negatives: list[Side]) -> Iterator[tuple[Side, Side]]:
    """All positive x negative couples, ordered so that every beginning of them is balanced.

    After any number of couples the use counts of two positives differ by at most one, and so do
    those of two negatives. Both sides are walked round and round; after each common multiple of
    their lengths, where the walk would repeat itself, the negatives move on by one.
    """
    rows, columns = len(positives), len(negatives)
    if not rows or not columns:
        return
    lap = lcm(rows, columns)
    for step in range(rows * columns):
        yield positives[step % rows], negatives[(step + step // lap) % columns]


def _pair(seed: Seed, couple: tuple[Side, Side], rate: float | None, n: int, rng_seed: int) -> Pair:
    chosen, rejected = couple
    return Pair(
        id=content_id(seed.id, rejected.kind, chosen.text, rejected.text),
        seed_id=seed.id,
        kind=rejected.kind,
        chosen_text=chosen.text,
        rejected_text=rejected.text,
        chosen_answer=chosen.answer,
        rejected_answer=rejected.answer,
        chosen_tokens=chosen.tokens,
        rejected_tokens=rejected.tokens,
        chosen_index=chosen.index,
        rejected_index=rejected.index,
        chosen_finish_reason=chosen.finish_reason,
        rejected_finish_reason=rejected.finish_reason,
        pass_rate=rate,
        n_samples=n,
        rng_seed=rng_seed,
    )
