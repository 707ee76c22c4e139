"""Two builds compared: settings, counts, pass rates, verdicts that flipped, pairs in one only; and
how the model drifted between them on the questions that both asked.

    diff = compare_builds("out/run-1", "out/run-2")
    diff.settings    (Change("pairing.max_per_seed", 15, 5),)
    diff.flips       (Flip("q17", "correct", "incorrect", "Bars: red 4 …"),)

Only what the builds left is read (run.json, pairs without images, drops, rollouts): no engine, no
scoring.
Verdicts are compared where both builds show them: on texts that stand in a pair of each.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, get_args

from mmpr_builder.config import flattened
from mmpr_builder.extraction import extract_answer
from mmpr_builder.io.tables import list_parts
from mmpr_builder.output import (
    mean_rate,
    pair_parts,
    read_drops,
    read_rollouts,
    read_rows,
    read_run,
)
from mmpr_builder.records import Kind

_COLUMNS = (
    *("id", "seed_id", "kind", "pass_rate", "chosen_text", "rejected_text"),
    *("chosen_rule", "rejected_rule"),
)
# Where the reason alone tells the rate.
_RATES = {"all_correct": 1.0, "all_incorrect": 0.0, "no_correct": 0.0, "no_answer_only": 0.0}
# Kind -> verdicts that its sides show.
_OUTCOMES = {
    "correctness": {"chosen": "correct", "rejected": "incorrect"},
    "format": {"chosen": "correct", "rejected": "no_answer"},
    "truncated": {"chosen": "correct"},
}
_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Change:
    """Something with another value in each build; None: it is not there."""

    name: str
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Flip:
    """The same text of the same seed, judged differently; `left_rule` and `right_rule` did it."""

    seed_id: str
    left: str
    right: str
    left_rule: str
    right_rule: str
    text: str


@dataclass(frozen=True, slots=True)
class BuildDiff:
    """What differs. All tuples are sorted; `pairs` is (in left only, in right only, in both)."""

    settings: tuple[Change, ...]
    versions: tuple[Change, ...]
    counts: tuple[Change, ...]
    pass_rates: tuple[Change, ...]
    """Mean share of right responses per question, by source and over all; 0 to 1."""
    seeds: tuple[Change, ...]
    """Seeds whose end differs: "pairs", the reason of their drop, or None where not read."""
    rates: tuple[Change, ...]
    """Seeds with another pass rate, the greatest change first."""
    flips: tuple[Flip, ...]
    pairs: Mapping[str, tuple[int, int, int]]
    drift: Mapping[str, tuple[Change, ...]]
    """Means over the questions that both asked, over all and by source; empty where a build has no
    rollouts of its own. That two answers differ is a chance, which does not depend on n."""


@dataclass(frozen=True, slots=True)
class _Build:
    run: Mapping[str, Any]
    pairs: Mapping[str, str]
    """id -> kind"""
    ends: Mapping[str, str]
    """seed id -> "pairs" or reason"""
    rates: Mapping[str, float]
    verdicts: Mapping[tuple[str, bytes], tuple[str, str, str]]
    """(seed id, digest of the text) -> (outcome, rule, beginning of the text)"""


def compare_builds(left: str, right: str) -> BuildDiff:
    """Compare two build folders. Raises `InputError` where there is no finished build."""
    a, b = _read(left), _read(right)
    common = a.rates.keys() & b.rates.keys()
    rates = [Change(seed, a.rates[seed], b.rates[seed]) for seed in common]
    moved = [change for change in rates if abs(change.left - change.right) > 1e-9]
    return BuildDiff(
        settings=_changes(flattened(a.run["config"]), flattened(b.run["config"])),
        versions=_changes(a.run["this_run"]["versions"], b.run["this_run"]["versions"]),
        counts=_counts(a.run["counts"], b.run["counts"]),
        pass_rates=_mean_rates(a.run["counts"], b.run["counts"]),
        seeds=_changes(a.ends, b.ends),
        rates=tuple(sorted(moved, key=lambda c: (-abs(c.left - c.right), c.name))),
        flips=_flips(a, b),
        pairs=_pairs(a, b),
        drift=_drift((a, _sampled(left)), (b, _sampled(right))),
    )


def _read(out: str) -> _Build:
    run = read_run(out)
    pairs: dict[str, str] = {}
    ends: dict[str, str] = {}
    rates: dict[str, float] = {}
    verdicts: dict[tuple[str, bytes], tuple[str, str, str]] = {}
    for row in read_rows(pair_parts(out), _COLUMNS):
        seed, kind = row["seed_id"], row["kind"]
        pairs[row["id"]] = kind
        ends[seed] = "pairs"
        if row["pass_rate"] is not None:
            rates[seed] = row["pass_rate"]
        for side, outcome in _OUTCOMES.get(kind, {}).items():
            text = row[f"{side}_text"]
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            verdicts[seed, digest] = (outcome, row[f"{side}_rule"], text[:_SHOWN])
    for drop in read_drops(out):
        ends[drop.item_id] = drop.reason
        if drop.reason in _RATES:
            rates[drop.item_id] = _RATES[drop.reason]
    return _Build(run, pairs, ends, rates, verdicts)


def _changes(left: Mapping[str, Any], right: Mapping[str, Any]) -> tuple[Change, ...]:
    return tuple(
        Change(name, left.get(name), right.get(name))
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    )


def _counts(left: Mapping[str, Any], right: Mapping[str, Any]) -> tuple[Change, ...]:
    """Every sum that differs, but for those by source and by single pass rates."""
    skipped = ("sources", "pass_rates", "shown_rates", "fates", "uses")
    flat = [flattened({k: v for k, v in c.items() if k not in skipped}) for c in (left, right)]
    # A reason that one build does not know has happened there no time.
    return tuple(
        Change(c.name, *(0 if side is None else side for side in (c.left, c.right)))
        if c.name != "tokens.per_pair"
        else c
        for c in _changes(*flat)
    )


def _mean_rates(left: Mapping[str, Any], right: Mapping[str, Any]) -> tuple[Change, ...]:
    sides = []
    for counts in (left, right):
        rates = {"all sources": mean_rate(counts["pass_rates"])}
        for source, numbers in counts["sources"].items():
            rates[source or "(unnamed)"] = mean_rate(numbers.get("pass_rates", {}))
        sides.append(rates)
    names = sorted(sides[0].keys() | sides[1].keys(), key=lambda n: (n != "all sources", n))
    return tuple(Change(name, sides[0].get(name), sides[1].get(name)) for name in names)


_Sampled = dict[str, tuple[str, float, float | None]]
"""Seed id -> source, mean tokens of a response, chance that two answers differ."""


def _drift(*sides: tuple[_Build, _Sampled]) -> dict[str, tuple[Change, ...]]:
    (_, left), (_, right) = sides
    of_source: dict[str, list[str]] = {}
    for seed in sorted(left.keys() & right.keys()):
        for name in ("all sources", left[seed][0] or "(unnamed)"):
            of_source.setdefault(name, []).append(seed)
    measures: dict[str, list[Mapping[str, float | None]]] = {
        "share right": [build.rates for build, _ in sides],
        "tokens of a response": [{s: v[1] for s, v in found.items()} for _, found in sides],
        "two answers differ": [{s: v[2] for s, v in found.items()} for _, found in sides],
    }
    return {
        measure: tuple(Change(name, *_means(values, seeds)) for name, seeds in of_source.items())
        for measure, values in measures.items()
        if of_source
    }


def _means(sides: Sequence[Mapping[str, float | None]], seeds: Sequence[str]) -> Iterator[Any]:
    """Those of each side over the seeds that both know; None without one."""
    known = [pair for s in seeds if None not in (pair := [side.get(s) for side in sides])]
    for place in range(len(sides)):
        yield round(fmean(pair[place] or 0.0 for pair in known), 4) if known else None


def _sampled(out: str) -> _Sampled:
    found: _Sampled = {}
    for rollout in read_rollouts(list_parts(f"{out.rstrip('/')}/rollouts")):
        n, differing = len(rollout.responses), None
        if n > 1 and rollout.style != "open":
            answers = Counter(extract_answer(r.text, rollout.style) for r in rollout.responses)
            differing = 1 - sum(k * (k - 1) for k in answers.values()) / (n * (n - 1))
        if n:
            tokens = fmean(response.tokens for response in rollout.responses)
            found[rollout.seed.id] = (rollout.seed.source, tokens, differing)
    return found


def _flips(a: _Build, b: _Build) -> tuple[Flip, ...]:
    found = []
    for key in a.verdicts.keys() & b.verdicts.keys():
        (left, left_rule, text), (right, right_rule, _) = a.verdicts[key], b.verdicts[key]
        if left != right:
            found.append(Flip(key[0], left, right, left_rule or "", right_rule or "", text))
    return tuple(sorted(found, key=lambda flip: (flip.seed_id, flip.text)))


def _pairs(a: _Build, b: _Build) -> dict[str, tuple[int, int, int]]:
    """By kind, "total" first: (left only, right only, both)."""
    sides = (a.pairs.keys() - b.pairs.keys(), b.pairs.keys() - a.pairs.keys())
    left = Counter(a.pairs[pair] for pair in sides[0])
    right = Counter(b.pairs[pair] for pair in sides[1])
    both = Counter(kind for pair, kind in a.pairs.items() if pair in b.pairs)
    counts = {kind: (left[kind], right[kind], both[kind]) for kind in get_args(Kind)}
    total = (left.total(), right.total(), both.total())
    return {"total": total, **{kind: found for kind, found in counts.items() if any(found)}}
