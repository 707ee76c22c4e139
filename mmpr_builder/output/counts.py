"""What happened to the seeds of a build, counted at every step.

    seeds 512 -> with pairs 430, dropped 82 {"pairing": {"all_correct": 61, …}, "seeds": {…}}
    responses 4,096 -> correct 2,310, incorrect 1,600, no_answer 150, undecided 36
    tokens 401,233 + 22,870 continued -> pairs 3,120 -> 135.9 tokens per pair

A worker counts what was sampled of a seed. Where a balance over the whole build has still to decide
which pairs stay, the tally of the seed travels with its rows, and the writer counts how it ends.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

from mmpr_builder.pairing.balance import Weighed, before_and_after, sums, weigh
from mmpr_builder.pairing.pooled import members_of, models_of
from mmpr_builder.quality.filters import Findings
from mmpr_builder.records import Drop, Kind, Outcome, Pair, Rollout, Verdict

_BY_SOURCE = ("outcomes", "finish_reasons", "pass_rates", "shown_rates", "kinds", "drops")


@dataclass(frozen=True, slots=True)
class SeedTally:
    """What is counted of the pairs of one seed. `outcomes` and `models` are its responses',
    `weighed` says whether run.json tells of lengths and answers."""

    seed_id: str
    index: int
    """Position of the seed in the build's input order."""
    source: str
    has_truth: bool
    outcomes: Sequence[str]
    models: Sequence[str]
    pairs: Sequence[Weighed]
    weighed: bool


def tally_of(
    rollout: Rollout, verdicts: Sequence[Verdict], pairs: Sequence[Pair], *, weighed: bool
) -> SeedTally:
    """The tally of a seed."""
    seed, index = rollout.seed, rollout.index
    known = seed.has_truth and verdicts
    outcomes = [v.outcome for v in verdicts] if known else ["no_truth"] * len(rollout.responses)
    tallied = [weigh(seed, pair) for pair in pairs]
    about = seed.id, index, seed.source, seed.has_truth
    return SeedTally(*about, outcomes, models_of(rollout), tallied, weighed)


