"""Quality controls of seeds: leaks and near-duplicates are found, other seeds pass untouched."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from build_files import write_jsonl
from PIL import Image, ImageDraw, ImageFont

from benchmarks.decontamination import CHANGES, paraphrased
from mmpr_builder.config import Config, DecontaminateConfig, QualityConfig, sampling_identity
from mmpr_builder.demo.drawing import draw
from mmpr_builder.demo.questions import ask
from mmpr_builder.demo.world import make_scene
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.images import open_image, read_bytes
from mmpr_builder.io.ordered_map import in_threads
from mmpr_builder.quality.contamination import Decontaminator, index_evaluation
from mmpr_builder.quality.likeness import similarity, words
from mmpr_builder.quality.screening import screen_seeds
from mmpr_builder.records import Drop, ImageRef, Seed
from mmpr_builder.runs import planning
from mmpr_builder.seeds import read_seeds

REAL = Path(__file__).parents[2] / "shared" / "data" / "real"
TALE = (
    "A train leaves the first town at eight in the morning and goes at 60 km per hour; another"
    " leaves the second town two hours later at 90 km per hour. When do they meet?"
)
TALE_ZH = "一列火车早上八点从甲城出发，每小时六十公里，另一列两小时后从乙城出发，它们何时相遇？"


def pictured(folder: Path, number: int, question: str = "", answers: Sequence[str] = ()) -> Seed:
    """A seed of the demo's world."""
    scene = make_scene(5, number, "eval")
    place = folder / f"{number}.png"
    if not place.exists():
        draw(scene).save(place)
    question = question or ask(scene, 5, number, open_share=0.0).text
    return Seed(f"d{number}", f"<image>\n{question}", (ImageRef(str(place)),), tuple(answers))


def checker(rows: Sequence[Seed], **settings: object) -> Decontaminator:
    config = DecontaminateConfig.model_validate(settings)
    return Decontaminator(index_evaluation((("eval.jsonl", row) for row in rows), config), config)


def changed(
    seed: Seed, folder: Path, change: Callable[[Image.Image, random.Random], Image.Image]
) -> Seed:
    picture = open_image(read_bytes(seed.images[0]))
    place = folder / "changed.png"
    change(picture, random.Random(seed.id)).save(place)
    question = paraphrased(seed.question, random.Random(seed.id))
    return replace(seed, id=f"{seed.id}-copy", question=question, images=(ImageRef(str(place)),))


def recall(rows: Sequence[Seed], folder: Path) -> dict[str, float]:
    found = checker(rows)
    return {
        name: sum(found.leak(changed(row, folder, change)) is not None for row in rows) / len(rows)
        for name, change in CHANGES.items()
    }


def test_planted_leaks_of_the_demos_world_are_found(tmp_path: Path) -> None:
    rows = [pictured(tmp_path, number) for number in range(10)]
    assert min(recall(rows, tmp_path).values()) >= 0.95


def real_rows(most: int) -> list[Seed]:
    """Some rows of each real source, with one picture that opens."""
    rows: list[Seed] = []
    for file in sorted(REAL.glob("*.jsonl")):
        of_file = [s for s in read_seeds(file) if isinstance(s, Seed) and len(s.images) == 1]
        for seed in of_file[:most]:
            try:
                open_image(read_bytes(seed.images[0]))
            except RowError:
                continue
            rows.append(seed)
    return rows


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data beside the project")
def test_planted_leaks_of_real_pictures_are_found(tmp_path: Path) -> None:
    rows = real_rows(1)
    found = recall(rows, tmp_path)
    assert sum(found.values()) / len(found) >= 0.95
    assert min(found.values()) >= 0.9  # A single row of some ten is 10 %.


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data beside the project")
def test_cropped_copies_of_real_pictures_are_near_duplicates(tmp_path: Path) -> None:
    rows = real_rows(2)
    copies = []
    for number, row in enumerate(rows):
        picture = open_image(read_bytes(row.images[0]))
        place = tmp_path / f"{number}.png"
        CHANGES["cropped by 5 %"](picture, random.Random(row.id)).save(place)
        copies.append(replace(row, id=f"{row.id}-crop", images=(ImageRef(str(place)),)))
    found = screen([*rows, *copies], QualityConfig(near_duplicates=True))
    dropped = [item.item_id for item in found if isinstance(item, Drop)]
    assert {*dropped} <= {copy.id for copy in copies}
    assert len(dropped) >= 0.95 * len(copies)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data beside the project")
def test_real_pictures_of_other_sources_are_no_leaks_whatever_is_asked() -> None:
    rows = real_rows(5)
    for source in sorted({row.source for row in rows}):
        others = [row for row in rows if row.source != source]
        found = checker(others, question_similarity=0.0, policy="image")
        assert [found.leak(row) for row in rows if row.source == source if row.images] == [
            None for row in rows if row.source == source
        ]


