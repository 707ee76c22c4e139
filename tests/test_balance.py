"""Neither length nor answer tells the sides apart, and as few pairs as can be go for it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build_files import drops_in
from hypothesis import given, settings, strategies as st
from pair_samples import LastWord, make_rollout, write_build

from mmpr_builder.config import BalanceConfig, Config, load_config
from mmpr_builder.errors import ConfigError
from mmpr_builder.io import tables
from mmpr_builder.output import BuildWriter, load_pairs, pair_schema, read_run
from mmpr_builder.output.rows import TEXT_SCHEMA
from mmpr_builder.output.shards import Rows
from mmpr_builder.output.writer import balanced, make_block
from mmpr_builder.pairing import judge_and_pair
from mmpr_builder.pairing.balance import Balance, Weighed
from mmpr_builder.quality.filters import Findings
from mmpr_builder.records import Kind, Rollout, Seed, content_id

LENGTH = 200


def lengths_kept(gaps: Sequence[int], **policy: Any) -> list[int]:
    """The gaps that stay, of pairs whose chosen text has about 200 tokens."""
    pairs = [
        Weighed("correctness", LENGTH, LENGTH - gap, draw=drawn(number, gap))
        for number, gap in enumerate(gaps)
    ]
    stay = staying([("s", pair) for pair in pairs], BalanceConfig(lengths=True, **policy))
    return [pair.gap for _, pair in stay]


def drawn(*parts: object) -> int:
    return int(content_id(*map(str, parts))[:16], 16)


def staying(
    pairs: Sequence[tuple[str, Weighed]], config: BalanceConfig
) -> list[tuple[str, Weighed]]:
    """Those of (source, pair) that the balance keeps."""
    balance = Balance(config)
    for source, pair in pairs:
        balance.note(source, pair)
    return [one for one, why in zip(pairs, balance.decisions(), strict=True) if why is None]


def answers_kept(pairs: Sequence[tuple[str, str]], **policy: Any) -> list[tuple[str, str]]:
    weighed = [
        ("s", Weighed("correctness", 9, 9, answers, drawn(number)))
        for number, answers in enumerate(pairs)
    ]
    kept = [pair.answers for _, pair in staying(weighed, BalanceConfig(answers=True, **policy))]
    return [pair for pair in kept if pair is not None]


def mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)


def rule(gaps: Sequence[int]) -> float:
    """How often the better one of "the longer" and "the shorter one is chosen" is right, where the
    two differ by more than the tolerance."""
    signs = [gap > 0 for gap in gaps if abs(gap) > 0.02 * LENGTH]
    return max(signs.count(True), signs.count(False)) / max(1, len(signs))


# Lengths


@pytest.mark.parametrize(("lean", "spread"), [(40, 100), (-40, 100), (50, 80), (-15, 60), (18, 60)])
def test_no_rule_on_lengths_is_right_more_often_than_chance(lean: int, spread: int) -> None:
    rng = random.Random(lean)
    gaps = [round(rng.gauss(lean, spread)) for _ in range(3000)]
    kept = lengths_kept(gaps)
    assert abs(mean(kept)) <= 0.02 * LENGTH
    assert rule(kept) <= 0.52 < 0.57 < rule(gaps)
    for low, high in ((5, 30), (30, 80), (80, 200)):
        assert rule([gap for gap in kept if low <= abs(gap) < high]) <= 0.55
    # Of each size as many as its rarer sign has.
    fewer = min(sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps))
    assert len(kept) >= 0.95 * 2 * fewer >= 0.5 * len(gaps)


def turning(n: int = 2000) -> list[int]:
    """Long chosen texts first, long rejected ones then, by -1.3 tokens over all."""
    rng = random.Random(11)
    return [round(rng.gauss(40 if i < n / 2 else -42.6, 30)) for i in range(n)]


@pytest.mark.parametrize(
    "gaps",
    [
        turning(),
        sorted((round(random.Random(i).gauss(18, 60)) for i in range(2000)), reverse=True),
        [-5] * 1600 + [60] * 400,
        [round(random.Random(i).gauss(*((60, 20) if i % 5 else (-5, 10)))) for i in range(2000)],
        [round(random.Random(i).gauss(*((-5, 10) if i % 5 else (60, 20)))) for i in range(2000)],
    ],
    ids=["turning", "falling", "few long ones", "few short ones", "few long ones that spread"],
)
def test_the_order_of_the_pairs_changes_nothing_and_no_bias_is_made(gaps: list[int]) -> None:
    pairs = [
        ("s", Weighed("correctness", LENGTH, LENGTH - gap, draw=drawn(number)))
        for number, gap in enumerate(gaps)
    ]
    config = BalanceConfig(lengths=True)
    first = staying(pairs, config)
    shuffled = random.Random(1).sample(pairs, len(pairs))
    assert sorted(staying(shuffled, config), key=repr) == sorted(first, key=repr)
    kept = [pair.gap for _, pair in first]
    assert len(kept) >= 0.6 * len(gaps)
    assert rule(kept) <= max(0.52, rule(gaps))


def test_the_order_of_answers_changes_nothing() -> None:
    pairs = [
        ("s", Weighed("correctness", 9, 9, ("yes", "no") if i < 1200 else ("no", "yes"), drawn(i)))
        for i in range(2000)
    ]
    config = BalanceConfig(answers=True)
    first = staying(pairs, config)
    shuffled = random.Random(1).sample(pairs, len(pairs))
    assert sorted(staying(shuffled, config), key=repr) == sorted(first, key=repr)
    assert Counter(pair.answers for _, pair in first) == {("yes", "no"): 800, ("no", "yes"): 800}


@pytest.mark.parametrize("config", [{"lengths": True}, {"answers": True}])
def test_hard_questions_lose_no_larger_share_than_easy_ones(config: dict[str, bool]) -> None:
    """Wrong responses to hard questions are longer, and more often yes."""
    rng = random.Random(13)
    pairs = []
    for number in range(6000):
        rate = rng.choice([0.1, 0.9])
        gap = round(rng.gauss(-60 if rate < 0.5 else -15, 90))
        answers = ("no", "yes") if rng.random() < (0.75 if rate < 0.5 else 0.5) else ("yes", "no")
        pairs.append(("s", Weighed("correctness", 200, 200 - gap, answers, drawn(number), rate)))
    kept = staying(pairs, BalanceConfig(**config))
    stay = [
        sum(p.rate == rate for _, p in kept) / sum(p.rate == rate for _, p in pairs)
        for rate in (0.1, 0.9)
    ]
    assert 0.55 <= min(stay) < 0.9
    assert stay[0] >= 0.97 * stay[1]


def test_balanced_pairs_all_stay() -> None:
    gaps = [3, -3, 40, -40, 1, -2] * 200
    assert lengths_kept(gaps) == gaps
    assert lengths_kept([2] * 500) == [2] * 500  # Within the tolerance of 4 tokens.


def test_where_all_pairs_lean_alike_none_is_left_out() -> None:
    """Leaving out some of them would mend nothing."""
    rng = random.Random(1)
    gaps = [round(rng.gauss(40, 5)) for _ in range(500)]
    assert lengths_kept(gaps) == gaps


@given(
    st.lists(st.integers(-5000, 5000), max_size=300),
    st.floats(0, 1),
    st.floats(0, 0.2),
    st.sampled_from([-1, 0, 1]),
)
def test_the_floor_holds_whatever_comes(
    gaps: list[int], floor: float, tolerance: float, side: int
) -> None:
    gaps = [abs(gap) * side if side else gap for gap in gaps]
    kept = lengths_kept(gaps, floor=floor, tolerance=tolerance)
    assert len(kept) >= floor * len(gaps)


def test_a_lower_floor_balances_what_a_higher_one_could_not() -> None:
    rng = random.Random(2)
    gaps = [round(rng.gauss(45, 60)) for _ in range(3000)]
    high, low = lengths_kept(gaps, floor=0.8), lengths_kept(gaps, floor=0.2)
    assert len(high) >= 0.8 * 3000 > 0.6 * 3000 > len(low)
    assert rule(gaps) > rule(high) > 0.6 > 0.55 > rule(low)


def test_kinds_and_sources_are_balanced_apart() -> None:
    rng = random.Random(3)
    pairs = []
    for number in range(6000):
        source, kind = rng.choice("ab"), rng.choice(["correctness", "dropout_ntp"])
        lean = (50 if kind == "dropout_ntp" else -50) * (1 if source == "a" else 0)
        gap = round(rng.gauss(lean, 100))
        pairs.append((source, Weighed(kind, LENGTH, LENGTH - gap, draw=drawn(number))))  # type: ignore[arg-type]
    kept: dict[tuple[str, str], list[int]] = {}
    for source, pair in staying(pairs, BalanceConfig(lengths=True)):
        kept.setdefault((pair.kind, source), []).append(pair.gap)
    assert len(kept) == 4
    for gaps in kept.values():
        assert rule(gaps) <= 0.55


# Answers


@pytest.mark.parametrize("share", [0.6, 0.7])
def test_yes_and_no_are_chosen_as_often_as_rejected(share: float) -> None:
    rng = random.Random(5)
    pairs = [("yes", "no") if rng.random() < share else ("no", "yes") for _ in range(2000)]
    kept = answers_kept(pairs)
    assert abs(2 * kept.count(("yes", "no")) / len(kept) - 1) <= 0.03
    fewest = min(pairs.count(("yes", "no")), pairs.count(("no", "yes")))
    assert len(kept) >= 0.97 * 2 * fewest


def test_what_chance_explains_stays() -> None:
    """All pairs of a question lean alike, so those of a fair source wander from even."""
    rng = random.Random(8)
    questions = [rng.choice([("yes", "no"), ("no", "yes")]) for _ in range(400)]
    pairs = [pair for pair in questions for _ in range(rng.randint(1, 15))]
    assert len(answers_kept(pairs)) >= 0.95 * len(pairs)


def test_letters_are_chosen_as_often_as_rejected() -> None:
    rng = random.Random(6)
    drawn = [tuple(rng.sample("ABCD", 2)) for _ in range(3000)]
    pairs = [(a, b) for a, b in drawn if b != "A" or rng.random() < 0.5]
    kept = answers_kept(pairs)
    for letter in "ABCD":
        chosen, rejected = (sum(pair[side] == letter for pair in kept) for side in (0, 1))
        assert abs(chosen - rejected) <= 0.02 * len(kept)
    assert len(kept) >= 0.8 * len(pairs)


def test_answers_in_a_circle_all_stay() -> None:
    circle = [("A", "B"), ("B", "C"), ("C", "A"), ("yes", "no"), ("no", "yes")] * 100
    assert answers_kept(circle) == circle


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_what_the_floor_could_not_mend_stays_as_it_is(share: float) -> None:
    pairs = [("yes", "no") if i % 10 < share * 10 else ("no", "yes") for i in range(1000)]
    assert answers_kept(pairs) == pairs
    if share < 1:
        assert len(answers_kept(pairs, floor=0.1)) == pytest.approx(200, abs=20)


@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from("ABCD")), max_size=200))
def test_the_floor_holds_for_answers_too(pairs: list[tuple[str, str]]) -> None:
    assert len(answers_kept(pairs, floor=0.7)) >= 0.7 * len(pairs)


# Builds


def seeds_with(
    n: int, right: str, wrong: str, source: str, answers: Sequence[tuple[str, str]]
) -> Iterator[Rollout]:
    """Questions with two right and two wrong responses each, padded by those words."""
    for i in range(n):
        truth, other = answers[i % len(answers)]
        question = Seed(f"{source}{i}", f"{source} question {i}?", (), (truth,), source=source)
        pads = [right, f"{right} again", wrong, f"{wrong} again"]
        said = [truth, truth, other, other]
        texts = [
            f"{pad} {'more ' * (i % 7)}so {word}" for pad, word in zip(pads, said, strict=True)
        ]
        yield make_rollout(question, texts)


LONG = "this is said at some length here and takes a few words more than it needs"
SHORT = "in short"


def leaning(n: int = 150) -> list[Rollout]:
    """Wrong responses are longer, but in every third question; yes is right twice as often."""
    yes, no = ("yes", "no"), ("no", "yes")
    rollouts: list[Rollout] = []
    for i in range(n // 3):
        rollouts += [
            *seeds_with(1, SHORT, LONG, f"talk{3 * i}", [yes]),
            *seeds_with(1, SHORT, LONG, f"talk{3 * i + 1}", [no]),
            *seeds_with(1, LONG, SHORT, f"talk{3 * i + 2}", [yes]),
        ]
    return [
        replace(r, index=i, seed=replace(r.seed, source="talk")) for i, r in enumerate(rollouts)
    ]


def build(out: Path, rollouts: Sequence[Rollout], *overrides: str, per_block: int = 64) -> Any:
    """Like a build's second half, with what judging finds; returns run.json's counts."""
    config = load_config(None, [f"out={out}", *overrides])
    with BuildWriter(config) as writer:
        for start in range(0, len(rollouts), per_block):
            findings = Findings()
            judged = [
                (r, *judge_and_pair(r, config, LastWord(), findings=findings))
                for r in rollouts[start : start + per_block]
            ]
            block = make_block(judged, config)
            block.counts.findings.add(findings)
            writer.add(block)
    return json.loads(json.dumps(writer.counts()))


def rows_of(out: Path) -> list[dict[str, Any]]:
    columns = ["seed_id", "kind", "chosen_tokens", "rejected_tokens", "chosen_answer"]
    parts = tables.list_parts(out / "pairs", pair_schema())
    return [row for part in parts for row in tables.read_parquet(part, columns).to_pylist()]


BALANCED = ("quality.balance.lengths=true", "quality.balance.answers=true")


@pytest.mark.parametrize("overrides", [BALANCED[:1], BALANCED[1:], BALANCED])
def test_every_seed_still_ends_in_one_of_pairs_and_drops(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    rollouts = leaning()
    counts = build(tmp_path / "out", rollouts, *overrides, "quality.balance.floor=0.2")
    rows, drops = rows_of(tmp_path / "out"), drops_in(tmp_path / "out")
    paired, dropped = {row["seed_id"] for row in rows}, [drop.item_id for drop in drops]
    assert sorted([*paired, *dropped]) == sorted(rollout.seed.id for rollout in rollouts)
    order = {rollout.seed.id: rollout.index for rollout in rollouts}
    assert [order[name] for name in dropped] == sorted(order[name] for name in dropped)
    assert {d.stage for d in drops} <= {"quality"}
    assert {d.reason for d in drops} <= {"length_balance", "answer_balance"}
    left = sum(sum(kinds.values()) for kinds in counts["balance"]["left_out"].values())
    assert left > 0
    assert counts["pairs"]["total"] == len(rows) == 4 * len(rollouts) - left
    assert counts["seeds"]["with_pairs"] == len(paired)
    assert counts["seeds"]["dropped"] == len(dropped)
    assert counts["sources"]["talk"]["pairs"] == len(rows)
    assert sum(n for fate in counts["fates"].values() for n in fate.values()) == len(rollouts)


def test_before_and_after_are_told(tmp_path: Path) -> None:
    counts = build(tmp_path / "out", leaning(), BALANCED[0])["balance"]
    lengths = counts["lengths"]["correctness"]["talk"]
    rows = rows_of(tmp_path / "out")
    gaps = [row["chosen_tokens"] - row["rejected_tokens"] for row in rows]
    assert lengths["after"]["pairs"] == len(rows) < lengths["before"]["pairs"] == 600
    assert lengths["after"]["mean_gap"] == pytest.approx(mean(gaps), abs=0.01)
    assert abs(lengths["after"]["mean_gap"]) < 0.2 * abs(lengths["before"]["mean_gap"])
    within = abs(lengths["after"]["mean_gap"]) <= 0.02 * lengths["after"]["chosen"]
    assert lengths["reached"] is within
    counts = build(tmp_path / "out", leaning(), BALANCED[1])["balance"]
    answers = counts["answers"]["talk"]["yes_no"]
    yes = sum(row["chosen_answer"] == "yes" for row in rows_of(tmp_path / "out"))
    assert answers["before"]["answers"]["yes"] == {"chosen": 400, "rejected": 200}
    assert answers["after"]["answers"]["yes"]["chosen"] == yes
    assert answers["before"]["surplus"] == pytest.approx(1 / 3, abs=1e-4)
    assert answers["after"]["surplus"] < 0.1


def test_what_could_not_be_reached_is_told(tmp_path: Path) -> None:
    always = list(seeds_with(30, LONG, SHORT, "bias", [("yes", "no")]))
    counts = build(tmp_path / "out", always, *BALANCED)
    lengths = counts["balance"]["lengths"]["correctness"]["bias"]
    answers = counts["balance"]["answers"]["bias"]["yes_no"]
    assert (lengths["reached"], answers["reached"]) == (False, False)
    assert counts["pairs"]["total"] == 120
    assert counts["balance"]["left_out"] == {}


def test_a_build_without_bias_is_not_touched(tmp_path: Path) -> None:
    fair = list(seeds_with(40, SHORT, SHORT, "fair", [("yes", "no"), ("no", "yes")]))
    plain = build(tmp_path / "plain", fair)
    counts = build(tmp_path / "balanced", fair, "quality.balance.answers=true")
    assert "balance" not in plain
    assert counts["balance"]["lengths"]["correctness"]["fair"]["reached"] is True
    assert counts.pop("balance")["left_out"] == {}
    assert counts == plain
    parts = [sorted((tmp_path / name / "pairs").iterdir()) for name in ("plain", "balanced")]
    assert [p.read_bytes() for p in parts[0]] == [p.read_bytes() for p in parts[1]]


def test_the_bytes_do_not_depend_on_the_blocks(tmp_path: Path) -> None:
    rollouts = leaning()
    told = [build(tmp_path / str(size), rollouts, *BALANCED, per_block=size) for size in (1, 7, 64)]
    assert told[0] == told[1] == told[2]
    files = [
        [(p.name, p.read_bytes()) for p in sorted((tmp_path / size).rglob("*.parquet"))]
        for size in ("1", "7", "64")
    ]
    assert files[0] == files[1] == files[2]


def test_within_a_seed_gaps_cancel_before_any_pair_is_left_out() -> None:
    """16 right and 16 wrong responses, the wrong ones longer by 30 tokens on average."""
    rng = random.Random(7)
    sums: dict[bool, list[int]] = {False: [], True: []}
    for i in range(20):
        question = Seed(f"q{i}", "?", (), ("3",), source="s")
        texts = [f"way {n} so {3 if n % 2 else 4}" for n in range(32)]
        rollout = make_rollout(question, texts)
        lengths = [max(5, round(rng.gauss(120 if n % 2 else 150, 40))) for n in range(32)]
        answers = [replace(r, tokens=t) for r, t in zip(rollout.responses, lengths, strict=True)]
        rollout = replace(rollout, responses=tuple(answers))
        for on in (False, True):
            config = load_config(None, [f"quality.balance.lengths={str(on).lower()}"])
            _, pairs, _ = judge_and_pair(rollout, config, LastWord())
            assert len(pairs) == 15
            assert max(Counter(p.chosen_text for p in pairs).values()) <= 2
            assert max(Counter(p.rejected_text for p in pairs).values()) <= 2
            sums[on].append(sum(p.chosen_tokens - p.rejected_tokens for p in pairs))
    assert sum(sums[False]) / (20 * 15) < -20
    for total in sums[True]:
        assert abs(total) / 15 <= 0.02 * 130


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([None, "length_balance", "answer_balance"]), min_size=6))
def test_counts_without_pairs_are_those_as_if_they_had_never_been(
    reasons: list[str | None],
) -> None:
    question = Seed("q", "?", (), ("3",), source="s")
    rollout = make_rollout(question, [f"{w} {n}" for n in (3, 3, 4, 5, "hm") for w in "xy"])
    on, off = load_config(None, BALANCED), load_config(None, ["pairing.max_gap=1000"])
    verdicts, pairs, _ = judge_and_pair(rollout, Config(), LastWord())
    reasons = [reasons[i % len(reasons)] for i in range(len(pairs))]
    stay = [pair for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
    found = balanced(make_block([(rollout, verdicts, pairs, [])], on), iter(reasons))  # type: ignore[arg-type]
    drops = [drop for _, drop in found.drops]
    wanted = make_block([(rollout, verdicts, stay, drops)], off)
    assert (found.seeds, found.pairs) == (wanted.seeds, wanted.pairs) == (1, len(stay))
    assert len(drops) == (not stay)
    told = found.counts.as_dict(0.02), wanted.counts.as_dict(0.02)
    left_out = told[0]["balance"].pop("left_out")
    assert told[1]["balance"].pop("left_out") == {}
    assert told[0] == told[1]
    assert sum(sum(kinds.values()) for kinds in left_out.values()) == len(pairs) - len(stay)


def test_rows_go_with_the_images_that_nothing_shows_any_more() -> None:
    texts = TEXT_SCHEMA.empty_table()
    values = {name: [None] * 5 for name in texts.column_names}
    values["id"] = [str(i) for i in range(5)]
    table = type(texts).from_pydict(values, schema=TEXT_SCHEMA)
    rows = Rows(table, ((b"a",), (b"b",), ()), (0, 0, 1, 1, 2)).only([1, 4])
    assert rows.data["id"].to_pylist() == ["1", "4"]
    assert (rows.pictures, rows.picture_of) == (((b"a",), ()), (0, 1))
    assert rows.table().num_rows == 2


# From easy to hard


def test_the_curriculum_goes_from_easy_to_hard(tmp_path: Path) -> None:
    easy = Seed("easy", "?", (), ("3",), source="s")
    hard = Seed("hard", "?", (), ("3",), source="s")
    texts = [f"way {i} so 3" for i in range(4)]
    wrongs = [f"way {i} so 4" for i in range(4)]
    rollouts = [
        make_rollout(hard, [texts[0], *wrongs], index=0),
        make_rollout(easy, [*texts, wrongs[0]], index=1),
    ]
    write_build(tmp_path / "out", rollouts)
    pairs = load_pairs(tmp_path / "out").sort(["curriculum", "id"])
    assert pairs["seed_id"][:4] == ["easy"] * 4
    assert pairs["curriculum"][:] == pytest.approx([0.2] * 4 + [0.8] * 4)
    assert read_run(tmp_path / "out")["counts"].get("balance") is None


def test_seeds_without_a_truth_spread_over_the_whole_course() -> None:
    from mmpr_builder.pairing.pass_rate import curriculum

    places = [curriculum(f"seed {i}", None) for i in range(2000)]
    assert places == [curriculum(f"seed {i}", None) for i in range(2000)]
    counts = Counter(int(place * 10) for place in places)
    assert set(counts) == set(range(10))
    assert min(counts.values()) > 150


# kind -> pairs; shares; floor; what stays
SHARES: list[tuple[dict[Kind, int], dict[Kind, float], float, dict[Kind, int]]] = [
    (
        {"correctness": 300, "dropout_ntp": 100},
        {"correctness": 1, "dropout_ntp": 1},
        0.5,
        {"correctness": 100, "dropout_ntp": 100},
    ),
    (  # too few of one: the other keeps what the floor takes
        {"correctness": 300, "dropout_ntp": 100},
        {"correctness": 1, "dropout_ntp": 9},
        0.5,
        {"correctness": 100, "dropout_ntp": 100},
    ),
    ({"correctness": 90}, {"correctness": 0.5, "format": 0.5}, 0.5, {"correctness": 45}),
    (  # what is not named stays as it is
        {"correctness": 80, "format": 10, "dropout_ntp": 20},
        {"correctness": 2, "format": 1},
        0.1,
        {"correctness": 20, "format": 10, "dropout_ntp": 20},
    ),
    ({"correctness": 60, "format": 30}, {"correctness": 1, "format": 0}, 0, {"correctness": 60}),
    ({}, {"correctness": 1}, 0.5, {}),
]


@pytest.mark.parametrize(("there", "shares", "floor", "stay"), SHARES)
def test_kinds_get_their_shares_of_a_whole_build(
    there: dict[Kind, int], shares: dict[Kind, float], floor: float, stay: dict[Kind, int]
) -> None:
    pairs = [
        ("s", Weighed(kind, 9, 9, None, drawn(kind, number), number % 10 / 10))
        for kind, count in there.items()
        for number in range(count)
    ]
    config = BalanceConfig(shares=shares, floor=floor)
    kept = staying(pairs, config)
    assert Counter(pair.kind for _, pair in kept) == stay
    turned = staying(pairs[::-1], config)
    assert sorted(turned, key=repr) == sorted(kept, key=repr)
    hard = [sum((pair.rate or 0) < 0.3 for _, pair in some) for some in (pairs, kept)]
    assert hard[1] * len(pairs) == pytest.approx(hard[0] * len(kept), abs=3 * len(pairs))


def test_a_build_tells_what_shares_left_out(tmp_path: Path) -> None:
    kinds = "{correctness: 1, format: 1}"
    words = (f"quality.balance.shares={kinds}", "quality.balance.floor=0")
    seeds = [Seed(f"q{i}", "How many?", (), ("3",), source="s") for i in range(40)]
    texts = [["so 3", "I say 4" if i % 4 else "well hm"] for i in range(40)]
    rollouts = [
        make_rollout(s, t, index=i) for i, (s, t) in enumerate(zip(seeds, texts, strict=True))
    ]
    counts = build(tmp_path / "out", rollouts, *words)
    assert {kind: counts["pairs"][kind] for kind in ("correctness", "format")} == {
        "correctness": 10,
        "format": 10,
    }
    assert counts["balance"]["left_out"] == {"kind_shares": {"correctness": 20}}
    assert counts["drops"] == {"quality": {"kind_shares": 20}}


def test_shares_of_kinds_that_are_not_made_are_refused() -> None:
    with pytest.raises(ConfigError, match="names truncated, which"):
        load_config(None, ["quality.balance.shares={truncated: 1}"])
