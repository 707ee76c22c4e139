"""When a seed is done: the rule, what it saves and costs, and the pass rate it leaves."""

from __future__ import annotations

import random
import re
import statistics
from dataclasses import replace
from typing import Any

import pytest
from adaptive_patterns import OPEN, SEED, judged, settings, tally_of
from hypothesis import given, strategies as st

from benchmarks import adaptive as bench
from mmpr_builder.config import Config
from mmpr_builder.pairing import build_pairs, pass_rate
from mmpr_builder.pairing.need import (
    Mark,
    Rule,
    Tally,
    fewest_more,
    marks,
    missed_aims,
    patience,
    rule_for,
)
from mmpr_builder.pairing.pass_rate import shown_rate
from mmpr_builder.records import (
    Continuation,
    ImageRef,
    Seed,
)

STOPS = [
    # right +, wrong -, no answer 0, undecided ?, cut |; what comes next
    ("++++----", (), "enough"),
    ("+++-----", (), "enough"),
    ("+++--000", (), "enough"),
    ("++------", (), 2),
    ("+-------", (), 2),
    ("+++++++?", (), 8),
    ("++++++++", (), 8),
    ("+" * 16, (), 4),
    ("+" * 20, (), 5),
    ("+" * 31, (), "hopeless"),
    ("-" * 31, (), "hopeless"),
    ("+" * 24, ("sampling.stop_error=0.25",), "hopeless"),
    ("?" * 23, (), 8),
    ("?" * 31, (), 1),
    ("+" * 25 + "?" * 6, (), 1),
    ("+" * 30 + "-", (), "enough"),
    ("+" * 30 + "|", (), "hopeless"),
    ("+" * 12 + "-", (), 2),
    ("+" * 20 + "-" * 12, (), "enough"),
    ("+" * 32, (), "n"),
    ("+" * 32, ("sampling.n=64",), 8),
    ("++++----", ("sampling.target_pairs=16",), "enough"),
    ("++++----", ("sampling.target_pairs=17",), 2),
    ("+++--000", ("pairing.kinds=correctness",), 4),
    ("+++|||||", ("pairing.kinds=correctness,truncated",), "enough"),
    ("++++----", ("pairing.kinds=dropout_ntp",), "hopeless"),
    ("+" + "-" * 15, (), "enough"),
    ("+" + "-" * 15, ("sampling.min_distinct=2",), 2),
    ("++++++++", ("sampling.stop_error=1",), "hopeless"),
    ("+" * 31, ("sampling.stop_error=0",), 1),
]


@pytest.mark.parametrize(("pattern", "overrides", "expected"), STOPS)
def test_when_a_seed_is_done(pattern: str, overrides: tuple[str, ...], expected: str | int) -> None:
    stop, size = tally_of(pattern, settings(*overrides)).next_round()
    assert (stop or size) == expected


def test_equal_texts_count_once() -> None:
    texts = [0, 0, 0, 0, 4, 4, 4, 7]
    assert tally_of("++++----", settings(), texts).pairs == 2
    assert tally_of("++++----", settings(), texts).next_round()[0] is None
    # The more of them repeat, the more are asked for at a time.
    few = tally_of("++++----", settings(), [0, 0, 0, 3, 4, 4, 4, 7]).next_round()[1]
    assert tally_of("++------", settings()).next_round()[1] < few == 4
    # Two texts over and over: that a third will come is as unlikely as the other side elsewhere.
    assert tally_of("+-" * 12, settings(), [0, 1] * 12).next_round()[0] == "hopeless"


AIMS = [
    ((), ""),
    (("pairing.max_per_seed=10", "pairing.kinds=correctness,format,truncated,dropout_ntp"), ""),
    (("pairing.max_per_seed=30",), "pairing.max_per_seed = 30.*sampling.target_pairs = 15$"),
    (("pairing.max_per_seed=30", "sampling.target_pairs=30"), ""),
    (("pairing.max_per_seed=30", "sampling.policy=fixed"), ""),
]


@pytest.mark.parametrize(("overrides", "says"), AIMS)
def test_pairs_that_sampling_does_not_aim_for_are_named(
    overrides: tuple[str, ...], says: str
) -> None:
    missed = missed_aims(settings(*overrides))
    assert bool(missed) is bool(says)
    assert re.search(says, missed)


FIRST = [(SEED, (), 8), (SEED, ("sampling.n=4",), 4), (OPEN, (), 15), (OPEN, ("sampling.n=6",), 6)]


@pytest.mark.parametrize(("seed", "overrides", "size"), FIRST)
def test_the_first_round_is_what_is_needed_at_the_least(
    seed: Seed, overrides: tuple[str, ...], size: int
) -> None:
    assert rule_for(seed, settings(*overrides)).first == size


def test_a_seed_that_can_give_no_pair_is_left_after_one_round() -> None:
    rule = rule_for(OPEN, settings("dropout.apply=none"))
    tally = Tally(rule)
    tally.add(Mark())
    assert tally.next_round() == ("hopeless", 0)


