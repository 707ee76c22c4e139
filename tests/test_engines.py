"""Engines: set-up mistakes are found early, and every engine keeps the sampler's contract."""

from __future__ import annotations

import asyncio
import base64
import io
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from openai_server import OpenAIServer, choices
from PIL import Image

from mmpr_builder.config import Config, load_config
from mmpr_builder.demo import model_path
from mmpr_builder.engines import arguments, check_engine, make_sampler, model_identity
from mmpr_builder.engines.sending import WHOLE
from mmpr_builder.errors import ConfigError, EngineError, InputError, RowError
from mmpr_builder.records import Continuation, Response, Rollout, Seed
from mmpr_builder.sampling import Continue, Request, Sample, Sampler
from mmpr_builder.tables import rollouts_to_table, write_parquet

T = TypeVar("T")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "idefics3"}')
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    return folder


def settings(*overrides: str, **engine: Any) -> Config:
    return load_config(None, overrides).model_copy(update={"engine": engine})


def picture(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


async def drawn(sampler: Sampler, request: Request) -> list[Sample]:
    return sorted([s async for s in sampler.sample(request)], key=lambda s: s.index)


def using(sampler: Sampler, work: Coroutine[Any, Any, T]) -> T:
    async def whole() -> T:
        try:
            return await work
        finally:
            await sampler.close()

    return asyncio.run(whole())


# Set-up


def test_checking_a_recipe_loads_no_engine(model: Path) -> None:
    code = (
        "import sys\n"
        "from mmpr_builder.config import load_config\n"
        "from mmpr_builder.engines import check_engine, model_identity\n"
        f"config = load_config(None, ['model={model}', 'engine.max_num_seqs=8'])\n"
        "check_engine(config); model_identity(config)\n"
        "print([m for m in ('vllm', 'torch', 'transformers', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_engine_key_is_answered_with_the_nearest_one(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine\.tensor_paralel_size = 2.*'tensor_parallel_siz"):
        check_engine(settings(f"model={model}", tensor_paralel_size=2))


def test_every_engine_argument_of_vllm_is_known() -> None:
    keys = arguments.engine_keys()
    assert {"dtype", "quantization", "max_num_seqs", "enable_log_requests", "hf_overrides"} <= {
        *keys
    }
    assert {"chat_template", "mm_processor_kwargs", "limit_mm_per_prompt"} <= {*keys}
    assert "model" not in keys


@pytest.mark.parametrize("key", ["model", "enable_lora", "seed"])
def test_keys_that_have_a_place_of_their_own_are_refused(model: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"engine.{key} .* cannot be set: "):
        check_engine(settings(f"model={model}", **{key: 1}))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("/nowhere/model", "neither a model folder"),
        ("./model", "neither a model folder"),
        ("not a model", "neither a model folder"),
        ("org/never-downloaded", "not in the local cache"),
    ],
)
def test_a_model_that_is_none_is_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_engine(settings(f"model={name}"))


def test_a_hub_id_is_allowed_when_the_hub_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    check_engine(settings("model=org/never-downloaded"))


def test_a_folder_without_a_configuration_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no config\.json"):
        check_engine(settings(f"model={tmp_path}"))


