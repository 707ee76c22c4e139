"""What of a build deserves a look first: up to five findings, the worst first.

    chosen answers lean to C: 44% of chosen, 20% of rejected (threshold 10 points apart)
    → quality.balance.answers=true

Thresholds are ours: below them differences are usual in builds that train well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmpr_builder.report.sides import BARE_TOKENS, Sides

SHOWN = 5
_FEWEST = 20  # Pairs, responses or seeds from which a share says something.


@dataclass(frozen=True, slots=True)
class Finding:
    """`times` is how far the figure is over its threshold; `fix` the setting or command to try."""

    what: str
    figure: str
    threshold: str
    fix: str
    times: float


def findings(counts: Mapping[str, Any], sides: Sides) -> list[Finding]:
    """The gravest `SHOWN` of what is over its threshold."""
    found = [*_of_sides(sides), *_of_counts(counts)]
    return sorted(found, key=lambda finding: -finding.times)[:SHOWN]


def _of_sides(sides: Sides) -> Iterator[Finding]:
    leaning = [p for group in sides.priors for p in group if p.pairs >= _FEWEST]
    prior = max(leaning, key=lambda p: abs(p.chosen - p.rejected), default=None)
    if prior is not None and abs(prior.chosen - prior.rejected) >= 0.1:
        side = "chosen" if prior.chosen > prior.rejected else "rejected"
        yield Finding(
            f"{side} answers lean to {prior.answer}",
            f"{prior.chosen:.0%} of chosen, {prior.rejected:.0%} of rejected",
            "10 points apart",
            "quality.balance.answers=true",
            abs(prior.chosen - prior.rejected) / 0.1,
        )
    whole = {bias.kind: bias for bias in reversed(sides.biases)}  # All sources come first.
    for bias in whole.values():
        gap = bias.chosen - bias.rejected
        if bias.pairs >= _FEWEST and abs(bias.share) >= 0.1:
            yield Finding(
                f"chosen responses are {'longer' if gap > 0 else 'shorter'} ({bias.kind})",
                f"by {abs(gap):.0f} tokens, {abs(bias.share):.0%}",
                "10%",
                "quality.balance.lengths=true",
                abs(bias.share) / 0.1,
            )
    judged = [length for length in sides.lengths if length.kind != "dropout_ntp"]
    pairs = sum(length.pairs for length in judged)
    bare = sum(length.bare for length in judged) / max(1, pairs)
    if pairs >= _FEWEST and bare >= 0.1:
        yield Finding(
            "chosen responses are bare guesses",
            f"{bare:.0%} have {BARE_TOKENS} tokens or fewer",
            "10%",
            "prompts.template: ask for the way before the answer",
            bare / 0.1,
        )


def _of_counts(counts: Mapping[str, Any]) -> Iterator[Finding]:
    outcomes, finish = counts["outcomes"], counts.get("finish_reasons") or {}
    rates, seeds = counts["pass_rates"], counts["seeds"]
    blind = (counts.get("blind") or {}).get("seeds") or {}
    measured = blind.get("measured", 0)
    shares = (
        ("questions of which all responses are right", _at(rates, 1.0), sum(rates.values()), 0.4,
         "no pairs come of them: harder questions, or sampling.policy=adaptive"),
        ("questions of which no response is right", _at(rates, 0.0), sum(rates.values()), 0.4,
         "mmpr audit --rollouts OUT: are the reference answers right?"),
        ("responses that no rule decides", outcomes.get("undecided", 0), sum(outcomes.values()),
         0.05, "label them below (scoring.labels), or scoring.judge.url"),
        ("responses without a final answer", outcomes.get("no_answer", 0), sum(outcomes.values()),
         0.15, "another prompts.style"),
        ("responses cut at max_tokens", finish.get("length", 0), sum(finish.values()), 0.1,
         "more sampling.max_tokens"),
        ("rows that were never asked", sum(counts["fates"].get("unreadable", {}).values()),
         seeds["read"], 0.05, "mmpr audit; drops/ says why"),
        ("questions answered without their images", blind.get("solved", 0), measured, 0.1,
         "quality.max_blind=0.1"),
    )  # fmt: skip
    for what, count, of, most, fix in shares:
        if of >= _FEWEST and count / of >= most:
            yield Finding(what, f"{count / of:.0%}: {count:,} of {of:,}", f"{most:.0%}", fix,
                          count / of / most)  # fmt: skip


def _at(rates: Mapping[str, int], rate: float) -> int:
    return sum(n for text, n in rates.items() if float(text) == rate)