def test_other_pictures_of_the_demos_world_are_no_leaks(tmp_path: Path) -> None:
    found = checker([pictured(tmp_path, n) for n in range(100)], question_similarity=0.0)
    assert all(found.leak(pictured(tmp_path, n)) is None for n in range(100, 200))


def test_another_question_about_the_same_picture_is_a_leak_only_where_pictures_alone_count(
    tmp_path: Path,
) -> None:
    row = pictured(tmp_path, 1, "How many red circles are there?")
    other = replace(row, id="x", question="<image>\nDescribe the whole scene in one sentence.")
    assert checker([row]).leak(other) is None
    leak = checker([row], policy="image").leak(other)
    assert leak is not None
    assert leak.startswith("image: ")


def test_the_same_question_about_another_picture_is_no_leak(tmp_path: Path) -> None:
    row = pictured(tmp_path, 1, TALE)
    assert checker([row]).leak(pictured(tmp_path, 2, TALE)) is None
    assert checker([row], policy="image").leak(pictured(tmp_path, 2, TALE)) is None


@pytest.mark.parametrize("text", [TALE, TALE_ZH])
def test_a_long_question_alone_is_a_leak_where_one_side_has_no_picture(
    tmp_path: Path, text: str
) -> None:
    bare = Seed("bare", text.replace("morning", "evening").replace("早上", "晚上"))
    leak = checker([pictured(tmp_path, 1, text)]).leak(bare)
    assert leak is not None
    assert leak.startswith("question: ")
    assert checker([Seed("e", text)]).leak(replace(bare, question="What is 3 + 4?")) is None


def test_a_blank_picture_is_the_same_only_beside_its_own_question(tmp_path: Path) -> None:
    for name, colour in (("white", "white"), ("again", "white"), ("grey", (250, 250, 250))):
        Image.new("RGB", (90, 90), colour).save(tmp_path / f"{name}.png")
    row, again, grey = (
        Seed(name, "<image>\nWhat is it?", (ImageRef(str(tmp_path / f"{name}.png")),))
        for name in ("white", "again", "grey")
    )
    found = checker([row], policy="image")
    assert found.leak(again) is not None
    assert found.leak(grey) is None
    assert found.leak(replace(again, question="<image>\nHow many are red?")) is None


def test_an_unreadable_evaluation_row_stops_the_build_unless_told_to_skip(tmp_path: Path) -> None:
    rows = [Seed("a", TALE), Seed("b", "<image>\nWhat?", (ImageRef(str(tmp_path / "no.png")),))]
    with pytest.raises(InputError, match=r"unreadable=skip"):
        checker(rows)
    assert checker(rows, unreadable="skip").leak(Seed("c", TALE)) is not None
    drop = ("eval.jsonl", Drop("x", "seeds", "invalid_json"))
    with pytest.raises(InputError, match="no row could be read"):
        index_evaluation([drop], DecontaminateConfig(unreadable="skip"))


def screen(seeds: Sequence[Seed | Drop], quality: QualityConfig) -> list[Seed | Drop]:
    return list(screen_seeds(seeds, Config(quality=quality)))


def test_near_duplicates_name_the_first_and_differ_in_dress_only(tmp_path: Path) -> None:
    first = pictured(tmp_path, 1, "How many red circles are there?", ["3"])
    open_image(read_bytes(first.images[0])).resize((200, 200)).save(tmp_path / "r.jpg", quality=80)
    again = (ImageRef(str(tmp_path / "r.jpg")),)
    same = replace(first, id="same", question="how many RED circles are there", images=again)
    blue = replace(first, id="blue", question="<image>\nHow many blue circles are there?")
    four = replace(same, id="four", answers=("4",))
    elsewhere = pictured(tmp_path, 2, "How many red circles are there?", ["3"])
    found = screen([first, same, blue, four, elsewhere], QualityConfig(near_duplicates=True))
    assert [item for item in found if isinstance(item, Seed)] == [first, blue, four, elsewhere]
    drop = found[1]
    assert isinstance(drop, Drop)
    assert (drop.item_id, drop.stage, drop.reason) == ("same", "quality", "near_duplicate")
    assert "'d1'" in drop.detail


def test_long_texts_may_differ_in_an_article_but_not_in_a_word_or_number() -> None:
    seeds = [
        Seed("a", TALE),
        Seed("article", TALE.replace("the morning", "a morning")),
        Seed("word", TALE.replace("goes", "runs")),
        Seed("number", TALE.replace("60", "70")),
        Seed("short", "What is 3 + 4?"),
        Seed("minus", "What is 3 - 4?"),
    ]
    found = screen(seeds, QualityConfig(near_duplicates=True))
    assert [item.item_id for item in found if isinstance(item, Drop)] == ["article"]


