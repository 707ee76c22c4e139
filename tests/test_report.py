"""The page where a person looks at pairs: true figures, a fair choice, nothing that runs."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pages import Page
from pair_samples import make_rollout, picture, sample_rollouts, write_build
from PIL import Image

from mmpr_builder import report
from mmpr_builder.config import Config
from mmpr_builder.errors import InputError
from mmpr_builder.escaping import visible
from mmpr_builder.io.images import open_image
from mmpr_builder.output import pair_parts, read_run
from mmpr_builder.records import Seed
from mmpr_builder.report import KINDS, write_report
from mmpr_builder.report.examples import read_examples
from mmpr_builder.report.facts import build_facts
from mmpr_builder.report.figures import (
    drop_bars,
    pass_rate_bars,
    response_flow,
    seed_flow,
    stacks,
)
from mmpr_builder.report.lookup import places_of
from mmpr_builder.report.samples import (
    MOST_CHARACTERS,
    in_order,
    pick_samples,
    read_browser,
    thumbnail,
)
from mmpr_builder.report.sides import read_sides
from mmpr_builder.report.texts import Span, compare, words
from mmpr_builder.report.verdict import findings

ROOM = 10**8


def page_of(out: Path) -> str:
    return Path(write_report(out)).read_text(encoding="utf-8")


def said(spans: Sequence[Span], mark: str) -> str:
    return "".join(span.text for span in spans if span.mark == mark)


def test_the_page_shows_figures_and_all_pairs_of_a_small_build(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    page = Page(page_of(tmp_path / "out"))
    assert len(page.data["pairs"]) == 10
    assert len(page.data["images"]) == 2  # Two pictures, shared by eight pairs.
    assert "10 of 10 are on this page" in page.text
    assert "of 7 questions gave pairs" in page.text
    for phrase in ("all_correct", "at most 15 a question", "last_word", "image_missing"):
        assert phrase in page.text
    two = [pair for pair in page.data["pairs"] if pair["seed"] == "two"]
    assert two[0]["question"] == [["Is [image 1] redder than [image 2] ?"]]
    assert two[0]["images"] == [page.data["pairs"][0]["images"][0], two[0]["images"][1]]
    assert (two[0]["chosen"]["answer"], two[0]["truth"]) == ("yes", [[["yes"]]])


def test_nothing_a_model_wrote_can_end_or_begin_an_element(tmp_path: Path) -> None:
    attack = '</p></script><script>alert(1)</script><!--<img src="http://x/y"> {{ 7*7 }} so 11'
    seed = Seed("s", f"<image>\n{attack}", (picture(tmp_path / "x.png", "teal"),), ("2",))
    rollout = make_rollout(replace(seed, source=attack, id=attack), ["so 2", attack])
    dropped = make_rollout(Seed("d", attack, (), (attack,), source=attack), [attack], index=1)
    write_build(tmp_path / "out", [rollout, dropped])
    html = page_of(tmp_path / "out")
    page = Page(html)
    assert page.tags["script"] == 2  # The data and the page's own.
    assert page.tags["img"] == 0
    assert "".join(t[0] for t in page.data["pairs"][0]["rejected"]["text"]) == attack
    assert page.data["pairs"][0]["source"] == attack
    assert not [a for a in page.attributes if a[1].startswith("on") or a[1] == "src"]


def test_what_rows_name_is_in_the_page_without_control_characters(tmp_path: Path) -> None:
    """Of many sources: tables, lists and the filter have their names."""
    build = []
    for i, attack in enumerate(["\x1b[31mred", "a\0b", "\x9b31m", "\u202egnp", "_\x1b_"]):
        seed = Seed(attack, f"How many? {attack}", answers=("2",), source=attack)
        build.append(make_rollout(seed, [f"{attack} so 2", f"so 3{attack}", attack], index=i))
    write_build(tmp_path / "out", build)
    html = page_of(tmp_path / "out")
    assert "[31mred" in html
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", html)


def test_only_the_pages_own_script_may_run(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    page = Page(page_of(tmp_path / "out"))
    (policy,) = [v for _, name, v in page.attributes if name == "content" and "default-src" in v]
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert "connect-src" not in policy


def test_the_same_build_gives_the_same_page(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    assert page_of(tmp_path / "out") == page_of(tmp_path / "out")


def test_a_build_without_pairs_has_a_page_too(tmp_path: Path) -> None:
    write_build(tmp_path / "out", [])
    page = Page(page_of(tmp_path / "out"))
    assert page.data["pairs"] == []
    assert "0 of 0 are on this page" in page.text


def test_no_build_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no finished build here"):
        write_report(tmp_path)


def test_samples_are_shared_by_kinds_and_sources_and_come_from_different_seeds(
    tmp_path: Path,
) -> None:
    rollouts = []
    for i in range(60):
        source = "big" if i < 55 else "small"
        texts = [f"way {j} to 3" for j in range(3)] + [f"way {j} to 4" for j in range(3)]
        texts += ["hm"] if i % 20 == 0 else []
        rollouts.append(make_rollout(Seed(f"s{i}", "?", (), ("3",), source=source), texts, index=i))
    write_build(tmp_path / "out", rollouts)
    parts = pair_parts(tmp_path / "out")
    places = pick_samples(places_of(parts), 12)
    assert Counter((p.kind, p.source) for p in places) == {
        ("correctness", "big"): 3,
        ("correctness", "small"): 3,
        ("format", "big"): 6,  # Three seeds have any: two of each.
    }
    pairs = read_browser(places, ROOM).pairs
    assert [pair["id"] for pair in pairs] == [place.id for place in in_order(places)]
    correctness = [pair["seed"] for pair in pairs if pair["kind"] == "correctness"]
    assert len(set(correctness)) == len(correctness)
    formless = Counter(pair["seed"] for pair in pairs if pair["kind"] == "format")
    assert sorted(formless.values()) == [2, 2, 2]
    assert pick_samples(places_of(parts), 12) == places
    # Any first part of them is as even.
    assert Counter(p.kind for p in places[:6]) == {"correctness": 3, "format": 3}


def test_the_page_holds_as_many_pairs_as_fit(tmp_path: Path) -> None:
    rollouts = [
        make_rollout(Seed(f"s{i}", "?", (), ("3",)), ["so 3", "word " * 500 + "4"], index=i)
        for i in range(20)
    ]
    write_build(tmp_path / "out", rollouts)
    places = pick_samples(places_of(pair_parts(tmp_path / "out")), 20)
    browser = read_browser(places, 20_000)
    assert 5 <= len(browser.pairs) <= 7
    shown = {pair["id"] for pair in browser.pairs}
    assert shown == {place.id for place in places[: len(shown)]}


def test_what_differs_between_chosen_and_rejected_is_marked() -> None:
    chosen, rejected = compare("Row 1: red, blue. So 3", "Row 1: red, green. So 4", "correctness")
    assert (said(chosen, "new"), said(rejected, "new")) == ("blue. 3", "green. 4")
    assert said(chosen, "same") == "Row 1: red, So "
    assert "".join(s.text for s in chosen) == "Row 1: red, blue. So 3"
    assert "".join(s.text for s in rejected) == "Row 1: red, green. So 4"


def test_texts_that_go_different_ways_are_not_sprinkled_with_marks() -> None:
    chosen, _ = compare("a b c d e f g", "q r b s t u v w x", "correctness")
    assert said(chosen, "new") == ""


def test_of_texts_that_go_different_ways_the_last_lines_are_compared() -> None:
    left, right = "Row 1: red, blue.\nIn all 2.\nFinal answer: 2", "I guess.\nFinal answer: 3"
    chosen, rejected = compare(left, right, "correctness")
    assert (said(chosen, "new"), said(rejected, "new")) == ("2", "3")
    assert "".join(span.text for span in chosen) == left


def test_a_formula_is_one_word() -> None:
    text = r"costs $5 and $10, so $\frac{1}{2}$ of it: \boxed{x + 1} 厘米"
    assert r"$\frac{1}{2}$ " in words(text)
    assert r"\boxed{x + 1} " in words(text)
    assert "$5 " in words(text)  # Money.
    assert "".join(words(text)) == text


def test_the_kept_beginning_of_a_continued_response_is_grey() -> None:
    chosen, rejected = compare("A red cat on a mat", "A red dog on a mat", "dropout_ntp")
    assert said(chosen, "prefix") == said(rejected, "prefix") == "A red "
    assert said(chosen, "new") == "cat on a mat"


def test_chinese_is_compared_by_characters() -> None:
    chosen, rejected = compare("图中有三个红色圆形。", "图中有四个红色圆形。", "correctness")
    assert (said(chosen, "new"), said(rejected, "new")) == ("三", "四")


def test_long_texts_without_a_word_in_common_stay_whole() -> None:
    left = "same start " + " ".join(f"l{i}" for i in range(3000))
    right = "same start " + " ".join(f"r{i}" for i in range(3000))
    chosen, rejected = compare(left, right, "correctness")
    assert "".join(span.text for span in chosen) == left
    assert "".join(span.text for span in rejected) == right


def test_a_text_that_is_cut_on_the_page_says_so(tmp_path: Path) -> None:
    long = "word " * 3000 + "so 4"
    rollout = make_rollout(Seed("s", "?", (), ("3",)), ["so 3", long])
    write_build(tmp_path / "out", [rollout])
    (pair,) = Page(page_of(tmp_path / "out")).data["pairs"]
    assert (pair["chosen"]["hidden"], pair["rejected"]["hidden"]) == (0, len(long) - 6000)


def test_control_characters_are_shown_not_sent(tmp_path: Path) -> None:
    rollout = make_rollout(Seed("s", "?", (), ("3",)), ["so 3", "\x1b[31m\x00 so 4"])
    write_build(tmp_path / "out", [rollout])
    html = page_of(tmp_path / "out")
    assert "␛[31m␀" in html
    assert "\x1b" not in html
    assert "\x00" not in html


def test_text_cannot_turn_the_direction_of_a_line() -> None:
    assert visible("a\u202eb\u2066c\x9b") == "a\ufffdb\ufffdc\ufffd"


def test_thumbnails_are_small_jpegs_and_the_same_each_time() -> None:
    noise = Image.effect_noise((1600, 900), 120).convert("RGB")
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    url = thumbnail(open_image(buffer.getvalue()))
    assert len(url) <= MOST_CHARACTERS
    assert thumbnail(open_image(buffer.getvalue())) == url
    small = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    assert small.format == "JPEG"
    assert 240 <= max(small.size) <= 640


@pytest.mark.parametrize(
    ("rate", "label"),
    [
        ("0.000", "0"),
        ("0.031", "≤10"),
        ("0.100", "≤10"),
        ("0.125", "≤20"),
        ("0.500", "≤50"),
        ("0.969", "<100"),
        ("1.000", "100"),
    ],
)
def test_pass_rates_fall_into_tenths_with_none_and_all_apart(rate: str, label: str) -> None:
    bars = pass_rate_bars({rate: 3})
    assert [(bar.label, bar.count) for bar in bars if bar.count] == [(label, 3)]
    assert len(bars) == 12


@pytest.mark.parametrize("samples", [2, 3, 4, 8, 10, 16, 32])
def test_bars_of_pass_rates_have_no_gap_that_the_number_of_samples_makes(samples: int) -> None:
    """Each possible share once: all bars in between are alike, but for the last one's end."""
    rates = Counter(f"{right / samples:.3f}" for right in range(samples + 1))
    bars = pass_rate_bars(rates, samples)
    inner = [bar.count for bar in bars[1:-1]]
    assert [bars[0].count, bars[-1].count] == [1, 1]
    assert min(inner) >= max(1, max(inner) - 1)
    assert sum(inner) == samples - 1
    assert not any(bar.label.startswith(("-", "–")) for bar in bars)


