"""`mmpr preview`: seeds as they are read and the prompts a model would see; nothing is sampled."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from build_files import write_jsonl
from commands import mmpr
from pair_samples import picture

import mmpr_builder as mb
from mmpr_builder.config import Config, load_config
from mmpr_builder.engines.shown import counted_images
from mmpr_builder.errors import NothingUsableError
from mmpr_builder.io import images
from mmpr_builder.report import render_previews
from mmpr_builder.seeds.roles import mapping, read_from

EVIL = "</code><script>alert(1)</script>\x1b[2J"
SERVED = ("sampling.engine=endpoint", "sampling.endpoint.url=http://127.0.0.1:9/v1", "model=m")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Two sources at a server that does not answer: one with options and one without truths."""
    (tmp_path / "data").mkdir()
    for name, colour in (("1.png", "teal"), ("2.png", "red")):
        picture(tmp_path / "data" / name, colour)
    quiz = [
        {"qid": f"q{i}", "query": f"Which one? {i}", "img_path": "1.png", "gt": "cat"}
        | {"A": "cat", "B": "dog"}
        for i in range(3)
    ]
    quiz.append({"qid": "sum", "query": "2 + 3?", "gt": "5", "img_path": "gone.png"})
    rows = [{"id": "open", "ask": f"Describe it. {EVIL}", "images": ["1.png", "2.png"]}]
    write_jsonl(tmp_path / "data" / "quiz.jsonl", quiz)
    write_jsonl(tmp_path / "data" / "bare.jsonl", rows)
    recipe = tmp_path / "recipe.yaml"
    data = tmp_path / "data"
    recipe.write_text(
        f"seeds:\n  - {{name: quiz, path: {data}/quiz.jsonl}}\n"
        f"  - {{name: bare, path: {data}/bare.jsonl, columns: {{question: ask}}}}\n"
    )
    return [str(recipe), *SERVED, f"out={tmp_path / 'out'}"]


@pytest.fixture
def config(words: list[str]) -> Config:
    return load_config(words[0], words[1:])


def test_seeds_of_all_sources_and_kinds_are_shown_with_what_judges_them(config: Config) -> None:
    quiz, bare, lost = mb.preview(config, 3)
    assert [one.seed.id for one in (quiz, bare, lost)] == ["q0", "open", "sum"]
    assert quiz.columns == {
        **{"id": "qid", "question": "query", "image": "img_path"},
        **{"answer": "gt", "choices": "A, B"},
    }
    assert bare.columns == {"id": "id", "image": "images", "question": "ask"}
    assert (quiz.scorer, bare.scorer, lost.scorer) == ("auto: choice", "", "auto: math")
    assert (quiz.template, bare.template) == ("final_answer_en", "open_en")
    facts = dict(quiz.facts())
    assert facts["options"] == "A. cat\nB. dog"
    assert facts["truth"] == "A"
    assert "1.png" in facts["images"]
    assert dict(bare.facts())["truth"] == "not known"
    assert lost.error.startswith("image_missing: ")
    assert not lost.prompt


