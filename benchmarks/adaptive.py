"""What does adaptive sampling save, and what does it cost? Against a fixed 32 on the same seeds.

    python -m benchmarks.adaptive [--real] [key=value …]     settings as for `mmpr build`

First by simulation: pass rates are drawn from a mix, right and wrong responses from the pass rate,
and both policies get the very same responses, adaptive sampling only a beginning of them. Rule,
pairing and pass rates are the package's own. Five runs a mix; medians with their range. With
`--real` then the demo seeds, answered by the demo model and judged by the real scorers, both
policies on one engine.

The bound is the ratio of somebody who knows all 32 responses beforehand: no sample for a seed that
gives no pairs, and a stop at the very response that completes them. A small model repeats itself,
and pairs are of different texts, so on the demo the bound is what to compare with. Where there is
no truth a response gives one pair, so 15 pairs take 15 of 32, whatever the policy; cut at three
places (`dropout.keep`) it gives three.

Target: at most 0.4 of the tokens per pair on evenly spread pass rates and on the whole demo with
three cuts, within 15 % of the bound on each of its branches, and at most 5 % of the pairs lost.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.results import parser, printed, record
from mmpr_builder import pairing, sampling
from mmpr_builder.config import Config, load_config
from mmpr_builder.pairing.need import Tally, marks, rule_for
from mmpr_builder.records import Continuation, ImageRef, Pair, Response, Seed, Verdict

RATIO_TARGET, BOUND_TARGET, LOSS_TARGET = 0.4, 1.15, 0.05
RUNS, SEEDS = 5, 600
THREE_CUTS = "dropout.keep=0.4,0.5,0.6"
RIGHT_TOKENS, WRONG_TOKENS = 300, 350  # Mean lengths in MMPR (arXiv 2411.10442, section 3.2).

PassRate = Callable[[random.Random], float]

MIXES: dict[str, PassRate] = {
    "even": lambda r: r.random(),
    "middling": lambda r: r.betavariate(2, 2),
    "hard": lambda r: r.betavariate(1, 3),
    "U-shaped": lambda r: r.betavariate(0.5, 0.5),
    # A fifth is always right, a tenth never, the rest evenly spread: what easy and hopeless
    # questions make of a real source.
    "with sure ones": lambda r: _with_sure_ones(r),
}


@dataclass
class Sums:
    """One policy on one set of seeds."""

    tokens: int = 0
    samples: int = 0
    pairs: int = 0
    seeds: int = 0
    with_pairs: int = 0
    distinct: int = 0
    """Different chosen and rejected texts of seeds with pairs."""
    needed: int = 0
    """Tokens up to the response that completes the pairs which all of them give."""
    stops: Counter[str] = field(default_factory=Counter)
    rates: list[tuple[float, float]] = field(default_factory=list)
    """(true pass rate, estimate)."""

    def add(self, responses: Sequence[Response], pairs: Sequence[Pair], stop: str) -> None:
        self.seeds += 1
        self.samples += len(responses)
        self.tokens += _tokens(responses)
        self.pairs += len(pairs)
        self.with_pairs += bool(pairs)
        self.distinct += len({p.chosen_text for p in pairs}) + len({p.rejected_text for p in pairs})
        self.stops[stop] += 1

    @property
    def per_pair(self) -> float:
        return self.tokens / max(1, self.pairs)


def _tokens(responses: Sequence[Response]) -> int:
    return sum(r.tokens + sum(c.tokens for c in r.continuations) for r in responses)


def main(arguments: list[str]) -> int:
    """Print and record the tables; 1 if a target is missed."""
    words = parser("adaptive")
    words.add_argument("--real", action="store_true", help="on the engine, too")
    options = words.parse_args(arguments)
    with printed() as text:
        missed = simulate(load_config(None, ["sampling.n=32", *options.settings]))
        if options.real:
            missed |= asyncio.run(real(options.settings))
    lines = ["```", *text.getvalue().splitlines(), "```"]
    record("adaptive", "Adaptive sampling against a fixed 32", lines, options.results, show=False)
    return int(missed)


def simulate(config: Config) -> bool:
    """Tables over all mixes and settings; whether the target on even pass rates is missed."""
    print(f"simulated: {RUNS} runs of {SEEDS} seeds a line, adaptive against fixed {_n(config)}")
    print(_HEAD)
    reached = {name: _line(name, config, _drawn(mix)) for name, mix in MIXES.items()}
    _line("even, few texts", config, lambda s, r: _truth_seed(s, r, r.random(), texts=4))
    _line("even, 10 % undecided", config, lambda s, r: _truth_seed(s, r, r.random(), undecided=0.1))
    print("with other settings:")
    for key in ("sampling.stop_error=0.1", "sampling.stop_error=0", "sampling.min_distinct=2"):
        for name in ("even", "U-shaped"):
            other = _with(config, key)
            _line(f"{name}, {key[9:]}", other, _drawn(MIXES[name]))
    print("DropoutNTP:")
    _line("5 % unusable", config, lambda s, r: _open_seed(s, r, 0.05))
    ratio, loss = reached["even"]
    return ratio > RATIO_TARGET or loss > LOSS_TARGET


_HEAD = (
    f"{'':28}{'tokens/pair':^17}{'ratio':>7} {'(range)':<14}{'bound':>7}{'pairs/seed':^13}"
    f"{'lost':>7}{'samples':>9}{'texts/seed':^13}{'pass rate: bias':>17}{'naive':>8}{'noise':>7}"
)


def _drawn(mix: Callable[[random.Random], float]) -> Callable[[int, random.Random], Any]:
    """Questions with pass rates of this mix."""
    return lambda number, rng: _truth_seed(number, rng, mix(rng))


def _line(
    name: str, config: Config, make: Callable[[int, random.Random], Any]
) -> tuple[float, float]:
    """Print a line; returns the median ratio and the median loss."""
    ratios, losses, runs = [], [], []
    for run in range(RUNS):
        rng = random.Random(run)
        fixed, adaptive, naive = _compare(config, make, rng)
        ratios.append(adaptive.per_pair / fixed.per_pair)
        losses.append(1 - adaptive.pairs / fixed.pairs)
        runs.append((fixed, adaptive, naive))
    fixed, adaptive, naive = (_merged([run[i] for run in runs]) for i in range(3))
    bias, noise = _bias(adaptive.rates)
    naive_bias, _ = _bias(naive.rates)
    shown = f"{bias:>+17.4f}{naive_bias:>+8.4f}{noise:>7.3f}" if adaptive.rates else ""
    print(
        f"{name:28}{fixed.per_pair:>8.0f}{adaptive.per_pair:>7.0f}"
        f"{statistics.median(ratios):>9.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
        f"{fixed.needed / fixed.tokens:>8.3f}"
        f"{fixed.pairs / fixed.seeds:>7.1f}{adaptive.pairs / adaptive.seeds:>6.1f}"
        f"{statistics.median(losses):>7.1%}{adaptive.samples / adaptive.seeds:>9.1f}"
        f"{fixed.distinct / max(1, fixed.with_pairs):>7.1f}"
        f"{adaptive.distinct / max(1, adaptive.with_pairs):>6.1f}{shown}",
        flush=True,
    )
    return statistics.median(ratios), statistics.median(losses)


def _compare(
    config: Config, make: Callable[[int, random.Random], Any], rng: random.Random
) -> tuple[Sums, Sums, Sums]:
    """Fixed, adaptive, and (its rates only) adaptive with the plain share of right ones."""
    fixed, adaptive, naive = Sums(), Sums(), Sums()
    fixed_config = _with(config, "sampling.policy=fixed")
    adaptive_config = _with(config, "sampling.policy=adaptive")
    for number in range(SEEDS):
        seed, rate, responses, verdicts = make(number, rng)
        pairs, _ = pairing.build_pairs(seed, responses, verdicts, fixed_config)
        fixed.add(responses, pairs, "n")
        fixed.needed += _needed(seed, responses, verdicts, len(pairs), adaptive_config)
        taken, stop = stops_after(seed, responses, verdicts, adaptive_config)
        some, said = responses[:taken], verdicts[:taken]
        pairs, _ = pairing.build_pairs(seed, some, said, adaptive_config)
        adaptive.add(some, pairs, stop)
        if rate is not None:
            for sums, used in ((adaptive, adaptive_config), (naive, fixed_config)):
                found = pairing.pass_rate(seed, some, said, used)
                if found is not None:
                    sums.rates.append((rate, found))
    return fixed, adaptive, naive


def stops_after(
    seed: Seed, responses: Sequence[Response], verdicts: Sequence[Verdict], config: Config
) -> tuple[int, str]:
    """How many of these responses adaptive sampling takes, and why no more."""
    rule = rule_for(seed, config)
    found = marks(seed, responses, verdicts, rule)
    tally, size = Tally(rule), rule.first
    while True:
        for mark in found[tally.seen : tally.seen + size]:
            tally.add(mark)
        stop, size = tally.next_round()
        if stop is not None:
            return tally.seen, stop


def _truth_seed(
    number: int, rng: random.Random, rate: float, *, texts: int = 0, undecided: float = 0.0
) -> tuple[Seed, float, list[Response], list[Verdict]]:
    """A question with its pass rate, and 32 responses; `texts`: so many different on each side."""
    seed = Seed(id=f"seed-{number}", question="How many?", answers=("3",))
    responses, verdicts = [], []
    for index in range(32):
        right = rng.random() < rate
        text = f"{right} {rng.randrange(texts) if texts else index}"
        mean = RIGHT_TOKENS if right else WRONG_TOKENS
        responses.append(Response(text, max(8, round(rng.gauss(mean, mean / 3))), "stop", index))
        outcome = "correct" if right else "incorrect" if rng.random() < 0.9 else "no_answer"
        verdicts.append(Verdict("undecided" if rng.random() < undecided else outcome))  # type: ignore[arg-type]
    return seed, rate, responses, verdicts


def _open_seed(
    number: int, rng: random.Random, unusable: float
) -> tuple[Seed, None, list[Response], list[Verdict]]:
    """A question without a truth: every response has a continuation, some of no use."""
    seed = Seed(id=f"open-{number}", question="<image>?", images=(ImageRef("x.png"),))
    responses = []
    for index in range(32):
        tokens = max(8, round(rng.gauss(210, 60)))
        bad = rng.random() < unusable
        new = round(tokens * rng.uniform(0.2, 0.5))
        made = Continuation("a", " b", new, "length" if bad else "stop", index, 0.5)
        responses.append(Response(f"answer {index}", tokens, "stop", index, None, made))
    return seed, None, responses, [pairing.NO_TRUTH] * 32


async def real(overrides: list[str]) -> bool:
    """Both policies on the demo seeds and one engine; whether the target is missed."""
    from mmpr_builder.demo import write_seeds
    from mmpr_builder.engines import make_sampler
    from mmpr_builder.seeds import read_seeds

    config = load_config(None, ["sampling.n=32", "sampling.max_tokens=256", *overrides])
    with tempfile.TemporaryDirectory() as folder:
        path = write_seeds(Path(folder) / "seeds", config.limit or 200)
        seeds = [item for item in read_seeds(path) if isinstance(item, Seed)]
        sampler: Any = make_sampler(config)
        try:
            once = _with(config, "sampling.policy=adaptive")
            fixed = await _sample(seeds, _with(config, "sampling.policy=fixed"), sampler)
            adaptive = await _sample(seeds, once, sampler)
            thrifty = await _sample(seeds, _with(once, THREE_CUTS), sampler)
        finally:
            await sampler.close()
    print(f"demo: {len(seeds)} seeds, demo model, fixed {_n(config)} against adaptive")
    print(
        f"{'':14}{'':10}{'tokens':>9}{'pairs':>8}{'tokens/pair':>13}{'samples/seed':>14}{'texts':>7}"
    )
    missed = False
    for branch in BRANCHES:
        before = fixed[branch]
        bound = before.needed / max(1, before.tokens)
        _print_sums(branch, "fixed", before)
        _print_sums("", "adaptive", adaptive[branch])
        missed |= _missed(before, adaptive[branch], max(RATIO_TARGET, BOUND_TARGET * bound), bound)
    print(f"the same with {THREE_CUTS}, against fixed {_n(config)} with one cut:")
    for branch in BRANCHES[1:]:
        _print_sums(branch, "adaptive", thrifty[branch])
        missed |= _missed(fixed[branch], thrifty[branch], RATIO_TARGET)
    return missed


def _print_sums(branch: str, policy: str, sums: Sums) -> None:
    print(
        f"{branch:14}{policy:10}{sums.tokens:>9,}{sums.pairs:>8,}{sums.per_pair:>13.1f}"
        f"{sums.samples / max(1, sums.seeds):>14.1f}"
        f"{sums.distinct / max(1, sums.with_pairs):>7.1f}  {dict(sums.stops)}"
    )


def _missed(before: Sums, after: Sums, target: float, bound: float | None = None) -> bool:
    """Print ratio and loss of pairs; whether one of them is past its target."""
    ratio, loss = after.per_pair / before.per_pair, 1 - after.pairs / max(1, before.pairs)
    least = "" if bound is None else f" (bound {bound:.3f})"
    print(f"{'':14}ratio {ratio:.3f}{least}, pairs lost {loss:.1%}")
    return ratio > target or loss > LOSS_TARGET


BRANCHES = ("correctness", "DropoutNTP", "both")


async def _sample(seeds: list[Seed], config: Config, sampler: Any) -> dict[str, Sums]:
    from mmpr_builder import prompts
    from mmpr_builder.runs.actors import max_in_flight
    from mmpr_builder.sampling.scoring_threads import ScoringThreads
    from mmpr_builder.scoring import Judge

    scoring = ScoringThreads(config)
    pick = prompts.load_templates(config).pick
    open_seeds = asyncio.Semaphore(max_in_flight(config))

    async def one(seed: Seed) -> Any:
        async with open_seeds:
            return await sampling.roll_out(seed, 0, pick(seed), config, sampler, "demo", scoring)

    await sampler.engine.reset_prefix_cache()
    hits, began = sampler.cache_hits(), time.perf_counter()
    rollouts = await asyncio.gather(*(one(seed) for seed in seeds))
    took = time.perf_counter() - began
    scoring.close()
    sums = {branch: Sums() for branch in BRANCHES}
    with Judge(config.scoring) as judge:
        for rollout in rollouts:
            verdicts, pairs, _ = pairing.judge_and_pair(rollout, config, judge)
            needed = _needed(rollout.seed, rollout.responses, verdicts, len(pairs), config)
            branch = "correctness" if rollout.seed.has_truth else "DropoutNTP"
            for name in (branch, "both"):
                sums[name].add(rollout.responses, pairs, rollout.stop)
                sums[name].needed += needed
    saved = sampler.cache_hits() - hits
    cuts = ", three cuts" if len(config.dropout.keep) > 1 else ""
    print(
        f"{config.sampling.policy}{cuts}: {sums['both'].tokens / took:,.0f} tokens/s"
        f" over {took:.0f} s,"
        f" prefix cache {saved['prefix_hits']:,} of {saved['prefix_queries']:,} prompt tokens"
    )
    return sums


def _needed(
    seed: Seed,
    responses: Sequence[Response],
    verdicts: Sequence[Verdict],
    pairs: int,
    config: Config,
) -> int:
    """Tokens up to the response with which there are so many pairs."""
    rule = rule_for(seed, config)
    tally = Tally(rule)
    for count, mark in enumerate(marks(seed, responses, verdicts, rule)):
        if tally.pairs >= pairs:
            return _tokens(responses[:count])
        tally.add(mark)
    return _tokens(responses)


def _with_sure_ones(rng: random.Random) -> float:
    draw = rng.random()
    return 1.0 if draw < 0.2 else 0.0 if draw < 0.3 else rng.random()


def _with(config: Config, override: str) -> Config:
    key, _, value = override.partition("=")
    section, _, name = key.partition(".")
    changed = {**getattr(config, section).model_dump(), name: value}
    return config.model_copy(
        update={section: type(getattr(config, section)).model_validate(changed)}
    )


def _merged(runs: list[Sums]) -> Sums:
    whole = Sums()
    for run in runs:
        for name in ("tokens", "samples", "pairs", "seeds", "with_pairs", "distinct", "needed"):
            setattr(whole, name, getattr(whole, name) + getattr(run, name))
        whole.rates += run.rates
    return whole


def _bias(rates: list[tuple[float, float]]) -> tuple[float, float]:
    """Mean error of the estimates, and their root mean square error."""
    errors = [found - true for true, found in rates] or [0.0]
    return statistics.fmean(errors), statistics.fmean(e * e for e in errors) ** 0.5


def _n(config: Config) -> int:
    return config.sampling.n


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
