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

from collections import Counter
from collections.abc import Sequence

from mmpr_builder.config import Config, PairingConfig
from mmpr_builder.pairing.balance import evenness, is_weighed, sums, weigh_couple
from mmpr_builder.pairing.candidates import Side, eligible
from mmpr_builder.pairing.choosing import Material, couples_of, fates_of
from mmpr_builder.pairing.pass_rate import outside_band, pass_rate
from mmpr_builder.pairing.pooled import PooledRollout, continued_by, models_of, pair_pooled
from mmpr_builder.pairing.unpaired import why_unpaired, without_solved_blind
from mmpr_builder.pairing.verdicts import NO_TRUTH, Scores, judge_blind, judge_responses, scorer_for
from mmpr_builder.quality import Bars, Findings, barred
from mmpr_builder.quality.suspects import suspicion
from mmpr_builder.records import (
    Drop,
    Pair,
    Response,
    Rollout,
    Seed,
    Verdict,
    content_id,
)

__all__ = [
    "NO_TRUTH",
    "Scores",
    "build_pairs",
    "judge_and_pair",
    "judge_responses",
    "pass_rate",
    "scorer_for",
]


def judge_and_pair(
    rollout: Rollout,
    config: Config,
    judge: Scores,
    *,
    faults: Counter[str] | None = None,
    findings: Findings | None = None,
) -> tuple[list[Verdict], list[Pair], list[Drop]]:
    """Score all responses of a rollout and pair them; `faults`, `findings` as in `build_pairs`.

    A rollout that could not be sampled gives its error as a `Drop` of stage "sampling". Scorers
    are taken from today's config, so that a changed recipe re-scores stored rollouts.
    """
    seed = rollout.seed
    if rollout.error is not None:
        reason, detail = rollout.error
        return [], [], [Drop(seed.id, "sampling", reason, detail)]
    if findings is not None:
        for asked, dropout in continued_by(rollout, config):
            findings.asked(asked, dropout.keep)
    verdicts, responses = judge_responses(rollout, config, judge)
    unfit = _unfit(rollout, verdicts, config, judge)
    if unfit is not None:
        if findings is not None:
            findings.set_aside(rollout.responses, unfit.reason)
        return verdicts, [], [unfit]
    own = Findings()
    own.not_wrong(rollout.responses, responses)
    if isinstance(rollout, PooledRollout):
        paired = pair_pooled(
            rollout, responses, verdicts, config, build_pairs, faults=faults, findings=own
        )
    else:
        paired = build_pairs(
            seed,
            responses,
            verdicts,
            config,
            rng_seed=config.pairing.seed,
            faults=faults,
            findings=own,
            models=models_of(rollout),
        )
    blind = judge_blind(rollout, config, judge)
    pairs, drops = without_solved_blind(seed, blind, paired, config, own)
    if paired[0] and not pairs:
        own.uncontrolled.clear()  # It would not have them with any lengths and answers.
    if findings is not None:
        findings.add(own)
    return verdicts, pairs, drops


def _unfit(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, judge: Scores
) -> Drop | None:
    """Why nothing can be made of a seed, whatever its responses are worth."""
    if isinstance(rollout, PooledRollout) and rollout.drop is not None:
        return rollout.drop
    if not config.quality.suspect_truths:
        return None
    return suspicion(rollout.seed, verdicts, judge, scorer_for(rollout.seed, config))


def build_pairs(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    config: Config | PairingConfig,
    *,
    rng_seed: int = 0,
    faults: Counter[str] | None = None,
    findings: Findings | None = None,
    models: Sequence[str] | None = None,
    rate: tuple[float | None, int] | None = None,
) -> tuple[list[Pair], list[Drop]]:
    """Pairs of one seed, at most `max_per_seed`; without any, exactly one `Drop` saying why.

    What the controls of `config.quality` leave aside is counted in `faults` by reason, and other
    sums over the seed in `findings`. `models` says who wrote each response, for
    `pairing.chosen_from` and `rejected_from`. `rate` is the seed's pass rate and its number of
    responses where it has more than these (pooled builds).

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
    writers = eligible(models, policy, seed)
    if isinstance(config, Config):
        bars = barred(seed, responses, verdicts, config.quality, writers.may_stand)
        if faults is not None:
            faults.update(bars.reasons)
    if findings is not None:
        findings.continuations.update(fates_of(seed, responses, verdicts, bars))
    even = evenness(config)
    material = Material(seed, responses, verdicts, policy, rng_seed, bars, writers, even)
    couples = couples_of(material)
    known, n = rate or (None, len(responses))
    if couples:
        known = known if rate else pass_rate(seed, responses, verdicts, config)
        outside = outside_band(seed, known, n, config)
        if outside is not None:
            return [], [outside]
    if findings is not None and is_weighed(config):
        free = couples_of(material.uncontrolled())
        findings.uncontrolled.update(sums(seed.source, (weigh_couple(seed, c) for c in free)))
    if not couples:
        return [], [why_unpaired(material, models or ())]
    return [_pair(seed, c, known, n, rng_seed) for c in couples], []


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
        dropout_keep=rejected.keep,
    )
