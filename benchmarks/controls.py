"""Do the controls keep what they promise? Simulated, where the truth is known.

    python -m benchmarks.controls

Balance of lengths, giving up in adaptive sampling, pass rates of seeds that stopped early, ranges
of a probe, near-duplicates among texts (for pictures see decontamination). Each table has the
figures of the version before the control was changed (commit 9c48426, same cases) beside today's.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

from benchmarks import adaptive
from benchmarks.results import parser, record, table
from mmpr_builder import pairing
from mmpr_builder.config import BalanceConfig, Config, load_config
from mmpr_builder.pairing.balance import Balance, Weighed
from mmpr_builder.pairing.need import patience
from mmpr_builder.pairing.pass_rate import shown_rate
from mmpr_builder.probe import estimate
from mmpr_builder.quality.screening import screen_seeds
from mmpr_builder.quality.suspects import CONTROL
from mmpr_builder.records import Drop, Seed, content_id

LENGTH = 200


def main() -> None:
    options = parser("controls", seeds=2000)
    args = options.parse_args()
    lines = [*lengths(), "", *stops(args.seeds), "", *rates(args.seeds), "", *suspects(), ""]
    record("controls", "Controls", [*lines, *ranges(), "", *repeats()], args.results)


def lengths() -> list[str]:
    """How often the better of "the longer" and "the shorter one is chosen" is right."""
    rng = random.Random(1)
    cases = {
        "long chosen first, long rejected then": (
            [round(rng.gauss(40 if i < 1000 else -42.6, 30)) for i in range(2000)],
            "26 % gone, mean gap -1.3 to -27",
        ),
        "lean of 18, falling": (
            sorted((round(rng.gauss(18, 60)) for _ in range(2000)), reverse=True),
            "mean gap of 18 stays",
        ),
        "80 % at -5, 20 % at 60": ([-5] * 1600 + [60] * 400, "rule .80 to .87"),
        "lean of 50": ([round(rng.gauss(50, 80)) for _ in range(2000)], "mean within tolerance"),
    }
    rows = []
    for name, (gaps, before) in cases.items():
        kept = balanced(gaps)
        shown = f"{rule(gaps):.2f} to {rule(kept):.2f}", f"{len(kept) / len(gaps):.0%}"
        means = f"{sum(gaps) / len(gaps):+.1f} to {sum(kept) / len(kept):+.1f}"
        rows.append((name, before, *shown, means))
    return table(("lengths, 2,000 pairs", "before", "rule right", "kept", "mean gap"), rows)


def balanced(gaps: Sequence[int]) -> list[int]:
    balance = Balance(BalanceConfig(lengths=True))
    for number, gap in enumerate(gaps):
        draw = int(content_id(str(number))[:16], 16)
        balance.note("s", Weighed("correctness", LENGTH, LENGTH - gap, draw=draw))
    return [gap for gap, why in zip(gaps, balance.decisions(), strict=True) if why is None]


def rule(gaps: Sequence[int]) -> float:
    longer = sum(gap > 0 for gap in gaps)
    return max(longer, sum(gap < 0 for gap in gaps)) / len(gaps)


MIXES: dict[str, tuple[Callable[[random.Random], float], str]] = {
    "Beta(.5, .5)": (lambda r: r.betavariate(0.5, 0.5), "4.4 %"),
    "Beta(.3, .3)": (lambda r: r.betavariate(0.3, 0.3), "5.7 %"),
    "Beta(.5, 5)": (lambda r: r.betavariate(0.5, 5), "8.5 %"),
    "one in twenty": (lambda r: 0.05, "14 %"),
    "one in fifty": (lambda r: 0.02, "22 %"),
    "a third sure": (lambda r: adaptive.MIXES["with sure ones"](r), "2.5 %"),
}


def stops(seeds: int) -> list[str]:
    """Seeds that 32 responses split and giving up loses, stated 5 %, and tokens per pair."""
    config = load_config(None, ["sampling.policy=adaptive"])
    early = load_config(None, ["sampling.policy=adaptive", "sampling.stop_error=0.29"])
    assert patience(32, 0.29) == 23  # As it was.
    rows = []
    for name, (draw, before) in MIXES.items():
        rng = random.Random(2)
        lost = split = 0
        per_pair = []
        drawn = [adaptive._truth_seed(i, rng, draw(rng)) for i in range(seeds)]
        for settings in (early, config):
            tokens = pairs = lost = split = 0
            for seed, _, responses, verdicts in drawn:
                taken, _ = adaptive.stops_after(seed, responses, verdicts, settings)
                right = [verdict.outcome == "correct" for verdict in verdicts]
                made = sum(right[:taken]) * (taken - sum(right[:taken]))
                split += 0 < sum(right) < 32
                lost += 0 < sum(right) < 32 and not made
                tokens += sum(response.tokens for response in responses[:taken])
                pairs += min(15, made)
            per_pair.append(tokens / pairs)
        rows.append((name, before, f"{lost / split:.1%}", f"{per_pair[1] / per_pair[0]:.2f}"))
    return table(("giving up, stated 5 %", "lost before", "lost", "tokens per pair"), rows)


def rates(seeds: int) -> list[str]:
    """Root mean square error of the pass rate of a seed, and 0 or 1 where there were both."""
    config, rng = load_config(None, ["sampling.policy=adaptive"]), random.Random(3)
    found: dict[str, list[float]] = {"unbiased (before)": [], "plain share": [], "shown": []}
    ends: dict[str, int] = dict.fromkeys(found, 0)
    for number in range(seeds):
        seed, _, responses, verdicts = adaptive._truth_seed(number, rng, 0.3)
        taken, _ = adaptive.stops_after(seed, responses, verdicts, config)
        given = seed, responses[:taken], verdicts[:taken]
        plain = pairing.pass_rate(*given, Config())
        values = pairing.pass_rate(*given, config), plain, shown_rate(*given, config)
        for (name, column), value in zip(found.items(), values, strict=True):
            column.append(value or 0.0)
            ends[name] += value in (0, 1) and plain not in (0, 1)
    rows = [
        (
            name,
            f"{sum(values) / seeds - 0.3:+.3f}",
            f"{math.sqrt(sum((v - 0.3) ** 2 for v in values) / seeds):.3f}",
            f"{ends[name] / seeds:.1%}",
        )
        for name, values in found.items()
    ]
    return table(("pass rate of a seed, truly 0.3", "bias", "error", "0 or 1 with both"), rows)


def suspects() -> list[str]:
    """Chance that draws among four answers, three of them wrong, flag a seed."""
    rows = []
    for answered, before in ((5, 5), (6, 5), (8, 7), (16, 12), (32, 20)):
        chances = [
            f"{3 * sum(_binomial(answered, k) for k in range(least, answered + 1)):.1e}"
            for least in (before, CONTROL.votes(answered, closed=False))
        ]
        rows.append((f"{answered} answers", *chances))
    return table(("suspect truths, stated 1e-3", "before", "now"), rows)


def _binomial(n: int, k: int) -> float:
    return math.comb(n, k) * 0.25**k * 0.75 ** (n - k)


YIELDS: dict[str, tuple[Callable[[random.Random], float], float | None, str]] = {
    "normal": (lambda r: min(15.0, max(0.0, r.gauss(7, 2))), 15, "71 %, 86 %, 94 %"),
    "mostly none": (lambda r: 15.0 * (r.random() < 0.3), 15, "41 %, 74 %, 92 %"),
    "rare": (lambda r: 15.0 * (r.random() < 0.02), 15, "3 %, 6 %, 36 %"),
    "lognormal": (lambda r: r.lognormvariate(6, 1), None, "60 %, 74 %, 87 %"),
    "exponential": (lambda r: r.expovariate(1 / 400), None, "64 %, 78 %, 91 %"),
}


def ranges() -> list[str]:
    """How often the stated 95 % range of a probe holds the sum, of 2, 4 and 24 probed seeds."""
    rows = []
    for name, (value, most, before) in YIELDS.items():
        rng = random.Random(4)
        population = [value(rng) for _ in range(1000)]
        shares = []
        for probed in (2, 4, 24):
            found = [
                estimate({"a": 1000}, {"a": rng.sample(population, probed)}, most)
                for _ in range(500)
            ]
            held = sum(one.low <= sum(population) <= one.high for one in found)
            shares.append(f"{held / 500:.0%}")
        rows.append((name, before, ", ".join(shares)))
    return table(("range of a probe, stated 95 %; 2, 4, 24 probed", "before", "now"), rows)


def repeats() -> list[str]:
    """Long texts that share nine words in ten with an earlier one and differ in plurals."""
    rng, seeds = random.Random(5), list[Seed]()
    for number in range(1000):
        text = [f"w{number}x{place}" for place in range(rng.randrange(12, 40))]
        seeds.append(Seed(f"{number}", " ".join(text)))
        for place in rng.sample(range(len(text)), len(text) // 10):
            text[place] += "s"
        seeds.append(Seed(f"{number} again", " ".join(text)))
    near = Config.model_validate({"quality": {"near_duplicates": True}})
    found = sum(isinstance(item, Drop) for item in screen_seeds(seeds, near))
    header = ("texts of 12 to 39 words, similarity 0.9", "found before", "found")
    return table(header, [("1,000, other plurals", "50 to 61 %", f"{found / 1000:.1%}")])


if __name__ == "__main__":
    main()
