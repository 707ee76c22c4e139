"""Verdicts per core-second beside math-verify on the same traffic; once cached; under attack.

    python -m benchmarks.scoring_speed [--seeds 64] [--n 32] [--rounds 5]

Traffic is drawn from the tables of the tests: `--seeds` truths in the shares of `MIX`, and `--n`
answers to each, right ones and wrong ones of that truth, the k-th most frequent with weight 1/k. In
each round both judge the same answers, who goes first alternates, and all our caches start empty.
Core-seconds are CPU time of this process and of its workers. math-verify gets both sides as LaTeX
between dollars, as it wants them, and parses each truth once.

Goals: 5 times math-verify's rate, 10,000 verdicts per core-second once cached, no hostile answer
over 3 s, and the worker pool's memory back to what it was.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.results import parser, record, spread, table
from mmpr_builder.scoring import Judge

CASES = Path(__file__).parents[1] / "tests" / "cases"
MIX = {"choice": 0.35, "number": 0.40, "formula": 0.15, "text": 0.10}
GOAL_RATIO, GOAL_CACHED, GOAL_SLOWEST_S, GOAL_GROWTH_MIB = 5.0, 10_000, 3.0, 64


@dataclass(frozen=True)
class Ask:
    """One answer to judge. `choices` are the option texts, if any."""

    answer: str
    gold: str
    scorer: str
    choices: tuple[str, ...]


def main(words: list[str]) -> int:
    """Measure and record; 1 if a goal is missed."""
    options = parser("scoring_speed", seeds=64, n=32, rounds=5).parse_args(words)
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    rows = []
    for turn in range(options.rounds):
        asks = traffic(options.seeds, options.n, random.Random(turn))
        rows.append(one_round(asks, ours_first=bool(turn % 2)))
    ratio = spread((row["ours"] / row["math-verify"] for row in rows), 1)
    cached = spread(row["cached"] for row in rows)
    slowest, answers, before, after = attack()
    distinct = spread((row["distinct"] for row in rows), 1)
    lines = [
        f"{ratio} times math-verify's verdicts per core-second (goal {GOAL_RATIO:.0f});"
        f" {options.seeds} truths x {options.n} answers, {distinct} distinct ones to a truth,"
        f" {options.rounds} rounds.",
        "",
        *table(
            ("verdicts per core-second", ""),
            [
                ("ours, caches empty at the start", spread(row["ours"] for row in rows)),
                ("math-verify", spread(row["math-verify"] for row in rows)),
                (f"ours, all cached (goal {GOAL_CACHED:,})", cached),
                ("ours, each distinct answer once", spread(row["once"] for row in rows)),
            ],
        ),
        "",
        f"{answers} hostile answers: the slowest took {slowest:.2f} s (goal {GOAL_SLOWEST_S:.0f});"
        f" the workers held {before:.0f} MiB before and {after:.0f} MiB after.",
    ]
    record("scoring_speed", "Scoring", lines, options.results)
    fast = ratio.median >= GOAL_RATIO and cached.median >= GOAL_CACHED
    return 0 if fast and slowest <= GOAL_SLOWEST_S and after - before < GOAL_GROWTH_MIB else 1


def traffic(seeds: int, n: int, rng: random.Random) -> list[Ask]:
    """`n` answers to each of `seeds` truths, in the order in which a build would meet them."""
    kinds = pools()
    asks: list[Ask] = []
    for _ in range(seeds):
        kind = rng.choices(list(MIX), weights=list(MIX.values()))[0]
        case = rng.choice(kinds[kind])
        right, wrong = (rng.sample(case[k], min(len(case[k]), 6)) for k in ("right", "wrong"))
        said = [text for pair in zip(right, wrong, strict=False) for text in pair]
        weights = [1 / (k + 1) for k in range(len(said))]
        choices = tuple(case.get("choices") or ())
        asks += [
            Ask(answer, case["gold"], case["scorer"], choices)
            for answer in rng.choices(said, weights=weights, k=n)
        ]
    return asks


def pools() -> dict[str, list[dict[str, Any]]]:
    """The rows of the tests' tables by kind of truth."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in MIX}
    for path in sorted(CASES.glob("scoring_answers*.json")):
        for case in json.loads(path.read_text("utf-8")):
            if isinstance(case["gold"], str) and case["right"] and case["wrong"]:
                kind = kind_of_row(case)
                if kind:
                    found[kind].append(case)
    return found


