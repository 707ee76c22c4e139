"""What happened to the seeds of a build, counted at every step.

    seeds 512 -> with pairs 430, dropped 82 {"pairing": {"all_correct": 61, …}, "seeds": {…}}
    responses 4,096 -> correct 2,310, incorrect 1,600, no_answer 150, undecided 36
    tokens 401,233 + 22,870 continued -> pairs 3,120 -> 135.9 tokens per pair

Only sums over rollouts, verdicts, pairs and drops: the same build gives the same counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_args

from mmpr_builder.records import Drop, Kind, Outcome, Pair, Rollout, Verdict

_BY_SOURCE = ("outcomes", "finish_reasons", "pass_rates", "kinds", "drops")


@dataclass
class SourceCounts:
    """The sums of one source; `tables` has those that are by name."""

    numbers: Counter[str] = field(default_factory=Counter)
    tables: dict[str, Counter[str]] = field(
        default_factory=lambda: {name: Counter() for name in _BY_SOURCE}
    )


@dataclass
class Counts:
    """Running sums of one pairing run."""

    seeds: Counter[str] = field(default_factory=Counter)
    responses: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    finish_reasons: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    pairs: Counter[str] = field(default_factory=Counter)
    drops: dict[str, Counter[str]] = field(default_factory=dict)
    pass_rates: Counter[str] = field(default_factory=Counter)
    sources: dict[str, SourceCounts] = field(default_factory=dict)
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(outcome, rule that decided it) -> responses."""
    fates: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(truth known or not, reason of the drop or "with_pairs") -> seeds."""
    uses: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(outcome, side it stands on in a pair) -> responses."""
    listed_to_reject: int = 0
    """Pairs that `pairing.reject_list` names, whether or not they were made."""
    rejected_by_list: int = 0
    """Pairs left out because that list names them."""

    def add(
        self,
        rollout: Rollout,
        verdicts: Sequence[Verdict],
        pairs: Sequence[Pair],
        drops: Sequence[Drop],
        *,
        rejected_by_list: int = 0,
    ) -> None:
        """Count one seed with all that became of it."""
        seed = rollout.seed
        source = self.sources.setdefault(seed.source, SourceCounts())
        truth = "with_truth" if seed.has_truth else "without_truth"
        self.seeds.update(["read", truth])
        self.fates[truth, drops[0].reason if drops else "with_pairs"] += 1
        self.seeds["with_pairs"] += bool(pairs)
        if seed.has_truth:
            outcomes = [verdict.outcome for verdict in verdicts]
            self.outcomes.update(outcomes)
            source.tables["outcomes"].update(outcomes)
            self.rules.update((verdict.outcome, verdict.rule) for verdict in verdicts)
            decided = [v for v in verdicts if v.outcome != "undecided"]
            if decided:
                right = sum(v.outcome == "correct" for v in decided)
                # Of adaptive sampling a pair knows the rate without its bias; with none or all
                # right, where there are no pairs, there is none.
                known = pairs[0].pass_rate if pairs else None
                rate = f"{right / len(decided) if known is None else known:.3f}"
                self.pass_rates[rate] += 1
                source.tables["pass_rates"][rate] += 1
        self._count_uses(rollout, verdicts, pairs)
        generated = self._count_responses(rollout)
        source.tables["finish_reasons"].update(r.finish_reason for r in rollout.responses)
        source.tables["kinds"].update(pair.kind for pair in pairs)
        source.tables["drops"].update(drop.reason for drop in drops)
        source.numbers.update(
            {
                "seeds": 1,
                "with_pairs": int(bool(pairs)),
                "pairs": len(pairs),
                "responses": len(rollout.responses),
                "tokens": generated,
            }
        )
        self.pairs.update(pair.kind for pair in pairs)
        self.rejected_by_list += rejected_by_list
        for drop in drops:
            self._drop(drop)

    def _count_responses(self, rollout: Rollout) -> int:
        """Returns the tokens generated for this seed."""
        before = self.tokens["responses"] + self.tokens["continuations"]
        for response in rollout.responses:
            self.finish_reasons[response.finish_reason] += 1
            self.tokens["responses"] += response.tokens
            self.responses["sampled"] += 1
            if response.continuation is not None:
                self.tokens["continuations"] += response.continuation.tokens
                self.responses["continued"] += 1
        self.tokens["prompts"] += rollout.prompt_tokens
        return self.tokens["responses"] + self.tokens["continuations"] - before

    def _count_uses(
        self, rollout: Rollout, verdicts: Sequence[Verdict], pairs: Sequence[Pair]
    ) -> None:
        """What each response came to: chosen, rejected, or not used."""
        sides = {pair.rejected_index: "rejected" for pair in pairs}
        sides |= {pair.chosen_index: "chosen" for pair in pairs}
        known = rollout.seed.has_truth
        for index in range(len(rollout.responses)):
            outcome = verdicts[index].outcome if known and verdicts else "no_truth"
            self.uses[outcome, sides.get(index, "unused")] += 1

    def merge(self, other: Counts) -> None:
        """Add the sums of other seeds."""
        _merge(self, other)

    def add_drop(self, drop: Drop) -> None:
        """Count an input row that never became a seed."""
        self.seeds["read"] += 1
        self.fates["unreadable", drop.reason] += 1
        self._drop(drop)

    def as_dict(self) -> dict[str, Any]:
        """All sums as plain JSON values with a fixed order of keys."""
        generated = self.tokens["responses"] + self.tokens["continuations"]
        pairs = sum(self.pairs.values())
        dropped = sum(sum(reasons.values()) for reasons in self.drops.values())
        return {
            "seeds": {
                **_fixed(self.seeds, ("read", "with_truth", "without_truth", "with_pairs")),
                "dropped": dropped,
            },
            "responses": _fixed(self.responses, ("sampled", "continued")),
            "outcomes": _fixed(self.outcomes, get_args(Outcome)),
            "finish_reasons": dict(sorted(self.finish_reasons.items())),
            "pairs": {"total": pairs, **_fixed(self.pairs, get_args(Kind))},
            "drops": {stage: _by_number(reasons) for stage, reasons in sorted(self.drops.items())},
            "tokens": {
                **_fixed(self.tokens, ("prompts", "responses", "continuations")),
                "generated": generated,
                "per_pair": round(generated / pairs, 1) if pairs else None,
            },
            "pass_rates": dict(sorted(self.pass_rates.items())),
            "sources": {
                source: {
                    **_fixed(
                        counts.numbers, ("seeds", "with_pairs", "pairs", "responses", "tokens")
                    ),
                    **{name: _by_number(table) for name, table in counts.tables.items()},
                }
                for source, counts in sorted(self.sources.items())
            },
            "rules": _nested(self.rules),
            "fates": _nested(self.fates),
            "uses": _nested(self.uses),
            "reject_list": {"listed": self.listed_to_reject, "left_out": self.rejected_by_list},
        }

    def _drop(self, drop: Drop) -> None:
        self.drops.setdefault(drop.stage, Counter())[drop.reason] += 1


def _merge(into: Any, other: Any) -> None:
    """Add up two records of sums, or two dicts of them, entry by entry."""
    if isinstance(into, Counter):
        into.update(other)
        return
    if isinstance(into, dict):
        for name, sums in other.items():
            _merge(into.setdefault(name, type(sums)()), sums)
        return
    for entry in fields(into):
        mine, theirs = getattr(into, entry.name), getattr(other, entry.name)
        if isinstance(mine, int):
            setattr(into, entry.name, mine + theirs)
        else:
            _merge(mine, theirs)


def _fixed(counter: Counter[str], keys: Sequence[str]) -> dict[str, int]:
    return {key: counter[key] for key in keys}


def _by_number(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _nested(counter: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    tables: dict[str, Counter[str]] = {}
    for (outer, inner), count in sorted(counter.items()):
        tables.setdefault(outer, Counter())[inner] = count
    return {outer: _by_number(table) for outer, table in tables.items()}