@dataclass
class Counts:
    """Running sums of one pairing run: (table of run.json, name or names in it) -> count."""

    sums: Counter[tuple[str, ...]] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    """What judging and pairing saw beside the pairs."""

    def add_sampled(self, rollout: Rollout, verdicts: Sequence[Verdict], pair: Pair | None) -> None:
        """Count what was sampled of one seed and how it was judged. `pair` is one of its pairs,
        which knows its rates; None: the plain share."""
        source, truth = rollout.seed.source, _truth(rollout.seed.has_truth)
        self._add("seeds", read=1)
        self.sums["seeds", truth] += 1
        if rollout.seed.has_truth:
            outcomes = [verdict.outcome for verdict in verdicts]
            self._count("outcomes", outcomes, source)
            self.sums.update(("rules", verdict.outcome, verdict.rule) for verdict in verdicts)
            decided = len(outcomes) - outcomes.count("undecided")
            if decided:
                # Of adaptive sampling a pair knows both rates; with none or all right, where
                # there are no pairs, they are the same.
                plain = outcomes.count("correct") / decided
                rates = (None, None) if pair is None else (pair.unbiased_rate, pair.pass_rate)
                for table, rate in zip(("pass_rates", "shown_rates"), rates, strict=True):
                    self._count(table, [f"{plain if rate is None else rate:.3f}"], source)
        responses, blind = rollout.responses, rollout.blind
        self._count("finish_reasons", [response.finish_reason for response in responses], source)
        self._add(
            "responses",
            sampled=len(responses),
            continued=sum(response.continuation is not None for response in responses),
            blind=len(blind),
        )
        tokens = {
            "responses": sum(response.tokens for response in responses),
            "continuations": sum(c.tokens for r in responses for c in r.continuations),
            "blind": sum(response.tokens for response in blind),
            "steps": sum(c.tokens for r in responses for c in r.with_image),
            "judge": sum(c.tokens for r in responses for c in r.compared),
        }
        self._add("tokens", prompts=rollout.prompt_tokens, **tokens)
        generated = sum(tokens.values())
        self._add("sources", source, seeds=1, responses=len(responses), tokens=generated)
        traces = (t for r in responses for t in r.traces if t is not None)
        self.sums.update(("references", trace.missing or "known") for trace in traces)
        members = members_of(rollout)
        self.sums.update({("templates", m.template): 1 for m in members if m.responses})
        for member in members:
            spent = sum(response.tokens for response in member.responses)
            self._add("models", member.model, responses=len(member.responses), tokens=spent)

    def add_end(self, tally: SeedTally, drop: Drop | None) -> None:
        """Count how a seed ends: with these pairs, or with a drop."""
        pairs, source = tally.pairs, tally.source
        sides = {pair.rejected: "rejected" for pair in pairs}
        sides |= {pair.chosen: "chosen" for pair in pairs if pair.kind != "step"}
        self.sums.update(
            ("uses", outcome, sides.get(index, "unused"))
            for index, outcome in enumerate(tally.outcomes)
        )
        kinds = [pair.kind for pair in pairs]
        self.sums.update(("pairs", kind) for kind in kinds)
        self.sums.update(("sources", source, "kinds", kind) for kind in kinds)
        self.sums.update(("models", tally.models[pair.chosen], "chosen") for pair in pairs)
        self.sums.update(("models", tally.models[pair.rejected], "rejected") for pair in pairs)
        dropout = (pair for pair in pairs if pair.keep is not None and pair.kind != "judged")
        self.sums.update(("kept", repr(pair.keep)) for pair in dropout)
        if tally.weighed:
            self.sums.update(sums(source, pairs))
        self._add("sources", source, pairs=len(pairs), with_pairs=bool(pairs))
        self._add("seeds", with_pairs=bool(pairs))
        reason = drop.reason if drop else "with_pairs"
        self.sums["fates", _truth(tally.has_truth), reason] += 1
        if drop is not None:
            self.sums["sources", source, "drops", drop.reason] += 1
            self.sums["drops", drop.stage, drop.reason] += 1

    def add_unread(self, drop: Drop) -> None:
        """Count an input row that never became a seed."""
        self._add("seeds", read=1)
        self.sums["fates", "unreadable", drop.reason] += 1
        self.sums["drops", drop.stage, drop.reason] += 1

    def add(self, other: Counts) -> None:
        """Add the sums of other seeds."""
        self.sums.update(other.sums)
        self.findings.add(other.findings)

    def _count(self, table: str, names: Sequence[str], source: str) -> None:
        """Count each of these names, over all and of the source."""
        self.sums.update((table, name) for name in names)
        self.sums.update(("sources", source, table, name) for name in names)

    def _add(self, *table: str, **numbers: int) -> None:
        for name, number in numbers.items():
            self.sums[(*table, name)] += number

    def as_dict(self, tolerance: float | None = None) -> dict[str, Any]:
        """All sums as plain JSON values with a fixed order of keys.

        With `tolerance` "balance" says what became of lengths and answers (`before_and_after`).
        """
        tree = _tree(self.sums)
        tokens = _fixed(tree["tokens"], ("prompts", "responses", "continuations", "blind"))
        if self.findings.steps:
            tokens["steps"] = tree["tokens"]["steps"]
        if self.findings.judged:
            tokens["judge"] = tree["tokens"]["judge"]
        generated = sum(tokens.values()) - tokens["prompts"]
        majority = self.findings.majority
        pairs, drops = sum(tree["pairs"].values()), _nested(tree["drops"])
        # Those that were always there, and those that were made.
        kinds = [k for k in get_args(Kind) if k not in ("step", "judged") or tree["pairs"][k]]
        told = {
            "seeds": {
                **_fixed(tree["seeds"], ("read", "with_truth", "without_truth", "with_pairs")),
                "dropped": sum(sum(reasons.values()) for reasons in drops.values()),
            },
            "responses": _fixed(tree["responses"], ("sampled", "continued", "blind")),
            "outcomes": _fixed(tree["outcomes"], get_args(Outcome)),
            "finish_reasons": dict(sorted(tree["finish_reasons"].items())),
            "pairs": {"total": pairs, **_fixed(tree["pairs"], kinds)},
            "drops": drops,
            "tokens": {
                **tokens,
                "generated": generated,
                "per_pair": round(generated / pairs, 1) if pairs else None,
            },
            "pass_rates": dict(sorted(tree["pass_rates"].items())),
            "shown_rates": dict(sorted(tree["shown_rates"].items())),
            "sources": {
                source: {
                    **_fixed(numbers, ("seeds", "with_pairs", "pairs", "responses", "tokens")),
                    **{name: _by_number(numbers[name]) for name in _BY_SOURCE},
                }
                for source, numbers in sorted(tree["sources"].items())
            },
            "models": {
                model: _fixed(numbers, ("responses", "tokens", "chosen", "rejected"))
                for model, numbers in sorted(tree["models"].items())
            },
            "templates": _by_number(tree["templates"]),
            "continuations": _by_ratio(self.findings, tree["kept"]),
            "blind": _blind(self.findings),
            **({"majority": dict(sorted(majority.items()))} if majority else {}),
            **({"judged": _nested(_tree(self.findings.judged))} if self.findings.judged else {}),
            **({"steps": _steps(self.findings)} if self.findings.steps else {}),
            **{table: _nested(tree[table]) for table in ("rules", "fates", "uses")},
            "reject_list": _fixed(tree["reject_list"], ("listed", "left_out")),
        }
        if tree["references"]:
            told["references"] = _by_number(tree["references"])
        if tolerance is not None:
            balance = before_and_after(self.findings.uncontrolled, self.sums, tolerance)
            told["balance"] = {**balance, "left_out": _nested(tree["left_out"])}
        return told