def kind_of_row(case: dict[str, Any]) -> str | None:
    gold = case["gold"]
    if case["scorer"] == "choice":
        return "choice"
    if case["scorer"] in ("vqa", "anls"):
        return "text"
    if case["scorer"] != "math" or not gold.isascii():
        return None
    return "number" if set(gold) <= set("0123456789.,/%-$ cmkg") else "formula"


def one_round(asks: list[Ask], *, ours_first: bool) -> dict[str, float]:
    """Rates of both on the same answers, and ours a second time."""
    found: dict[str, float] = {"distinct": len(set(asks)) / len({a.gold for a in asks})}

    def with_math_verify() -> None:
        found["math-verify"] = len(asks) / core_seconds(lambda: math_verify(asks))

    if not ours_first:
        with_math_verify()
    empty_caches()
    with Judge() as judge:
        judge.score_answer("x+2", "2+x+0", scorer="math")  # the worker has started
        seconds = core_seconds(lambda: ours(judge, asks))
        found["ours"] = len(asks) / seconds
        found["once"] = len(set(asks)) / seconds
        found["cached"] = 20 * len(asks) / core_seconds(lambda: ours(judge, asks * 20))
    if ours_first:
        with_math_verify()
    return found


def ours(judge: Judge, asks: list[Ask]) -> None:
    for ask in asks:
        judge.score_answer(ask.answer, ask.gold, scorer=ask.scorer, choices=ask.choices)


def math_verify(asks: list[Ask]) -> None:
    from math_verify import parse, verify

    truths: dict[str, Any] = {}
    for ask in asks:
        if ask.gold not in truths:
            truths[ask.gold] = parse(f"${ask.gold}$")
        verify(truths[ask.gold], parse(f"${ask.answer}$"))


def core_seconds(run: Callable[[], object]) -> float:
    """CPU time of this process and all its children, living and ended, that `run` takes."""
    before = _cpu_time()
    run()
    return max(_cpu_time() - before, 1e-6)


def _cpu_time() -> float:
    me = psutil.Process()
    mine = me.cpu_times()
    total = mine.user + mine.system + mine.children_user + mine.children_system
    for child in me.children(recursive=True):
        times = child.cpu_times()
        total += times.user + times.system
    return float(total)


def empty_caches() -> None:
    """Forget what the scorers remember of texts."""
    for name, module in list(sys.modules.items()):
        if name.startswith("mmpr_builder.scoring"):
            for value in vars(module).values():
                clear = getattr(value, "cache_clear", None)
                if clear is not None:
                    clear()


def attack() -> tuple[float, int, float, float]:
    """(slowest in s, answers, MiB of the workers before, after) for all hostile answers."""
    answers = json.loads((CASES / "scoring_hostile.json").read_text("utf-8"))
    for _, said in json.loads((CASES / "scoring_hostile_2.json").read_text("utf-8")):
        answers.append(said if isinstance(said, str) else said[0] * said[1])
    slowest = 0.0
    with Judge() as judge:
        judge.score_answer("x+2", "2+x+0", scorer="math")
        before = _children_mib()
        for answer in answers:
            for gold in ("42", r"\frac{y}{3}", r"\sqrt{2}+\sqrt{3}"):
                start = time.perf_counter()
                judge.score_answer(answer, gold, scorer="math")
                slowest = max(slowest, time.perf_counter() - start)
        judge.score_answer("x+3", "3+x+0", scorer="math")
        after = _children_mib()
    return slowest, 3 * len(answers), before, after


def _children_mib() -> float:
    """Memory that the workers hold and share with nobody."""
    children = psutil.Process().children(recursive=True)
    return float(sum(child.memory_full_info().uss for child in children) / 2**20)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
