"""Images that are nowhere to be found stop a run before an engine starts; a few do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import fake_samplers
import pytest
from build_files import write_jsonl
from PIL import Image
from small_builds import SERVED, Notes

from mmpr_builder.config import Config, load_config
from mmpr_builder.errors import InputError
from mmpr_builder.progress import Progress
from mmpr_builder.runs import plan, run_sampling
from mmpr_builder.runs.inputs import check_images


def build_of(tmp_path: Path, has_image: Callable[[int], bool], *words: str) -> Config:
    """Twenty seeds in units of four, with an image each, some of which are not there."""
    rows = [{"id": f"q{i}", "image": f"{i}.png", "question": "How many?"} for i in range(20)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    for i in range(20):
        if has_image(i):
            Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    settings = [
        *SERVED,
        *(f"seeds={tmp_path / 'a.jsonl'}", f"out={tmp_path / 'out'}"),
        *("distributed.unit_queries=4", "distributed.address=local"),
    ]
    return load_config(None, [*settings, *words])


def test_a_build_without_any_of_its_images_is_not_begun(tmp_path: Path) -> None:
    config = build_of(tmp_path, lambda _: False)
    with pytest.raises(
        InputError, match=r"none of the 12 .*'q0' \(.*0\.png.*bring the images back"
    ):
        run_sampling(config, Progress(), sampler_factory=fake_samplers.does_not_start)


@pytest.mark.parametrize("there", [0, 3, 9, 18])
def test_one_image_that_is_there_is_enough(there: int, tmp_path: Path) -> None:
    config = build_of(tmp_path, lambda i: i == there)
    check_images(config, plan(config).units, (), Notes())


def test_a_resumed_build_that_was_moved_is_told_from_one_whose_last_images_never_were(
    tmp_path: Path,
) -> None:
    config = build_of(tmp_path, lambda i: i < 4)
    first, *others = plan(config).units
    progress = Notes()
    check_images(config, others, [first], progress)
    (note,) = progress.notes
    assert "such seeds become drops" in note
    for image in tmp_path.glob("*.png"):
        image.unlink()
    with pytest.raises(InputError, match="'q4'"):
        check_images(config, others, [first], progress)
    check_images(config, (), [first, *others], progress)


def test_an_extension_that_was_planned_is_not_refused_any_more(tmp_path: Path) -> None:
    config = build_of(tmp_path, lambda _: False)
    progress = Notes()
    check_images(config, plan(config).units, (), progress, grown=True)
    assert len(progress.notes) == 1


def test_two_bad_rows_that_are_all_rows_are_an_error(tmp_path: Path) -> None:
    config = build_of(tmp_path, lambda _: False, "limit=2")
    with pytest.raises(InputError, match="none of the 2 seeds"):
        check_images(config, plan(config).units, (), Notes())


def test_a_cluster_may_see_what_its_driver_does_not(tmp_path: Path) -> None:
    config = build_of(tmp_path, lambda _: False, "distributed.address=127.0.0.1:1")
    progress = Notes()
    check_images(config, plan(config).units, (), progress)
    (note,) = progress.notes
    assert "other folders than those that sample" in note
