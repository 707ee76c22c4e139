"""The truths of a seed, each scored against itself: what fails that can never be answered right.

    Finding("q7", "seeds.jsonl:118", "maps", "choice", "not_an_option", value="E", …)

Two degrees: *unusable* (no truth of the seed works, so every token sampled for it is wasted) and
*doubtful* (it can be sampled, but a right response may be called wrong).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace

from mmpr_builder.audit.finding import SHOWN, Finding, Scorer, finding_of
from mmpr_builder.config import Config
from mmpr_builder.pairing import scorer_for
from mmpr_builder.records import Drop, Seed
from mmpr_builder.scoring import Judge
from mmpr_builder.scoring.auto import kind_of, usable_truth
from mmpr_builder.scoring.choice import read_gold
from mmpr_builder.scoring.clean import MAX_CHARS, clean
from mmpr_builder.scoring.decision import Decision, Query, unknown

UNUSABLE_TRUTH = "unusable_truth"
"""Reason of the `Drop` of a seed that no response could answer right."""


def kind_of_seed(seed: Seed, scorer: str) -> str:
    """What the seed's first usable truth is compared as."""
    if scorer != "auto":
        return scorer
    truth = next((truth for truth in seed.answers if usable_truth(truth)), None)
    return "none" if truth is None else kind_of(clean(truth), seed.choices)


def check_truth(seed: Seed, judge: Scorer, scorer: str = "auto") -> Finding | None:
    """Why no truth of this seed can be used; None if one can, or if it has none.

    Each accepted truth is compared with itself by the scorer the seed has in a build; costs some
    20 microseconds and no symbolic mathematics, which equal texts never reach.
    """
    if not seed.has_truth:
        return None
    first: tuple[str, str, str] | None = None
    for truth in seed.answers:
        problem = problem_of(truth, seed, judge, scorer)
        if problem is None:
            return None
        first = first or (*problem, truth)
    assert first is not None
    reason, detail, truth = first
    return finding_of(seed, kind_of_seed(seed, scorer), reason, detail, truth, unusable=True)


def screen(items: Iterable[Seed | Drop], config: Config) -> Iterator[Seed | Drop]:
    """Seeds without a usable truth become drops of reason `unusable_truth` before any sampling.

    With `scoring.unusable_truth=open` they go on as seeds without a truth. No process is started.
    """
    with closing(Judge(config.scoring, symbolic=_not_asked)) as judge:
        for item in items:
            finding = None
            if isinstance(item, Seed):
                finding = check_truth(item, judge, scorer_for(item, config))
            if finding is None:
                yield item
            elif config.scoring.unusable_truth == "open" and isinstance(item, Seed):
                yield replace(item, answers=())
            else:
                detail = f"{finding.origin}: {finding.reason}: {finding.detail}: {finding.remedy}"
                yield Drop(finding.seed_id, "audit", UNUSABLE_TRUTH, detail)


def _not_asked(query: Query) -> Decision:
    """A plan is made once and in bounded time: what only sympy could tell counts as usable."""
    return unknown("not_asked", "no symbolic mathematics while planning")


def problem_of(truth: str, seed: Seed, judge: Scorer, scorer: str) -> tuple[str, str] | None:
    """(reason, detail) for a truth that is not right when compared with itself."""
    if len(truth) > MAX_CHARS:
        return "truth_too_long", f"{len(truth):,} characters, over {MAX_CHARS:,}"
    if not usable_truth(truth):
        return "empty_truth", f"nothing is left of {truth!r} without its dress"
    if scorer in ("auto", "choice") and (unknown_option := option_unknown(truth, seed)):
        return unknown_option
    verdict = judge.score_answer(
        truth,
        [truth],
        scorer=scorer,
        choices=list(seed.choices) or None,
        question=seed.question,
    )
    if verdict.outcome == "correct" or verdict.rule == "not_asked":
        return None
    reason = "undecided_truth" if verdict.outcome == "undecided" else "unequal_to_itself"
    return reason, f"{verdict.outcome} against itself ({verdict.rule}: {verdict.reason})"


def option_unknown(truth: str, seed: Seed) -> tuple[str, str] | None:
    if not seed.choices or read_gold(clean(truth), seed.choices) is not None:
        return None
    shown = "; ".join(seed.choices)[:SHOWN]
    return "not_an_option", f"{truth[:60]!r} is none of the {len(seed.choices)} options: {shown}"
