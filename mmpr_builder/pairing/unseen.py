"""What the samples without images say of a seed: a column of its pairs, or its drop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mmpr_builder.config import Config
from mmpr_builder.dropout import wants_blind
from mmpr_builder.quality import Findings, blind_result
from mmpr_builder.records import Drop, Pair, Seed, Verdict


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
