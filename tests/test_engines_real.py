"""The real engine keeps the sampler's contract."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil
import pytest
from commands import mmpr
from engine_asks import drawn, picture, settings, using

from mmpr_builder.demo import model_path
from mmpr_builder.demo.drawing import draw
from mmpr_builder.demo.questions import ask as ask_about
from mmpr_builder.demo.world import make_scene
from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.engines.vllm_internals import WHOLE, runs_on_cpu
from mmpr_builder.errors import ConfigError, EngineError, RowError
from mmpr_builder.records import Response, Rollout, Seed
from mmpr_builder.sampling import Continue, Request, Sample
from mmpr_builder.sampling.comparing import compared
from tools.demo_model.corpus import render
from tools.demo_model.measure import answer_of


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


pytestmark_engine = pytest.mark.skipif(
    not (model_path() / "config.json").is_file(), reason="the demo model is not built"
)


@pytest.mark.slow
@pytestmark_engine
def test_the_real_engine_keeps_the_contract() -> None:
    """One start of the engine (half a minute) for everything that only it can show."""
    config = settings("sampling.max_tokens=48", max_num_seqs=32, block_size=32)
    check_engine(config)
    sampler = make_sampler(config)
    places = _sockets_of(sampler)
    assert places
    using(sampler, _engine_contract(sampler))
    using(sampler, asyncio.sleep(0))  # Closing twice is harmless.
    assert not any(place.exists() for place in places)


async def _engine_contract(sampler: Any) -> None:
    _processes_are_forked(sampler)
    ask = Request("a", "<image>\nDescribe the picture.", (picture(),), n=4, seed=7, max_tokens=48)
    at_once = await drawn(sampler, ask)
    assert [s.index for s in at_once] == [0, 1, 2, 3]
    assert [s.seed for s in at_once] == [7, 8, 9, 10]
    assert len({s.text for s in at_once}) > 1
    for sample in at_once:
        stop = sample.finish_reason == "stop"
        assert sample.tokens == len(sample.token_ids) + stop <= 48
        assert sample.logprob is None
        assert sample.prompt_tokens > 36  # the image is in it
        assert "<|" not in sample.text
    one_by_one = await drawn(sampler, replace(ask, one_by_one=True, logprobs=True))
    assert [s.text for s in one_by_one] == [s.text for s in at_once]
    assert all(s.logprob is not None and s.logprob < 0 for s in one_by_one)
    await _pictures_sent_once(sampler, ask, at_once)
    await _continuations(sampler, ask, at_once)
    await _rounds(sampler, replace(ask, n=8))
    await _judges(sampler, ask, at_once)
    await _refusals(sampler, ask)
    await _greedy(sampler)


async def _pictures_sent_once(sampler: Any, ask: Request, samples: list[Sample]) -> None:
    """One of n responses brings the picture along, and all see it as if each did."""
    core = sampler.engine.engine_core
    add, with_data = core._send_input, []

    def sending(kind: Any, request: Any, *rest: Any) -> Any:
        if getattr(request, "mm_features", None):
            with_data.append(request.mm_features[0].data is not None)
        return add(kind, request, *rest)

    core._send_input = sending
    unseen = replace(ask, images=(picture("blue"),))
    light = await drawn(sampler, replace(unseen, memo={}))
    for reset in ("mm", "prefix", "encoder"):
        await getattr(sampler.engine, f"reset_{reset}_cache")()
    whole = await drawn(sampler, replace(unseen, id=f"{WHOLE}a", memo={}))
    core._send_input = add
    assert with_data == [True, False, False, False, True, True, True, True]
    assert [s.text for s in light] == [s.text for s in whole] != [s.text for s in samples]


async def _continuations(sampler: Any, ask: Request, samples: list[Sample]) -> None:
    for image in (False, True):
        how = Continue(keep=0.5, image=image, max_tokens=12, seed=3)
        made = await asyncio.gather(*(sampler.continue_response(ask, s, how) for s in samples))
        for sample, found in zip(samples, made, strict=True):
            assert found is not None
            assert sample.text.startswith(found.prefix)
            assert found.prefix
            assert not found.prefix[-1].isspace()
            assert 0 < found.tokens <= 12
            assert "  " not in found.prefix[-1:] + found.text[:2]
            assert found.image is image
            # The model went on from its own tokens: their text is exactly the response's.
            assert found.prefix_tokens is not None
            own = sampler._decode(sample.token_ids[: found.prefix_tokens])
            assert sample.text.strip().startswith(own.strip())
            assert own.strip() == found.prefix.strip()
    nothing = Continue(keep=0.0, image=False, max_tokens=12, seed=3)
    assert (await sampler.continue_response(ask, samples[0], nothing)).prefix == ""


async def _judges(sampler: Any, ask: Request, samples: list[Sample]) -> None:
    """It compares its own responses by a rubric; the demo model never learned to say A or B."""
    texts = tuple(Response(s.text, s.tokens, "stop", s.seed) for s in samples)
    done = Rollout(Seed("a", ask.prompt), ask.prompt, "bare", "open", "demo", responses=texts)
    config = settings("scoring.judge.open=2", "pairing.kinds=judged")
    found = await compared(ask, done, config, sampler)
    one, other = (c for response in found.responses for c in response.compared)
    assert one.rubric == other.rubric != ""
    assert min(one.tokens, other.tokens) >= 2
    assert {one.outcome, other.outcome} == {"malformed"}


async def _rounds(sampler: Any, ask: Request) -> None:
    """Rounds give what one request gives, from one rendering, and find their prompt computed."""
    whole = await drawn(sampler, replace(ask, id="whole", memo={}))
    before = sampler.cache_hits()
    ask = replace(ask, id="rounds", memo={})
    found = await drawn(sampler, replace(ask, first=0, n=4))
    after_first = sampler.cache_hits()
    for first, n in ((4, 3), (7, 1)):
        found += await drawn(sampler, replace(ask, first=first, n=n))
    assert [(s.index, s.text, s.seed) for s in found] == [(s.index, s.text, s.seed) for s in whole]
    hits = sampler.cache_hits()
    # The first round found the picture in the front end's cache; later ones did not look.
    assert after_first["image_queries"] - before["image_queries"] == 1
    assert after_first["image_hits"] - before["image_hits"] == 1
    assert hits["image_queries"] == after_first["image_queries"]
    # Blocks of 32 tokens: one of a prompt's 51 is whole.
    later = hits - after_first
    assert later["prefix_queries"] == 4 * found[0].prompt_tokens
    assert later["prefix_hits"] == 4 * (found[0].prompt_tokens // 32) * 32
    await _displaced(sampler, ask, whole)


async def _displaced(sampler: Any, ask: Request, whole: list[Sample]) -> None:
    """A picture that was left out and is not in the engine any more is sent again."""
    await sampler.engine.engine_core.reset_mm_cache_async()
    await sampler.engine.reset_prefix_cache()
    await sampler.engine.reset_encoder_cache()
    again = await drawn(sampler, replace(ask, first=4, n=4))
    assert [s.text for s in again] == [s.text for s in whole[4:]]


async def _refusals(sampler: Any, ask: Request) -> None:
    refused = {
        "prompt_too_long": replace(ask, prompt="<image>" + "word " * 9_000),
        "image_count": replace(ask, prompt="no image here"),
        "image_unreadable": replace(ask, images=(b"no image",)),
    }
    for reason, request in refused.items():
        with pytest.raises(RowError) as raised:
            await drawn(sampler, request)
        assert raised.value.reason == reason
    nearly = replace(ask, prompt="<image>" + "word " * 600, n=1, max_tokens=4_096)
    (sample,) = await drawn(sampler, nearly)
    assert sample.prompt_tokens + sample.tokens <= 4_096
    again = await drawn(sampler, replace(ask, id="after the refusals", n=1))
    assert len(again) == 1


async def _greedy(sampler: Any) -> None:
    """The demo model has more ability than habit: at temperature 0 it is right more often."""
    asks, truths = [], []
    for index in range(24):
        scene = make_scene(99, index, "eval")
        question = ask_about(scene, 99, index)
        draw(scene).save(png := io.BytesIO(), "PNG")
        prompt = "<image>\n" + render(question, "final_answer")
        asks.append(Request(str(index), prompt, (png.getvalue(),), max_tokens=256))
        truths.append(question.answer)

    async def right(n: int, temperature: float) -> float:
        how = (replace(ask, n=n, temperature=temperature) for ask in asks)
        found = await asyncio.gather(*(drawn(sampler, ask) for ask in how))
        return fmean(
            answer_of(sample.text, "final_answer") == truth
            for samples, truth in zip(found, truths, strict=True)
            for sample in samples
        )

    assert await right(1, 0.0) > await right(2, 1.0) > 0


def _sockets_of(sampler: Any) -> set[Path]:
    """The folders of the sockets of its processes. Only this user enters them."""
    me = psutil.Process()
    held = [one for process in [me, *me.children(recursive=True)] for one in _unix(process)]
    folders = {Path(path).parent for path in held}
    assert folders
    assert not any(folder.stat().st_mode & 0o077 for folder in folders)
    return {folder for folder in folders if folder.name.startswith("mmpr-")}


def _unix(process: psutil.Process) -> list[str]:
    listed = process.net_connections(kind="unix")
    return [str(one.laddr) for one in listed if str(one.laddr).startswith("/")]


def _processes_are_forked(sampler: Any) -> None:
    """On a CPU both processes of the engine come from the fork server; none imports vLLM anew."""
    if not runs_on_cpu():
        return
    (core,) = sampler.engine.engine_core.resources.engine_manager.processes
    server = psutil.Process(core.pid).parent()
    assert server is not None
    assert "forkserver" in " ".join(server.cmdline())
    (worker,) = psutil.Process(core.pid).children()
    for process in (psutil.Process(core.pid), worker):
        assert process.cmdline()[0].startswith("VLLM::"), "as `ps` shows vLLM's processes anywhere"


@pytest.mark.slow
@pytestmark_engine
def test_an_engine_that_dies_says_so_and_arguments_that_are_wrong_too() -> None:
    """And one that keeps no pictures is sent them."""
    with pytest.raises(ConfigError, match="max_model_len"):
        make_sampler(settings(max_model_len=10**9))
    # A cache too small for any picture: each response has to bring its own.
    sampler: Any = make_sampler(
        settings("sampling.max_tokens=48", max_num_seqs=8, mm_processor_cache_gb=1e-6)
    )

    async def answered() -> None:
        ask = Request("b", "<image>\nDescribe the picture.", (picture(),), n=3, max_tokens=48)
        assert len(await drawn(sampler, ask)) == 3

    request = Request("a", "Describe the picture.", n=256, max_tokens=400, one_by_one=True)

    async def die_in_the_middle() -> None:
        async for _ in sampler.sample(request):
            for process in sampler.engine.engine_core.resources.engine_manager.processes:
                process.kill()

    async def killed() -> None:
        await answered()
        with pytest.raises(EngineError):
            await die_in_the_middle()
        with pytest.raises(EngineError):
            await drawn(sampler, request)

    using(sampler, killed())


@pytest.mark.slow
@pytestmark_engine
def test_plan_probes_with_the_real_engine(tmp_path: Path) -> None:
    words = (f"out={tmp_path / 'out'}", "limit=60", "sampling.n=4", "sampling.max_tokens=96")
    done = mmpr("plan", "demo", "--probe", "12", *words)
    assert done.returncode == 0, done.stderr
    for words in ("really sampled", "tokens per pair", "hours", "disk", "demo_open", "Assumed"):
        assert words in done.stderr
    assert not (tmp_path / "out" / "rollouts").exists()