def _truth(known: bool) -> str:
    return "with_truth" if known else "without_truth"


def _tree(sums: Mapping[Any, int]) -> Any:
    """Sums as tables in tables; one that is not there is empty."""

    def table() -> Any:
        return defaultdict(table)

    tree = table()
    for names, count in sums.items():
        at = tree
        for name in names[:-1]:
            at = at[name]
        at[names[-1]] = count
    return tree


def _fixed(numbers: Mapping[str, int], keys: Sequence[str]) -> dict[str, int]:
    return {key: numbers.get(key, 0) for key in keys}


def _by_number(numbers: Mapping[str, int]) -> dict[str, int]:
    """By falling number, then by name."""
    return dict(sorted(numbers.items(), key=lambda item: (-item[1], item[0])))


def _nested(tables: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    return {name: _by_number(numbers) for name, numbers in sorted(tables.items())}


def _by_ratio(findings: Findings, pairs: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """What became of the continuations at each ratio: those that were asked for, and those made."""
    found: dict[float, Counter[str]] = {keep: Counter() for keep in findings.not_made}
    for (keep, reason), count in findings.continuations.items():
        found.setdefault(keep, Counter())[reason] = count
    told = {}
    for keep, reasons in sorted(found.items()):
        fit = reasons.pop("", 0)
        told[f"{keep:g}"] = {
            "made": fit + reasons.total(),
            "fit": fit,
            "pairs": pairs.get(repr(keep), 0),
            "unfit": _by_number(reasons),
            "not_made": findings.not_made[keep],
        }
    return told


def _steps(findings: Findings) -> dict[str, Any]:
    """What became of the steps that were tried, and of what went on from the middle: where
    continuations ended, and the responses by how many right steps stand before their first wrong
    one, if any."""
    tree = _tree(findings.steps)
    ends = {name: _fixed(tree[name], get_args(Outcome)) for name in ("continuations", "middle")}
    return {**ends, "first_wrong": dict(sorted(tree["first_wrong"].items()))}


def _blind(findings: Findings) -> dict[str, dict[str, int]]:
    """How seeds did without their images; empty where that was not asked for."""
    if not findings.blind:
        return {}
    tree = _tree(findings.blind)
    return {
        "seeds": _fixed(tree["seeds"], ("measured", "not_measured", "solved")),
        "responses": _fixed(tree["responses"], get_args(Outcome)),
        "pass_rates": dict(sorted(tree["pass_rates"].items())),
    }