def test_a_lora_adapter_is_looked_for(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lora = .* holds no adapter_config\.json"):
        check_engine(settings(f"model={model}", f"lora={tmp_path}"))


def test_many_greedy_samples_are_refused(model: Path) -> None:
    with pytest.raises(ConfigError, match=r"sampling\.n=1"):
        check_engine(settings(f"model={model}", "sampling.temperature=0"))
    check_engine(settings(f"model={model}", "sampling.temperature=0", "sampling.n=1"))


def test_a_chat_template_that_cannot_be_read_is_refused(model: Path) -> None:
    with pytest.raises(InputError, match=r"engine\.chat_template = 'no\.jinja'"):
        check_engine(settings(f"model={model}", chat_template="no.jinja"))


def test_what_the_user_sets_wins_over_every_default(model: Path) -> None:
    ours = arguments.engine_arguments(settings(f"model={model}"), cpu=True)
    assert (ours["enforce_eager"], ours["enable_chunked_prefill"]) == (True, False)
    assert ours["block_size"] == arguments.CPU_BLOCK
    theirs = arguments.engine_arguments(
        settings(
            f"model={model}",
            enforce_eager=False,
            block_size=128,
            limit_mm_per_prompt={"image": 3},
        ),
        cpu=True,
    )
    assert theirs["enforce_eager"] is False
    assert theirs["block_size"] == 128
    assert theirs["limit_mm_per_prompt"] == {"image": 3}


def test_a_gpu_gets_no_cpu_settings_and_tensor_parallel_stays_in_its_node(model: Path) -> None:
    found = arguments.engine_arguments(
        settings(f"model={model}", tensor_parallel_size=4), cpu=False
    )
    assert "enforce_eager" not in found
    assert found["distributed_executor_backend"] == "mp"


def test_the_adapter_s_rank_is_rounded_up_to_one_that_vllm_has(model: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"r": 20}')
    found = arguments.engine_arguments(settings(f"model={model}", f"lora={tmp_path}"), cpu=False)
    assert (found["enable_lora"], found["max_lora_rank"]) == (True, 32)


CONTEXTS = [(4_096, 4_096), (32_768, 32_768), (131_072, 32_768)]


@pytest.mark.parametrize(("own", "taken"), CONTEXTS)
def test_the_default_context_is_bounded(own: int, taken: int) -> None:
    assert arguments.default_context(settings(), own, cpu=False) == taken


def test_the_default_context_holds_the_longest_response() -> None:
    config = settings("sampling.max_tokens=40000")
    assert arguments.default_context(config, 131_072, cpu=False) == 44_096


def test_identity_changes_with_the_model_and_not_with_its_place(model: Path) -> None:
    first = model_identity(settings(f"model={model}"))
    moved = model.rename(model.with_name("moved"))
    second = model_identity(settings(f"model={moved}"))
    assert {k: v for k, v in first.items() if k != "model"} == {
        k: v for k, v in second.items() if k != "model"
    }
    (moved / "model.safetensors").write_bytes(b"0" * 101)
    third = model_identity(settings(f"model={moved}"))
    assert third["model.weights"] != second["model.weights"]
    assert third["model.config"] == second["model.config"]


# OpenAI-compatible servers


def endpoint(server: OpenAIServer, *overrides: str) -> Config:
    return settings(
        "sampling.engine=endpoint",
        "model=org/vlm",
        f"sampling.endpoint.url={server.url}",
        "sampling.endpoint.retries=2",
        *overrides,
    )


def echo(body: dict[str, Any]) -> tuple[int, Any]:
    return 200, choices(*(f"seed {body['seed'] + i}" for i in range(body["n"])))


ASK = Request("a", "<image>\nHow many?", (picture(),), n=3, temperature=0.7, seed=40, max_tokens=9)


def test_one_request_asks_for_all_samples_and_shows_the_image() -> None:
    with OpenAIServer(echo) as server:
        sampler = make_sampler(endpoint(server))
        samples = using(sampler, drawn(sampler, ASK))
    assert [(s.index, s.text, s.seed) for s in samples] == [
        (i, f"seed {40 + i}", 40 + i) for i in range(3)
    ]
    (body,) = server.bodies
    assert (body["n"], body["temperature"], body["max_tokens"]) == (3, 0.7, 9)
    image, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "How many?"}
    data = base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(data)).size == (40, 30)
    assert "top_k" not in body


@pytest.mark.parametrize("most", [1, 9])
def test_a_later_round_goes_on_with_the_seeds_and_keeps_the_encoded_image(most: int) -> None:
    with OpenAIServer(lambda body: echo({**body, "n": min(most, body["n"])})) as server:
        sampler = make_sampler(endpoint(server))
        later = replace(ASK, first=3, n=2, memo={})
        samples = using(sampler, drawn(sampler, later))
    assert [(s.index, s.text, s.seed) for s in samples] == [
        (3, "seed 43", 43),
        (4, "seed 44", 44),
    ]
    ((kept, content),) = later.memo.items()
    assert kept == (ASK.prompt, ASK.images)
    assert server.bodies[0]["messages"][0]["content"] == content


