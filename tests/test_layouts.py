"""Public layouts: every row of a miniature in the true layout is a seed or a drop with a reason."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from public_layouts import SOURCES, Expected, chartqa, iconqa, picture, write

from mmpr_builder.config import SourceConfig, load_config
from mmpr_builder.errors import InputError
from mmpr_builder.records import Drop, Seed
from mmpr_builder.seeds import check_sources, fingerprint, read_seeds, read_sources
from mmpr_builder.seeds.formats import entries
from mmpr_builder.seeds.layouts import conversations

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"


def source(folder: Path, name: str, **changes: Any) -> SourceConfig:
    """The source of the recipe, reading the miniature in `folder`."""
    config = load_config("mmpr_v1", [f"data={folder}", f"sources={name}"])
    return config.seeds[0].model_copy(update={"branch": "auto", **changes})


def read(folder: Path, name: str, **changes: Any) -> list[Seed | Drop]:
    return list(read_sources([source(folder, name, **changes)]))


def seeds_of(items: list[Seed | Drop]) -> list[Seed]:
    return [item for item in items if isinstance(item, Seed)]


@pytest.mark.parametrize("name", SOURCES)
def test_every_row_is_a_seed_or_a_drop_with_its_reason(tmp_path: Path, name: str) -> None:
    expected = SOURCES[name](tmp_path / name)
    items = read(tmp_path, name)
    found = seeds_of(items)
    drops = Counter(item.reason for item in items if isinstance(item, Drop))
    truths = sum(seed.has_truth for seed in found)
    text_only = sum(not seed.images for seed in found)
    assert Expected(len(found), truths, dict(drops), text_only) == expected
    for seed in found:
        assert seed.question.count("<image>") == len(seed.images)
        assert all(ref.row is not None or Path(ref.uri).is_file() for ref in seed.images)
        assert seed.source == name
    assert len({item.id if isinstance(item, Seed) else item.item_id for item in items}) == len(
        items
    )


# name: (question of the first seed with a truth, its truths, its choices)
FIRST: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "vqav2": ("<image>\nWhat color is the plate?", ("red",) * 6 + ("dark red",) * 4, ()),
    "gqa": ("<image>\nIs the sky dark?", ("yes",), ()),
    "mapqa": ("<image>\nWhich states have a value below 5%?", ("Ohio, Utah",), ()),
    "m3cot": (
        "<image>\nTwo magnets lie on a table.\nWhich magnet pulls more?\nA. pair 1\nB. pair 2",
        ("A",),
        ("pair 1", "pair 2"),
    ),
    "ai2d": (
        "<image>\nWhat does A show in 0.png?\nA. crust\nB. mantle\nC. core\nD. shell",
        ("B",),
        ("crust", "mantle", "core", "shell"),
    ),
    "geometry3k": (
        "<image>\nFind y.\nA. 5\nB. 5 \\sqrt { 2 }\nC. 5 \\sqrt { 3 }\nD. 10",
        ("C",),
        ("5", "5 \\sqrt { 2 }", "5 \\sqrt { 3 }", "10"),
    ),
    "geo170k": (
        "First perform reasoning, then answer.\n<image>\nFind AB.\nChoices:\nA. 3\nB. 4",
        ("B",),
        ("3", "4"),
    ),
    "geomverse": (
        "<image>\nCompute the perimeter. Round to 2 decimal places.",
        ("12",),
        (),
    ),
    "sroie": (
        "<image>\nWhich company issued this receipt?",
        ("BOOK TA .K (TAMAN DAYA) SDN BHD",),
        (),
    ),
    "docvqa": ("<image>\nwhat is the date mentioned in this letter?", ("1/8/93",), ()),
}


@pytest.mark.parametrize("name", FIRST)
def test_question_truths_and_choices_are_those_of_the_layout(tmp_path: Path, name: str) -> None:
    SOURCES[name](tmp_path / name)
    first = seeds_of(read(tmp_path, name))[0]
    assert (first.question, first.answers, first.choices) == FIRST[name]


def test_options_that_are_images_stand_where_their_letters_are(tmp_path: Path) -> None:
    iconqa(tmp_path / "iconqa")
    (seed,) = [s for s in seeds_of(read(tmp_path, "iconqa")) if "choose_img" in s.id]
    assert seed.question == "<image>\nWhich shape is a rectangle?\nA. <image>\nB. <image>"
    names = [Path(ref.uri).name for ref in seed.images]
    assert names == ["image.png", "choice_0.png", "choice_1.png"]
    assert seed.answers == ("B",)


def test_a_problem_without_an_image_is_a_text_only_seed(tmp_path: Path) -> None:
    SOURCES["scienceqa"](tmp_path / "scienceqa")
    text_only = seeds_of(read(tmp_path, "scienceqa"))[1]
    assert text_only.images == ()
    assert "<image>" not in text_only.question
    assert text_only.question.startswith("The passage below describes an experiment.\nWhich of")


def test_the_language_of_a_source_can_be_left_to_each_question(tmp_path: Path) -> None:
    SOURCES["geoqa_plus"](tmp_path / "geoqa_plus")
    assert seeds_of(read(tmp_path, "geoqa_plus"))[0].language == "zh"
    assert seeds_of(read(tmp_path, "geoqa_plus", language="en"))[0].language == "en"


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *(("vqav2", "val"), ("gqa", "testdev"), ("chartqa", "test"), ("scienceqa", "test")),
        *(("m3cot", "validation"), ("m3cot", "train[:10]+test"), ("ai2d", "testing")),
    ],
)
def test_a_split_that_is_off_limits_is_refused(tmp_path: Path, name: str, split: str) -> None:
    SOURCES[name](tmp_path / name)
    with pytest.raises(InputError, match="off limits"):
        check_sources([source(tmp_path, name, split=split)])
    check_sources([source(tmp_path, name)])


@pytest.mark.parametrize("path", ["chartqa/test", "chartqa/test/test_human.json"])
def test_files_of_a_split_that_is_off_limits_are_refused(tmp_path: Path, path: str) -> None:
    chartqa(tmp_path / "chartqa")
    with pytest.raises(InputError, match=r"path 'test.*' is off limits.*use another split"):
        check_sources([source(tmp_path, "chartqa", path=str(tmp_path / path))])


def test_the_test_diagrams_of_ai2d_must_be_known(tmp_path: Path) -> None:
    SOURCES["ai2d"](tmp_path / "ai2d")
    (tmp_path / "ai2d" / "ai2d_test_ids.csv").unlink()
    with pytest.raises(InputError, match=r"ai2d_test_ids.csv is missing"):
        read(tmp_path, "ai2d")


def test_chartqa_is_read_from_csv_too(tmp_path: Path) -> None:
    text = 'imgname,query,label\n1.png,"How many, in all?",14\n,Which?,2\n'
    write(tmp_path / "chartqa" / "train" / "train_human.csv", text)
    picture(tmp_path / "chartqa" / "train" / "png" / "1.png")
    seed, drop = read(tmp_path, "chartqa")
    assert isinstance(seed, Seed)
    assert isinstance(drop, Drop)
    assert (seed.question, seed.answers) == ("<image>\nHow many, in all?", ("14",))
    assert drop.reason == "missing_imgname"


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_each_question_of_a_conversation_is_a_seed(tmp_path: Path, suffix: str) -> None:
    turns = [
        {"from": "system", "value": "You read receipts."},
        {"from": "human", "value": "<image>\nWhat is the total?"},
        {"from": "gpt", "value": "31.00."},
        {"from": "human", "value": "And the date?"},
        {"from": "gpt", "value": "09/01/2019"},
    ]
    row = {"id": "r7", "image": "a.png", "conversations": turns}
    text = json.dumps([row]) if suffix == "json" else json.dumps(row) + "\n{}\n"
    write(tmp_path / f"talk.{suffix}", text)
    items = list(read_seeds(tmp_path / f"talk.{suffix}", format="conversations"))
    found = seeds_of(items)
    assert [(s.id, s.question, s.answers) for s in found] == [
        ("r7_0", "<image>\nWhat is the total?", ("31.00",)),
        ("r7_1", "<image>\nAnd the date?", ("09/01/2019",)),
    ]
    assert len(items) - len(found) == (suffix == "jsonl")


def test_rows_of_conversations_need_no_format(tmp_path: Path) -> None:
    SOURCES["geos"](tmp_path / "geos")
    check_sources([source(tmp_path, "geos", format="auto")])
    assert read(tmp_path, "geos", format="auto") == read(tmp_path, "geos")


@pytest.mark.parametrize(
    ("reply", "truth"),
    [
        ("31.00.", "31.00"),
        ("The sides are equal. Answer: B", "B"),
        ("Answer: 3? No. Final Answer: 4.", "4"),
        ("因此选B。\n答案：B", "B"),
        ("The final answer is: \\sqrt{2}", "\\sqrt{2}"),
        ("A dog " * 10, None),
        ("", None),
    ],
)
def test_the_truth_of_a_reply(reply: str, truth: str | None) -> None:
    assert conversations.truth(reply) == truth


def test_released_prompts_of_mmpr_v1_2_are_read_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"image": "geo/1.png", "question": "<image>\nFind x.", "answer": "5"},
        {"image": ["a.png", "b.png"], "question": "<image>\n<image>\nSame?", "answer": "no"},
        {"question": "What is 2+2?", "answer": "4"},
        {"image": "c.png", "question": "<image>\nDescribe it."},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write(tmp_path / "correctness_prompts" / "geos_en_20240402_extracted.jsonl", text)
    found = seeds_of(list(read_seeds(tmp_path / "correctness_prompts", root=tmp_path)))
    assert [len(seed.images) for seed in found] == [1, 2, 0, 1]
    assert [seed.answers for seed in found] == [("5",), ("no",), ("4",), ()]
    assert found[0].images[0].uri == str(tmp_path / "geo" / "1.png")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"data": 7}', "not valid JSON"),
        ('{"rows": []}', "expected an object with 'data'"),
        ("[]", "expected an object with 'data'"),
        ('{"data": [{"question": "a"}', "not valid JSON"),
        ("", "not valid JSON"),
    ],
)
def test_a_file_that_is_broken_as_a_whole_stops_the_reading(
    tmp_path: Path, text: str, said: str
) -> None:
    write(tmp_path / "train.json", text)
    with pytest.raises(InputError, match=said) as caught:
        list(read_seeds(tmp_path / "train.json", format="answer_lists"))
    assert "train.json" in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2] x", "[1 2]", '{"a" 1}', "[1", "7"])
def test_json_entry_by_entry_takes_no_broken_json(text: str) -> None:
    with pytest.raises(InputError, match=r"f.json: not valid JSON"):
        list(entries(text, "f.json"))


def test_json_entry_by_entry_gives_what_a_parser_gives() -> None:
    value = {"a": [1, {"b": "]}"}], "key": [{"x": "é\n"}, [], None, 2.50]}
    text = json.dumps(value, indent=1)
    assert list(entries(text, "f")) == list(value.items())
    assert [v for _, v in entries(text, "f", "key")] == value["key"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("vqav2", "v2_mscoco_train2014_annotations.json"),
        ("ai2d", "ai2d_test_ids.csv"),
        ("geometry3k", "train/16/data.json"),
        ("docvqa", "train_v1.0_withQT.json"),
    ],
)
def test_a_changed_file_of_any_kind_changes_the_fingerprint(
    tmp_path: Path, name: str, file: str
) -> None:
    SOURCES[name](tmp_path / name)
    before = fingerprint(source(tmp_path, name))
    assert fingerprint(source(tmp_path, name)) == before
    path = tmp_path / name / file
    path.write_text(path.read_text() + " ")
    assert fingerprint(source(tmp_path, name)) != before


@pytest.mark.skipif(not (REAL / "geometry3k.jsonl").exists(), reason="no real data here")
def test_real_problems_are_the_same_in_their_own_layout(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (REAL / "geometry3k.jsonl").read_text().splitlines()]
    for row in rows:
        stem, _, options = row["question"].partition("\nChoices:\n")
        texts = [line.split(") ", 1)[1] for line in options.split("\n")]
        content = {"problem_text": stem, "choices": texts, "answer": row["answer"]}
        number = row["id"].removeprefix("geometry3k_")
        write(tmp_path / "geometry3k" / "train" / number / "data.json", content)
    there = {s.id: s for s in seeds_of(list(read_seeds(REAL / "geometry3k.jsonl")))}
    here = seeds_of(read(tmp_path, "geometry3k"))
    assert len(here) == len(there) > 3
    for seed in here:
        assert (seed.answers, seed.choices) == (there[seed.id].answers, there[seed.id].choices)