@given(
    st.lists(st.tuples(st.sampled_from("+-0?|"), st.integers(0, 9)), min_size=1, max_size=32),
    st.integers(1, 20),
)
def test_enough_is_what_pairing_makes_of_it(drawn: list[tuple[str, int]], wanted: int) -> None:
    pattern, texts = "".join(letter for letter, _ in drawn), [number for _, number in drawn]
    config = settings(f"sampling.target_pairs={wanted}", f"pairing.max_per_seed={wanted}")
    pairs, _ = build_pairs(SEED, *judged(pattern, texts), config)
    tally = tally_of(pattern, config, texts)
    assert len(pairs) == min(wanted, tally.pairs)
    assert (tally.next_round()[0] == "enough") == (len(pairs) == wanted)


@given(st.text("+-0?", min_size=1, max_size=16), st.text("ab", min_size=16, max_size=16))
def test_enough_counts_both_branches_where_a_seed_has_both(pattern: str, ends: str) -> None:
    seed = replace(SEED, images=(ImageRef("x.png"),))
    config = settings("dropout.apply=all")
    responses, verdicts = judged(pattern)
    responses = [
        replace(r, continuation=Continuation("+", f" {end}", 3, "stop", 0, 0.5))
        if end == "a"
        else r
        for r, end in zip(responses, ends, strict=False)
    ]
    rule = rule_for(seed, config)
    tally = Tally(rule)
    for mark in marks(seed, responses, verdicts, rule):
        tally.add(mark)
    pairs, _ = build_pairs(seed, responses, verdicts, config)
    assert len(pairs) == min(15, tally.pairs)


@given(st.lists(st.sampled_from("+-"), min_size=64, max_size=64), st.integers(2, 64))
def test_rounds_never_go_past_n_and_always_end(drawn: list[str], n: int) -> None:
    config = settings(f"sampling.n={n}")
    taken, stop = bench.stops_after(SEED, *judged("".join(drawn)), config)
    assert 1 <= taken <= n
    assert stop in ("enough", "hopeless", "n")
    if stop == "n":
        assert taken == n


@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 20))
def test_a_round_asks_for_no_more_than_is_needed_in_any_case(
    right: int, wrong: int, wanted: int
) -> None:
    rule = Rule(99, wanted, 1, 1, 99, ("correctness",), crosses=True, continues=False)
    more = fewest_more(rule, right, wrong, 0)
    best = max((right + a) * (wrong + more - a) for a in range(more + 1))
    worse = max((right + a) * (wrong + more - 1 - a) for a in range(more))
    assert best >= wanted
    assert worse < wanted or more == 1


PASS_RATES_OF = {
    "U-shaped": lambda r: r.betavariate(0.5, 0.5),
    "mostly sure": lambda r: r.betavariate(0.3, 0.3),
    "hard": lambda r: r.betavariate(0.5, 5),
    "one in twenty": lambda r: 0.05,
    "one in fifty": lambda r: 0.02,
}


@pytest.mark.parametrize("mix", PASS_RATES_OF)
@pytest.mark.parametrize("error", [0.05, 0.2])
def test_giving_up_costs_at_most_the_stated_error_of_any_source(mix: str, error: float) -> None:
    rng, taken = random.Random(5), patience(32, error)
    lost = split = 0
    for _ in range(8_000):
        rate = PASS_RATES_OF[mix](rng)
        right = [rng.random() < rate for _ in range(32)]
        if 0 < sum(right) < 32:
            split += 1
            lost += len(set(right[:taken])) == 1
    assert lost / split <= error


def test_patience_follows_the_error_that_is_stated() -> None:
    assert [patience(n, 0.05) for n in (1, 2, 8, 32, 64)] == [1, 2, 8, 31, 61]
    assert [patience(32, error) for error in (0.0, 0.25, 1.0)] == [32, 24, 1]


def test_undecided_responses_do_not_count_towards_giving_up() -> None:
    """Nine in ten are undecided: the three decided ones say as little as three of three."""
    config = settings("sampling.stop_error=0.5")
    assert tally_of("+" * 16, config).next_round()[0] == "hopeless"
    assert tally_of(("?" * 9 + "-") * 3, config).next_round()[0] is None


# What it costs and saves, simulated with the package's own rule and pairing

SAVINGS = [("even", 0.40), ("middling", 0.35), ("hard", 0.44), ("U-shaped", 0.52)]


@pytest.mark.parametrize(("mix", "most"), SAVINGS)
def test_it_saves_tokens_and_loses_few_pairs(mix: str, most: float) -> None:
    rng = random.Random(1)
    sums = bench._compare(
        settings(), lambda number, r: bench._truth_seed(number, r, bench.MIXES[mix](r)), rng
    )
    fixed, adaptive, _ = sums
    assert adaptive.per_pair / fixed.per_pair < most
    assert 1 - adaptive.pairs / fixed.pairs < 0.05