@pytest.mark.parametrize("most", [1, 2])
def test_a_server_that_gives_fewer_is_asked_again_with_other_seeds(most: int) -> None:
    with OpenAIServer(lambda body: echo({**body, "n": min(most, body["n"])})) as server:
        sampler = make_sampler(endpoint(server))
        samples = using(sampler, drawn(sampler, replace(ASK, n=5)))
    assert [s.text for s in samples] == [f"seed {40 + i}" for i in range(5)]
    assert [s.seed for s in samples] == [40 + i for i in range(5)]


def test_token_counts_are_exact_where_the_server_returns_ids() -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        assert body["return_token_ids"] is True
        return 200, choices("a b", "c", token_ids=[1, 2, 3, 4])

    with OpenAIServer(answer, owner="vllm") as server:
        sampler = make_sampler(endpoint(server))
        samples = using(sampler, drawn(sampler, replace(ASK, n=2)))
    assert [s.tokens for s in samples] == [4, 4]


def test_token_counts_add_up_to_what_the_server_says() -> None:
    with OpenAIServer(lambda body: (200, choices("one", "two words", "and three words"))) as server:
        sampler = make_sampler(endpoint(server))
        samples = using(sampler, drawn(sampler, ASK))
    assert sum(s.tokens for s in samples) == 6
    assert samples[0].tokens < samples[2].tokens


def test_log_probabilities_are_averaged() -> None:
    logprobs = {"content": [{"logprob": -1.0}, {"logprob": -2.0}]}
    with OpenAIServer(lambda body: (200, choices("a b", logprobs=logprobs))) as server:
        sampler = make_sampler(endpoint(server))
        (sample,) = using(sampler, drawn(sampler, replace(ASK, n=1, logprobs=True)))
    assert (sample.logprob, sample.tokens) == (-1.5, 2)


def test_errors_that_pass_are_tried_again() -> None:
    left: list[tuple[int, Any]] = [(429, {}), (503, {}), (200, b"no gzip")]

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return left.pop(0) if left else echo(body)

    with OpenAIServer(answer) as server:
        sampler = make_sampler(endpoint(server, "sampling.endpoint.retries=3"))
        assert len(using(sampler, drawn(sampler, ASK))) == 3
    assert len(server.bodies) == 4


def test_errors_that_stay_end_in_an_engine_error() -> None:
    with OpenAIServer(lambda body: (500, {"error": "boom"})) as server:
        sampler = make_sampler(endpoint(server, "sampling.endpoint.retries=1"))
        with pytest.raises(EngineError, match=r"no answer in 2 tries.*boom"):
            using(sampler, drawn(sampler, ASK))


REFUSALS = [
    ({"error": "maximum context length is 4096 tokens"}, "prompt_too_long"),
    ({"error": "this picture is not allowed"}, "prompt_refused"),
]


@pytest.mark.parametrize(("reply", "reason"), REFUSALS)
def test_a_refused_request_is_an_error_of_its_row(reply: Any, reason: str) -> None:
    with OpenAIServer(lambda body: (400, reply)) as server:
        sampler = make_sampler(endpoint(server))
        with pytest.raises(RowError) as raised:
            using(sampler, drawn(sampler, ASK))
    assert raised.value.reason == reason
    assert len(server.bodies) == 1


@pytest.mark.parametrize("reply", [{}, {"choices": []}, {"choices": [{}]}, [], None])
def test_a_reply_that_is_none_is_an_engine_error(reply: Any) -> None:
    with OpenAIServer(lambda body: (200, reply)) as server:
        sampler = make_sampler(endpoint(server))
        with pytest.raises(EngineError):
            using(sampler, drawn(sampler, ASK))


