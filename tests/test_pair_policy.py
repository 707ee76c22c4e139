"""Wishes of a recipe: who may stand how often, which wrong answer first, who meets whom."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from mmpr_builder.config import Config, PairingConfig, as_stated, load_config
from mmpr_builder.errors import ConfigError
from mmpr_builder.pairing import build_pairs
from mmpr_builder.pairing.balance import common_answer, common_answers
from mmpr_builder.pairing.need import Tally, marks, missed_aims, rule_for
from mmpr_builder.records import (
    Continuation,
    Drop,
    ImageRef,
    Outcome,
    Pair,
    Response,
    Seed,
    Verdict,
)

TRUTH = Seed("s1", "How many?", answers=("3",), source="grid")
OPEN = Seed("s2", "<image>\nDescribe it.", (ImageRef("x.png"),), source="grid")
Sample = tuple[Response, Verdict]
ALL = ("correctness", "format", "truncated", "dropout_ntp")
WISHES: list[dict[str, Any]] = [
    {"max_per_response": 2},
    {"rejected_first": "frequent_answer"},
    {"rejected_first": "distinct_answers"},
    {"partner": "shared_prefix"},
    {"partner": "like_length"},
    {"max_gap": 30},
    {"shares": {"correctness": 0.5, "format": 0.5}},
    {"max_per_response": 3, "rejected_first": "frequent_answer", "partner": "like_length"},
]


def sample(
    outcome: Outcome, text: str, tokens: int = 20, answer: str | None = None, **more: Any
) -> Sample:
    response = Response(text, tokens, "stop", 0, **more)
    return response, Verdict(outcome, answer=answer)


def right(n: int, tokens: Sequence[int] = (20,)) -> list[Sample]:
    return [sample("correct", f"way {i} to 3", tokens[i % len(tokens)], "3") for i in range(n)]


def wrong(n: int, tokens: Sequence[int] = (20,), answer: str = "4") -> list[Sample]:
    texts = [f"way {i} to {answer}" for i in range(n)]
    return [sample("incorrect", t, tokens[i % len(tokens)], answer) for i, t in enumerate(texts)]


def rambling(n: int) -> list[Sample]:
    return [sample("no_answer", f"hm {i}") for i in range(n)]


def described(n: int, gaps: Sequence[int] = (0,), start: int = 0) -> list[Sample]:
    """Responses of 60 tokens with continuations that are so much shorter."""
    found = []
    for i in range(start, start + n):
        tokens = 60 - gaps[i % len(gaps)]
        joined = Continuation("A red", f" lie {i}", tokens, "stop", 1, 0.5, prefix_tokens=0)
        found.append(sample("undecided", f"A red thing {i}", 60, continuation=joined))
    return found


def pair_up(
    samples: Sequence[Sample], seed: Seed = TRUTH, config: Config | None = None, **policy: Any
) -> tuple[list[Pair], list[Drop]]:
    responses, verdicts = [r for r, _ in samples], [v for _, v in samples]
    return build_pairs(seed, responses, verdicts, config or PairingConfig(**policy))


def gaps(pairs: Sequence[Pair]) -> list[int]:
    return [pair.chosen_tokens - pair.rejected_tokens for pair in pairs]


# Clean data: what no wish concerns stays as it is


@pytest.mark.parametrize("policy", WISHES, ids=str)
def test_where_there_is_nothing_to_choose_wishes_change_nothing(policy: dict[str, Any]) -> None:
    samples = [*right(2), *wrong(1), *rambling(1)]
    made = {pair.id for pair in pair_up(samples, **policy)[0]}
    assert made == {pair.id for pair in pair_up(samples)[0]}
    assert len(made) == 4


@pytest.mark.parametrize("policy", WISHES, ids=str)
def test_a_seed_without_pairs_keeps_its_reason(policy: dict[str, Any]) -> None:
    assert [drop.reason for drop in pair_up(right(3), **policy)[1]] == ["all_correct"]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(WISHES),
    st.lists(st.tuples(st.sampled_from("+-0"), st.integers(0, 5), st.integers(0, 60)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_wishes_keep_the_promises_of_pairing(
    policy: dict[str, Any], drawn: list[tuple[str, int, int]], rng: random.Random
) -> None:
    kinds: dict[str, Outcome] = {"+": "correct", "-": "incorrect", "0": "no_answer"}
    samples = [
        sample(kinds[letter], f"{letter} text {i}", tokens, str(number))
        for i, (letter, number, tokens) in enumerate(drawn)
    ]
    pairs, drops = pair_up(samples, **policy)
    assert len(drops) == (not pairs)
    assert len({pair.id for pair in pairs}) == len(pairs) <= 15
    again, _ = pair_up(rng.sample(samples, len(samples)), **policy)
    assert [pair.id for pair in again] == [pair.id for pair in pairs]
    for side in ("chosen_text", "rejected_text"):
        uses = Counter(getattr(pair, side) for pair in pairs)
        assert max(uses.values(), default=0) <= policy.get("max_per_response", 15)
    assert max(map(abs, gaps(pairs)), default=0) <= policy.get("max_gap", 60)


# How often


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 6), st.integers(1, 40))
def test_no_text_stands_on_a_side_more_often_than_the_cap(
    positives: int, negatives: int, most: int, limit: int
) -> None:
    samples = [*right(positives), *wrong(negatives)]
    pairs, _ = pair_up(samples, max_per_response=most, max_per_seed=limit)
    for side in ("chosen_text", "rejected_text"):
        assert max(Counter(getattr(pair, side) for pair in pairs).values()) <= most
    possible = min(positives * min(most, negatives), negatives * min(most, positives))
    assert len(pairs) == min(limit, possible)


def test_one_wrong_response_does_not_fill_all_pairs() -> None:
    assert len(pair_up([*right(15), *wrong(1)])[0]) == 15
    assert len(pair_up([*right(15), *wrong(1)], max_per_response=2)[0]) == 2


def test_the_cap_counts_a_text_in_both_branches() -> None:
    joined = Continuation("way", " out", 3, "stop", 1, 0.5)
    samples = [sample("correct", "way 0 to 3", continuation=joined), *wrong(5)]
    pairs, _ = pair_up(samples, max_per_response=3)
    assert Counter(pair.kind for pair in pairs) == {"correctness": 2, "dropout_ntp": 1}


@pytest.mark.parametrize("policy", WISHES, ids=str)
def test_the_cap_counts_one_text_that_several_responses_went_on_to(policy: dict[str, Any]) -> None:
    same = Continuation("", "A cat.", 2, "stop", 1, 0.0)
    samples = [sample("undecided", f"A dog {i}", 3, continuation=same) for i in range(5)]
    pairs, _ = pair_up(samples, OPEN, **{**policy, "shares": {}, "max_per_response": 1})
    assert len(pairs) == 1


@given(st.sampled_from(WISHES), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_wishes_cost_no_pairs_that_the_cap_allows(
    policy: dict[str, Any], positives: int, negatives: int
) -> None:
    samples = [*right(positives), *wrong(negatives)]
    capped = {**policy, "max_per_response": 2}
    assert len(pair_up(samples, **capped)[0]) == len(pair_up(samples, max_per_response=2)[0])


# Which wrong answer


SAID = [*wrong(3, answer="4"), *wrong(1, answer="5"), *wrong(2, answer="6")]


def test_the_commonest_wrong_answer_comes_first() -> None:
    # Two more responses say 6, in words that are there already: votes count, not texts.
    samples = [*right(2), *SAID, *wrong(2, answer="6")]
    pairs, _ = pair_up(samples, rejected_first="frequent_answer")
    assert [pair.rejected_answer for pair in pairs] == ["6"] * 4 + ["4"] * 6 + ["5"] * 2
    pairs, _ = pair_up(samples, rejected_first="frequent_answer", max_per_seed=4)
    assert Counter(pair.rejected_text for pair in pairs) == {"way 0 to 6": 2, "way 1 to 6": 2}


def test_every_wrong_answer_comes_once_before_any_twice() -> None:
    samples = [*right(4), *wrong(12, answer="4"), *wrong(1, answer="5"), *wrong(1, answer="6")]
    pairs, _ = pair_up(samples, rejected_first="distinct_answers")
    assert {pair.rejected_answer for pair in pairs[:3]} == {"4", "5", "6"}
    assert len({pair.rejected_text for pair in pairs}) == 14  # And no text twice before all once.


def test_pairs_of_the_other_branch_use_up_no_answer() -> None:
    joined = Continuation("way", " out", 3, "stop", 1, 0.5)
    samples = [
        *(sample("correct", f"way {i} to 3", continuation=joined) for i in range(6)),
        *(*wrong(3, answer="4"), *wrong(2, answer="5"), *wrong(1, answer="6")),
    ]
    pairs, _ = pair_up(samples, rejected_first="distinct_answers", max_per_seed=10)
    said = [pair.rejected_answer for pair in pairs if pair.kind == "correctness"]
    assert Counter(said) == {"4": 2, "5": 2, "6": 1}


def test_answers_that_differ_in_case_and_blanks_are_one() -> None:
    samples = [
        *right(1),
        *(sample("incorrect", f"text {i}", answer=a) for i, a in enumerate(["Two dogs", "cat"])),
        *(sample("incorrect", f"word {i}", answer=a) for i, a in enumerate(["two  DOGS", "Bird"])),
    ]
    pairs, _ = pair_up(samples, rejected_first="frequent_answer")
    assert {pair.rejected_answer for pair in pairs[:2]} == {"Two dogs", "two  DOGS"}


# Whom it meets


def test_a_wrong_response_meets_the_right_one_that_begins_like_it() -> None:
    starts = ["First I count", "Row by row", "The red ones are"]
    samples = [sample("correct", f"{s} three, so 3", answer="3") for s in starts]
    samples += [sample("incorrect", f"{s} four, so 4", answer="4") for s in starts]
    pairs, _ = pair_up(samples, partner="shared_prefix", max_per_seed=3)
    assert len(pairs) == 3
    for pair in pairs:
        assert pair.chosen_text[:9] == pair.rejected_text[:9]
    assert len({pair.chosen_text for pair in pairs}) == 3


def test_a_wrong_response_meets_the_right_one_of_its_length() -> None:
    lengths = [10, 40, 90, 200]
    samples = [*right(4, lengths), *wrong(4, lengths)]
    pairs, _ = pair_up(samples, partner="like_length", max_per_seed=4)
    assert gaps(pairs) == [0, 0, 0, 0]
    assert any(gaps(pair_up(samples, max_per_seed=4)[0]))
    # Of couples that are there already those of like length come first.
    pairs, _ = pair_up(described(8, [0, 9, -5, 3]), OPEN, partner="like_length", max_per_seed=4)
    assert sorted(map(abs, gaps(pairs))) == [0, 0, 3, 3]


def test_no_pair_is_farther_apart_than_the_gap() -> None:
    samples = [*right(3, [20, 60, 200]), *wrong(3, [25, 70, 90])]
    pairs, _ = pair_up(samples, max_gap=10)
    assert sorted(gaps(pairs)) == [-10, -5]
    pairs, _ = pair_up(described(4, [2, 50]), OPEN, max_gap=10)
    assert gaps(pairs) == [2, 2]


def test_a_seed_whose_texts_are_all_too_far_apart_says_so() -> None:
    _, (drop,) = pair_up([*right(2, [20]), *wrong(2, [31, 90])], max_gap=10)
    assert (drop.stage, drop.reason) == ("pairing", "lengths_apart")
    assert drop.detail == "lengths differ by 11 tokens or more; pairing.max_gap = 10"


def test_a_control_that_leaves_only_texts_too_far_apart_is_the_reason() -> None:
    samples = [
        sample("correct", "I'm sorry, but I can only say that it is 3", 60, "3"),
        *wrong(1, tokens=[20]),
    ]
    config = load_config(None, ["quality.hygiene=true", "pairing.max_gap=10"])
    _, (drop,) = pair_up(samples, config=config)
    assert (drop.reason, drop.detail) == ("no_clean_pair", "1 refusal")


# Shares of kinds


def both(n: int) -> list[Sample]:
    joined = [Continuation("way", f" out {i}", 3, "stop", 1, 0.5) for i in range(n)]
    return [
        *(sample("correct", f"way {i} to 3", continuation=c) for i, c in enumerate(joined)),
        *wrong(n),
        *rambling(n),
    ]


SHARES = {"correctness": 0.6, "format": 0.1, "dropout_ntp": 0.3}


def test_kinds_have_their_shares_from_the_first_pairs_on() -> None:
    pairs, _ = pair_up(both(8), max_per_seed=20, shares=SHARES)
    assert Counter(p.kind for p in pairs) == {"correctness": 12, "format": 2, "dropout_ntp": 6}
    assert Counter(p.kind for p in pairs[:10]) == {"correctness": 6, "format": 1, "dropout_ntp": 3}


def test_what_one_kind_lacks_others_fill() -> None:
    pairs, _ = pair_up([*right(5), *rambling(3)], shares=SHARES)
    assert Counter(pair.kind for pair in pairs) == {"format": 15}
    # A kind without a share comes after all that have one.
    pairs, _ = pair_up([*right(2), *wrong(2), *rambling(2)], shares={"format": 1})
    assert [p.kind for p in pairs] == ["format"] * 4 + ["correctness"] * 4


def test_shares_of_a_kind_that_is_not_made_are_refused() -> None:
    with pytest.raises(ConfigError, match="shares names truncated, which kinds does not make"):
        load_config(None, ["pairing.shares={truncated: 1}"])
    with pytest.raises(ConfigError, match="shares are all 0"):
        load_config(None, ["pairing.shares={format: 0}"])


# The band of pass rates

BANDS = [
    # low, high, right, wrong, dropped
    (0.0, 1.0, 1, 9, False),
    (0.2, 0.8, 1, 9, True),
    (0.2, 0.8, 2, 8, False),
    (0.2, 0.8, 8, 2, False),
    (0.2, 0.8, 9, 1, True),
    (0.5, 0.5, 5, 5, False),
]


@pytest.mark.parametrize(("low", "high", "hits", "misses", "dropped"), BANDS)
def test_seeds_outside_the_band_are_dropped(
    low: float, high: float, hits: int, misses: int, dropped: bool
) -> None:
    config = load_config(None, [f"quality.pass_rate={low},{high}"])
    pairs, drops = pair_up([*right(hits), *wrong(misses)], config=config)
    assert [(d.stage, d.reason) for d in drops] == [("quality", "pass_rate_outside")] * dropped
    assert bool(pairs) is not dropped
    if dropped:
        said = f"pass rate {hits / (hits + misses):.3f} over 10 responses, wanted 0.2 to 0.8"
        assert drops[0].detail == said


def test_the_band_leaves_alone_what_has_no_rate_or_no_pair() -> None:
    config = load_config(None, ["quality.pass_rate=0.2,0.8"])
    assert len(pair_up(described(3), OPEN, config)[0]) == 3
    assert pair_up(right(3), config=config)[1][0].reason == "all_correct"


def test_a_band_without_room_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pass_rate: 0.9 is above 0.1"):
        load_config(None, ["quality.pass_rate=0.9,0.1"])


# Adaptive sampling counts as pairing does


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("+-0?"), st.integers(0, 6)), min_size=1, max_size=24),
    st.integers(1, 12),
    st.sampled_from([(1, None), (2, None), (4, None), (None, 0), (None, 10), (None, 40)]),
)
def test_enough_is_what_pairing_makes_of_it(
    drawn: list[tuple[str, int]], wanted: int, limits: tuple[int | None, int | None]
) -> None:
    most, gap = limits
    said: dict[str, Outcome] = {
        "+": "correct",
        "-": "incorrect",
        "0": "no_answer",
        "?": "undecided",
    }
    samples = [sample(said[c], f"{c} {n}", 20 + 7 * n, str(n)) for c, n in drawn]
    overrides = [f"sampling.target_pairs={wanted}", f"pairing.max_per_seed={wanted}"]
    if most is not None:
        overrides += [f"pairing.max_per_response={most}"]
    if gap is not None:
        overrides += [f"pairing.max_gap={gap}"]
    config = load_config(None, ["sampling.policy=adaptive", *overrides])
    assert missed_aims(config) == ""
    rule = rule_for(TRUTH, config)
    tally = Tally(rule)
    for mark in marks(TRUTH, [r for r, _ in samples], [v for _, v in samples], rule):
        tally.add(mark)
    pairs, _ = pair_up(samples, config=config)
    assert len(pairs) == min(wanted, tally.pairs)
    assert (tally.next_round()[0] == "enough") == (len(pairs) == wanted)


def tally_of(samples: Sequence[Sample], seed: Seed, *overrides: str) -> Tally:
    config = load_config(None, ["sampling.policy=adaptive", *overrides])
    rule = rule_for(seed, config)
    tally = Tally(rule)
    for mark in marks(seed, [r for r, _ in samples], [v for _, v in samples], rule):
        tally.add(mark)
    return tally


def test_a_cap_and_a_gap_make_adaptive_sampling_go_on() -> None:
    samples = [*right(4, [10, 20]), *wrong(4, [20, 30])]
    assert tally_of(samples, TRUTH).next_round() == ("enough", 0)
    capped = tally_of(samples, TRUTH, "pairing.max_per_response=2")
    assert (capped.pairs, capped.next_round()[0]) == (8, None)
    near = tally_of(samples, TRUTH, "pairing.max_gap=5")
    assert (near.pairs, near.next_round()[0]) == (4, None)
    far = tally_of([*right(30, [10]), *wrong(1, [99])], TRUTH, "pairing.max_gap=5")
    assert far.next_round() == ("hopeless", 0)


def test_couples_beyond_the_gap_do_not_count() -> None:
    samples = described(20, [0, 30])
    assert tally_of(samples, OPEN).pairs == 20
    assert tally_of(samples, OPEN, "pairing.max_gap=10").pairs == 10


PLANNED = {"sampling.target_kinds": ["correctness", "format", "dropout_ntp"]}
AIMS = [
    ("pairing.max_per_response=2", {}, "max_per_response = 2.*target_per_response = no limit"),
    ("pairing.max_per_response=2", {"sampling.target_per_response": 2}, ""),
    ("pairing.max_per_response=3", {"sampling.target_per_response": 2}, ""),
    ("pairing.max_gap=9", {"sampling.target_gap": 20}, "max_gap = 9.*sampling.target_gap = 20"),
    ("pairing.kinds=correctness", PLANNED, "no format, dropout_ntp, but sampling.target_kinds"),
]


@pytest.mark.parametrize(("override", "planned", "says"), AIMS)
def test_limits_that_a_plan_does_not_aim_for_are_named(
    override: str, planned: dict[str, Any], says: str
) -> None:
    config = load_config(None, ["sampling.policy=adaptive", override])
    assert missed_aims(config) == ""
    missed = missed_aims(as_stated(config, planned))
    assert bool(missed) is bool(says)
    assert re.search(says, missed)


# Answers that many questions have

ANSWERS = [
    ("Yes", 0, "yes"),
    ("yes.", 0, "yes"),
    ("No, it is not", 0, "no"),
    ("是的", 0, "yes"),
    ("False", 0, "false"),
    ("B", 0, "B"),
    ("(c)", 4, "C"),
    ("B. 12 cm", 4, "B"),
    ("The answer is D", 4, "D"),
    ("E", 4, None),
    ("Z", 0, None),
    ("A and B", 4, None),
    ("A dog", 4, None),
    ("12 cm", 4, None),
    ("yes and no", 0, None),
    ("", 0, None),
    (None, 4, None),
    ("a" * 5000, 4, None),
]


@pytest.mark.parametrize(("answer", "options", "name"), ANSWERS)
def test_answers_that_many_questions_have(
    answer: str | None, options: int, name: str | None
) -> None:
    assert common_answer(answer, options) == name


def test_only_answers_of_one_family_are_compared() -> None:
    assert common_answers("yes", "No", 0) == ("yes", "no")
    assert common_answers("A", "(B)", 4) == ("A", "B")
    assert common_answers("A", "no", 4) is None
    assert common_answers("yes", "3", 0) is None


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([*WISHES, "even"]))
def test_equal_texts_of_other_lengths_give_the_same_pairs_in_any_order(
    rng: random.Random, wish: dict[str, Any] | str
) -> None:
    """A model can write one text in several ways of tokens; what blanks hide differs, too."""
    balanced = {"lengths": wish == "even"}
    config = Config(
        pairing=PairingConfig(**({} if isinstance(wish, str) else wish)),
        quality={"balance": balanced},  # type: ignore[arg-type]
    )
    samples = [
        sample(outcome, f"way{' ' * (1 + i % 2)}{i % 4} to {answer}", 10 + 7 * (i % 5), answer)
        for outcome, answer in (("correct", "3"), ("incorrect", "4"), ("incorrect", "5"))
        for i in range(14)
    ]
    found = []
    for order in (samples, rng.sample(samples, len(samples))):
        responses, verdicts = zip(*order, strict=True)
        pairs, _ = build_pairs(TRUTH, responses, verdicts, config)
        found.append([(p.id, p.chosen_tokens, p.rejected_tokens) for p in pairs])
    assert found[0] == found[1] != []


@given(st.randoms(use_true_random=False))
def test_equal_continued_texts_of_other_lengths_give_the_same_pairs_in_any_order(
    rng: random.Random,
) -> None:
    samples = [
        sample(
            "undecided",
            f"A red thing {i % 3}",
            10 + i,
            continuation=Continuation("A red", f" lie {i % 2}", 5 + i % 4, "stop", 1, 0.5),
        )
        for i in range(12)
    ]
    config = Config(pairing=PairingConfig(partner="like_length"))
    found = []
    for order in (samples, rng.sample(samples, len(samples))):
        responses = [response for response, _ in order]
        pairs, _ = build_pairs(OPEN, responses, [], config)
        found.append([(p.id, p.chosen_tokens, p.rejected_tokens) for p in pairs])
    assert found[0] == found[1] != []
