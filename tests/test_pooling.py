"""Rollouts of several builds pooled by seed: nothing mixed that differs, nothing lost."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build_files import files_in, rows_in, write_jsonl
from commands import mmpr
from pair_samples import LastWord, make_rollout, picture
from small_builds import SERVED, sample_here

from mmpr_builder import stages
from mmpr_builder.config import Config, PairingConfig, QualityConfig, load_config
from mmpr_builder.errors import ConfigError, InputError
from mmpr_builder.folder import parts
from mmpr_builder.folder.manifest import read_manifest
from mmpr_builder.io.tables import read_parquet, rollouts_to_table, write_parquet
from mmpr_builder.output import load_pairs, read_run
from mmpr_builder.pairing import build_pairs, judge_and_pair, pass_rate, scorer_for
from mmpr_builder.pairing.pooled import pool, rate_of, rates_by_model
from mmpr_builder.progress import Progress
from mmpr_builder.quality.filters import Findings
from mmpr_builder.records import (
    Continuation,
    Drop,
    ImageRef,
    Pair,
    Response,
    Rollout,
    Seed,
    Verdict,
)
from mmpr_builder.runs import run_pairing

Row = dict[str, Any]


def question(number: int, **more: Any) -> Row:
    row = {"id": f"q{number}", "question": f"What is {number} + 1?", **more}
    return {"answer": str(number % 3), **row}


def sample(tmp_path: Path, name: str, rows: Sequence[Row], *words: str) -> Config:
    """A complete first half in tmp_path/name, by the fake sampler and without Ray."""
    seeds = write_jsonl(tmp_path / f"{name}.jsonl", rows)
    config = load_config(
        None,
        [
            *(*SERVED, "sampling.n=4"),
            f"sampling.seed={len(name)}",
            f"model={name}",
            f"seeds={seeds}",
            f"out={tmp_path / name}",
            "distributed.unit_queries=4",
            *words,
        ],
    )
    sample_here(config)
    return config


def pooled(tmp_path: Path, out: str, *words: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    config = load_config(None, ["distributed.scoring_workers=1", f"out={tmp_path / out}", *words])
    run = run_pairing(config, Progress()).run
    return files_in(tmp_path / out, "pairs", "drops"), run


def two_builds(tmp_path: Path, size: int = 4) -> str:
    """24 seeds by `strong`, 20 of which, and 8 more, in another order by `weaker`."""
    first, second = list(range(24)), list(range(4, 32))
    random.Random(7).shuffle(second)
    strong = [question(number) for number in first] + [{"id": "bad"}]
    weak = [{"id": "bad"}, {"id": "worse"}] + [question(number) for number in second]
    sample(tmp_path, "strong", strong, f"distributed.unit_queries={size}")
    sample(tmp_path, "weaker", weak, f"distributed.unit_queries={size + 3}", "sampling.n=6")
    return f"rollouts=[{tmp_path}/strong,{tmp_path}/weaker/rollouts/]"


# --- what is pooled ---------------------------------------------------------------------------


def test_every_seed_of_all_builds_ends_once_in_the_order_of_the_first_that_has_it(
    tmp_path: Path,
) -> None:
    words = two_builds(tmp_path)
    _, run = pooled(tmp_path, "out", words)
    rows = rows_in(
        tmp_path / "out" / "pairs", ["seed_id", "chosen_model", "rejected_model", "n_samples"]
    )
    paired = list(dict.fromkeys(row["seed_id"] for row in rows))
    dropped = read_parquet(tmp_path / "out/drops/part-00000.parquet")["item_id"].to_pylist()
    assert len(paired) + len(dropped) == 34 == run["counts"]["seeds"]["read"]
    assert {*paired, *dropped} == {*(f"q{i}" for i in range(32)), "bad", "worse"}
    assert [name for name in paired if int(name[1:]) < 24] == sorted(
        (name for name in paired if int(name[1:]) < 24), key=lambda name: int(name[1:])
    )
    assert paired[-1] in {f"q{i}" for i in range(24, 32)}
    both = {(row["chosen_model"], row["rejected_model"]) for row in rows}
    assert both == {(a, b) for a in ("strong", "weaker") for b in ("strong", "weaker")}
    assert {row["n_samples"] for row in rows} == {4, 6, 10}
    models = run["counts"]["models"]
    assert {name: sums["responses"] for name, sums in models.items()} == {
        "strong": 24 * 4,
        "weaker": 28 * 6,
    }
    assert sum(sums["chosen"] for sums in models.values()) == len(rows)
    assert [(b["model"], json.loads(b["sampling"])["n"]) for b in run["pooled"]] == [
        ("strong", 4),
        ("weaker", 6),
    ]


def test_units_and_workers_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("mmpr_builder.runs.pair_workers._RESPONSES_WORTH_A_PROCESS", 1)
    made = []
    for name, size, more in (
        ("a", 4, ["distributed.unit_queries=3"]),
        ("b", 9, ["distributed.unit_queries=5", "distributed.scoring_workers=2"]),
        ("c", 50, ["distributed.unit_queries=500"]),
    ):
        words = two_builds(tmp_path / name, size) if (tmp_path / name).mkdir() is None else ""
        files, run = pooled(tmp_path / name, "out", words, *more)
        made.append((normal(files, tmp_path / name), run["counts"]))
    assert made[0][1]["pairs"]["total"] > 30
    assert made[0] == made[1] == made[2]


def normal(files: dict[str, bytes], folder: Path) -> dict[str, Any]:
    """What Parquet files say but for where the seeds' file lay."""
    import io

    import pyarrow.parquet as pq

    tables = {name: pq.read_table(io.BytesIO(data)) for name, data in files.items()}
    return {
        name: [str(row).replace(str(folder), "") for row in table.to_pylist()]
        for name, table in tables.items()
    }


