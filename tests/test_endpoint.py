"""An OpenAI-compatible server as the engine keeps the sampler's contract."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import pytest
from engine_asks import ASK, drawn, settings, using
from openai_server import OpenAIServer, choices
from PIL import Image

from mmpr_builder.config import Config
from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.errors import ConfigError, EngineError, InputError, RowError
from mmpr_builder.records import Continuation
from mmpr_builder.sampling import Continue, Sample


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
