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

from mmpr_builder.pairing.balance import Sums, Weighed, sums, weigh
from mmpr_builder.pairing.pooled import member_of, members_of
from mmpr_builder.quality import Findings, GateYield, gate_yield
from mmpr_builder.records import Drop, Kind, Outcome, Pair, Rollout, Verdict, generated_tokens

# ---- sums
# Sums added up, and told as the tables of run.json with a fixed order of keys.


def merge(into: Any, other: Any) -> None:
    """Add up two records of sums, or two dicts of them, entry by entry."""
    if isinstance(into, Counter):
        into.update(other)
        return
    if isinstance(into, dict):
        for name, sums in other.items():
            merge(into.setdefault(name, type(sums)()), sums)
        return
    for entry in fields(into):
        mine, theirs = getattr(into, entry.name), getattr(other, entry.name)
        if isinstance(mine, int):
            setattr(into, entry.name, mine + theirs)
        else:
            merge(mine, theirs)


def fixed(counter: Counter[str], keys: Sequence[str]) -> dict[str, int]:
    return {key: counter[key] for key in keys}


def by_ratio(findings: Findings, pairs: Counter[float]) -> dict[str, dict[str, Any]]:
    """What became of the continuations at each ratio: those that were asked for, and those made."""
    made = {at.keep: at for at in gate_yield(findings.continuations)}
    nothing = GateYield(0.0, 0, {})
    return {
        f"{keep:g}": {
            "made": at.continuations,
            "fit": at.fit,
            "pairs": pairs[keep],
            "unfit": by_number(Counter(at.faults)),
            "not_made": findings.not_made[keep],
        }
        for keep in sorted({*made, *findings.not_made})
        for at in [made.get(keep, nothing)]
    }


def blind(findings: Findings) -> dict[str, dict[str, int]]:
    """How seeds did without their images; empty where that was not asked for."""
    if not findings.blind:
        return {}
    tables = nested(findings.blind)
    return {
        "seeds": fixed(Counter(tables.get("seeds")), ("measured", "not_measured", "solved")),
        "responses": fixed(Counter(tables.get("responses")), get_args(Outcome)),
        "pass_rates": dict(sorted(tables.get("pass_rates", {}).items())),
    }


def by_number(counter: Counter[str]) -> dict[str, int]:
    """By falling number, then by name; what was counted and taken back again is left out."""
    counted = [(name, count) for name, count in counter.items() if count]
    return dict(sorted(counted, key=lambda item: (-item[1], item[0])))