def test_an_image_that_does_not_open_is_an_error_of_its_row() -> None:
    with OpenAIServer(echo) as server:
        sampler = make_sampler(endpoint(server))
        with pytest.raises(RowError, match="image"):
            using(sampler, drawn(sampler, replace(ASK, images=(b"no image",))))
    assert server.bodies == []


SAMPLE = Sample(0, "The picture shows a cat on a mat.", 9, "stop", 40)


def test_a_continuation_leaves_the_assistant_turn_open_and_shows_no_image() -> None:
    with OpenAIServer(lambda body: (200, choices(" a dog."))) as server:
        sampler = make_sampler(endpoint(server))
        how = Continue(keep=0.5, image=False, max_tokens=7, seed=5)
        found = using(sampler, sampler.continue_response(ASK, SAMPLE, how))
    assert found == Continuation("The picture shows", " a dog.", 2, "stop", 5, 0.5, False)
    (body,) = server.bodies
    assert body["messages"] == [
        {"role": "user", "content": "How many?"},
        {"role": "assistant", "content": "The picture shows"},
    ]
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert (body["max_tokens"], body["seed"], body["n"]) == (7, 5, 1)


def test_a_server_that_cannot_continue_is_not_asked_to() -> None:
    with OpenAIServer(echo) as server:
        sampler = make_sampler(endpoint(server, "sampling.endpoint.continuation=none"))
        how = Continue(0.5, False, 7, 5)
        assert using(sampler, sampler.continue_response(ASK, SAMPLE, how)) is None
    assert server.bodies == []


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "abc")
    with OpenAIServer(echo) as server:
        sampler = make_sampler(endpoint(server, "sampling.endpoint.api_key_env=MY_KEY"))
        using(sampler, drawn(sampler, ASK))
    assert server.headers[0]["Authorization"] == "Bearer abc"


def test_a_server_that_does_not_serve_the_model_is_found_out_at_once() -> None:
    with OpenAIServer(echo) as server:
        with pytest.raises(InputError, match=r"'org/vml' is not served.*nearest is 'org/vlm'"):
            check_engine(endpoint(server).model_copy(update={"model": "org/vml"}))
        server.models = (401, {"error": "no key"})
        with pytest.raises(InputError, match="OPENAI_API_KEY"):
            check_engine(endpoint(server))
        server.models = (200, "a web page")
        with pytest.raises(InputError, match="OpenAI-compatible"):
            check_engine(endpoint(server))
    with pytest.raises(InputError, match="does not answer"):
        check_engine(endpoint(server))


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    words = ("sampling.engine=endpoint", "model=m", "sampling.endpoint.url=http://me:s3cr3t@h/v1")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as raised:
        check_engine(settings(*words))
    assert "s3cr3t" not in str(raised.value)


def test_an_endpoint_needs_a_url() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.endpoint\.url"):
        check_engine(settings("sampling.engine=endpoint"))


# Replay


STORED = Rollout(
    seed=Seed(id="a", question="<image>\nHow many?"),
    prompt=ASK.prompt,
    template="t",
    style="final_answer",
    model="m",
    prompt_tokens=33,
    responses=(
        Response("two", 1, "stop", 11, -0.5, Continuation("t", "en", 1, "length", 3, 0.5, False)),
        Response("three", 2, "length", 12),
    ),
)
FAILED = replace(
    STORED, seed=Seed(id="b", question="?"), responses=(), error=("image_missing", "x.png")
)


@pytest.fixture
def replayed(tmp_path: Path) -> Config:
    folder = tmp_path / "rollouts"
    write_parquet(rollouts_to_table([STORED]), folder / "unit-00000.parquet")
    write_parquet(rollouts_to_table([FAILED]), folder / "unit-00001.parquet")
    return settings("sampling.engine=replay", f"sampling.replay_from={folder}")