def test_pooling_again_gives_the_same_bytes_and_one_build_alone_gives_its_own_pairs(
    tmp_path: Path,
) -> None:
    words = two_builds(tmp_path)
    first, _ = pooled(tmp_path, "out", words)
    assert pooled(tmp_path, "out", words)[0] == first
    alone, _ = pooled(tmp_path, "alone", f"rollouts={tmp_path}/strong")
    config = load_config(
        None,
        [
            *(*SERVED, "sampling.n=4", "sampling.seed=6", "model=strong"),
            *(f"seeds={tmp_path}/strong.jsonl", f"out={tmp_path}/strong"),
        ],
    )
    run_pairing(config, Progress())
    own = {
        f"{name}/{path.name}": path.read_bytes()
        for name in ("pairs", "drops")
        for path in sorted((tmp_path / "strong" / name).iterdir())
    }
    assert alone == own


def bare(folder: Path, rollouts: Sequence[Rollout], per_part: int = 2) -> Path:
    """Rollouts alone, without a plan; indices say where they stand."""
    for start in range(0, len(rollouts), per_part):
        rows = [replace(r, index=start + i) for i, r in enumerate(rollouts[start:][:per_part])]
        write_parquet(rollouts_to_table(rows), folder / "rollouts" / f"unit-{start:05}.parquet")
    return folder


def said(seed: Seed, answers: Sequence[str | int], **more: Any) -> Rollout:
    model = more.get("model", "m")
    texts = [f"{model} thinks {i}.\nFinal answer: {a}" for i, a in enumerate(answers)]
    return replace(make_rollout(seed, texts), **more)


