"""Judged responses -> chosen/rejected pairs, spread over as many different responses as there are.

    positives   correct and finished ("stop")
    negatives   incorrect and finished            kind "correctness"
                finished without a final answer   kind "format"
                cut at max_tokens                 kind "truncated" (off by default)
    dropout_ntp a finished response x its own image-free continuation
    step        what goes on rightly from before the first wrong step x the wrong response
    judged      the better x the worse text, by a judge that sees the pictures

    settle      the truths of questions that have none          majority.py
    judge       which responses are right                       verdicts.py
    filter      which of them may stand on a side               quality/, candidates.py
    choose      which candidates become pairs                   choosing.py
    name the reason why a seed has none                         unpaired.py

Undecided responses are on neither side. A response that was cut is never chosen, even if right: it
would teach never to end. Rejected it would teach brevity rather than reasoning.

The paper pairs every positive with every negative and keeps at most 15 per query (arXiv 2411.10442,
section 7). Here every distinct response comes once before any comes twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

from mmpr_builder.config import Config, PairingConfig, compares
from mmpr_builder.pairing.balance import is_weighed, sums, weigh
from mmpr_builder.pairing.candidates import Candidate, Material, continuation_outcomes
from mmpr_builder.pairing.choosing import choose
from mmpr_builder.pairing.majority import settled as settled
from mmpr_builder.pairing.pass_rate import outside_band, pass_rate as pass_rate, shown_rate
from mmpr_builder.pairing.pooled import (
    PooledRollout,
    continued_by,
    models_of,
    pair_by_prompt,
    rate_of,
)
from mmpr_builder.pairing.unpaired import why_unpaired, without_solved_blind
from mmpr_builder.pairing.verdicts import (
    NO_TRUTH as NO_TRUTH,
    Labels,
    Scores as Scores,
    asked_of,
    judge_blind,
    judge_responses as judge_responses,
    label_id as label_id,
    read_labels as read_labels,
    right_with,
    scorer_for as scorer_for,
)
from mmpr_builder.quality.filters import Findings, filtered
from mmpr_builder.quality.suspects import suspicion
from mmpr_builder.records import Drop, Pair, Response, Rollout, Seed, Verdict, content_id


def judge_and_pair(
    rollout: Rollout,
    config: Config,
    judge: Scores,
    *,
    findings: Findings | None = None,
    labels: Labels = MappingProxyType({}),
) -> tuple[list[Verdict], list[Pair], list[Drop]]:
    """Score all responses of a rollout and pair them; `findings` as in `build_pairs`, `labels` as
    `read_labels` gives them.

    A rollout that could not be sampled gives its error as a `Drop` of stage "sampling". Scorers
    come from this config, so a changed recipe re-scores stored rollouts.
    """
    seed = rollout.seed
    if rollout.error is not None:
        return [], [], [Drop(seed.id, "sampling", *rollout.error)]
    findings = Findings() if findings is None else findings
    if seed.truth_source != "given":
        findings.majority[seed.truth_source] += 1
    for responses, dropout in continued_by(rollout, config):
        findings.count_not_made(responses, dropout.keep)
    verdicts, usable = judge_responses(rollout, config, judge, labels)
    unfit = _unfit(rollout, verdicts, config, judge)
    if unfit is not None:
        findings.count_unused(rollout.responses, unfit.reason)
        return verdicts, [], [unfit]
    findings.count_not_wrong(rollout.responses, usable)
    findings.count_steps(usable, verdicts)
    findings.count_compared(usable, asked=compares(seed, config))
    own = Findings()
    paired = _pair_rollout(rollout, usable, verdicts, config, own)
    blind = judge_blind(rollout, config, judge)
    pairs, drops = without_solved_blind(seed, blind, paired, config, own)
    if paired[0] and not pairs:
        own.uncontrolled.clear()  # It would not have them with any lengths and answers.
    findings.add(own)
    return verdicts, pairs, drops


def build_pairs(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    config: Config | PairingConfig,
    *,
    rng_seed: int = 0,
    models: Sequence[str] | None = None,
    findings: Findings | None = None,
) -> tuple[list[Pair], list[Drop]]:
    """Pairs of one seed, at most `max_per_seed`; without any, exactly one `Drop` saying why.

    `verdicts` are parallel to `responses`; they may be empty for a seed without a truth. `models`
    has the model of each response, for `pairing.chosen_from` and `rejected_from`. `findings` takes
    sums over the seed. The result does not depend on the order of the responses. Raises
    `ValueError` when the lengths differ, or when `models` are needed and not given.
    """
    if isinstance(config, PairingConfig):
        config = _DEFAULTS.model_copy(update={"pairing": config})
    if not seed.has_truth and not verdicts:
        verdicts = [NO_TRUTH] * len(responses)
    if len(verdicts) != len(responses):
        raise ValueError(
            f"seed {seed.id!r}: {len(verdicts)} verdicts for {len(responses)} responses;"
            " give one verdict per response, in their order"
        )
    policy = config.pairing
    if models is None and (policy.chosen_from or policy.rejected_from):
        raise ValueError(
            f"seed {seed.id!r}: pairing.chosen_from or rejected_from is set, and the models that"
            " wrote the responses are not given: pass models=[…], one for each response"
        )
    material = Material(seed, responses, verdicts, policy, models or (), rng_seed)
    given = seed, responses, verdicts, config
    rate = shown_rate(*given), pass_rate(*given), len(responses)
    return _pair(material, config, findings or Findings(), rate)


_DEFAULTS = Config()
_Rate = tuple[float | None, float | None, int]
"""Of a seed: `shown_rate`, `pass_rate`, and the number of its responses."""


def _unfit(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, judge: Scores
) -> Drop | None:
    """Why nothing can be made of a seed, whatever its responses are worth."""
    if isinstance(rollout, PooledRollout) and rollout.drop is not None:
        return rollout.drop
    if not config.quality.suspect_truths:
        return None
    asked = asked_of(rollout.seed, scorer_for(rollout.seed, config))
    return suspicion(rollout.seed, verdicts, right_with(judge, asked))


def _pair_rollout(
    rollout: Rollout,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    config: Config,
    findings: Findings,
) -> tuple[list[Pair], list[Drop]]:
    """Pairs of responses to the same prompt; only a pooled rollout has several."""
    seed, policy, models = rollout.seed, config.pairing, models_of(rollout)
    given = rollout, verdicts, config, responses
    rate = rate_of(*given), rate_of(*given, rate_by=pass_rate), len(responses)

    def pairs_of(indices: Sequence[int], noted: Findings) -> tuple[list[Pair], list[Drop]]:
        some, said = [responses[i] for i in indices], [verdicts[i] for i in indices]
        wrote = [models[i] for i in indices]
        material = Material(seed, some, said, policy, wrote, policy.seed)
        return _pair(material, config, noted, rate)

    return pair_by_prompt(rollout, pairs_of, policy, findings)


def _pair(
    material: Material, config: Config, findings: Findings, rate: _Rate
) -> tuple[list[Pair], list[Drop]]:
    """Filter, choose, name the reason. The seed, whose `rate` it is, may have more responses."""
    seed, responses, verdicts = material.seed, material.responses, material.verdicts
    balance = config.quality.balance
    found = filtered(seed, responses, verdicts, config.quality, material.may_stand)
    even = balance.tolerance if balance.lengths else None
    material = replace(material, filtered=found, even=even)
    findings.filtered.update(found.reasons)
    findings.continuations.update(continuation_outcomes(material))
    chosen = choose(material)
    outside = outside_band(seed, rate[0], rate[2], config.quality) if chosen else None
    if outside is not None:
        return [], [outside]
    if is_weighed(material.policy, balance):
        free = (
            _pair_of(material, one, (None, None, 0)) for one in choose(material.of_any_length())
        )
        findings.uncontrolled.update(sums(seed.source, (weigh(seed, pair) for pair in free)))
    if not chosen:
        return [], [why_unpaired(material)]
    return [_pair_of(material, candidate, rate) for candidate in chosen], []


def _pair_of(material: Material, candidate: Candidate, rate: _Rate) -> Pair:
    chosen, rejected = candidate
    shown, unbiased, n = rate
    return Pair(
        id=content_id(material.seed.id, rejected.kind, chosen.text, rejected.text),
        seed_id=material.seed.id,
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
        pass_rate=shown,
        unbiased_rate=unbiased,
        n_samples=n,
        rng_seed=material.rng_seed,
        dropout_keep=rejected.keep,
        faithfulness=chosen.faithfulness,
        shared_steps=None if chosen.keep is None else int(chosen.keep),
    )
