"""Why a seed gives no pair: one reason word per seed, with the counts behind it.

all_correct       "32 responses: 32 correct"
lengths_apart     "lengths differ by 210 tokens or more; pairing.max_gap = 200"
solved_blind      "8 of 8 right without the image; a guess is right with 0.25, the limit is …"
rejected_by_list  "all its 3 pairs are on the list"
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

from mmpr_builder.config import Config
from mmpr_builder.dropout import wants_blind
from mmpr_builder.errors import InputError
from mmpr_builder.pairing.candidates import (
    Material,
    is_positive,
    negative_kind,
    sides_of,
    unusable,
)
from mmpr_builder.pairing.choosing import choose
from mmpr_builder.pairing.verdicts import saved_lines
from mmpr_builder.quality.filters import Filtered, Findings
from mmpr_builder.quality.suspects import blind_result
from mmpr_builder.records import Drop, Pair, Seed, Verdict

WHY = {
    "not_sampled": "the build is paired before all seeds were sampled",
    "all_correct": "every judged response is right",
    "all_incorrect": "every judged response states a wrong answer",
    "no_correct": "none is right: some are wrong, the others state no answer",
    "no_answer_only": "no response states an answer",
    "all_undecided": "no response could be judged for certain",
    "only_truncated": "what is left was cut at max_tokens",
    "no_finished_correct": "all right responses were cut or filtered",
    "no_usable_negative": "no wrong response is fit to be rejected",
    "no_majority": "no clear majority of the answers can stand for the missing truth",
    "majority_blind": "the majority's answer is given without the image, too",
    "not_compared": "no rubric, or no two texts that can be compared",
    "judge_tie": "the judge found no text better than another one",
    "judge_orders_differ": "what the judge found depends on which text stands first",
    "judge_malformed": "the judge replied in other words than those asked for",
    "kind_not_wanted": "pairing.kinds leaves out what could be made",
}
"""Reasons of drops in words, where the name alone could be mistaken for another one."""
_NOTHING_DONE = ("no_continuation", "not_compared")


def why_unpaired(material: Material) -> Drop:
    """Why no pair can be made of this: what a control forbids, else what the responses lack."""
    seed, policy = material.seed, material.policy
    free = material.of_any_length()
    if policy.max_gap is not None and choose(free):
        positives, negatives, alone = sides_of(material)
        candidates = chain(product(positives, negatives), alone)
        gap = min(abs(chosen.tokens - rejected.tokens) for chosen, rejected in candidates)
        detail = f"lengths differ by {gap} tokens or more; pairing.max_gap = {policy.max_gap}"
        return Drop(seed.id, "pairing", "lengths_apart", detail)
    # Each of these may be in the way of what another one leaves.
    free = replace(free, filtered=Filtered())
    reasons = material.filtered.reasons
    if reasons and choose(free):
        detail = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        return Drop(seed.id, "quality", "no_clean_pair", detail)
    if (policy.chosen_from or policy.rejected_from) and choose(free.of_any_model()):
        return _not_wanted(material)
    return _lacking(material)


def _not_wanted(material: Material) -> Drop:
    """All pairs would have a side by another model than asked for."""
    seed, models = material.seed, material.models
    counts = Counter(
        (model, verdict.outcome) for model, verdict in zip(models, material.verdicts, strict=True)
    )
    said = ", ".join(
        f"{model}: {n} {outcome}" if seed.has_truth else f"{model}: {n}"
        for (model, outcome), n in sorted(counts.items())
    )
    return Drop(seed.id, "pairing", "model_not_wanted", f"{len(models)} responses: {said}")


def _lacking(material: Material) -> Drop:
    """What the responses lack, with the counts behind it."""
    seed, responses, verdicts = material.seed, material.responses, material.verdicts
    if not responses:
        return Drop(seed.id, "pairing", "no_responses", "the sampler gave none")
    reason = _no_contrast(material) if seed.has_truth else _no_continuation(material)
    if not seed.has_truth and seed.truth_source != "given" and reason in _NOTHING_DONE:
        reason = seed.truth_source
    counts = Counter(verdict.outcome for verdict in verdicts)
    shown = ", ".join(
        f"{counts[outcome]} {outcome}"
        for outcome in ("correct", "incorrect", "no_answer", "undecided")
        if counts[outcome]
    )
    detail = f"{len(responses)} responses: {shown}"
    cut = sum(response.finish_reason == "length" for response in responses)
    if cut:
        detail += f"; {cut} cut at max_tokens"
    undecided = Counter(v.rule or v.reason for v in verdicts if v.outcome == "undecided")
    if seed.has_truth and undecided:
        detail += f"; undecided by {', '.join(sorted(undecided))}"
    return Drop(seed.id, "pairing", reason, detail)


def _no_contrast(material: Material) -> str:
    judged = [(response, verdict) for _, response, verdict in material.judged()]
    counts = Counter(verdict.outcome for _, verdict in judged)
    decided = len(judged) - counts["undecided"]
    if decided == 0:
        rules = {verdict.rule for _, verdict in judged}
        return "unusable_truth" if rules == {"unusable_truth"} else "all_undecided"
    if all(response.finish_reason == "length" for response, _ in judged):
        return "only_truncated"
    if counts["correct"] == 0:
        if counts["incorrect"] == 0:
            return "no_answer_only"
        return "all_incorrect" if counts["incorrect"] == decided else "no_correct"
    if counts["correct"] == decided:
        return "all_correct"
    if not any(is_positive(response, verdict) for response, verdict in judged):
        return "no_finished_correct"
    wrong = [r for r, verdict in judged if verdict.outcome in ("incorrect", "no_answer")]
    if all(response.finish_reason == "length" for response in wrong):
        return "only_truncated"
    kinds = {negative_kind(response, verdict) for response, verdict in judged} - {None}
    wanted = kinds & {*material.policy.kinds}
    return "kind_not_wanted" if kinds and not wanted else "no_usable_negative"


def _no_continuation(material: Material) -> str:
    """The commonest reason among the responses, the first by name of equally common ones."""
    kinds, responses = material.policy.kinds, material.responses
    said = Counter(one.outcome for response in responses for one in response.compared)
    said -= Counter(better=said["better"], worse=said["worse"])
    if "judged" in kinds and said:
        return f"judge_{max(sorted(said), key=lambda outcome: said[outcome])}"
    if "dropout_ntp" not in kinds:
        return "not_compared" if "judged" in kinds else "kind_not_wanted"
    reasons = Counter(str(unusable(material.seed, r, v)) for _, r, v in material.judged())
    return max(sorted(reasons), key=lambda reason: reasons[reason])


def without_solved_blind(
    seed: Seed,
    blind: Sequence[Verdict],
    paired: tuple[list[Pair], list[Drop]],
    config: Config,
    findings: Findings,
) -> tuple[list[Pair], list[Drop]]:
    """The pairs with their `blind_pass_rate`, or one drop in their place where the seed is solved
    without its images and `quality.max_blind` is set. A seed without pairs keeps its own drop."""
    pairs, drops = paired
    if not blind:
        if wants_blind(seed, config):
            findings.blind["seeds", "not_measured"] += 1
        return pairs, drops
    result = blind_result(seed, blind)
    most = config.quality.max_blind
    solved = None if most is None else result.drop(seed, most)
    findings.blind.update(("responses", verdict.outcome) for verdict in blind)
    findings.blind["seeds", "not_measured" if result.rate is None else "measured"] += 1
    findings.blind["seeds", "solved"] += solved is not None
    if result.rate is not None:
        findings.blind["pass_rates", f"{result.rate:.3f}"] += 1
    if solved is not None and pairs:
        return [], [solved]
    return [replace(pair, blind_pass_rate=result.rate) for pair in pairs], drops


_ID = re.compile(r"[0-9a-f]{32}")


def read_reject_list(uri: str | Path) -> frozenset[str]:
    """The pair ids of a list that a person saved in the report.

        # bad pairs of run-1
        9f3c0a6d2b7e41c58d90e1f2a3b4c5d6
        0b1c2d3e4f5061728394a5b6c7d8e9f0   the truth is wrong

    Ids are hashes of seed and texts, so a list stays good when other settings make the pairs again.
    Raises `InputError` when the file is not there or a line does not begin with a pair's id.
    """
    found = set()
    for number, line in saved_lines("pairing.reject_list", uri):
        word = line.split("#", 1)[0].split()
        if word and not _ID.fullmatch(word[0]):
            raise InputError(
                f"{uri}:{number}: {word[0][:40]!r} is not the id of a pair (32 hex digits):"
                " remove the line, or put # before it"
            )
        found.update(word[:1])
    return frozenset(found)


def without_rejected(
    seed: Seed, pairs: Sequence[Pair], drops: Sequence[Drop], listed: frozenset[str]
) -> tuple[list[Pair], list[Drop]]:
    """What is left of a seed's pairs; none left gives one `Drop` "rejected_by_list".

    Nothing moves up into the free places: a list takes away what a person looked at, no more.
    """
    kept = [pair for pair in pairs if pair.id not in listed]
    if pairs and not kept:
        detail = f"all its {len(pairs)} pairs are on the list"
        return [], [Drop(seed.id, "pairing", "rejected_by_list", detail)]
    return kept, list(drops)