@pytest.mark.parametrize("kills", ["the look", "the comparison"])
def test_a_seed_that_could_not_be_looked_at_is_dropped_and_counted(
    kills: str, tmp_path: Path
) -> None:
    """It could be the very picture of an evaluation set."""
    leaked = pictured(tmp_path, 1, "How many red circles are there?", ["3"])
    (tmp_path / "x.png").write_bytes(Path(leaked.images[0].uri).read_bytes())
    copies = [
        replace(leaked, id=f"copy{i}", images=(ImageRef(f"{tmp_path}/x.png"),)) for i in range(2)
    ]
    row = {"id": "e", "image": leaked.images[0].uri, "question": leaked.question}
    (tmp_path / "eval.jsonl").write_text(json.dumps(row))
    out_of_memory: list[object] = []

    def spread(open_work: Any, items: Iterable[Any], ask: Any) -> Iterator[Any]:
        """Memory runs out over the first of the seeds, or over their first comparison."""
        for item, answer in in_threads(open_work, items, ask):
            of_kind = isinstance(item, Seed) if kills == "the look" else answer == (0,)
            if of_kind and not out_of_memory:
                out_of_memory.append(item)
                yield item, None
            else:
                yield item, answer

    against = (str(tmp_path / "eval.jsonl"),) if kills == "the look" else ()
    quality = QualityConfig(
        decontaminate=DecontaminateConfig(against=against), near_duplicates=kills != "the look"
    )
    rows = [leaked, *copies]
    found = list(screen_seeds(rows, Config(quality=quality), spread))
    if kills == "the look":
        reasons = ["not_screened", "contaminated", "contaminated"]
        assert [item.reason for item in found if isinstance(item, Drop)] == reasons
        return
    first, lost, last = found
    assert first == leaked
    assert isinstance(lost, Drop)
    assert (lost.item_id, lost.stage, lost.reason) == ("copy0", "quality", "not_screened")
    assert "memory" in lost.detail
    assert isinstance(last, Drop)
    assert last.reason == "near_duplicate"
    assert repr(leaked.id) in last.detail, "it repeats no seed that is dropped itself"


def test_clean_seeds_and_drops_pass_both_controls_untouched(tmp_path: Path) -> None:
    (tmp_path / "eval.jsonl").write_text(json.dumps({"id": "e", "question": TALE, "answer": "9"}))
    seeds: list[Seed | Drop] = [pictured(tmp_path, number) for number in range(80)]
    seeds.insert(3, Drop("x", "seeds", "empty_question"))
    seeds.append(Seed("gone", "<image>\nWhat?", (ImageRef(str(tmp_path / "gone.png")),)))
    against = DecontaminateConfig(against=(str(tmp_path / "eval.jsonl"),))
    on = QualityConfig(near_duplicates=True, decontaminate=against)
    assert screen(seeds, on) == seeds
    assert screen(seeds, QualityConfig()) == seeds


def test_planning_drops_leaks_before_anything_is_sampled(tmp_path: Path) -> None:
    evaluation = {"id": "e7", "question": TALE, "answer": "noon"}
    (tmp_path / "eval.jsonl").write_text(json.dumps(evaluation) + "\n")
    rows = [
        {**evaluation, "id": "leak"},
        {"id": "fine", "question": "What is 3 + 4?", "answer": "7"},
    ]
    write_jsonl(tmp_path / "seeds.jsonl", rows)
    config = Config.model_validate(
        {
            "seeds": str(tmp_path / "seeds.jsonl"),
            "out": str(tmp_path / "out"),
            "quality": {"decontaminate": {"against": [str(tmp_path / "eval.jsonl")]}},
        }
    )
    items = list(planning.read_inputs(config))
    assert [type(item) for item in items] == [Drop, Seed]
    assert isinstance(items[0], Drop)
    assert (items[0].item_id, items[0].reason) == ("leak", "contaminated")
    assert "eval.jsonl:1 (e7)" in items[0].detail
    assert "quality.decontaminate.against" in sampling_identity(config)
    assert not any(key.startswith("quality") for key in sampling_identity(Config()))


def test_words_leave_dress_aside_and_keep_operators() -> None:
    assert words("<image>\nHow many  SHAPES, 5?") == ("how", "many", "shapes", "5")
    assert words("３−２") == ("3", "-", "2")
    assert words("图中 three") == ("图", "中", "three")
    assert similarity(words("red or blue"), words("blue or red")) == 1
    assert similarity(words("one two"), words("three four")) == 0


