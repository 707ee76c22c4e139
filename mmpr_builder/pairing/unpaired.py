"""Why a seed gives no pair: one reason word per seed, with the counts behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product

from mmpr_builder.config import PairingConfig
from mmpr_builder.pairing.candidates import negative_kind, two_sides, unusable
from mmpr_builder.pairing.couples import Material, couples_of, sides_of
from mmpr_builder.pairing.writers import ALL, not_wanted
from mmpr_builder.quality import Bars
from mmpr_builder.records import Drop, Outcome, Response, Seed, Verdict


def why_unpaired(material: Material, models: Sequence[str]) -> Drop:
    """Why no couple can be made of this: what a control forbids, else what the responses lack."""
    seed, responses, verdicts = material.seed, material.responses, material.verdicts
    limit = material.policy.max_gap
    free = material.uncontrolled()
    if limit is not None and couples_of(free):
        positives, negatives, alone = sides_of(material)
        couples = chain(product(positives, negatives), alone)
        gaps = [abs(chosen.tokens - rejected.tokens) for chosen, rejected in couples]
        detail = f"lengths differ by {min(gaps)} tokens or more; pairing.max_gap = {limit}"
        return Drop(seed.id, "pairing", "lengths_apart", detail)
    # Each of these may be in the way of what another one leaves.
    free = replace(free, bars=Bars())
    if material.bars.reasons and couples_of(free):
        return Drop(seed.id, "quality", "no_clean_pair", material.bars.detail)
    if material.writers != ALL and couples_of(replace(free, writers=ALL)):
        return not_wanted(seed, models, verdicts)
    positives, _ = two_sides(seed, responses, verdicts, material.rng_seed)
    return explain(seed, responses, verdicts, material.policy, has_positive=bool(positives))


def explain(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    policy: PairingConfig,
    *,
    has_positive: bool,
) -> Drop:
    """The one reason why a seed gives no pair, with the counts behind it."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    cut = sum(response.finish_reason == "length" for response in responses)
    shown = ", ".join(
        f"{counts[outcome]} {outcome}"
        for outcome in ("correct", "incorrect", "no_answer", "undecided")
        if counts[outcome]
    )
    if not responses:
        reason = "no_responses"
    elif not seed.has_truth:
        reason = _why_no_continuation(seed, responses, verdicts, policy)
    else:
        reason = _why_no_contrast(responses, verdicts, counts, policy, has_positive)
    detail = f"{len(responses)} responses: {shown}" if responses else "the sampler gave none"
    if cut:
        detail += f"; {cut} cut at max_tokens"
    undecided = Counter(v.rule or v.reason for v in verdicts if v.outcome == "undecided")
    if seed.has_truth and undecided:
        detail += f"; undecided by {', '.join(sorted(undecided))}"
    return Drop(seed.id, "pairing", reason, detail)


def _why_no_contrast(
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    counts: Counter[Outcome],
    policy: PairingConfig,
    has_positive: bool,
) -> str:
    decided = len(verdicts) - counts["undecided"]
    if decided == 0:
        rules = {verdict.rule for verdict in verdicts}
        return "unusable_truth" if rules == {"unusable_truth"} else "all_undecided"
    if all(response.finish_reason == "length" for response in responses):
        return "only_truncated"
    if counts["correct"] == 0:
        if counts["incorrect"] == 0:
            return "no_answer_only"
        return "all_incorrect" if counts["incorrect"] == decided else "no_correct"
    if counts["correct"] == decided:
        return "all_correct"
    if not has_positive:
        return "no_finished_correct"
    wrong = [
        response
        for response, verdict in zip(responses, verdicts, strict=True)
        if verdict.outcome in ("incorrect", "no_answer")
    ]
    if all(response.finish_reason == "length" for response in wrong):
        return "only_truncated"
    kinds = {negative_kind(r, v) for r, v in zip(responses, verdicts, strict=True)} - {None}
    return "kind_not_wanted" if kinds and not kinds & {*policy.kinds} else "no_usable_negative"


def _why_no_continuation(
    seed: Seed, responses: Sequence[Response], verdicts: Sequence[Verdict], policy: PairingConfig
) -> str:
    if "dropout_ntp" not in policy.kinds:
        return "kind_not_wanted"
    reasons = Counter(unusable(seed, r, v) for r, v in zip(responses, verdicts, strict=True))
    return max(sorted(str(reason) for reason in reasons), key=lambda reason: reasons[reason])