def test_a_server_is_shown_with_its_messages_and_not_asked(config: Config, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    quiz, bare = mb.preview(config, 2)
    (message,) = json.loads(bare.prompt)
    kinds = [part["type"] for part in message["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert len(message["content"][0]["image_url"]["url"]) < 100
    assert json.loads(bare.blind)[0]["content"].startswith("Describe it.")
    kept = json.loads(bare.continued)
    assert [turn["role"] for turn in kept] == ["user", "assistant"]
    assert kept[1]["content"] == "⟨the first 50 % of a response⟩"
    assert not quiz.continued  # Its truth is known.
    assert [title for title, _ in quiz.texts()] == [
        "prompt",
        "without images",
    ]
    assert [title for title, _ in bare.texts()] == ["prompt", "DropoutNTP continues"]
    assert sorted(tmp_path.rglob("*")) == before


def test_blind_samples_and_the_kept_part_follow_the_settings(words: list[str]) -> None:
    more = ["sampling.blind=8", "dropout.keep=[0.25,0.5]", "dropout.apply=all"]
    quiz, _ = mb.preview(load_config(words[0], [*words[1:], *more]), 2)
    titles = [title for title, _ in quiz.texts()]
    assert titles[1:] == [
        "without images, sampled 8 times",
        "DropoutNTP continues",
    ]
    assert "the first 25 % or 50 % of a response" in quiz.continued


def test_the_page_shows_hostile_text_and_its_pictures_and_runs_nothing(config: Config) -> None:
    page = render_previews(config.name, mb.preview(config, 2))
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\x1b" not in page
    assert page.count('<img src="data:image/jpeg;base64,') == 3


def test_each_picture_is_opened_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    load = images._opened
    monkeypatch.setattr(images, "_opened", lambda *args: opened.append(1) or load(*args))
    found = mb.preview(config, 3)
    render_previews(config.name, found)
    assert sum(len(one.thumbnails) for one in found) == len(opened) == 3


def test_the_command_prints_and_writes_one_file(words: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = mmpr("preview", *words, "-n", "2", "--html", page)
    assert done.returncode == 0, done.stderr
    assert "question ← query" in done.stdout
    assert "auto: choice" in done.stdout
    assert "␛[2J" in done.stdout
    assert "\x1b" not in done.stdout
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not (tmp_path / "out").exists()


def test_seeds_of_which_none_can_be_used_are_refused(tmp_path: Path) -> None:
    seeds = write_jsonl(tmp_path / "seeds.jsonl", [{"question": "Say something."}])
    with pytest.raises(NothingUsableError, match="no_possible_pair"):
        mb.preview(load_config(None, [*SERVED, f"seeds={seeds}", f"out={tmp_path / 'out'}"]))


COLUMNS = [
    # a row, the setting `columns`, where each role is read from
    ({"Question": "Q?", "image": "", "img": "1.png"}, {}, {"question": "Question", "image": "img"}),
    ({"question": "Q?", "image_2": "b", "image_1": "a"}, {}, {"image": "image_1, image_2"}),
    ({"question": "Q?", "answer": "1", "key": "2"}, {"answer": "key"}, {"answer": "key"}),
    ({"messages": [{"role": "user"}]}, {}, {"question": "messages", "answer": "messages"}),
]


@pytest.mark.parametrize(("row", "columns", "found"), COLUMNS, ids=str)
def test_a_role_tells_the_column_that_it_is_read_from(
    row: dict[str, object], columns: dict[str, str], found: dict[str, str]
) -> None:
    assert read_from(row, mapping(columns)).items() >= found.items()


def test_image_tokens_are_counted_and_other_repeats_stay_as_they_are() -> None:
    names = {1: "<s>", 2: "<img>", 3: "<row>", 4: "-"}
    ids = [1, 4, 4, 4, 2, 2, 2, 3, 2, 2, 4, 4]
    place = SimpleNamespace(offset=4, length=6, is_embed=None)
    text, count = counted_images(ids, [place], lambda some: "".join(names[i] for i in some))
    assert text == "<s>---[<img> × 3]<row>[<img> × 2]--"
    assert count == 6


@pytest.mark.slow
def test_the_demo_is_shown_with_its_models_own_template(tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    found = mb.preview(load_config("demo", [f"out={tmp_path / 'out'}"]), 3)
    assert {one.seed.has_truth for one in found} == {True, False}
    for one in found:
        assert one.prompt.startswith("<|im_start|>user\n")
        assert one.prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert one.image_tokens is not None
        assert one.image_tokens > 0
        assert f"[<image> × {one.image_tokens}]" in one.prompt
        assert one.blind.startswith("<|im_start|>user\n")
        assert "<image>" not in one.blind
        assert bool(one.continued) is not one.seed.has_truth
        assert not one.continued or one.continued.startswith(one.blind)
    assert not (tmp_path / "out").exists()
