"""A seed becomes a rollout: what is asked, what is kept, and what one bad row or engine does."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmpr_builder.config import Config, load_config
from mmpr_builder.errors import EngineError, RowError
from mmpr_builder.prompts import parts
from mmpr_builder.records import Continuation, ImageRef, Rollout, Seed, Template, derived_seed
from mmpr_builder.sampling import Continue, Request, Sample, roll_out, without_images

TEMPLATE = Template(name="short_en", text="{question}\nAnswer shortly.", style="final_answer")


class Scripted:
    """A sampler whose answers name the seed they were drawn with, in the order it is told."""

    def __init__(self, order: Callable[[int], list[int]] = lambda n: list(range(n))) -> None:
        self.order = order
        self.requests: list[Request] = []
        self.events: list[str] = []
        self.failure: Exception | None = None
        self.continuation_failure: Exception | None = None

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        for index in (request.first + i for i in self.order(request.n)):
            await asyncio.sleep(0.01)
            self.events.append(f"sample {index}")
            text = f"answer {index}"
            yield Sample(index, text, 5, "stop", request.seed + index, None, 11, (1, 2))

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        if self.continuation_failure is not None:
            raise self.continuation_failure
        await asyncio.sleep(0)
        self.events.append(f"continuation {sample.index}")
        return Continuation("answer", " x", 1, "stop", how.seed, how.keep, how.image)

    async def close(self) -> None:
        self.events.append("closed")


def png(path: Path, colour: str = "red") -> ImageRef:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return ImageRef(str(path))


def settings(*overrides: str) -> Config:
    return load_config(None, ["sampling.n=3", "sampling.max_tokens=64", *overrides])


def rolled(seed: Seed, sampler: Any, config: Config | None = None) -> Rollout:
    return asyncio.run(roll_out(seed, 7, TEMPLATE, config or settings(), sampler, "model-x"))


@pytest.fixture
def seed(tmp_path: Path) -> Seed:
    image = png(tmp_path / "a.png")
    return Seed(id="s1", question="<image>\nHow many?", images=(image,), answers=("3",))


@pytest.fixture
def open_seed(tmp_path: Path) -> Seed:
    return Seed(id="s2", question="<image>\nDescribe it.", images=(png(tmp_path / "b.png"),))


def test_a_rollout_holds_the_seed_its_prompt_and_all_responses(seed: Seed) -> None:
    sampler = Scripted()
    rollout = rolled(seed, sampler)
    assert rollout.seed == seed
    assert rollout.prompt == "<image>\nHow many?\nAnswer shortly."
    assert (rollout.template, rollout.style) == ("short_en", "final_answer")
    assert (rollout.model, rollout.index, rollout.prompt_tokens) == ("model-x", 7, 11)
    data = Path(seed.images[0].uri).read_bytes()
    assert rollout.image_sha256 == (hashlib.sha256(data).hexdigest(),)
    assert [r.text for r in rollout.responses] == ["answer 0", "answer 1", "answer 2"]
    assert rollout.error is None


def test_all_samples_of_a_seed_are_asked_for_in_one_request(seed: Seed) -> None:
    sampler = Scripted()
    config = settings("sampling.temperature=0.7", "sampling.top_k=50", "sampling.seed=5")
    rolled(seed, sampler, config)
    (request,) = sampler.requests
    assert (request.n, request.temperature, request.top_k, request.max_tokens) == (3, 0.7, 50, 64)
    assert request.images == (Path(seed.images[0].uri).read_bytes(),)
    assert request.seed == derived_seed(5, "s1")
    assert not request.one_by_one
    assert rolled(seed, Scripted(), config).stop == "n"


def test_random_numbers_depend_on_run_seed_and_seed_id_alone(seed: Seed, open_seed: Seed) -> None:
    alone = rolled(seed, Scripted())
    rolled(open_seed, (sampler := Scripted()))
    beside = rolled(seed, sampler)
    assert alone == beside
    other = rolled(seed, Scripted(), settings("sampling.seed=1"))
    assert other.responses[0].seed != alone.responses[0].seed


def test_responses_are_stored_in_the_order_of_their_index(open_seed: Seed) -> None:
    rollout = rolled(open_seed, Scripted(lambda n: list(reversed(range(n)))))
    assert [r.text for r in rollout.responses] == ["answer 0", "answer 1", "answer 2"]
    seeds = [r.continuation.seed for r in rollout.responses if r.continuation]
    assert seeds == [derived_seed(0, "s2", "continuation", str(i)) for i in range(3)]


def test_a_response_is_continued_while_its_siblings_are_still_written(open_seed: Seed) -> None:
    sampler = Scripted()
    rollout = rolled(open_seed, sampler)
    assert sampler.requests[0].one_by_one
    assert sampler.events.index("continuation 0") < sampler.events.index("sample 2")
    kept = [
        (r.continuation.keep, r.continuation.image) for r in rollout.responses if r.continuation
    ]
    assert kept == [(0.5, False)] * 3


CONTINUED = [
    ("no_truth", True, True, False),
    ("no_truth", False, True, True),
    ("all", True, True, True),
    ("none", False, True, False),
    ("all", False, False, False),  # no image: nothing to drop
]


@pytest.mark.parametrize(("apply", "truth", "image", "continued"), CONTINUED)
def test_who_gets_a_continuation(
    tmp_path: Path, apply: str, truth: bool, image: bool, continued: bool
) -> None:
    images = (png(tmp_path / "c.png"),) if image else ()
    question = "<image>What?" if image else "What?"
    seed = Seed(id="s", question=question, images=images, answers=("1",) if truth else ())
    rollout = rolled(seed, Scripted(), settings(f"dropout.apply={apply}"))
    assert {r.continuation is not None for r in rollout.responses} == {continued}


def test_a_missing_image_is_an_error_of_the_row(seed: Seed) -> None:
    gone = Seed(id="s", question="<image>?", images=(ImageRef("/nowhere/x.png"),))
    rollout = rolled(gone, (sampler := Scripted()))
    assert rollout.error is not None
    assert rollout.error[0] == "image_missing"
    assert rollout.responses == ()
    assert sampler.requests == []


def test_a_request_that_the_engine_refuses_is_an_error_of_the_row(seed: Seed) -> None:
    sampler = Scripted()
    sampler.failure = RowError("prompt_too_long", "5000 tokens, 4096 fit")
    rollout = rolled(seed, sampler)
    assert rollout.error == ("prompt_too_long", "5000 tokens, 4096 fit")
    assert len(rollout.image_sha256) == 1


def test_an_engine_that_dies_is_no_fault_of_the_row(seed: Seed, open_seed: Seed) -> None:
    sampler = Scripted()
    sampler.failure = EngineError("dead")
    with pytest.raises(EngineError, match="dead"):
        rolled(seed, sampler)
    sampler = Scripted()
    sampler.continuation_failure = EngineError("dead too")
    with pytest.raises(EngineError, match="dead too"):
        rolled(open_seed, sampler)


def test_a_continuation_that_cannot_be_had_costs_nothing_else(open_seed: Seed) -> None:
    sampler = Scripted()
    sampler.continuation_failure = RowError("prompt_too_long", "")
    rollout = rolled(open_seed, sampler)
    assert [r.continuation for r in rollout.responses] == [None] * 3
    assert rollout.error is None


def test_an_engine_without_answers_is_an_error_of_the_row(seed: Seed) -> None:
    rollout = rolled(seed, Scripted(lambda n: []))
    assert rollout.error is not None
    assert rollout.error[0] == "no_responses"


PARTS = [
    ("<image>\nHow many?", [None, "How many?"]),
    ("<image>How many?", [None, "How many?"]),
    ("How many?\n<image>", ["How many?", None]),
    ("A: <image>\nB: <image>\nWhich?", ["A: ", None, "B: ", None, "Which?"]),
    ("<image><image>\n\nBoth?", [None, None, "\nBoth?"]),
    ("no image", ["no image"]),
]


@pytest.mark.parametrize(("prompt", "shown"), PARTS)
def test_parts_of_a_message(prompt: str, shown: list[str | None]) -> None:
    assert parts(prompt) == shown


TEXTS = [
    ("<image>\nHow many?\nAnswer shortly.", "How many?\nAnswer shortly."),
    ("How many? <image>", "How many?"),
    ("In <image> and <image>\nwhich?", "In and\nwhich?"),
    ("Look:\n<image>\nWhich?", "Look:\nWhich?"),
    ("Is <image> <image> red?", "Is red?"),
    ("Compare<image>and<image>.", "Compare and."),
    ("图<image>中", "图中"),
    ("No  picture ", "No  picture "),
]


@pytest.mark.parametrize(("prompt", "text"), TEXTS)
def test_the_image_free_prompt_is_the_text_alone_with_one_blank_between(
    prompt: str, text: str
) -> None:
    assert without_images(prompt) == text


def test_a_pair_holds_the_very_prompt_parts_that_were_sampled() -> None:
    from mmpr_builder.output.rows import _prompt_parts

    prompt = "<image>\nHow many?\nA. 1"
    stored = _prompt_parts(prompt, 1)
    assert [part["text"] for part in stored] == parts(prompt) == [None, "How many?\nA. 1"]
