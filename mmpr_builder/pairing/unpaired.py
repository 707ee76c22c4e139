"""Why a seed gives no pair: one reason word per seed, with the counts behind it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, product
from pathlib import Path

from mmpr_builder.config import Config, PairingConfig
from mmpr_builder.dropout import wants_blind
from mmpr_builder.errors import InputError
from mmpr_builder.io import stores
from mmpr_builder.pairing.candidates import ALL, negative_kind, not_wanted, two_sides, unusable
from mmpr_builder.pairing.choosing import Material, couples_of, sides_of
from mmpr_builder.quality import Bars, Findings, blind_result
from mmpr_builder.records import Drop, Outcome, Pair, Response, Seed, Verdict


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


# ---- unseen
# What the samples without images say of a seed: a column of its pairs, or its drop.


def without_solved_blind(
    seed: Seed,
    blind: Sequence[Verdict],
    paired: tuple[list[Pair], list[Drop]],
    config: Config,
    findings: Findings | None,
) -> tuple[list[Pair], list[Drop]]:
    """The pairs with their `blind_pass_rate`, or one drop in their place where the seed is solved
    without its images and `quality.max_blind` is set. A seed without pairs keeps its own drop.

    `blind` are the verdicts on the samples without images, none where there are none.
    """
    pairs, drops = paired
    if not blind:
        if findings is not None and wants_blind(seed, config):
            findings.blind["seeds", "not_measured"] += 1
        return pairs, drops
    result = blind_result(seed, blind)
    most = config.quality.max_blind
    solved = None if most is None else result.drop(seed, most)
    if findings is not None:
        findings.blind.update(("responses", verdict.outcome) for verdict in blind)
        findings.blind["seeds", "not_measured" if result.rate is None else "measured"] += 1
        findings.blind["seeds", "solved"] += solved is not None
        if result.rate is not None:
            findings.blind["pass_rates", f"{result.rate:.3f}"] += 1
    if solved is not None and pairs:
        return [], [solved]
    return [replace(pair, blind_pass_rate=result.rate) for pair in pairs], drops


# ---- rejects
# Pairs that a person looked at and does not want: a list of pair ids, marked in the report.
#
#     # bad pairs of run-1, marked in its report
#     9f3c0a6d2b7e41c58d90e1f2a3b4c5d6
#     0b1c2d3e4f5061728394a5b6c7d8e9f0   the truth is wrong
#
# A line is an id, then whatever else somebody noted. Ids are hashes of seed and texts: the list
# stays good when pairs are made again with other settings.


_ID = re.compile(r"[0-9a-f]{32}")


def read_reject_list(uri: str | Path) -> frozenset[str]:
    """The pair ids of a list; blank lines and what follows an id or a `#` are passed over.

    Raises `InputError` when the file is not there or a line does not begin with a pair's id.
    """
    try:
        text = stores.read_bytes(uri).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"pairing.reject_list={uri}: cannot be read ({error}): give a list saved in a report"
        ) from None
    found = set()
    # Notes hold names of sources, in which other characters that end a line may stand.
    for number, line in enumerate(text.split("\n"), 1):
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

    The others stay what they were and nothing moves up into the free places: a list takes away
    what was looked at and adds nothing that was not. Only `quality.balance`, which comes after it,
    decides anew over what is left.
    """
    kept = [pair for pair in pairs if pair.id not in listed]
    if pairs and not kept:
        detail = f"all its {len(pairs)} pairs are on the list"
        return [], [Drop(seed.id, "pairing", "rejected_by_list", detail)]
    return kept, list(drops)
