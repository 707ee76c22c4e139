"""Each benchmark runs, on next to nothing, and leaves its section; the page keeps the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_samplers import FakeSampler
from pair_samples import sample_rollouts

from benchmarks import (
    blocking_batches,
    cpu_half,
    engine_rate,
    gpu,
    gpu_models,
    pool,
    quality,
    reference_schedule,
    results,
    scale,
    screening,
)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results page of its own, and a small pool instead of the real one."""
    work = tmp_path / "bench"
    work.mkdir()
    monkeypatch.setattr(pool, "WORK", work)
    rollouts = [r for r in sample_rollouts(tmp_path / "images") if r.error is None]
    monkeypatch.setattr(pool, "load", lambda seeds: rollouts)
    return tmp_path / "RESULTS.md"


def test_a_section_takes_the_place_of_the_older_one_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    results.record("mpo", "Own", ["by name, after the known"], path)
    results.record("cpu_half", "CPU", ["old"], path)
    results.record("engine_rate", "Engine", ["first"], path)
    results.record("cpu_half", "CPU", results.table(("a", "b"), [(1, "x")]), path)
    text = path.read_text(encoding="utf-8")
    assert "old" not in text
    assert "| 1 | x |" in text
    places = [text.index(name) for name in ("## Engine", "## CPU", "## Own")]
    assert places == sorted(places)
    assert text.count("# Measured") == 1
    assert text.count("cores (") == 3  # Each says where it was measured.


def test_a_spread_shows_median_and_range() -> None:
    assert str(results.spread([0.95, 0.99, 0.971], 3)) == "0.971 (0.950 to 0.990)"
    assert str(results.spread([12345.6])) == "12,346"
    assert results.spread([1, 2, 10]).median == 2


def test_what_is_printed_is_kept_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with results.printed() as text:
        print("a table")  # noqa: T201
    assert text.getvalue() == capsys.readouterr().out == "a table\n"


def test_copies_of_a_rollout_share_no_text_and_no_image(page: Path, tmp_path: Path) -> None:
    rollouts = pool.load(0)
    copies = list(pool.many(rollouts, 2 * len(rollouts), tmp_path))
    assert len({r.seed.id for r in copies}) == len(copies)
    hashes = [sha for r in copies for sha in r.image_sha256]
    assert len(set(hashes)) == len(hashes)
    first, second = copies[0].responses[0].text, copies[len(rollouts)].responses[0].text
    assert first != second
    assert first.split("] ")[1] == second.split("] ")[1]


def test_the_cpu_half_is_measured_phase_by_phase(page: Path) -> None:
    assert cpu_half.main(["--seeds", "40", "--rounds", "1", "--results", str(page)]) in (0, 1)
    text = page.read_text(encoding="utf-8")
    assert "responses per core-second" in text
    for phase in ("reading", "extraction", "scoring", "pairing", "rows and images", "writing"):
        assert f"| {phase} |" in text


class FakeEngine:
    """Generates nothing of what it says it did."""

    async def reset_prefix_cache(self) -> None: ...

    async def reset_mm_cache(self) -> None: ...

    async def reset_encoder_cache(self) -> None: ...

    async def generate(self, prompt: Any, params: Any, name: str) -> AsyncGenerator[Any, None]:
        await asyncio.sleep(0.001)
        yield SimpleNamespace(outputs=[SimpleNamespace(token_ids=[1] * 7)] * params.n)


def test_the_reference_schedule_asks_for_as_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vllm")
    fake: Any = FakeSampler()
    fake.engine = FakeEngine()
    monkeypatch.setattr(reference_schedule, "make_sampler", lambda config: fake)
    asked: list[int] = []
    real = reference_schedule.theirs

    async def counted(*args: Any) -> tuple[int, float]:
        tokens, seconds = await real(*args)
        asked.append(tokens)
        return tokens, seconds

    monkeypatch.setattr(reference_schedule, "theirs", counted)
    page = tmp_path / "RESULTS.md"
    words = ["--seeds", "11", "--n", "3", "--rounds", "2", "--results", str(page)]
    assert reference_schedule.main(words) in (0, 1)
    assert asked == [11 * 3 * 7] * 2
    assert "batches of 8" in page.read_text(encoding="utf-8")


def test_batches_ask_for_as_much_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vllm")
    sizes: list[int] = []

    def chat(chats: list[Any], params: list[Any], use_tqdm: bool) -> list[Any]:
        assert {part["type"] for part in chats[0][0]["content"]} == {"image_pil", "text"}
        sizes.append(len(chats))
        done = SimpleNamespace(token_ids=[1] * 7)
        return [SimpleNamespace(outputs=[done] * param.n) for param in params]

    nothing: Any = SimpleNamespace(reset_mm_cache=lambda: None, reset_prefix_cache=lambda: None)
    nothing.chat = chat
    fake: Any = FakeSampler()
    fake.engine = FakeEngine()
    fake.engine.model_config = SimpleNamespace(max_model_len=4096)
    monkeypatch.setattr(blocking_batches, "make_sampler", lambda config: fake)
    monkeypatch.setattr(blocking_batches, "_offline", lambda given: nothing)
    page = tmp_path / "RESULTS.md"
    words = ["--seeds", "11", "--n", "3", "--batch", "4", "--rounds", "2", "--results", str(page)]
    assert blocking_batches.main(words) in (0, 1)
    assert sizes == [4, 4, *[4, 4, 3] * 2]  # Warm, then two rounds.
    assert "batches of 4" in page.read_text(encoding="utf-8")


