"""What happened to the seeds of a build, counted at every step.

    seeds 512 -> with pairs 430, dropped 82 {"pairing": {"all_correct": 61, …}, "seeds": {…}}
    responses 4,096 -> correct 2,310, incorrect 1,600, no_answer 150, undecided 36
    tokens 401,233 + 22,870 continued -> pairs 3,120 -> 135.9 tokens per pair

Only sums over rollouts, verdicts, pairs and drops: the same build gives the same counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from mmpr_builder.records import Drop, Kind, Outcome, Pair, Rollout, Verdict


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
    sources: dict[str, Counter[str]] = field(default_factory=dict)

    def add(
        self,
        rollout: Rollout,
        verdicts: Sequence[Verdict],
        pairs: Sequence[Pair],
        drops: Sequence[Drop],
    ) -> None:
        """Count one seed with all that became of it."""
        seed = rollout.seed
        self.seeds.update(["read", "with_truth" if seed.has_truth else "without_truth"])
        self.seeds["with_pairs"] += bool(pairs)
        if seed.has_truth:
            self.outcomes.update(verdict.outcome for verdict in verdicts)
            decided = [v for v in verdicts if v.outcome != "undecided"]
            if decided:
                right = sum(v.outcome == "correct" for v in decided)
                self.pass_rates[f"{right / len(decided):.3f}"] += 1
        for response in rollout.responses:
            self.finish_reasons[response.finish_reason] += 1
            self.tokens["responses"] += response.tokens
            self.responses["sampled"] += 1
            if response.continuation is not None:
                self.tokens["continuations"] += response.continuation.tokens
                self.responses["continued"] += 1
        self.tokens["prompts"] += rollout.prompt_tokens
        self.pairs.update(pair.kind for pair in pairs)
        source = self.sources.setdefault(seed.source, Counter())
        source.update({"seeds": 1, "with_pairs": int(bool(pairs)), "pairs": len(pairs)})
        for drop in drops:
            self._drop(drop)

    def add_drop(self, drop: Drop) -> None:
        """Count an input row that never became a seed."""
        self.seeds["read"] += 1
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
            "drops": {
                stage: dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
                for stage, reasons in sorted(self.drops.items())
            },
            "tokens": {
                **_fixed(self.tokens, ("prompts", "responses", "continuations")),
                "generated": generated,
                "per_pair": round(generated / pairs, 1) if pairs else None,
            },
            "pass_rates": dict(sorted(self.pass_rates.items())),
            "sources": {
                source: _fixed(counts, ("seeds", "with_pairs", "pairs"))
                for source, counts in sorted(self.sources.items())
            },
        }

    def _drop(self, drop: Drop) -> None:
        self.drops.setdefault(drop.stage, Counter())[drop.reason] += 1


def _fixed(counter: Counter[str], keys: Sequence[str]) -> dict[str, int]:
    return {key: counter[key] for key in keys}
