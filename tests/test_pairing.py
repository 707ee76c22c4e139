"""Which pairs are made of judged responses, and why a seed gives none."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from pair_samples import LastWord

from mmpr_builder.config import Config, PairingConfig
from mmpr_builder.pairing import build_pairs, judge_and_pair, scorer_for
from mmpr_builder.records import Continuation, Drop, Outcome, Pair, Response, Rollout, Seed, Verdict

TRUTH = Seed(id="s1", question="How many?", answers=("3",), source="grid")
OPEN = Seed(id="s2", question="Describe the picture.", source="grid")
ALL_KINDS = PairingConfig(kinds=("correctness", "format", "truncated", "dropout_ntp"))


def sample(
    outcome: Outcome, text: str, finish: str = "stop", continuation: Continuation | None = None
) -> tuple[Response, Verdict]:
    response = Response(text, len(text.split()), finish, 0, continuation=continuation)
    return response, Verdict(outcome, answer=None if outcome == "no_answer" else text[-1:])


def right(n: int, **more: str) -> list[tuple[Response, Verdict]]:
    return [sample("correct", f"way {i} to 3", **more) for i in range(n)]


def wrong(n: int, **more: str) -> list[tuple[Response, Verdict]]:
    return [sample("incorrect", f"way {i} to 4", **more) for i in range(n)]


def rambling(n: int, **more: str) -> list[tuple[Response, Verdict]]:
    return [sample("no_answer", f"hm {i}", **more) for i in range(n)]


def cut(n: int) -> list[tuple[Response, Verdict]]:
    return [sample("no_answer", f"and then {i}", finish="length") for i in range(n)]


def go_on(text: str, prefix: str = "A red", finish: str = "stop") -> Continuation:
    return Continuation(prefix, text, len(text.split()), finish, seed=1, keep=0.5)


def pair_up(
    samples: Sequence[tuple[Response, Verdict]],
    config: PairingConfig | Config | None = None,
    seed: Seed = TRUTH,
    rng_seed: int = 0,
) -> tuple[list[Pair], list[Drop]]:
    responses = [response for response, _ in samples]
    verdicts = [verdict for _, verdict in samples]
    return build_pairs(seed, responses, verdicts, config or PairingConfig(), rng_seed=rng_seed)


def kinds(pairs: list[Pair]) -> Counter[str]:
    return Counter(pair.kind for pair in pairs)


def test_every_right_response_is_set_against_every_wrong_one() -> None:
    pairs, drops = pair_up([*right(2), *wrong(3)])
    assert {(p.chosen_text, p.rejected_text) for p in pairs} == {
        (f"way {i} to 3", f"way {j} to 4") for i in range(2) for j in range(3)
    }
    assert drops == []


def test_a_pair_says_where_both_texts_come_from() -> None:
    pairs, _ = pair_up([*wrong(1), *rambling(1), *right(1)], rng_seed=5)
    pair = next(pair for pair in pairs if pair.kind == "correctness")
    assert (pair.chosen_index, pair.rejected_index) == (2, 0)
    assert (pair.chosen_answer, pair.rejected_answer) == ("3", "4")
    assert (pair.chosen_tokens, pair.rejected_tokens) == (4, 4)
    assert pair.chosen_finish_reason == pair.rejected_finish_reason == "stop"
    assert pair.pass_rate == pytest.approx(1 / 3)
    assert (pair.n_samples, pair.rng_seed, pair.seed_id) == (3, 5, "s1")


def test_no_final_answer_is_a_negative_of_its_own_kind() -> None:
    pairs, _ = pair_up([*right(1), *wrong(1), *rambling(1)])
    assert kinds(pairs) == {"correctness": 1, "format": 1}
    assert next(p for p in pairs if p.kind == "format").rejected_answer is None


@pytest.mark.parametrize("outcome", ["incorrect", "no_answer"])
def test_a_cut_response_is_rejected_only_when_asked_for(outcome: Outcome) -> None:
    samples = [*right(1), *wrong(1), sample(outcome, "and then", finish="length")]
    assert kinds(pair_up(samples)[0]) == {"correctness": 1}
    assert kinds(pair_up(samples, ALL_KINDS)[0]) == {"correctness": 1, "truncated": 1}


@pytest.mark.parametrize("finish", ["length", "abort"])
def test_an_unfinished_response_is_never_chosen_even_if_right(finish: str) -> None:
    pairs, drops = pair_up([*right(2, finish=finish), *wrong(2)], ALL_KINDS)
    assert pairs == []
    assert [drop.reason for drop in drops] == ["no_finished_correct"]


def test_an_aborted_response_is_on_neither_side() -> None:
    pairs, _ = pair_up([*right(1), *wrong(1), *rambling(3, finish="abort")], ALL_KINDS)
    assert kinds(pairs) == {"correctness": 1}


def test_undecided_responses_are_on_neither_side() -> None:
    pairs, _ = pair_up([*right(1), *wrong(1), sample("undecided", "2^2^2^2")])
    assert [(p.chosen_text, p.rejected_text) for p in pairs] == [("way 0 to 3", "way 0 to 4")]
    assert pairs[0].pass_rate == 0.5  # One right of two decided.


def test_an_answer_contained_in_the_other_is_no_reason_to_skip_a_pair() -> None:
    samples = [sample("correct", "Final answer: 1"), sample("incorrect", "Final answer: 12")]
    assert len(pair_up(samples)[0]) == 1


def test_the_same_text_said_twice_counts_once() -> None:
    samples = [*right(2), sample("correct", " way 0  to 3\n"), *wrong(2), *wrong(2)]
    assert len(pair_up(samples)[0]) == 4


def test_a_text_judged_both_ways_is_never_set_against_itself() -> None:
    samples = [sample("correct", "so 3"), sample("incorrect", "so  3 "), *wrong(1)]
    pairs, _ = pair_up(samples)
    assert [p.rejected_text for p in pairs] == ["way 0 to 4"]


@pytest.mark.parametrize("text", ["", " \n", "as <image> shows: 3"])
def test_a_blank_text_or_one_with_an_image_placeholder_is_on_neither_side(text: str) -> None:
    samples = [sample("correct", text), sample("incorrect", text), *right(1), *wrong(1)]
    assert len(pair_up(samples)[0]) == 1


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 33), st.integers(0, 33), st.integers(0, 9), st.integers(1, 40))
def test_pairs_are_spread_over_distinct_responses(
    positives: int, wrongs: int, formless: int, limit: int
) -> None:
    samples = [*right(positives), *wrong(wrongs), *rambling(formless)]
    pairs, drops = pair_up(samples, PairingConfig(max_per_seed=limit))
    assert len(pairs) == min(limit, positives * (wrongs + formless))
    assert len(drops) == (not pairs)
    assert len({(p.chosen_text, p.rejected_text) for p in pairs}) == len(pairs)
    assert len({p.id for p in pairs}) == len(pairs)
    if pairs:
        chosen, rejected = Counter(p.chosen_text for p in pairs), Counter()
        rejected.update(p.rejected_text for p in pairs)
        for counts, available in ((chosen, positives), (rejected, wrongs + formless)):
            lowest = 0 if len(counts) < available else min(counts.values())
            assert max(counts.values()) - lowest <= 1


def test_no_kind_crowds_out_another() -> None:
    pairs, _ = pair_up([*right(8), *wrong(23), *rambling(1)])
    assert kinds(pairs) == {"correctness": 14, "format": 1}
    pairs, _ = pair_up([*right(8), *wrong(12), *rambling(12)])
    assert kinds(pairs) == {"correctness": 8, "format": 7}


@given(st.randoms(use_true_random=False))
def test_pairs_do_not_depend_on_the_order_of_responses(rng: random.Random) -> None:
    samples = [*right(7), *wrong(6), *rambling(3), sample("undecided", "?")]
    shuffled = rng.sample(samples, len(samples))
    assert [p.id for p in pair_up(samples)[0]] == [p.id for p in pair_up(shuffled)[0]]


def test_another_seed_draws_other_pairs_and_the_same_one_the_same() -> None:
    samples = [*right(12), *wrong(12)]
    first, again, other = (
        [p.id for p in pair_up(samples, rng_seed=rng_seed)[0]] for rng_seed in (0, 0, 1)
    )
    assert first == again
    assert set(first) != set(other)


def test_a_whole_config_and_its_pairing_section_mean_the_same() -> None:
    samples = [*right(3), *wrong(3)]
    assert pair_up(samples, Config()) == pair_up(samples, PairingConfig())


def described(text: str, continuation: Continuation | None) -> tuple[Response, Verdict]:
    return sample("undecided", text, continuation=continuation)


def test_a_response_without_truth_is_chosen_over_its_own_continuation() -> None:
    samples = [described("A red square on blue", go_on(" ball in a box"))]
    (pair,), drops = pair_up(samples, seed=OPEN)
    assert (pair.kind, pair.chosen_text) == ("dropout_ntp", "A red square on blue")
    assert pair.rejected_text == "A red ball in a box"
    assert pair.chosen_index == pair.rejected_index == 0
    assert pair.pass_rate is None
    assert pair.rejected_answer is None
    assert drops == []


def test_the_length_of_a_continued_text_counts_its_kept_part() -> None:
    text = "one two three four five six seven eight"
    kept = "one two three four"
    samples = [described(text, go_on(" 5 6", prefix=kept))]
    (pair,), _ = pair_up(samples, seed=OPEN)
    assert (pair.chosen_tokens, pair.rejected_tokens) == (8, 6)
    counted = replace(go_on(" 5 6", prefix=kept), prefix_tokens=7)
    (pair,), _ = pair_up([described(text, counted)], seed=OPEN)
    assert pair.rejected_tokens == 9


def test_a_seed_without_truth_needs_no_verdicts() -> None:
    response, _ = described("A red square", go_on(" ball"))
    pairs, _ = build_pairs(OPEN, [response], [], PairingConfig())
    assert len(pairs) == 1


def test_every_distinct_description_gives_one_pair_up_to_the_limit() -> None:
    samples = [described(f"A red thing {i}", go_on(f" lie {i}")) for i in range(20)]
    pairs, _ = pair_up([*samples, *samples], seed=OPEN)
    assert len(pairs) == 15
    assert len({p.chosen_text for p in pairs}) == 15


def test_a_description_said_twice_is_used_again_after_all_others() -> None:
    twice = [described("A red thing", go_on(f" lie {i}")) for i in range(4)]
    others = [described(f"A red box {i}", go_on(" lie")) for i in range(13)]
    pairs, _ = pair_up([*twice, *others, *twice], seed=OPEN)
    assert len(pairs) == len({(p.chosen_text, p.rejected_text) for p in pairs}) == 15
    assert Counter(p.chosen_text for p in pairs)["A red thing"] == 2
    assert len({p.chosen_text for p in pairs}) == 14


@given(st.randoms(use_true_random=False))
def test_dropout_pairs_do_not_depend_on_the_order_of_responses(rng: random.Random) -> None:
    samples = [described(f"A red{' ' * (i % 3 + 1)}{i % 5}", go_on(f" {i % 7}")) for i in range(25)]
    shuffled = rng.sample(samples, len(samples))
    assert [p.id for p in pair_up(samples, seed=OPEN)[0]] == [
        p.id for p in pair_up(shuffled, seed=OPEN)[0]
    ]


def test_where_the_truth_is_known_only_right_responses_are_continued() -> None:
    samples = [
        sample("correct", "A red 3", continuation=go_on(" 5")),
        sample("incorrect", "A red 4", continuation=go_on(" 6")),
    ]
    pairs, _ = pair_up(samples)
    assert kinds(pairs) == {"correctness": 1, "dropout_ntp": 1}
    assert next(p for p in pairs if p.kind == "dropout_ntp").chosen_text == "A red 3"


def test_both_branches_on_one_seed_share_the_places() -> None:
    positives = [
        sample("correct", f"A red {i} 3", continuation=go_on(f" {i} 5")) for i in range(10)
    ]
    pairs, _ = pair_up([*positives, *wrong(10)])
    assert kinds(pairs) == {"correctness": 8, "dropout_ntp": 7}


ABSENT = go_on("")
REASONS: list[tuple[str, Seed, list[tuple[Response, Verdict]], str]] = [
    ("nothing was sampled", TRUTH, [], "no_responses"),
    ("nothing was described", OPEN, [], "no_responses"),
    ("all right", TRUTH, right(4), "all_correct"),
    ("all wrong", TRUTH, wrong(4), "all_incorrect"),
    ("all formless", TRUTH, rambling(4), "no_answer_only"),
    ("wrong or formless", TRUTH, [*wrong(2), *rambling(2)], "no_correct"),
    ("all cut", TRUTH, cut(4), "only_truncated"),
    ("right or cut", TRUTH, [*right(2), *cut(2)], "only_truncated"),
    ("right or aborted", TRUTH, [*right(1), *wrong(1, finish="abort")], "no_usable_negative"),
    ("undecided", TRUTH, [sample("undecided", "2^2^2")] * 3, "all_undecided"),
    (
        "bad truth",
        TRUTH,
        [(Response("3", 1, "stop", 0), Verdict("undecided", rule="unusable_truth"))],
        "unusable_truth",
    ),
    ("right or undecided", TRUTH, [*right(1), sample("undecided", "?")], "all_correct"),
    ("no continuation", OPEN, [described("A red square", None)], "no_continuation"),
    ("same again", OPEN, [described("A red square", go_on(" square "))], "continuation_equal"),
    ("nothing more", OPEN, [described("A red square", go_on(" \n"))], "continuation_empty"),
    (
        "cut continuation",
        OPEN,
        [described("A red square", go_on(" a a a", finish="length"))],
        "continuation_unfinished",
    ),
    ("cut description", OPEN, cut(2), "only_truncated"),
    ("blank description", OPEN, [described("  ", go_on(" ball", prefix=""))], "response_unusable"),
    ("fake image", OPEN, [described("See <image>", go_on(" ball"))], "response_unusable"),
]


@pytest.mark.parametrize(("name", "seed", "samples", "reason"), REASONS, ids=lambda x: str(x)[:20])
def test_a_seed_without_pairs_is_dropped_once_with_the_reason(
    name: str, seed: Seed, samples: list[tuple[Response, Verdict]], reason: str
) -> None:
    pairs, drops = pair_up(samples, seed=seed)
    assert pairs == [], name
    assert [(d.item_id, d.stage, d.reason) for d in drops] == [(seed.id, "pairing", reason)], name
    assert drops[0].detail


def test_a_drop_gives_the_counts_behind_its_reason() -> None:
    _, (drop,) = pair_up([*wrong(3), *rambling(2), *cut(1)])
    assert drop.detail == "6 responses: 3 incorrect, 3 no_answer; 1 cut at max_tokens"


def test_a_kind_that_is_not_wanted_is_said_to_be_so() -> None:
    samples = [described("A red square", go_on(" ball"))]
    _, (drop,) = pair_up(samples, PairingConfig(kinds=("correctness",)), seed=OPEN)
    assert drop.reason == "kind_not_wanted"
    _, (drop,) = pair_up([*right(1), *rambling(1)], PairingConfig(kinds=("correctness",)))
    assert drop.reason == "kind_not_wanted"
    blank = sample("incorrect", " ")
    _, (drop,) = pair_up([*right(1), blank], PairingConfig(kinds=("correctness",)))
    assert drop.reason == "no_usable_negative"


def test_verdicts_must_be_one_per_response() -> None:
    with pytest.raises(ValueError, match="'s1': 1 verdicts for 2 responses"):
        build_pairs(TRUTH, [r for r, _ in right(2)], [Verdict("correct")], PairingConfig())


class Remembering(LastWord):
    """Remembers which scorers it was asked for."""

    def __init__(self) -> None:
        self.scorers: list[str] = []

    def score_response(self, *words: Any, scorer: str = "auto", **more: Any) -> Verdict:
        self.scorers.append(scorer)
        return super().score_response(*words, scorer=scorer, **more)


def rollout(
    seed: Seed, responses: Sequence[Response], error: tuple[str, str] | None = None
) -> Rollout:
    return Rollout(
        seed=seed,
        prompt=seed.question,
        template="t",
        style="final_answer",
        model="m",
        responses=tuple(responses),
        error=error,
    )


def test_a_rollout_is_judged_and_paired() -> None:
    responses = [r for r, _ in [*right(2), *wrong(1)]]
    verdicts, pairs, drops = judge_and_pair(rollout(TRUTH, responses), Config(), LastWord())
    assert [v.outcome for v in verdicts] == ["correct", "correct", "incorrect"]
    assert kinds(pairs) == {"correctness": 2}
    assert drops == []


def test_a_rollout_without_truth_asks_no_judge() -> None:
    judge = Remembering()
    response, _ = described("A red square", go_on(" ball"))
    verdicts, pairs, _ = judge_and_pair(rollout(OPEN, [response]), Config(), judge)
    assert [(v.outcome, v.rule) for v in verdicts] == [("undecided", "no_truth")]
    assert kinds(pairs) == {"dropout_ntp": 1}
    assert judge.scorers == []


def test_a_rollout_that_could_not_be_sampled_is_a_drop_of_sampling() -> None:
    failed = rollout(TRUTH, [], error=("image_missing", "a.png"))
    assert judge_and_pair(failed, Config(), LastWord()) == (
        [],
        [],
        [Drop("s1", "sampling", "image_missing", "a.png")],
    )


def test_a_continuation_that_is_right_after_all_is_not_rejected() -> None:
    responses = [
        Response("it is 3", 3, "stop", 0, continuation=go_on(" still 3", prefix="it is")),
        Response("it was 3", 3, "stop", 0, continuation=go_on(" maybe 8", prefix="it was")),
    ]
    _, pairs, _ = judge_and_pair(rollout(TRUTH, responses), Config(), LastWord())
    assert [p.chosen_text for p in pairs] == ["it was 3"]


NAMED = {"path": "x.jsonl", "name": "geo", "scorer": "vqa"}
TWO = [{"path": "a/grid.jsonl", "scorer": "math"}, {"path": "b/geo*.jsonl", "scorer": "exact"}]


@pytest.mark.parametrize(
    ("source", "origin", "scorer", "recipe", "expected"),
    [
        ("grid", "", "auto", {"seeds": TWO}, "math"),
        ("own name", "grid.jsonl:3", "vqa", {"seeds": TWO}, "math"),
        ("geo_1", "geo_1.jsonl:3", "auto", {"seeds": TWO}, "exact"),
        ("lost", "", "anls", {"seeds": TWO}, "anls"),
        ("lost", "", "auto", {"seeds": TWO, "scoring": {"scorer": "vqa"}}, "vqa"),
        ("geo", "", "auto", {"seeds": [*TWO, NAMED]}, "vqa"),
        ("grid", "", "math", {"seeds": [{"path": "grid.jsonl"}]}, "auto"),
        ("grid", "", "vqa", {"seeds": [*TWO, {"path": "c/grid.jsonl", "scorer": "vqa"}]}, "vqa"),
        ("own name", "", "math", {"seeds": "x.jsonl", "scoring": {"scorer": "exact"}}, "exact"),
    ],
)  # fmt: skip
def test_the_scorer_follows_the_recipe_of_today(
    source: str, origin: str, scorer: str, recipe: dict[str, object], expected: str
) -> None:
    seed = Seed("s", "?", answers=("3",), source=source, scorer=scorer, origin=origin)
    assert scorer_for(seed, Config.model_validate(recipe)) == expected