def test_drops_are_listed_by_number() -> None:
    bars = drop_bars({"pairing": {"all_correct": 2, "no_correct": 5}, "seeds": {"empty": 2}})
    assert [(b.label, b.note, b.count) for b in bars] == [
        ("no_correct", "none is right: some are wrong, the others state no answer", 5),
        ("all_correct", "every judged response is right", 2),
        ("empty", "seeds", 2),
    ]


def test_lengths_are_given_by_kind(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    lengths = {item.kind: item for item in read_sides(pair_parts(tmp_path / "out")).lengths}
    assert set(lengths) == {"correctness", "format", "dropout_ntp"}
    dropout = lengths["dropout_ntp"]
    assert (dropout.pairs, dropout.chosen_mean, dropout.bare) == (3, 11.0, 3)
    assert sum(b[2] for b in dropout.bins) == sum(b[3] for b in dropout.bins) == 3
    assert [b[0] for b in dropout.bins if b[2]] == [11]
    assert all(first == last for first, last, *_ in dropout.bins)


def test_the_verdict_names_what_is_over_its_threshold_with_the_setting_that_mends_it(
    tmp_path: Path,
) -> None:
    rollouts = []
    for i in range(30):
        seed = Seed(f"s{i}", "?", (), ("yes",), source="a")
        texts = [f"I look at row {i} for a long while {'and on ' * 9} yes", f"{i} no"]
        rollouts.append(make_rollout(seed, texts, index=i))
    write_build(tmp_path / "out", rollouts)
    counts = read_run(tmp_path / "out")["counts"]
    found = findings(counts, read_sides(pair_parts(tmp_path / "out")))
    assert {(f.what, f.fix) for f in found} == {
        ("chosen answers lean to yes", "quality.balance.answers=true"),
        ("chosen responses are longer (correctness)", "quality.balance.lengths=true"),
    }
    assert [f.times for f in found] == sorted((f.times for f in found), reverse=True)
    assert "100% of chosen, 0% of rejected" in {f.figure for f in found}
    page = Path(write_report(tmp_path / "out")).read_text(encoding="utf-8")
    assert page.index("lean to yes") < page.index("From questions to pairs")
    assert page.index('id="browser"') < page.index('id="facts"'), "what was set comes last"


def test_all_pairs_have_a_page_and_old_pages_go(tmp_path: Path) -> None:
    rollouts = [
        make_rollout(Seed(f"s{i}", "?", (), ("3",)), [f"{i} so 3", f"{i} so 4"], index=i)
        for i in range(25)
    ]
    out = tmp_path / "out"
    write_build(out, rollouts)
    write_report(out, samples=10)
    pages = sorted((out / "report").iterdir())
    assert [page.name for page in pages] == ["index.html", "pairs-2.html", "pairs-3.html"]
    ids = [set(re.findall(r'"id":"([0-9a-f]{32})"', p.read_text(encoding="utf-8"))) for p in pages]
    assert [len(found) for found in ids] == [10, 10, 5]
    assert len(set.union(*ids)) == 25
    (out / "report" / "labels.jsonl").touch()
    write_report(out)
    assert sorted(p.name for p in (out / "report").iterdir()) == ["index.html", "labels.jsonl"]


def test_pairs_without_room_on_the_first_page_have_one_where_all_were_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["so 3", "word " * 500 + "4"]
    rollouts = [make_rollout(Seed(f"s{i}", "?", (), ("3",)), texts, index=i) for i in range(9)]
    out = tmp_path / "out"
    write_build(out, rollouts)
    monkeypatch.setattr(report, "MOST_BYTES", 20_000)
    write_report(out)
    pages = [Page(p.read_text(encoding="utf-8")) for p in sorted((out / "report").iterdir())]
    assert len(pages) == 2
    assert sum(len(page.data["pairs"]) for page in pages) == 9


def test_length_bias_and_answer_priors_show_what_one_side_has_more_of(tmp_path: Path) -> None:
    rollouts = [
        make_rollout(
            Seed(f"s{i}", "?", (), ("yes",), source="a" if i < 6 else "b"),
            [f"long words in row {i} that say yes", f"{i} no"],
            index=i,
        )
        for i in range(8)
    ]
    rollouts.append(make_rollout(Seed("t", "?", (), ("B",), source="b"), ["so B", "so A"], index=8))
    write_build(tmp_path / "out", rollouts)
    sides = read_sides(pair_parts(tmp_path / "out"))
    biases = {bias.source: bias for bias in sides.biases}
    assert (biases["a"].chosen, biases["a"].rejected, biases["a"].chosen_longer) == (8, 2, 1.0)
    assert biases["a"].tied == 0.0
    assert biases["a"].share == 0.75
    assert biases["all sources"].pairs == 9
    yes_no, letters = sides.priors
    assert [(p.answer, p.chosen, p.rejected) for p in yes_no] == [("yes", 1, 0), ("no", 0, 1)]
    assert [(p.answer, p.chosen_count, p.rejected_count) for p in letters] == [
        ("A", 0, 1),
        ("B", 1, 0),
    ]


def test_answers_are_those_that_the_balance_of_answers_counts(tmp_path: Path) -> None:
    asked = [
        # truth, options, responses by their last words
        ("yes", 0, ["yes", "12"]),  # No answer of the family on the other side.
        ("B", 3, ["B", "(A)"]),
        ("B", 3, ["B", "H"]),  # It has no such option.
        ("J", 10, ["(J)", "C."]),
        ("是", 0, ["是", "否"]),
    ]
    rollouts = [
        make_rollout(
            Seed(f"s{i}", "?", (), (truth, f"({truth})"), tuple("ABCDEFGHIJ"[:options])),
            [f"so {word}" for word in words],
            index=i,
        )
        for i, (truth, options, words) in enumerate(asked)
    ]
    config = Config.model_validate({"quality": {"balance": {"answers": True, "tolerance": 1}}})
    write_build(tmp_path / "out", rollouts, config)
    counts = read_run(tmp_path / "out")["counts"]
    assert counts["pairs"]["total"] == 5
    shown = {
        prior.answer: {"chosen": prior.chosen_count, "rejected": prior.rejected_count}
        for group in read_sides(pair_parts(tmp_path / "out")).priors
        for prior in group
    }
    told = counts["balance"]["answers"][""]
    assert shown == {
        **told["yes_no"]["after"]["answers"],
        **told["letters"]["after"]["answers"],
    }
    assert set(shown) == {"yes", "no", "A", "B", "C", "J"}


def test_the_prompts_are_those_that_were_used(tmp_path: Path) -> None:
    rollouts = [
        replace(rollout, template=f"visual_{rollout.template}" if i < 2 else rollout.template)
        for i, rollout in enumerate(sample_rollouts(tmp_path))
    ]
    write_build(tmp_path / "out", rollouts)
    run = read_run(tmp_path / "out")
    # The last one was never answered: its image is gone.
    assert run["counts"]["templates"] == {"final_answer_en": 3, "visual_final_answer_en": 2}
    told = "final_answer_en 3 · visual_final_answer_en 2 (questions asked with each)"
    assert dict(build_facts(run))["prompts"] == told
    assert told in Page(page_of(tmp_path / "out")).text
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "`final_answer_en` 3, `visual_final_answer_en` 2 |" in card
    del run["counts"]["templates"]  # As of old versions.
    assert dict(build_facts(run))["prompts"] == "final_answer, language auto"


def test_flows_account_for_every_question_and_response(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    counts = read_run(tmp_path / "out")["counts"]
    for flow, total in ((seed_flow(counts), 7), (response_flow(counts), 14)):
        columns: Counter[float] = Counter()
        for node in flow.nodes:
            columns[node.x] += node.count
        assert set(columns.values()) == {total}
        assert max(node.y + node.height for node in flow.nodes) <= flow.height
    last = {node.label: node.count for node in seed_flow(counts).nodes}
    assert last["gave pairs"] == 4
    assert last["image_missing"] == 2


def test_figures_by_source_add_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_build(out, sample_rollouts(tmp_path))
    counts = read_run(out)["counts"]
    outcomes = dict(stacks(counts, "outcomes"))
    total = {label: sum(part.count for part in parts) for label, parts in outcomes.items()}
    assert total["all sources"] == total["grid"] + total["sums"]
    assert {part.label: part.count for part in outcomes["sums"]} == {"correct": 1, "incorrect": 1}
    costs = counts["sources"]
    assert sum(cost["tokens"] for cost in costs.values()) == counts["tokens"]["generated"]
    assert costs["sums"]["pairs"] == 1
    (row,) = re.findall(r"<tr><td class=\"name\">sums</td>.*?</tr>", page_of(out))
    assert f"{costs['sums']['tokens']:.1f}</td>" in row


def test_examples_of_drops_name_seed_reason_and_question(tmp_path: Path) -> None:
    from mmpr_builder.io import tables

    rollouts = sample_rollouts(tmp_path)
    out = tmp_path / "out"
    write_build(out, rollouts)
    tables.write_parquet(tables.rollouts_to_table(rollouts), out / "rollouts" / "unit-0.parquet")
    examples = read_examples(str(out))
    (easy,) = examples["pairing", "all_correct"]
    assert (easy.item_id, easy.question) == ("easy", "How many?")
    assert [e.item_id for e in examples["seeds", "image_missing"]] == ["a.jsonl:9"]


def test_a_build_of_an_earlier_version_says_what_to_run(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    run = read_run(tmp_path / "out")
    del run["counts"]["uses"]
    (tmp_path / "out" / "run.json").write_text(json.dumps(run), encoding="utf-8")
    with pytest.raises(InputError, match="mmpr pair"):
        write_report(tmp_path / "out")


def test_samples_without_images_are_told_where_there_are_any(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path))
    path, told = tmp_path / "out" / "run.json", ["9 in samples without the images", "and 8 without"]
    run = read_run(tmp_path / "out")
    del run["counts"]["tokens"]["blind"], run["config"]["sampling"]["blind"]  # As of old versions.
    path.write_text(json.dumps(run), encoding="utf-8")
    text = Page(page_of(tmp_path / "out")).text
    assert not [words for words in told if words in text]
    run["counts"]["tokens"]["blind"], run["config"]["sampling"]["blind"] = 9, 8
    path.write_text(json.dumps(run), encoding="utf-8")
    text = Page(page_of(tmp_path / "out")).text
    assert [words for words in told if words in text] == told


def test_every_kind_is_explained() -> None:
    from typing import get_args

    from mmpr_builder.records import Kind

    assert set(KINDS) == set(get_args(Kind))