@pytest.mark.parametrize(("asked", "given"), [(1, 1), (2, 2), (9, 2)])
def test_replay_gives_the_stored_responses_and_makes_none_up(
    replayed: Config, asked: int, given: int
) -> None:
    sampler = make_sampler(replayed)
    samples = using(sampler, drawn(sampler, replace(ASK, n=asked)))
    assert [(s.text, s.tokens, s.finish_reason, s.seed, s.logprob) for s in samples] == [
        (r.text, r.tokens, r.finish_reason, r.seed, r.logprob) for r in STORED.responses[:given]
    ]
    assert {s.prompt_tokens for s in samples} == {33}


def test_replay_gives_later_rounds_and_says_when_there_is_no_more(replayed: Config) -> None:
    async def work(sampler: Sampler) -> list[Sample]:
        found = await drawn(sampler, replace(ASK, first=1, n=1))
        with pytest.raises(RowError, match=r"has 2 responses of 'a', and number 3.*sampling\.n"):
            await drawn(sampler, replace(ASK, first=1, n=2))
        return found

    sampler = make_sampler(replayed)
    (sample,) = using(sampler, work(sampler))
    assert (sample.index, sample.text, sample.seed) == (1, "three", 12)


def test_replay_gives_stored_continuations_of_the_same_kind(replayed: Config) -> None:
    async def work(sampler: Sampler) -> list[Continuation | None]:
        samples = await drawn(sampler, ASK)
        ways = [Continue(0.5, False, 9, 0), Continue(0.25, False, 9, 0)]
        return [await sampler.continue_response(ASK, s, how) for s in samples for how in ways]

    sampler = make_sampler(replayed)
    stored = STORED.responses[0].continuation
    assert using(sampler, work(sampler)) == [stored, None, None, None]


REPLAY_ERRORS = [
    (replace(ASK, id="zzz"), "not_in_replay"),
    (replace(ASK, prompt="<image>\nSomething else?"), "replay_prompt_differs"),
    (replace(ASK, id="b"), "image_missing"),
]


@pytest.mark.parametrize(("request_", "reason"), REPLAY_ERRORS)
def test_what_was_never_answered_is_an_error_of_its_row(
    replayed: Config, request_: Request, reason: str
) -> None:
    sampler = make_sampler(replayed)
    with pytest.raises(RowError) as raised:
        using(sampler, drawn(sampler, request_))
    assert raised.value.reason == reason


def test_replay_needs_a_folder_with_rollouts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="replay_from"):
        check_engine(settings("sampling.engine=replay"))
    with pytest.raises(InputError, match="holds no finished rollouts"):
        check_engine(settings("sampling.engine=replay", f"sampling.replay_from={tmp_path}"))


def test_replay_s_identity_follows_what_is_replayed(replayed: Config) -> None:
    first = model_identity(replayed)
    folder = str(replayed.sampling.replay_from)
    write_parquet(rollouts_to_table([STORED, FAILED]), f"{folder}/unit-00002.parquet")
    assert model_identity(replayed) != first


# The real engine

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
    using(sampler, _engine_contract(sampler))
    using(sampler, asyncio.sleep(0))  # Closing twice is harmless.


async def _engine_contract(sampler: Any) -> None:
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
    await _refusals(sampler, ask)


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
    await sampler.engine.reset_mm_cache()
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
            assert sample.text.startswith(own.strip())
            assert own.strip() == found.prefix.strip()
    nothing = Continue(keep=0.0, image=False, max_tokens=12, seed=3)
    assert (await sampler.continue_response(ask, samples[0], nothing)).prefix == ""


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
    assert after_first.image_queries - before.image_queries == 1
    assert after_first.image_hits - before.image_hits == 1
    assert hits.image_queries == after_first.image_queries
    # Blocks of 32 tokens: one of a prompt's 51 is whole.
    queries = hits.prefix_queries - after_first.prefix_queries
    assert queries == 4 * found[0].prompt_tokens
    assert hits.prefix_hits - after_first.prefix_hits == 4 * (found[0].prompt_tokens // 32) * 32
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