# Pictures of one template


def form(number: int) -> Image.Image:
    """A form whose fourteen values are all its own."""
    rng = random.Random(number)
    image = Image.new("RGB", (480, 560), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    pen.text((150, 12), "DELIVERY NOTE", fill="black", font=font)
    for i in range(14):
        y = 50 + i * 34
        pen.text((30, y), f"Position {i + 1}:", fill="black", font=font)
        pen.line((180, y + 22, 440, y + 22), fill="grey")
        pen.text((190, y), str(rng.randrange(10, 10**6)), fill="black", font=font)
    return image


def figure(number: int) -> Image.Image:
    """A triangle with other lengths at its sides."""
    rng = random.Random(number)
    image = Image.new("RGB", (400, 320), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(20)
    pen.polygon([(50, 280), (350, 280), (190, 50)], outline="black", width=2)
    for place in ((85, 150), (285, 150), (190, 285)):
        pen.text(place, str(rng.randrange(10, 99)), fill="black", font=font)
    return image


def table_of(number: int) -> Image.Image:
    rng = random.Random(number)
    image = Image.new("RGB", (480, 320), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for row in range(7):
        pen.line((10, 40 * row + 10, 470, 40 * row + 10), fill="black")
        for column in range(4):
            value = f"col {column}" if row == 0 else str(rng.randrange(10_000))
            pen.text((20 + 115 * column, 40 * row + 20), value, fill="black", font=font)
    return image


TEMPLATES = {"form": form, "figure": figure, "table": table_of}


def showing(folder: Path, name: str, image: Image.Image, question: str) -> Seed:
    image.save(folder / f"{name}.png")
    return Seed(name, f"<image>\n{question}", (ImageRef(str(folder / f"{name}.png")),), ("yes",))


@pytest.mark.parametrize("name", TEMPLATES)
def test_pictures_of_one_template_with_other_values_are_other_pictures(
    tmp_path: Path, name: str
) -> None:
    rows = [showing(tmp_path, f"{name}{i}", TEMPLATES[name](i), "Is it signed?") for i in range(8)]
    config = Config(quality=QualityConfig(near_duplicates=True))
    assert list(screen_seeds(rows, config)) == rows
    found = checker(rows[:4], question_similarity=0.0)
    assert [found.leak(row) for row in rows[4:]] == [None] * 4


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_copy_of_such_a_picture_is_found_whatever_was_done_to_it(
    tmp_path: Path, name: str
) -> None:
    row = showing(tmp_path, name, TEMPLATES[name](1), "Is it signed?")
    found, rng = checker([row]), random.Random(1)
    config = Config(quality=QualityConfig(near_duplicates=True))
    for what in ("resized to 50 %", "JPEG, quality 40", "cropped by 5 %"):
        copy = showing(tmp_path, "copy", CHANGES[what](TEMPLATES[name](1), rng), "Is it signed?")
        assert found.leak(copy) is not None, what
        for pair in ([row, copy], [copy, row]):
            (_, drop) = screen_seeds(pair, config)
            assert isinstance(drop, Drop), what


def test_long_texts_that_share_nine_words_in_ten_are_found_where_only_their_forms_differ() -> None:
    """With texts of 12 to 40 words, made from words that no other has."""
    rng = random.Random(1)
    seeds: list[Seed] = []
    for number in range(200):
        text = [f"w{number}x{i}" for i in range(rng.randrange(12, 40))]
        # A word with another ending takes one word in common from both sides.
        for place in rng.sample(range(len(text)), max(1, len(text) // 10)):
            text[place] += "s"
        seeds.append(Seed(f"{number}a", " ".join(word.rstrip("s") for word in text)))
        seeds.append(Seed(f"{number}b", " ".join(text)))
    found = screen(seeds, QualityConfig(near_duplicates=True))
    assert [item.item_id for item in found if isinstance(item, Drop)] == [
        seed.id for seed in seeds[1::2]
    ]


OTHER_WORDS = [
    ("the man with the red hat", "the man with the blue hat", False),
    ("Tom", "Anna", False),
    ("does not stop", "does stop", False),
    ("the last train", "last train", True),
    ("the trains", "the train", True),
]


@pytest.mark.parametrize(("one", "other", "same"), OTHER_WORDS)
def test_a_question_with_another_content_word_is_another_question(
    tmp_path: Path, one: str, other: str, same: bool
) -> None:
    seeds = [
        Seed(i, f"{TALE} Say when {w} is there.", (), ("9",)) for i, w in (("a", one), ("b", other))
    ]
    found = list(screen_seeds(seeds, Config(quality=QualityConfig(near_duplicates=True))))
    assert isinstance(found[1], Drop) is same
