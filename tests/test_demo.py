"""The demo world, its seeds and its model: deterministic, truthful, hard to guess, small, able."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from build_files import files_in
from demo_bounds import assert_it_makes_pairs
from PIL import Image

from mmpr_builder.demo import model_path, write_seeds
from mmpr_builder.demo.drawing import SIDE, draw
from mmpr_builder.demo.questions import ask
from mmpr_builder.demo.wording import LETTERS, Question
from mmpr_builder.demo.world import (
    COLOURS,
    SHAPES,
    Bar,
    Cell,
    Chart,
    Grid,
    Scene,
    make_scene,
    split_of,
    stream,
)
from tools.demo_model.corpus import make_row, patch_targets, render
from tools.demo_model.descriptions import describe
from tools.demo_model.responses import HABITS, respond

COLOUR_OF = {**{name: name for name in COLOURS}, **{zh: name for name, zh in COLOURS.items()}}
SHAPE_OF = {
    **{f"{name}{end}": name for name in SHAPES for end in ("", "s", "es")},
    **{zh: name for name, zh in SHAPES.items()},
}
DIGIT_OF = {"一": 1, "二": 2, "三": 3}
MAX_MODEL_BYTES = 8_000_000


def asked(count: int, seed: int = 5, open_share: float = 0.0) -> list[tuple[Scene, Question]]:
    scenes = [make_scene(seed, index, "eval") for index in range(count)]
    return [
        (scene, ask(scene, seed, index, open_share=open_share))
        for index, scene in enumerate(scenes)
    ]


# --- seeds -----------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    write_seeds(tmp_path / "here", 12, seed=3)
    code = (
        "from pathlib import Path; from mmpr_builder.demo import write_seeds; "
        f"write_seeds(Path({str(tmp_path / 'there')!r}), 12, seed=3)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=Path(__file__).parents[1])
    assert files_in(tmp_path / "here") == files_in(tmp_path / "there")
    assert len(files_in(tmp_path / "here")) == 13


def test_more_seeds_begin_with_the_same_seeds(tmp_path: Path) -> None:
    few = write_seeds(tmp_path / "few", 5).read_text(encoding="utf-8").splitlines()
    more = write_seeds(tmp_path / "more", 9).read_text(encoding="utf-8").splitlines()
    assert more[:5] == few


def test_seeds_are_rows_of_the_prompt_format_with_images_that_open(tmp_path: Path) -> None:
    path = write_seeds(tmp_path / "seeds", 60)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == 60
    for row in rows:
        with Image.open(path.parent / row["image"]) as image:
            assert (image.format, image.size, image.mode) == ("PNG", (SIDE, SIDE), "RGB")
        assert ("answer" in row) == (row["source"] != "demo_open")
        assert row["question"].count("<image>") in (0, 1)
    without_truth = sum("answer" not in row for row in rows) / len(rows)
    assert 0.15 < without_truth < 0.45
    assert {row["question"].startswith("<image>\n") for row in rows} == {True, False}
    assert {row["source"] for row in rows} == {"demo_grid", "demo_chart", "demo_open"}


def test_a_complete_folder_is_left_alone_and_another_one_refused(tmp_path: Path) -> None:
    path = write_seeds(tmp_path / "seeds", 4)
    before = path.stat().st_mtime_ns
    assert write_seeds(tmp_path / "seeds", 4) == path
    assert path.stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="does not hold the 5 demo seeds"):
        write_seeds(tmp_path / "seeds", 5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["seeds"], "a draft was left behind"


# --- truths ----------------------------------------------------------------------------------


def cells_like(grid: Grid, words: str) -> list[Cell]:
    """Cells that a phrase of a question names, found by its words alone."""
    words = words.removesuffix("图形").removesuffix(" shapes")
    colours = {
        name for word, name in COLOUR_OF.items() if re.search(rf"(^|\s){word}|^{word}", words)
    }
    shapes = {name for word, name in SHAPE_OF.items() if words.endswith(word)}
    assert colours or shapes, words
    return [
        cell
        for cell in grid.cells
        if cell and (not colours or cell.colour in colours) and (not shapes or cell.shape in shapes)
    ]


def grid_truth(grid: Grid, text: str) -> str:
    """The truth of a question on a grid, from its text and the scene, by other code."""
    if found := re.fullmatch(
        r"How many (.+) and (.+) are there altogether\?|(.+)和(.+)一共有多少个？", text
    ):
        first, second = (group for group in found.groups() if group)
        return str(len(cells_like(grid, first)) + len(cells_like(grid, second)))
    if found := re.fullmatch(r"How many (.+) are there\?|图中有多少个(.+)？", text):
        return str(len(cells_like(grid, found[1] or found[2])))
    if found := re.fullmatch(
        r"Which are there more of, (.+) or (.+)\?|(.+)和(.+)，哪一种更多？", text
    ):
        first, second = (group for group in found.groups() if group)
        # In Chinese the answer names what the question named, "红色图形" included.
        return max((first, second), key=lambda words: len(cells_like(grid, words)))
    if found := re.fullmatch(r"What is in row (\d), column (\d)\?|第(.)行第(.)列是什么？", text):
        row, column = (DIGIT_OF.get(g) or int(g) for g in found.groups() if g)
        cell, zh = grid.cells[(row - 1) * 3 + column - 1], "第" in text
        if cell is None:
            return "空" if zh else "empty"
        return COLOURS[cell.colour] + SHAPES[cell.shape] if zh else f"{cell.colour} {cell.shape}"
    if found := re.fullmatch(r"In which row is the (.+)\?|(.+)在第几行？请回答数字。", text):
        [cell] = cells_like(grid, found[1] or found[2])
        return str(grid.cells.index(cell) // 3 + 1)
    if found := re.fullmatch(r"What colour is the (.+)\?|(.+)是什么颜色？", text):
        [cell] = cells_like(grid, found[1] or found[2])
        return COLOURS[cell.colour] if found[2] else cell.colour
    if found := re.fullmatch(r"Is there a (.+) in the picture\? Answer yes or no\.", text):
        return "yes" if cells_like(grid, found[1]) else "no"
    if found := re.fullmatch(r"图中有(.+)吗？请回答是或否。", text):
        return "是" if cells_like(grid, found[1]) else "否"
    raise AssertionError(f"no rule for {text!r}")


def chart_truth(chart: Chart, text: str) -> str:
    """The truth of a question on a chart, from its text and the scene, by other code."""
    height = {bar.colour: bar.value for bar in chart.bars}
    named = sorted(
        (text.index(word), name) for word, name in COLOUR_OF.items() if re.search(word, text)
    )
    values = [height[name] for _, name in named if name in height]
    zh = bool(re.search(r"[一-鿿]", text))
    if re.search("What is the value of|的值是多少", text):
        return str(values[0])
    if re.search("difference|相差", text):
        return str(abs(values[0] - values[1]))
    if re.search("add up to|加起来", text):
        return str(values[0] + values[1])
    if found := re.search(r"(?:above |大于)(\d)", text):
        return str(sum(value > int(found[1]) for value in height.values()))
    if re.search("tallest|shortest|最高|最矮", text):
        [name] = [
            colour
            for colour, value in height.items()
            if value == (max if re.search("tallest|最高", text) else min)(height.values())
        ]
        return COLOURS[name] if zh else name
    if re.search("taller than|比", text):
        return ("是" if zh else "yes") if values[0] > values[1] else ("否" if zh else "no")
    raise AssertionError(f"no rule for {text!r}")


def test_truths_are_right_when_worked_out_again_from_text_and_scene() -> None:
    families = set()
    for scene, question in asked(4000):
        text, *lines = question.text.split("\n")
        truth = grid_truth(scene, text) if isinstance(scene, Grid) else chart_truth(scene, text)
        answer = question.answer
        if lines:
            options = dict(line.split(". ", 1) for line in lines)
            assert list(options) == list(LETTERS)
            assert len(set(options.values())) == len(LETTERS), "an option is there twice"
            answer = options[question.answer or ""]
        assert answer == truth, question.text
        families.add((question.family, question.language, bool(lines)))
    assert len(families) == 13 * 2 + 8 * 2, "13 families in 2 languages, 8 of them with options too"


def test_a_blind_guess_is_poor() -> None:
    answers: dict[tuple[str, str, bool], Counter[str]] = defaultdict(Counter)
    for _, question in asked(6000):
        kind = question.family, question.language, bool(question.options)
        answers[kind][question.answer or ""] += 1
    best = sum(counts.most_common(1)[0][1] for counts in answers.values())
    assert best / 6000 < 0.34, "always saying the commonest answer of a family is right too often"
    overall = sum(answers.values(), Counter[str]())
    assert overall.most_common(1)[0][1] / 6000 < 0.1


def test_a_fifth_is_chinese_and_a_share_has_options() -> None:
    questions = [question for _, question in asked(3000)]
    chinese = sum(question.language == "zh" for question in questions) / 3000
    options = sum(bool(question.options) for question in questions) / 3000
    assert 0.17 < chinese < 0.23
    assert 0.15 < options < 0.35


# --- splits ----------------------------------------------------------------------------------


def test_training_and_evaluation_share_no_scene() -> None:
    train = {make_scene(0, index, "train", chart_share=1.0) for index in range(8000)}
    evaluation = {make_scene(0, index, "eval", chart_share=1.0) for index in range(4000)}
    assert len(train) < 8000, "charts do repeat by chance: disjoint seeds would not be enough"
    assert not train & evaluation


def test_the_split_hangs_on_content_and_not_on_looks() -> None:
    scene = make_scene(1, 2, "eval")
    again = Grid(scene.cells, look=9) if isinstance(scene, Grid) else Chart(scene.bars, look=9)
    assert (scene, split_of(scene)) == (again, split_of(again))


# --- pictures --------------------------------------------------------------------------------


def test_a_bar_one_higher_changes_the_picture_and_a_cell_is_painted_its_colour() -> None:
    low, high = (draw(Chart((Bar("red", value), Bar("blue", 5)))) for value in (4, 5))
    assert low.tobytes() != high.tobytes()
    cells = [None] * 9
    grid = Grid((*cells[:4], Cell("red", "circle"), *cells[5:]))
    red, green, blue = draw(grid).getpixel((SIDE // 2, SIDE // 2))  # type: ignore[misc]
    assert red > 200 > 100 > max(green, blue)


def test_patch_targets_name_what_lies_under_each_patch() -> None:
    chart = Chart((Bar("red", 3), Bar("blue", 7), Bar("green", 5)))
    columns = [colour for colour, _, _ in patch_targets(chart)[:6]]
    order = list(COLOURS)
    assert columns == [
        order.index(name) + 1 for name in ("red", "red", "blue", "blue", "green", "green")
    ]


# --- responses -------------------------------------------------------------------------------


def stated(text: str) -> str | None:
    found = re.search(r"(?:Final answer: |最终答案：)(.+)$", text)
    return found[1] if found else None


def test_writers_are_mostly_right_often_wrong_and_seldom_without_an_answer() -> None:
    outcomes: Counter[str] = Counter()
    for index, (scene, question) in enumerate(asked(4000)):
        answer = stated(respond(question, scene, "final_answer", random.Random(index)))
        outcomes["none" if answer is None else str(answer == question.answer)] += 1
    assert 0.58 < outcomes["True"] / 4000 < 0.72
    assert 0.01 < outcomes["none"] / 4000 < 0.03
    assert HABITS["careful"] + HABITS["slips"] > 0.5, "greedy decoding has to be careful"
    assert sum(HABITS.values()) == pytest.approx(1)


def test_careful_responses_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    for habit in HABITS:
        monkeypatch.setitem(HABITS, habit, float(habit == "careful"))
    for index, (scene, question) in enumerate(asked(1500)):
        text = respond(question, scene, "final_answer", random.Random(index))
        assert stated(text) == question.answer, text


def test_each_style_ends_as_its_template_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    for habit in HABITS:
        monkeypatch.setitem(HABITS, habit, float(habit == "careful"))
    scene, question = asked(1)[0]
    boxed = respond(question, scene, "boxed", random.Random(0))
    think = respond(question, scene, "think_boxed", random.Random(0))
    assert boxed.endswith(f"\n\\boxed{{{question.answer}}}")
    assert re.fullmatch(rf"<think>\n.+\n</think>\n\n\\boxed{{{question.answer}}}", think, re.DOTALL)
    assert "{question}" not in render(question, "think_boxed")


def test_the_second_half_of_a_description_still_tells_of_the_picture() -> None:
    described = [(s, q) for s, q in asked(200, open_share=1.0) if q.language == "en"]
    for scene, question in described:
        words = describe(scene, question.language).split()
        assert len(words) > 24
        second = " ".join(words[len(words) // 2 :])
        assert any(colour in second for colour in COLOURS) or "empty" in second


# --- training rows ---------------------------------------------------------------------------


def test_training_rows_follow_from_seed_and_index_and_some_have_no_picture() -> None:
    scenes = [make_scene(0, index, "train") for index in range(50)]
    rows = [make_row(scenes, 0, index) for index in range(2000)]
    assert rows[1234] == make_row(scenes, 0, 1234)
    blind = [row for row in rows if row.scene is None]
    assert 0.04 < len(blind) / len(rows) < 0.15
    assert not any("<image>" in row.prompt for row in blind)
    assert all(row.prompt.count("<image>") == 36 for row in rows if row.scene is not None)


def test_a_random_stream_is_named_by_all_its_parts() -> None:
    draws = {stream(*parts).random() for parts in (("a", 1), ("a", 2), ("b", 1), ("a", 1, 1))}
    assert len(draws) == 4


# --- the shipped model -----------------------------------------------------------------------


def card_shares() -> dict[str, float]:
    card = (model_path() / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| (.+?) \| ([\d.]+)% \|", card)
    return {name.strip(): float(share) / 100 for name, share in rows}


def test_the_shipped_model_is_complete_and_at_most_eight_megabytes() -> None:
    files = {path.name: path.stat().st_size for path in model_path().iterdir()}
    assert sum(files.values()) <= MAX_MODEL_BYTES
    assert {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json", "processor_config.json", "chat_template.jinja", "README.md",
    } <= set(files)  # fmt: skip


def test_the_card_states_figures_that_make_pairs_and_the_command_behind_them() -> None:
    shares = card_shares()
    assert_it_makes_pairs(
        accuracy=shares["right at temperature 1.0"],
        both_outcomes=shares["queries with both right and wrong responses"],
        no_answer=shares["responses without a final answer"],
        accuracy_blind=shares["right when the picture is withheld"],
    )
    assert shares["right when greedy"] < 0.85
    assert 0.10 <= shares["facts wrong at temperature 1.0"] <= 0.25
    assert 0.05 <= shares["facts wrong when greedy"] <= 0.15
    assert shares["facts wrong when the picture is withheld"] > 0.5
    card = (model_path() / "README.md").read_text(encoding="utf-8")
    assert "python -m tools.demo_model.measure --queries" in card
    assert "python -m tools.demo_model.train --out" in card


def test_the_chat_template_writes_what_training_wrote_and_leaves_a_turn_open() -> None:
    transformers = pytest.importorskip("transformers")
    from tools.demo_model.tokens import chat_text

    tokenizer = transformers.AutoTokenizer.from_pretrained(model_path())
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Hm?"}]}]
    render = tokenizer.apply_chat_template
    opened = render(chat, tokenize=False, add_generation_prompt=True)
    assert opened == chat_text("Hm?", image="<image>")
    begun = [*chat, {"role": "assistant", "content": "Row 1: red"}]
    assert render(begun, tokenize=False, continue_final_message=True) == opened + "Row 1: red"
    any_text = "Größe λ → 漢字 🙂\t x"
    assert tokenizer.decode(tokenizer(any_text).input_ids) == any_text