def test_a_seed_is_known_by_what_it_asks_wherever_its_pictures_lie(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    red = picture(tmp_path / "a" / "red.png", "firebrick")
    same = ImageRef(str(tmp_path / "b" / "copy.png"))
    Path(same.uri).write_bytes(Path(red.uri).read_bytes())
    blue = picture(tmp_path / "b" / "red.png", "navy")
    one = Seed("1", "<image>\nHow many?", (red,), ("3",))
    again = replace(one, id="77", images=(same,))
    other = replace(one, images=(blue,))  # The same id and words, another picture.
    a = bare(tmp_path / "a", [said(one, [3, 4], model="A")])
    b = bare(tmp_path / "b", [said(other, [3, 5], model="B"), said(again, [3, 4], model="B")])
    _, run = pooled(tmp_path, "out", f"rollouts=[{a},{b}]")
    rows = rows_in(tmp_path / "out" / "pairs", ["seed_id", "chosen_model", "image_sha256"])
    assert Counter(row["seed_id"] for row in rows) == {"1": 4, "1#2": 1}
    assert len({tuple(row["image_sha256"]) for row in rows if row["seed_id"] == "1"}) == 1
    assert run["counts"]["seeds"]["read"] == 2


def test_one_id_with_other_truths_is_dropped_and_both_are_told(tmp_path: Path) -> None:
    seed = Seed("q", "How many?", answers=("3",))
    a = bare(tmp_path / "a", [said(seed, [3, 4])])
    b = bare(tmp_path / "b", [said(replace(seed, answers=("4",)), [3, 4])])
    _, run = pooled(tmp_path, "out", f"rollouts=[{a},{b}]")
    (drop,) = read_parquet(tmp_path / "out/drops/part-00000.parquet").to_pylist()
    assert (drop["item_id"], drop["reason"]) == ("q", "truths_differ")
    assert f"['3'] in {a}" in drop["detail"]
    assert f"['4'] in {b}" in drop["detail"]
    assert run["counts"]["outcomes"]["undecided"] == 4


def test_asked_with_and_without_its_truth_a_question_is_two_seeds(tmp_path: Path) -> None:
    seed = Seed("q", "How many?", answers=("3",))
    a = bare(tmp_path / "a", [said(seed, [3, 4])])
    b = bare(tmp_path / "b", [said(replace(seed, answers=()), [3, 4])])
    _, run = pooled(tmp_path, "out", f"rollouts=[{a},{b}]")
    assert (run["counts"]["seeds"]["with_truth"], run["counts"]["seeds"]["without_truth"]) == (1, 1)


def test_a_seed_that_one_build_could_not_sample_is_there_if_another_could(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    red = picture(tmp_path / "x" / "red.png", "firebrick")
    seed = Seed("q", "<image>\nHow many?", (red,), ("3",))
    gone = Seed("r", "<image>\nWho?", (red,), ("3",))
    failed = [
        replace(said(s, []), image_sha256=(), error=("image_missing", "no such file"))
        for s in (seed, gone)
    ]
    a = bare(tmp_path / "a", failed)
    b = bare(tmp_path / "b", [failed[1], said(seed, [3, 4], model="B")])
    _, run = pooled(tmp_path, "out", f"rollouts=[{a},{b}]")
    assert {row["model"] for row in rows_in(tmp_path / "out" / "pairs", ["model"])} == {"B"}
    assert run["counts"]["drops"] == {"sampling": {"image_missing": 1}}


def test_copies_within_a_build_stay_apart(tmp_path: Path) -> None:
    seed = Seed("q", "How many?", answers=("3",))
    twice = [said(seed, [3, 4]), said(replace(seed, id="r"), [3, 5])]
    a, b = bare(tmp_path / "a", twice), bare(tmp_path / "b", twice[::-1])
    _, run = pooled(tmp_path, "out", f"rollouts=[{a},{b}]")
    assert run["counts"]["seeds"]["read"] == 2
    answers = {
        (row["seed_id"], row["rejected_answer"])
        for row in rows_in(tmp_path / "out" / "pairs", ["seed_id", "rejected_answer"])
    }
    assert answers == {("q", "4"), ("r", "5")}


# --- pairs --------------------------------------------------------------------------------------

TRUTH = Seed("q", "How many?", answers=("3",))


def of(
    model: str, *answers: str, prompt: str = "P", n: int = 4, style: str = "final_answer"
) -> tuple[Rollout, Config]:
    texts = [f"{model} {prompt} {i}: {answer}" for i, answer in enumerate(answers)]
    rollout = make_rollout(TRUTH, texts)
    config = load_config(None, [f"sampling.n={n}"])
    return replace(rollout, model=model, prompt=prompt, style=style), config


def paired(
    *members: tuple[Rollout, Config], **policy: Any
) -> tuple[list[Verdict], list[Pair], list[Drop]]:
    config = Config(pairing=PairingConfig(**policy))
    rollout = pool([member for member, _ in members], [config for _, config in members])
    return judge_and_pair(rollout, config, LastWord())


def test_pairs_share_their_prompt() -> None:
    members = [of("A", "3", "4"), of("B", "3", "5"), of("C", "3", "6", prompt="Q")]
    rollout = pool(*zip(*members, strict=True))
    _, pairs, drops = judge_and_pair(rollout, Config(), LastWord())
    assert not drops
    texts = [r.text for r in rollout.responses]
    for pair in pairs:
        assert texts[pair.chosen_index] == pair.chosen_text
        assert texts[pair.rejected_index] == pair.rejected_text
        assert pair.chosen_text.split()[1] == pair.rejected_text.split()[1]
    assert len(pairs) == 4 + 1


def test_prompts_take_turns_and_share_the_places() -> None:
    many = of("A", *["3"] * 5, *["4"] * 5), of("B", *["3"] * 5, *["4"] * 5, prompt="Q")
    _, pairs, _ = paired(*many, max_per_seed=6)
    assert Counter(pair.chosen_text.split()[1] for pair in pairs) == {"P": 3, "Q": 3}


def test_right_and_wrong_under_different_prompts_alone_give_no_pair() -> None:
    _, pairs, (drop,) = paired(of("A", "3", "3"), of("B", "4", "5", prompt="Q"))
    assert (pairs, drop.reason) == ([], "prompts_differ")


def test_no_pairs_at_all_are_explained_by_all_responses() -> None:
    _, _, (drop,) = paired(of("A", "4", "4"), of("B", "5", "5", prompt="Q"))
    assert (drop.reason, drop.detail[:11]) == ("all_incorrect", "4 responses")


def test_the_same_two_texts_are_one_pair_whatever_the_prompts() -> None:
    one = of("A", "3", "4")
    two = replace(one[0], prompt="Q"), one[1]
    _, pairs, _ = paired(one, two)
    assert len(pairs) == 1


def test_the_cap_counts_a_text_under_all_prompts() -> None:
    members = []
    for prompt, wrong in (("P", "p 4"), ("Q", "q 5")):
        members.append((replace(make_rollout(TRUTH, ["it is 3", wrong]), prompt=prompt), Config()))
    assert len(paired(*members)[1]) == 2
    _, pairs, drops = paired(*members, max_per_response=1)
    assert (len(pairs), drops) == (1, [])


def test_each_response_is_judged_in_the_style_of_its_own_prompt(tmp_path: Path) -> None:
    seed = Seed("q", "How many?", answers=("3",))
    boxed = replace(
        make_rollout(seed, ["So \\boxed{3}.", "So \\boxed{4}.", "Final answer: 3"]),
        prompt="box it",
        template="boxed_en",
        style="boxed",
        model="B",
    )
    a = bare(tmp_path / "a", [said(seed, [3, 4], model="A")])
    b = bare(tmp_path / "b", [boxed])
    _, run = pooled(tmp_path, "out", f"rollouts=[{a},{b}]")
    rows = rows_in(
        tmp_path / "out" / "pairs", ["model", "template", "style", "prompt_text", "kind"]
    )
    assert Counter((r["model"], r["template"], r["style"], r["prompt_text"]) for r in rows) == {
        ("A", "final_answer_en", "final_answer", "How many?\nEnd with Final answer: …"): 1,
        ("B", "boxed_en", "boxed", "box it"): 2,
    }
    assert run["counts"]["outcomes"] == {
        "correct": 2, "incorrect": 2, "no_answer": 1, "undecided": 0
    }  # fmt: skip


def unbiased(rollout: Rollout, verdicts: Sequence[Verdict]) -> float | None:
    return rate_of(rollout, verdicts, Config(), rate_by=pass_rate)


def test_the_pass_rate_is_of_all_builds_and_of_each_model() -> None:
    members = [of("A", "3", "3", "3", "4"), of("B", "3", *["4"] * 7, n=8)]
    rollout = pool(*zip(*members, strict=True))
    verdicts, pairs, _ = judge_and_pair(rollout, Config(), LastWord())
    assert unbiased(rollout, verdicts) == pytest.approx(4 / 12)
    assert {pair.n_samples for pair in pairs} == {12}
    assert all(pair.pass_rate == pytest.approx(4 / 12) for pair in pairs)
    assert rates_by_model(rollout, verdicts) == {"A": 0.75, "B": 0.125}


def test_a_rate_on_the_edge_of_the_band_is_within_it() -> None:
    members = [of(model, *"33334", n=n) for model, n in (("A", 2), ("B", 2), ("C", 2))]
    rollout = pool(*zip(*members, strict=True))
    verdicts, _, _ = judge_and_pair(rollout, Config(), LastWord())
    rate = unbiased(rollout, verdicts)
    assert rate is not None
    assert 0.8 < rate == pytest.approx(0.8)  # By a last bit.
    config = load_config(None, ["quality.pass_rate=0.8,0.8"])
    assert judge_and_pair(rollout, config, LastWord())[1]


def test_what_stops_early_does_not_bias_the_pooled_rate() -> None:
    """Twelve responses asked for, two taken: their rate stands for twelve."""
    early, config = of("A", "3", "4")
    adaptive = load_config(None, ["sampling.policy=adaptive", "sampling.n=12"])
    rollout = pool([early, of("B", *["4"] * 4, n=4)[0]], [adaptive, config])
    verdicts, _, _ = judge_and_pair(rollout, Config(), LastWord())
    assert unbiased(rollout, verdicts) == pytest.approx((0.5 * 12 + 0 * 4) / 16)


def test_a_build_that_stops_early_has_the_rate_in_a_pool_that_it_has_alone() -> None:
    """Where stopping depends on continuations, those that are right count in neither."""
    config = load_config(
        None,
        [
            "sampling.policy=adaptive",
            "sampling.n=12",
            "dropout.apply=all",
            "sampling.target_pairs=6",
        ],
    )
    random.seed(5)
    for _ in range(40):
        responses = []
        for i in range(random.randrange(3, 12)):
            goes_on = f" {i} to {random.choice('3345')}"
            cut = Continuation("way", goes_on, 3, "stop", 1, 0.5)
            responses.append(
                Response(f"way {i}: {random.choice('334')}", 3, "stop", i, continuation=cut)
            )
        rollout = replace(make_rollout(TRUTH, []), responses=tuple(responses))
        own = judge_and_pair(rollout, config, LastWord())
        assert judge_and_pair(pool([rollout], [config]), config, LastWord()) == own


def test_samples_without_images_are_judged_in_the_style_of_their_own_prompt(
    tmp_path: Path,
) -> None:
    """The first build has none, and asks for the answer in another way."""
    seed = replace(
        TRUTH, question="<image>\nHow many?", images=(picture(tmp_path / "a.png", "red"),)
    )
    boxed = replace(make_rollout(seed, ["a 3", "b 4"]), prompt="P", style="boxed")
    unseen = tuple(Response(f"guess {i} 3", 3, "stop", i) for i in range(8))
    other = replace(make_rollout(seed, ["c 3", "d 4"]), prompt="Q", blind=unseen)
    config = load_config(None, ["quality.max_blind=0.3"])
    rollout = pool([boxed, other], [config, config])
    _, pairs, (drop,) = judge_and_pair(rollout, config, LastWord())
    assert (pairs, drop.reason) == ([], "solved_blind")


def test_scorers_are_those_of_the_builds_where_the_recipe_has_another_source() -> None:
    seed = Seed("q", "?", (), ("3",), source="mine", scorer="math")
    assert scorer_for(seed, load_config(None, ["rollouts=a,b"])) == "math"
    mine = ["rollouts=a,b", "seeds=[{path: x.jsonl, name: mine, scorer: choice}]"]
    assert scorer_for(seed, load_config(None, mine)) == "choice"


# --- who writes which side ----------------------------------------------------------------------


def test_chosen_from_one_model_rejected_from_another() -> None:
    members = of("strong", "3", "4", "3"), of("weak", "3", "4", "5")
    _, pairs, _ = paired(*members, chosen_from=["strong"], rejected_from=["weak"])
    sides = {(p.chosen_text.split()[0], p.rejected_text.split()[0]) for p in pairs}
    assert sides == {("strong", "weak")}
    assert len(pairs) == 4
    _, pairs, _ = paired(*members, chosen_from=["strong"])
    assert {p.rejected_text.split()[0] for p in pairs} == {"strong", "weak"}


def test_a_seed_without_such_a_pair_says_who_said_what() -> None:
    _, pairs, (drop,) = paired(of("strong", "4"), of("weak", "3"), chosen_from=["strong"])
    assert (pairs, drop.reason) == ([], "model_not_wanted")
    assert drop.detail == "2 responses: strong: 1 incorrect, weak: 1 correct"


def test_a_text_of_both_models_counts_for_the_one_that_may_write_it() -> None:
    right = "the same words: 3"
    members = []
    for model, texts in (("weak", [right, "w: 4"]), ("strong", [right])):
        members.append((replace(make_rollout(TRUTH, texts), model=model, prompt="P"), Config()))
    _, pairs, _ = paired(*members, chosen_from=["strong"])
    assert [(pair.chosen_text, pair.chosen_index) for pair in pairs] == [(right, 2)]


def test_near_copies_of_a_model_that_may_not_write_a_side_bar_nobody_from_it() -> None:
    words = "there are two small red ones on the left and one more on the right, in all 3"
    members = []
    for model, texts in (("weak", [f"A {words}", "w: 4"]), ("strong", [f"So {words}", "s: 4"])):
        members.append((replace(make_rollout(TRUTH, texts), model=model, prompt="P"), Config()))
    rollout = pool(*zip(*members, strict=True))
    policy = PairingConfig(chosen_from=("strong",), rejected_from=("weak",))
    config = Config(pairing=policy, quality=QualityConfig(distinct=0.9))
    findings = Findings()
    _, pairs, _ = judge_and_pair(rollout, config, LastWord(), findings=findings)
    assert [(pair.chosen_index, pair.rejected_index) for pair in pairs] == [(2, 1)]
    assert not findings.filtered


def test_a_dropout_pair_stays_within_one_response_of_a_model_that_may_be_chosen() -> None:
    def described(model: str) -> Response:
        cut = Continuation(f"{model} sees", " a dog on a sofa.", 5, "stop", 7, 0.5)
        return Response(f"{model} sees a blue wall.", 6, "stop", 1, continuation=cut)

    seed = Seed("d", "Describe it.")
    members = [
        replace(make_rollout(seed, []), responses=(described(m),), model=m, style="open")
        for m in ("strong", "weak")
    ]
    config = Config(pairing=PairingConfig(chosen_from=("strong",), rejected_from=("weak",)))
    _, pairs, _ = judge_and_pair(pool(members, [config, config]), config, LastWord())
    assert [(p.kind, p.chosen_index, p.rejected_index) for p in pairs] == [("dropout_ntp", 0, 0)]


def test_who_wrote_what_must_be_said_where_it_is_asked_for() -> None:
    policy = PairingConfig(chosen_from=("strong",))
    responses = [Response("a 3", 2, "stop", 0), Response("b 4", 2, "stop", 1)]
    verdicts = [Verdict("correct", "3"), Verdict("incorrect", "4")]
    with pytest.raises(ValueError, match="pass models"):
        build_pairs(TRUTH, responses, verdicts, policy)
    pairs, _ = build_pairs(TRUTH, responses, verdicts, policy, models=["strong", "weak"])
    assert len(pairs) == 1


def test_rows_card_report_and_exports_name_both_models(tmp_path: Path) -> None:
    words = two_builds(tmp_path)
    config = load_config(
        None,
        [
            *("distributed.scoring_workers=1", f"out={tmp_path / 'out'}", words),
            *("pairing.chosen_from=strong", "pairing.rejected_from=[weaker]"),
        ],
    )
    stages.pair(config, Progress())
    pairs = load_pairs(tmp_path / "out")
    assert set(pairs["model"]) == set(pairs["chosen_model"]) == {"strong"}
    assert set(pairs["rejected_model"]) == {"weaker"}
    assert {json.loads(how)["n"] for how in pairs["sampling"]} == {4}
    assert {json.loads(how)["n"] for how in pairs["rejected_sampling"]} == {6}
    assert set(json.loads(pairs[0]["model_pass_rates"])) == {"strong", "weaker"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`strong` and `weaker` gave" in card
    assert "| `weaker` |" in card
    page = (tmp_path / "out" / "report" / "index.html").read_text()
    assert "strong and weaker gave" in page
    assert set(read_run(tmp_path / "out")["counts"]["models"]) == {"strong", "weaker"}


def test_a_build_alone_names_its_model_on_both_sides(tmp_path: Path) -> None:
    config = sample(tmp_path, "strong", [question(i) for i in range(8)])
    run_pairing(config, Progress())
    columns = ["model", "chosen_model", "rejected_model", "rejected_sampling", "model_pass_rates"]
    rows = rows_in(tmp_path / "strong" / "pairs", columns)
    assert {tuple(row.values()) for row in rows} == {("strong", "strong", "strong", None, None)}


# --- what is refused ------------------------------------------------------------------------------


def test_a_model_that_wrote_nothing_is_refused_by_name(tmp_path: Path) -> None:
    words = two_builds(tmp_path)
    with pytest.raises(ConfigError, match=r"chosen_from: 'big' wrote none.*'strong', 'weaker'"):
        pooled(tmp_path, "out", words, "pairing.chosen_from=big")
    with pytest.raises(ConfigError, match="there are 'strong'"):
        pooled(tmp_path, "out", f"rollouts={tmp_path}/strong", "pairing.rejected_from=weaker")


def test_a_build_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"out/a is named more than once.*name each build once"):
        load_config(None, ["rollouts=out/a,out/b,out/a/rollouts/"])


def test_rollouts_that_were_replaced_are_read_again(tmp_path: Path) -> None:
    chosen = []
    for word in ("one", "another"):
        seed = Seed("q", "How many?", answers=("3",))
        texts = [f"{word} way.\nFinal answer: 3", "Final answer: 4"]
        bare(tmp_path / "a", [make_rollout(seed, texts)])
        pooled(tmp_path, "out", f"rollouts={tmp_path}/a")
        chosen += [
            row["chosen_text"] for row in rows_in(tmp_path / "out" / "pairs", ["chosen_text"])
        ]
    assert [text.split()[0] for text in chosen] == ["one", "another"]


def test_half_a_build_is_not_pooled(tmp_path: Path) -> None:
    words = two_builds(tmp_path)
    out = str(tmp_path / "weaker")
    Path(parts.rollouts_uri(out, read_manifest(out).units[1])).unlink()
    with pytest.raises(InputError, match="weaker: 1 of 4 units are not sampled yet"):
        pooled(tmp_path, "out", words)
    with pytest.raises(InputError, match="nowhere/rollouts: no rollouts"):
        pooled(tmp_path, "out", f"rollouts={tmp_path}/nowhere")


def test_a_build_is_not_replaced_by_a_pool_and_a_pool_is_not_sampled(tmp_path: Path) -> None:
    words = two_builds(tmp_path)
    with pytest.raises(ConfigError, match="give another out="):
        pooled(tmp_path, "strong", words)
    with pytest.raises(ConfigError, match="use `mmpr pair`"):
        stages.check(load_config(None, [words]))


def test_queries_are_exported_from_a_pool_with_its_pass_rate(tmp_path: Path) -> None:
    pooled(tmp_path, "out", two_builds(tmp_path))
    words = ["export", tmp_path / "out", tmp_path / "verl", "--to", "verl", "--pass-rate", "0", "1"]
    done = mmpr(*words)
    assert done.returncode == 0, done.stderr
    rows = read_parquet(tmp_path / "verl" / "train.parquet").to_pylist()
    found = {row["extra_info"]["id"]: row["extra_info"] for row in rows}
    assert {info["n_samples"] for info in found.values()} == {4, 6, 10}
    stored = rows_in(tmp_path / "out" / "pairs", ["seed_id", "pass_rate"])
    rates = {row["seed_id"]: row["pass_rate"] for row in stored}
    judged = {name: rate for name, rate in rates.items() if rate is not None}
    assert judged
    assert {name: found[name]["pass_rate"] for name in judged} == judged