def estimates(seeds: int, config: Config, draw: Any) -> tuple[float, float, float]:
    """Mean true pass rate, mean estimate, and mean of the plain share of right ones."""
    rng = random.Random(3)
    plain = settings("sampling.policy=fixed")
    found = []
    for number in range(seeds):
        rate = draw(rng)
        seed = replace(SEED, id=str(number))
        pattern = "".join("+" if rng.random() < rate else "-" for _ in range(32))
        taken, _ = bench.stops_after(seed, *judged(pattern), config)
        responses, verdicts = judged(pattern[:taken])
        both = [pass_rate(seed, responses, verdicts, c) for c in (config, plain)]
        found.append((rate, *both))
    return tuple(statistics.fmean(column) for column in zip(*found, strict=True))  # type: ignore[return-value]


RATES = [
    ("hard", bench.MIXES["hard"]),
    ("one in ten", lambda r: 0.1),
    ("even", bench.MIXES["even"]),
]


@pytest.mark.parametrize(("name", "draw"), RATES)
def test_the_pass_rate_it_leaves_is_unbiased(name: str, draw: Any) -> None:
    true, estimate, plain = estimates(4_000, settings(), draw)
    assert estimate == pytest.approx(true, abs=0.006)
    if name != "even":  # Where one side is rare the plain share is not.
        assert plain - true > 0.01


def test_the_pass_rate_is_less_noisy_than_the_first_round_alone() -> None:
    rng, config, errors = random.Random(4), settings(), []
    for number in range(2_000):
        seed = replace(SEED, id=str(number))
        rate = rng.betavariate(1, 3)
        pattern = "".join("+" if rng.random() < rate else "-" for _ in range(32))
        taken, _ = bench.stops_after(seed, *judged(pattern), config)
        found = pass_rate(seed, *judged(pattern[:taken]), config)
        assert found is not None
        errors.append(((found - rate) ** 2, (pattern[:8].count("+") / 8 - rate) ** 2))
    better, first = (statistics.fmean(column) for column in zip(*errors, strict=True))
    assert better < 0.97 * first


PASS_RATES = [
    ("++++----", (), 0.5),  # one round: the plain share
    ("+" * 31, (), 1.0),
    ("++------??", (), 0.25),  # a later scorer decides otherwise: the first round's
    ("++++----------", (), 0.5),  # the rule would have stopped at eight
    ("++++----------", ("sampling.policy=fixed",), 4 / 14),
    ("????????", (), None),
]


@pytest.mark.parametrize(("pattern", "overrides", "expected"), PASS_RATES)
def test_pass_rates(pattern: str, overrides: tuple[str, ...], expected: float | None) -> None:
    assert pass_rate(SEED, *judged(pattern), settings(*overrides)) == expected


def test_a_pair_carries_both_rates_and_what_was_sampled() -> None:
    pattern = "-------+---++"
    config = settings()
    assert bench.stops_after(SEED, *judged(pattern), config)[0] <= len(pattern)
    taken, _ = bench.stops_after(SEED, *judged(pattern), config)
    pairs, _ = build_pairs(SEED, *judged(pattern[:taken]), config)
    assert {pair.n_samples for pair in pairs} == {taken}
    given = SEED, *judged(pattern[:taken]), config
    assert {pair.unbiased_rate for pair in pairs} == {pass_rate(*given)}
    assert {pair.pass_rate for pair in pairs} == {shown_rate(*given)}


def test_the_rate_that_a_pair_shows_is_nearer_than_the_unbiased_and_the_plain_one() -> None:
    rng, config = random.Random(6), settings()
    errors: list[list[float]] = [[], [], []]
    ends = 0
    for number in range(2_000):
        pattern = "".join("+" if rng.random() < 0.3 else "-" for _ in range(32))
        taken, _ = bench.stops_after(SEED, *judged(pattern), config)
        given = replace(SEED, id=str(number)), *judged(pattern[:taken]), config
        unbiased, shown = pass_rate(*given), shown_rate(*given)
        assert unbiased is not None
        assert shown is not None
        plain = pattern[:taken].count("+") / taken
        assert 0 < shown < 1 or plain in (0, 1)
        ends += unbiased in (0, 1) and plain not in (0, 1)
        for column, rate in zip(errors, (shown, plain, unbiased), strict=True):
            column.append((rate - 0.3) ** 2)
    shown_error, plain_error, unbiased_error = (
        statistics.fmean(column) ** 0.5 for column in errors
    )
    assert shown_error < plain_error < unbiased_error
    assert ends > 0  # Which a band just inside 0 to 1 would drop, pairs and all.


def test_a_band_just_inside_drops_no_seed_with_pairs() -> None:
    config = settings("quality.pass_rate=0.01,0.99")
    mixed = 0
    for right in range(1, 32):
        pattern = "-" * (32 - right) + "+" * right
        taken, _ = bench.stops_after(SEED, *judged(pattern), settings())
        if 0 < pattern[:taken].count("+") < taken:
            pairs, drops = build_pairs(SEED, *judged(pattern[:taken]), config)
            assert pairs
            assert not drops
            mixed += 1
    assert mixed > 8