def nested(counter: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    tables: dict[str, Counter[str]] = {}
    for (outer, inner), count in sorted(counter.items()):
        if count:
            tables.setdefault(outer, Counter())[inner] = count
    return {outer: by_number(table) for outer, table in tables.items()}


# ---- slips
# What is counted of the pairs of one seed; enough to leave some of them out again later.
#
# A worker lays out and counts the pairs of a seed before anybody knows which of them a balance over
# the whole build lets stand. Their slip travels with the rows, so that the one process that writes
# can take out rows and correct the counts without a look at the rollout.


@dataclass(frozen=True, slots=True)
class Entry:
    """One pair. Outcomes, models and indices are (chosen, rejected)."""

    kind: Kind
    indices: tuple[int, int]
    outcomes: tuple[str, str]
    models: tuple[str, str]
    keep: float | None
    weighed: Weighed | None


@dataclass(frozen=True, slots=True)
class Slip:
    """The pairs of one seed, in their order."""

    seed_id: str
    index: int
    """Position of the seed in the build's input order."""
    source: str
    truth: str
    """"with_truth" or "without_truth"."""
    entries: tuple[Entry, ...]


def slip_of(
    rollout: Rollout, verdicts: Sequence[Verdict], pairs: Sequence[Pair], *, weighed: bool = False
) -> Slip:
    """The slip of a seed; its pairs are weighed only where something depends on it."""
    seed = rollout.seed

    def outcome(index: int) -> str:
        return verdicts[index].outcome if seed.has_truth and verdicts else "no_truth"

    entries = []
    for pair in pairs:
        indices = (pair.chosen_index, pair.rejected_index)
        entries.append(
            Entry(
                kind=pair.kind,
                indices=indices,
                outcomes=(outcome(indices[0]), outcome(indices[1])),
                models=(member_of(rollout, indices[0]).model, member_of(rollout, indices[1]).model),
                keep=pair.dropout_keep,
                weighed=weigh(seed, pair) if weighed else None,
            )
        )
    truth = "with_truth" if seed.has_truth else "without_truth"
    return Slip(seed.id, rollout.index, seed.source, truth, tuple(entries))


_GENERATED = ("responses", "continuations", "blind")
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
    models: dict[str, Counter[str]] = field(default_factory=dict)
    """Model -> its responses and their tokens, and the sides of pairs that it wrote."""
    templates: Counter[str] = field(default_factory=Counter)
    """Template -> seeds that were asked with it and answered."""
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
    kept: Counter[float] = field(default_factory=Counter)
    """Ratio that was kept -> pairs with a continuation from there."""
    findings: Findings = field(default_factory=Findings)
    """What judging and pairing saw beside the pairs."""
    weighed: Sums = field(default_factory=Counter)
    """Of the pairs, where lengths or answers are controlled (`pairing.weighing.sums`)."""
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(why, kind) -> pairs that the balance over the build left out."""

    def add(
        self,
        rollout: Rollout,
        verdicts: Sequence[Verdict],
        pairs: Sequence[Pair],
        drops: Sequence[Drop],
        *,
        rejected_by_list: int = 0,
        weighed: bool = False,
    ) -> Slip:
        """Count one seed with all that became of it; returns what was counted of its pairs.

        `weighed`: count the lengths and answers of the pairs, too.
        """
        seed = rollout.seed
        source = self.sources.setdefault(seed.source, SourceCounts())
        truth = "with_truth" if seed.has_truth else "without_truth"
        self.seeds.update(["read", truth])
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
        slip = slip_of(rollout, verdicts, pairs, weighed=weighed)
        self._count_unused(rollout, verdicts)
        self._count_members(rollout)
        self._count_pairs(slip, slip.entries, 1)
        self._count_end(slip, bool(pairs), drops[0] if drops else None, 1)
        generated = self._count_responses(rollout)
        source.tables["finish_reasons"].update(r.finish_reason for r in rollout.responses)
        source.numbers.update(
            {
                "seeds": 1,
                "responses": len(rollout.responses),
                "tokens": generated,
            }
        )
        self.rejected_by_list += rejected_by_list
        return slip

    def leave_out(self, slip: Slip, reasons: Sequence[str | None], dropped: Drop | None) -> None:
        """Take out pairs of a seed that was counted: those for which there is a reason.

        `dropped` says so if none is left.
        """
        stay = [e for e, reason in zip(slip.entries, reasons, strict=True) if reason is None]
        self._count_pairs(slip, slip.entries, -1)
        self._count_pairs(slip, stay, 1)
        if dropped is not None:
            self._count_end(slip, True, None, -1)
            self._count_end(slip, False, dropped, 1)
        for entry, reason in zip(slip.entries, reasons, strict=True):
            if reason is not None:
                self.left_out[reason, entry.kind] += 1

    def _count_pairs(self, slip: Slip, entries: Sequence[Entry], sign: int) -> None:
        """Everything that depends on which pairs a seed has; `sign` -1 takes it back."""
        source = self.sources.setdefault(slip.source, SourceCounts())
        source.numbers["pairs"] += sign * len(entries)
        used: dict[int, tuple[str, str]] = {}
        for side, name in ((1, "rejected"), (0, "chosen")):
            used |= {entry.indices[side]: (entry.outcomes[side], name) for entry in entries}
        for outcome, name in used.values():
            self.uses[outcome, name] += sign
            self.uses[outcome, "unused"] -= sign
        for entry in entries:
            self.pairs[entry.kind] += sign
            source.tables["kinds"][entry.kind] += sign
            self.models[entry.models[0]]["chosen"] += sign
            self.models[entry.models[1]]["rejected"] += sign
            if entry.keep is not None:
                self.kept[entry.keep] += sign
        weighed = [entry.weighed for entry in entries if entry.weighed is not None]
        if weighed:
            for key, value in sums(slip.source, weighed).items():
                self.weighed[key] += sign * value

    def _count_end(self, slip: Slip, has_pairs: bool, drop: Drop | None, sign: int) -> None:
        """How a seed ends: with pairs, or with a drop."""
        source = self.sources[slip.source]
        self.fates[slip.truth, drop.reason if drop else "with_pairs"] += sign
        self.seeds["with_pairs"] += sign * has_pairs
        source.numbers["with_pairs"] += sign * has_pairs
        if drop is not None:
            source.tables["drops"][drop.reason] += sign
            self._drop(drop, sign)

    def _count_responses(self, rollout: Rollout) -> int:
        """Returns the tokens generated for this seed."""
        for response in rollout.responses:
            self.finish_reasons[response.finish_reason] += 1
            self.tokens["responses"] += response.tokens
            self.responses["sampled"] += 1
            self.responses["continued"] += response.continuation is not None
            self.tokens["continuations"] += sum(c.tokens for c in response.continuations)
        self.responses["blind"] += len(rollout.blind)
        self.tokens["blind"] += sum(response.tokens for response in rollout.blind)
        self.tokens["prompts"] += rollout.prompt_tokens
        return generated_tokens(rollout)

    def _count_unused(self, rollout: Rollout, verdicts: Sequence[Verdict]) -> None:
        """All responses by outcome, as long as none of them is known to stand in a pair."""
        if rollout.seed.has_truth and verdicts:
            self.uses.update((verdict.outcome, "unused") for verdict in verdicts)
        else:
            self.uses["no_truth", "unused"] += len(rollout.responses)

    def _count_members(self, rollout: Rollout) -> None:
        """Who answered, and what they were asked with; several of both where builds are pooled."""
        members = members_of(rollout)
        self.templates.update({member.template for member in members if member.responses})
        for member in members:
            sums = self.models.setdefault(member.model, Counter())
            sums["responses"] += len(member.responses)
            sums["tokens"] += sum(response.tokens for response in member.responses)

    def note(self, findings: Findings) -> None:
        """Add what was seen of the same seeds while they were judged and paired."""
        merge(self.findings, findings)

    def merge(self, other: Counts) -> None:
        """Add the sums of other seeds."""
        merge(self, other)

    def add_drop(self, drop: Drop) -> None:
        """Count an input row that never became a seed."""
        self.seeds["read"] += 1
        self.fates["unreadable", drop.reason] += 1
        self._drop(drop)

    def as_dict(self) -> dict[str, Any]:
        """All sums as plain JSON values with a fixed order of keys."""
        generated = sum(self.tokens[name] for name in _GENERATED)
        pairs = sum(self.pairs.values())
        dropped = sum(sum(reasons.values()) for reasons in self.drops.values())
        return {
            "seeds": {
                **fixed(self.seeds, ("read", "with_truth", "without_truth", "with_pairs")),
                "dropped": dropped,
            },
            "responses": fixed(self.responses, ("sampled", "continued", "blind")),
            "outcomes": fixed(self.outcomes, get_args(Outcome)),
            "finish_reasons": dict(sorted(self.finish_reasons.items())),
            "pairs": {"total": pairs, **fixed(self.pairs, get_args(Kind))},
            "drops": {stage: by_number(reasons) for stage, reasons in sorted(self.drops.items())},
            "tokens": {
                **fixed(self.tokens, ("prompts", *_GENERATED)),
                "generated": generated,
                "per_pair": round(generated / pairs, 1) if pairs else None,
            },
            "pass_rates": dict(sorted(self.pass_rates.items())),
            "sources": {
                source: {
                    **fixed(
                        counts.numbers, ("seeds", "with_pairs", "pairs", "responses", "tokens")
                    ),
                    **{name: by_number(table) for name, table in counts.tables.items()},
                }
                for source, counts in sorted(self.sources.items())
            },
            "models": {
                model: fixed(sums, ("responses", "tokens", "chosen", "rejected"))
                for model, sums in sorted(self.models.items())
            },
            "templates": by_number(self.templates),
            "continuations": by_ratio(self.findings, self.kept),
            "blind": blind(self.findings),
            "rules": nested(self.rules),
            "fates": nested(self.fates),
            "uses": nested(self.uses),
            "reject_list": {"listed": self.listed_to_reject, "left_out": self.rejected_by_list},
        }

    def _drop(self, drop: Drop, count: int = 1) -> None:
        self.drops.setdefault(drop.stage, Counter())[drop.reason] += count
