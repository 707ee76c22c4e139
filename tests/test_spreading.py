"""Screening spread over workers: the same drops wherever it runs, whatever dies meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from PIL import Image

from mmpr_builder.cluster import parallel
from mmpr_builder.cluster.session import ray_session
from mmpr_builder.config import Config
from mmpr_builder.demo.drawing import draw
from mmpr_builder.demo.world import make_scene
from mmpr_builder.errors import InputError, SetupError
from mmpr_builder.folder.parts import DropFile, PlannedDrops
from mmpr_builder.io.ordered_map import in_threads
from mmpr_builder.progress import Progress
from mmpr_builder.quality.screening import NearDuplicates, print_of, screen_seeds
from mmpr_builder.records import Drop, ImageRef, Seed
from mmpr_builder.runs import inputs, plan

LONG = "one two three four five six seven eight nine ten eleven twelve"


def test_a_copy_of_a_copy_that_is_no_copy_of_the_first_stays() -> None:
    """Decided in order, although all three are noted before the first is settled."""
    first = Seed("first", LONG)
    second = Seed("second", LONG.replace("twelve", "twelves"))
    third = Seed("third", second.question.replace("one", "ones"))
    config = Config.model_validate({"quality": {"near_duplicates": True}})
    found = list(screen_seeds([first, second, third], config))
    assert [item.item_id for item in found if isinstance(item, Drop)] == ["second"]
    assert [item for item in found if isinstance(item, Seed)] == [first, third]


def test_what_was_dropped_is_forgotten_and_its_pictures_are_compared_no_more(
    tmp_path: Path,
) -> None:
    seeds = [pictured(tmp_path, i, 0) for i in range(3)]
    prints = [print_of(seed) for seed in seeds]
    earlier = NearDuplicates()
    notes = [
        earlier.note(seed.id, found) for seed, found in zip(seeds, prints, strict=True) if found
    ]
    assert [len(note.alike) for note in notes] == [0, 1, 2]
    assert earlier.settle(notes[0], None) is None
    assert earlier.settle(notes[1], (0,)) == seeds[0].id
    # Its pictures were found to be those of the second one only, which is gone by now.
    assert earlier.settle(notes[2], (1,)) is None
    again = earlier.note("again", replace_images(prints[2], seeds[2].images))
    assert [one.id for one in again.alike] == [seeds[0].id, seeds[2].id]
    earlier.close()


def replace_images(found: Any, images: Sequence[ImageRef]) -> Any:
    return replace(found, images=tuple(images))


def pictured(folder: Path, number: int, scene: int, question: str = "How many?") -> Seed:
    """A seed whose picture is a file of its own; the same scene gives nearly the same picture."""
    place = folder / f"{number}.png"
    if not place.exists():
        picture = draw(make_scene(5, scene, "eval"))
        picture.resize((200 + number % 7, 200)).save(place)
    return Seed(f"s{number}", f"<image>\n{question}", (ImageRef(str(place)),), ("3",))


def test_items_keep_their_order_and_those_without_a_question_are_not_worked_on() -> None:
    asked: list[int] = []

    def work(number: int) -> int:
        asked.append(number)
        return -number

    found = list(in_threads(lambda: work, range(200), lambda i: i if i % 3 else None))
    assert found == [(i, -i if i % 3 else None) for i in range(200)]
    assert sorted(asked) == [i for i in range(200) if i % 3]


@contextmanager
def no_ray(*_: object) -> Iterator[None]:
    raise AssertionError("Ray was started")
    yield


@pytest.mark.parametrize(("after_s", "cores"), [(60.0, {0, 1}), (0.0, {0})])
def test_ray_is_not_started_for_a_little_nor_on_a_single_core(
    after_s: float, cores: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "ray_session", no_ray)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores)
    monkeypatch.setattr(parallel, "has_ray_at_hand", lambda _: False)
    with parallel.spreading(Config(), Progress(), after_s=after_s) as spread:
        found = list(spread(lambda: abs, range(-300, 0), lambda i: i))
    assert found == [(i, -i) for i in range(-300, 0)]


def test_without_ray_screening_goes_on_here_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def fails(*_: object) -> Iterator[None]:
        raise SetupError("Ray did not start")
        yield

    monkeypatch.setattr(parallel, "ray_session", fails)
    monkeypatch.setattr(parallel, "has_ray_at_hand", lambda _: True)
    said: list[str] = []
    progress = Progress()
    monkeypatch.setattr(progress, "note", said.append)
    with parallel.spreading(Config(), progress, after_s=0.0) as spread:
        first = list(spread(lambda: abs, range(-9, 0), lambda i: i))
        again = list(spread(lambda: abs, range(-9, 0), lambda i: i))
    assert first == again == [(i, -i) for i in range(-9, 0)]
    assert said == ["pictures are opened by this process alone: Ray did not start"]


def test_planned_drops_come_back_in_order_however_many(tmp_path: Path) -> None:
    drops = [(3 * i, Drop(f"q{i}", "seeds", "empty_question", "x" * (i % 50))) for i in range(9000)]
    uri = str(tmp_path / "drops.parquet")
    with DropFile() as file:
        for index, drop in drops:
            file.add(index, drop)
        file.publish(uri)
    found = PlannedDrops(uri, file.count)
    assert len(found) == 9000
    assert list(found) == drops
    assert list(PlannedDrops()) == []
    with pytest.raises(InputError, match="not a readable Parquet file"):
        list(PlannedDrops(str(tmp_path / "gone.parquet"), 1))


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    with ray_session(Config(), Progress()):
        yield


def screened(items: Sequence[Seed | Drop], config: Config, spread: Any) -> list[Seed | Drop]:
    return list(screen_seeds(items, config, spread))


@pytest.mark.slow
def test_seeds_screened_by_ray_are_those_screened_here(tmp_path: Path, ray_of_two: None) -> None:
    seeds: list[Seed | Drop] = [pictured(tmp_path, i, i % 20) for i in range(72)]
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    seeds.insert(9, Seed("torn", "<image>\nHow many?", (ImageRef(str(tmp_path / "torn.png")),)))
    seeds.insert(20, Drop("bad", "seeds", "empty_question"))
    seeds += [Seed("text", LONG), Seed("text again", LONG.replace("one", "won"))]
    picture = tmp_path / "evaluation.png"
    Image.open(tmp_path / "7.png").resize((150, 150)).save(picture)
    row = f'{{"id": "e", "image": "{picture}", "question": "<image> How many?", "answer": "3"}}\n'
    (tmp_path / "eval.jsonl").write_text(row)
    against = {"against": [str(tmp_path / "eval.jsonl")]}
    config = Config.model_validate({"quality": {"near_duplicates": True, "decontaminate": against}})
    here = screened(seeds, config, in_threads)
    reasons = [item.reason for item in here if isinstance(item, Drop)]
    assert reasons.count("contaminated") == 4
    assert reasons.count("near_duplicate") >= 45
    assert screened(seeds, config, parallel.on_ray) == here


@pytest.mark.slow
def test_a_dead_worker_costs_nothing_and_a_picture_that_kills_has_no_answer(
    tmp_path: Path, ray_of_two: None
) -> None:
    def work(number: int) -> int:
        """Ends its process at 70 always, at 5 the first time."""
        first = number == 5 and not (tmp_path / "5").exists()
        (tmp_path / str(number)).touch()
        if number == 70 or first:
            os._exit(1)
        return -number

    found = list(parallel.on_ray(lambda: work, range(150), lambda i: i))
    assert found == [(i, None if i == 70 else -i) for i in range(150)]


def test_a_picture_for_which_there_is_no_memory_has_no_answer_and_no_other_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get(asked: list[int]) -> list[int]:
        if 3 in asked:
            raise ray.exceptions.OutOfMemoryError("the node was low on memory")
        return [-number for number in asked]

    monkeypatch.setattr(ray, "get", get)
    assert parallel._fetched([1, 2, 3, 4], [1, 2, 3, 4], lambda asked: asked) == [-1, -2, None, -4]


@pytest.mark.slow
def test_a_plan_made_on_ray_is_the_same(
    tmp_path: Path, ray_of_two: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        f'{{"id": "q{i}", "question": "{LONG} {i // 2}", "answer": "{i // 2}"}}' for i in range(300)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(rows[::2] + rows[1::2]))
    made = {}
    for name, after_s in (("here", 600.0), ("ray", 0.0)):
        monkeypatch.setattr(inputs, "spreading", partial(parallel.spreading, after_s=after_s))
        config = Config.model_validate(
            {
                "seeds": str(tmp_path / "a.jsonl"),
                "out": str(tmp_path / name),
                "quality": {"near_duplicates": True},
            }
        )
        plan(config)
        files = sorted((tmp_path / name / "seeds").iterdir())
        made[name] = [(path.name, path.read_bytes()) for path in files]
    assert made["ray"] == made["here"]