def test_memory_of_the_gpu_is_that_of_the_fullest() -> None:
    assert gpu.memory_of(["71784, 81559", "10, 81559"]) == "70.1 of 79.6 GiB"
    assert gpu.memory_of([]) == "no GPU"


def test_a_gpu_run_records_what_it_has_when_a_model_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(shape: Any, folder: Path, options: Any, deadline: float, found: Any) -> None:
        found |= {"rates": [1586.6], "bare": [0.98], "memory": "no GPU", "left out": ["896 px"]}
        if shape.title.startswith("Qwen"):
            raise MemoryError("no room for the KV cache")

    monkeypatch.setattr(gpu, "measure_shape", measure)
    page = tmp_path / "RESULTS.md"
    assert gpu.main(["--results", str(page)]) == 1
    text = page.read_text(encoding="utf-8")
    assert text.count("| DropoutNTP pairs per GPU-hour | 10,000 |") == 2
    assert text.count("Failed: MemoryError: no room") == 1
    assert text.count("No time was left for: 896 px.") == 2
    assert gpu.main(["--shapes", "internvl", "--results", str(page)]) == 0


def test_the_defaults_for_a_gpu_take_the_time_that_is_given() -> None:
    options = gpu._options([])
    assert gpu.needed(options) <= 60 * options.minutes
    assert gpu.needed(gpu._options(["--tokens", "256"])) > 60 * options.minutes


def test_goals_of_a_gpu_are_held_against_what_was_measured() -> None:
    assert gpu.missed({"bare": [0.96, 0.98], "reference": [2.9]}) == ["reference"]
    assert gpu.missed({}) == []


@pytest.mark.parametrize("name", gpu_models.SHAPES)
def test_pictures_and_folders_for_a_gpu_are_made(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = gpu_models.SHAPES[name]
    shape.make(tmp_path / "model", "tiny")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    processor = transformers.AutoProcessor.from_pretrained(tmp_path / "model")
    assert name.replace("_", "") in config.architectures[0].lower().replace("_", "")
    message = [{"type": "image"}, {"type": "text", "text": "Q"}]
    before, image, behind = shape.frame
    assert processor.apply_chat_template(
        [{"role": "user", "content": message}], add_generation_prompt=True
    ) == (before + image + "Q" + behind)
    seeds = gpu.read(gpu.write_pictures(tmp_path / "seeds", 2, 448))
    assert len({Path(seed.images[0].uri).read_bytes() for seed in seeds}) == 2


@pytest.mark.slow
def test_scale_runs_both_halves_and_counts_parts(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [r for r in pool.load(0) if r.seed.id in ("one", "open", "easy")]
    monkeypatch.setattr(pool, "load", lambda seeds: plain)
    assert scale.main(["--sizes", "70", "--results", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "| 70 |" in text
    assert "2 of 2" in text
    assert "extrapolated" in text


@pytest.mark.slow
def test_controls_are_measured_on_and_off_and_find_what_was_planted(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [r for r in pool.load(0) if r.seed.id in ("one", "open", "easy")]
    # Faults are planted in the sixth response and the twelfth.
    many = [replace(r, responses=(r.responses * 12)[:12]) for r in plain]
    monkeypatch.setattr(pool, "load", lambda seeds: many)
    words = ["--sizes", "70,71", "--results", str(page), "distributed.scoring_workers=1"]
    assert quality.main(words) in (0, 1)
    text = page.read_text(encoding="utf-8")
    assert "| 71 |" in text
    off, on = (line for line in text.splitlines() if line.startswith(("| off |", "| on |")))
    assert int(on.split("|")[3]) < int(off.split("|")[3]), "pairs"


@pytest.mark.slow
def test_screening_drops_the_same_wherever_it_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = {name: way for name, way in screening.WAYS.items() if name != "threads"}
    monkeypatch.setattr(screening, "WAYS", ways)
    assert screening.main(["--synthetic", "40", "--copies", "2", "--results", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "80 seeds" in text
    assert "| Ray" in text


@pytest.mark.slow
def test_a_build_is_measured_beside_the_bare_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole build for real, in an actor; the sampler alone on an engine that is none."""
    pytest.importorskip("vllm")
    fake: Any = FakeSampler()
    fake.engine = FakeEngine()
    monkeypatch.setattr(engine_rate, "make_sampler", lambda config: fake)
    page = tmp_path / "RESULTS.md"
    words = ["--seeds", "6", "--n", "2", "--rounds", "1", "--results", str(page)]
    assert engine_rate.main([*words, "sampling.max_tokens=64"]) in (0, 1)
    text = page.read_text(encoding="utf-8")
    assert "the whole build on Ray" in text
    assert "loading the engine" in text
