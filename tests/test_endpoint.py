"""An OpenAI-compatible server as the engine keeps the sampler's contract."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from engine_asks import ASK, drawn, settings, using
from openai_server import OpenAIServer, choices, examined
from PIL import Image

from mmpr_builder.config import Config
from mmpr_builder.engines import check_engine, make_sampler
from mmpr_builder.engines.endpoint import read_choices
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
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0.0, 1.0)


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


def chat(*texts: str, **extra: Any) -> dict[str, Any]:
    return {**choices(*texts), **extra}


Examined = Callable[[str, dict[str, Any]], tuple[int, Any]]
PROMPT = "user\nHow many?\nassistant\n<think>\n"


def with_tokens(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """A server whose tokens are characters, and whose prompts open a thought."""
    if path == "/tokenize":
        return 200, {"tokens": [ord(c) for c in body["prompt"]], "max_model_len": 5000}
    if path == "/detokenize":
        return 200, {"prompt": "".join(map(chr, body["tokens"]))}
    extra = {"prompt_token_ids": [ord(c) for c in PROMPT], "system_fingerprint": "vllm-1"}
    return 200, {**examined(path, body)[1], **extra}


def as_sglang(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """The same, as SGLang words it."""
    status, reply = with_tokens(path, body)
    if path == "/detokenize":
        return 200, {"text": reply["prompt"]}
    if path != "/tokenize":
        del reply["system_fingerprint"]
        reply["choices"][0]["prompt_token_ids"] = reply.pop("prompt_token_ids")
    return status, reply


@pytest.mark.parametrize("says", [with_tokens, as_sglang])
def test_a_response_is_continued_by_tokens_where_the_server_has_them(says: Examined) -> None:
    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "prompt" in body:
            return 200, {"choices": [{"text": " dog.</think>\nA dog", "token_ids": [1, 2]}]}
        return says("/v1/chat/completions", {**body, "n": 1})

    with OpenAIServer(answer) as server:
        server.examined = says
        sampler = make_sampler(endpoint(server))
        thought = replace(SAMPLE, text="<think>\nThe picture shows a cat.</think>\nA cat")
        ask = replace(ASK, memo={})
        found = using(sampler, sampler.continue_response(ask, thought, Continue(0.5, False, 7, 5)))
    assert found == Continuation(
        "<think>\nThe picture shows", " dog.</think>\nA dog", 2, "stop", 5, 0.5, False, 17
    )
    asked, going_on = server.bodies
    assert asked["messages"] == [{"role": "user", "content": "How many?"}]
    assert "".join(map(chr, going_on["prompt"])) == PROMPT + "The picture shows"
    assert (going_on["max_tokens"], going_on["seed"], going_on["top_k"]) == (7, 5, -1)


def test_a_thought_that_the_prompt_opens_stands_in_the_response() -> None:
    with OpenAIServer(lambda body: (200, choices("It is red.</think>\nRed"))) as server:
        server.examined = with_tokens
        sampler = make_sampler(endpoint(server))
        (sample,) = using(sampler, drawn(sampler, replace(ASK, n=1)))
    assert sample.text == "<think>\nIt is red.</think>\nRed"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"reasoning": "red?", "content": "Red"}, "<think>red?</think>Red"),
        ({"reasoning_content": "red?", "content": None}, "<think>red?"),
    ],
)
def test_thoughts_beside_the_text_are_part_of_it(message: dict[str, Any], text: str) -> None:
    with OpenAIServer(lambda body: (200, {"choices": [{"message": message}]})) as server:
        sampler = make_sampler(endpoint(server))
        (sample,) = using(sampler, drawn(sampler, replace(ASK, n=1)))
    assert sample.text == text


def closing_turns(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    status, reply = examined(path, body)
    if body["messages"][-1]["role"] == "assistant":
        reply["usage"]["prompt_tokens"] += 4
    return status, reply


def doubling_blanks(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    status, reply = examined(path, body)
    if body["messages"][-1]["content"][0] == " ":
        reply["usage"]["prompt_tokens"] += 1
    return status, reply


def parsing_thoughts(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    message = {"content": None, "reasoning": "Which animal?"}
    return 200, {"choices": [{"message": message}]}


def silent_about_tokens(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    return 200, {"choices": [{"message": {"content": "A cat"}}]}


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (closing_turns, "does not leave an assistant's turn open.*14 tokens with 'A'"),
        (doubling_blanks, "does not leave an assistant's turn open.*11 tokens with ' A'"),
        (parsing_thoughts, "reasoning parser"),
        (silent_about_tokens, "does not say how many tokens"),
    ],
)
def test_a_server_that_would_continue_something_else_is_found_out(says: Examined, why: str) -> None:
    with OpenAIServer(echo) as server:
        server.examined = says
        with pytest.raises(ConfigError, match=f"{why}.*continuation=none"):
            check_engine(endpoint(server, "dropout.apply=all"))
        check_engine(endpoint(server, "dropout.apply=none"))
        sampler = make_sampler(endpoint(server))
        with pytest.raises(ConfigError, match=why):
            using(sampler, sampler.continue_response(ASK, SAMPLE, Continue(0.5, False, 7, 5)))
    assert server.bodies == []


def knowing_only_openais(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    return (400, {"error": "top_k?"}) if "top_k" in body else examined(path, body)


def answering_alike(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    return 200, chat(*["A cat"] * body["n"], usage={"prompt_tokens": 9})


@pytest.mark.parametrize(
    ("says", "warning"),
    [
        (knowing_only_openais, "takes none of top_k, min_p"),
        (answering_alike, "3 answers to one question are the same"),
        (parsing_thoughts, "start it without one"),
        (examined, ""),
    ],
)
def test_what_a_server_does_of_its_own_is_told(
    says: Examined, warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    with OpenAIServer(echo) as server:
        server.examined = says
        check_engine(endpoint(server, "sampling.n=3", "dropout.apply=none"))
    assert warning in caplog.text
    assert bool(caplog.text) == bool(warning)


def test_a_server_that_knows_only_openais_settings_is_sent_no_others() -> None:
    with OpenAIServer(echo) as server:
        server.examined = knowing_only_openais
        sampler = make_sampler(endpoint(server, "dropout.apply=none"))
        using(sampler, drawn(sampler, ASK))
    assert not {"top_k", "min_p", "return_token_ids"} & server.bodies[0].keys()


def taking_no_budgets(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    return (400, "not trusted") if "mm_processor_kwargs" in body else examined(path, body)


@pytest.mark.parametrize(
    ("says", "why"),
    [(taking_no_budgets, "refuses a budget .*--trust"), (examined, "ignores image budgets")],
)
def test_a_budget_that_comes_to_nothing_is_found_before_any_seed(says: Examined, why: str) -> None:
    with OpenAIServer(echo) as server:
        server.examined = says
        config = endpoint(server, "images.family=internvl", "images.tiles=1", "seeds=a.jsonl")
        few = config.seeds[0]
        both = (few, few.model_copy(update={"tiles": 12}))
        with pytest.raises(ConfigError, match=why):
            check_engine(config.model_copy(update={"seeds": both}))
    assert server.bodies == []


def test_a_context_without_room_for_a_prompt_is_found_before_any_seed() -> None:
    with OpenAIServer(echo) as server:
        server.examined = with_tokens
        with pytest.raises(ConfigError, match=r"max_tokens = 5000 leaves no room .* 5000 tokens"):
            check_engine(endpoint(server, "sampling.max_tokens=5000"))


def test_a_server_that_comes_back_with_other_settings_is_noticed() -> None:
    started = ["vllm-0.32.0-aaaa"]

    def named(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {**examined(path, body)[1], "system_fingerprint": started[0]}

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {**echo(body)[1], "system_fingerprint": started[0]}

    with OpenAIServer(answer) as server:
        server.examined = named
        sampler = make_sampler(endpoint(server))

        async def before_and_after() -> None:
            assert len(await drawn(sampler, ASK)) == 3
            started[0] = "vllm-0.32.0-bbbb"
            await drawn(sampler, ASK)

        with pytest.raises(InputError, match=r"restarted with other settings.*aaaa.*bbbb"):
            using(sampler, before_and_after())


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


WRONG = [
    {"choices": [{"message": {"content": ["a part"]}}]},
    {"choices": [{"message": {"content": 7}}]},
    *({**choices("yes"), "usage": {"completion_tokens": n}} for n in (-1, 10**30, float("inf"))),
    {**choices("yes"), "usage": {"prompt_tokens": -1}},
]


@pytest.mark.parametrize("reply", WRONG, ids=str)
def test_what_cannot_be_stored_is_no_chat_completion(reply: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match="not a chat completion"):
        read_choices(reply)
