"""An OpenAI-compatible server: whether it is there, what it serves, what it can do, what its
refusals mean.
"""

from __future__ import annotations

import asyncio
import base64
import difflib
import io
import math
import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from PIL import Image

from mmpr_builder.config import Config, EndpointConfig, JudgeConfig
from mmpr_builder.engines import budgets
from mmpr_builder.errors import ConfigError, EngineError, InputError, MmprError, RowError
from mmpr_builder.escaping import HIDDEN
from mmpr_builder.extraction import opened_by

Settings = EndpointConfig | JudgeConfig
T = TypeVar("T")

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes of errors that pass: the request is tried again."""
_REFUSED = frozenset({400, 413, 415, 422})
_CHECK_TIMEOUT_S = 15.0
_LONGEST_PAUSE_S = 60.0
_MAX_REPLY = 4 * 2**20  # Bytes of a reply, beside those of its tokens:
_MAX_TOKEN = 1024  # text, number and log-probability of each.
_SHORTEST_KEY = 12  # Shorter ones ("EMPTY", "none") are no secrets, and words of answers.


def check_server(
    settings: Settings, model: str, keys: str = "sampling.endpoint", model_key: str = "model"
) -> None:
    """Raise `SetupError` when there is no URL, no server, no access, or no such model.

    A server without a list of models (404) is not checked. `keys` and `model_key` are for messages.
    """
    base = base_url(settings)

    async def look() -> httpx.Response:
        arguments = client_arguments(settings) | {"timeout": _CHECK_TIMEOUT_S}
        async with httpx.AsyncClient(**arguments) as client:
            return await send(client, "GET", "models")

    try:
        reply = run(look())
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        raise InputError(
            f"{keys}.url = {settings.url!r} does not answer"
            f" ({type(error).__name__}: {error}): start the server, or correct the URL"
        ) from None
    if reply.status_code == 404:
        return
    if reply.status_code in (401, 403):
        raise refusal(reply, settings, keys)
    try:
        items = json_of(reply.raise_for_status())["data"]
        names = [str(item["id"]) for item in items if item.get("id")]
    except (httpx.HTTPStatusError, EngineError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{base}models answered {what(reply)}: {keys}.url must be the base of an"
            " OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
        ) from None
    if names and model not in names:
        near = difflib.get_close_matches(model, names, n=1, cutoff=0.0)
        raise InputError(
            f"{model_key} = {model!r} is not served by {settings.url}; it serves"
            f" {', '.join(names[:10])}; the nearest is {near[0]!r}"
        )


# --- what it can do ---------------------------------------------------------------------------

QUESTION = "Name an animal, and describe it in a sentence."
"""What is asked before any seed."""
Post = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""Path and body -> reply; raises `RowError` for a refusal."""
BEYOND: Mapping[str, Any] = {
    **{"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0},
    **{"presence_penalty": 0.0, "frequency_penalty": 0.0},
    "return_token_ids": True,
}
"""What is sent beside OpenAI's fields. A setting that is off is sent as off: vLLM and SGLang take
what is not sent from the model's `generation_config.json`."""
_TRIES = 8  # Answers to the question, to see whether they differ.
_LENGTH = 16  # Tokens of each; and those at the end of a prompt in which it may open a thought.


@dataclass(frozen=True, slots=True)
class Server:
    """What a server was seen to do; it differs where a server has other settings.

    `beyond` is what it takes of `BEYOND`; `opened` the thought that its prompts open; `by_tokens`
    whether prompts may be tokens; `closed` why it continues no response, "" if it does; `context`
    its length in tokens, 0 if unknown; `asked` the tokens of the question as it renders it.
    """

    beyond: Mapping[str, Any]
    opened: str
    by_tokens: bool
    closed: str = field(compare=False)  # It may quote a refusal, with the number of a request.
    context: int
    asked: int
    fingerprint: str
    warnings: tuple[str, ...] = field(default=(), compare=False, repr=False)


async def examine(config: Config, post: Post) -> Server:
    """Ask a question as seeds will ask theirs. Raises `SetupError` where that is refused."""
    sampling, url, warnings = config.sampling, config.sampling.endpoint.url, []
    way = sampling.endpoint.continuation
    beyond: Mapping[str, Any] = BEYOND
    body = {
        "model": config.model,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": min(_LENGTH, sampling.max_tokens),
        "n": min(_TRIES, sampling.n),
        "seed": 0,
    }
    try:
        reply = await post("chat/completions", {**BEYOND, **body})
    except RowError:
        beyond = {}
        warnings.append(
            f"takes none of {', '.join(BEYOND)}: its own settings for these decide what is sampled"
        )
        try:
            reply = await post("chat/completions", body)
        except RowError as error:
            raise InputError(f"{url} refuses a plain question: {error.detail}") from None
    if not isinstance(reply, dict):
        raise InputError(f"{url} answers with no chat completion: {reply!r:.300}")
    messages = [choice.get("message") or {} for choice in reply.get("choices") or ()]
    texts = {reasoning(message) or message.get("content") for message in messages}
    if len(messages) > 1 and len(texts) == 1 and sampling.temperature > 0:
        warnings.append(
            f"{len(messages)} answers to one question are the same, although sampling.temperature ="
            f" {sampling.temperature:g}: look for sampling settings of the server's own"
        )
    closed, opened, context, by_tokens = "", "", 0, False
    if any(map(reasoning, messages)):
        closed = "a reasoning parser takes the thoughts out of its texts"
        warnings.append(
            f"{closed}; they are put back, without the blanks that were there: start it without one"
            " (vLLM: --reasoning-parser) to keep what the model wrote"
        )
    else:
        try:
            found = await _native(post, config, "tokenize", prompt="A", add_special_tokens=False)
            if fingerprint(reply):  # SGLang has its tokenizer's there, which may be any number.
                context = int(found["max_model_len"])
            if ids := prompt_ids(reply):
                said = await _native(post, config, "detokenize", tokens=ids[-_LENGTH:])
                # vLLM calls it a prompt, SGLang a text.
                opened = opened_by(str(said.get("prompt") or said.get("text") or ""))
                by_tokens = way == "auto" and bool(found["tokens"])
        except (MmprError, KeyError, TypeError):
            pass  # No such server: it is asked in words.
    asked = _prompt_tokens(reply)
    if 0 < context < asked + sampling.max_tokens:
        raise ConfigError(
            f"sampling.max_tokens = {sampling.max_tokens} leaves no room for a prompt in the"
            f" {context} tokens of {url}: lower it, or raise the server's (vLLM: --max-model-len)"
        )
    one = {**beyond, **body, "n": 1, "max_tokens": 1}
    await _check_budgets(config, post, one)
    seeing = config.dropout.image or config.steps.is_on
    wanted = (config.dropout.apply != "none" or seeing) and way != "none" and not closed
    if wanted and (seeing or not by_tokens):
        closed = await _turn_closed(post, one, asked)
    return Server(
        beyond, opened, by_tokens, closed, context, asked, fingerprint(reply), tuple(warnings)
    )


async def _check_budgets(config: Config, post: Post, body: Mapping[str, Any]) -> None:
    """Show a large picture with the smallest and the largest budget. Raises `ConfigError`."""
    found, images = budgets.wanted(config), config.images
    if not found or not budgets.processor_arguments(images, found[0]):
        return
    url = config.sampling.endpoint.url
    areas = [budgets.pixels(images, tiles) for tiles in found]
    side = budgets.TILE_SIDE * (math.isqrt(areas[-1]) // budgets.TILE_SIDE + 1)
    picture = shown(Image.new("RGB", (side, side), "navy"))
    messages = [{"role": "user", "content": [picture, {"type": "text", "text": QUESTION}]}]
    counts = []
    for tiles in (found[0], found[-1]):
        sizes = budgets.processor_arguments(images, tiles)
        try:
            reply = await post(
                "chat/completions", {**body, "messages": messages, "mm_processor_kwargs": sizes}
            )
        except RowError as error:
            if error.reason == "prompt_too_long":
                return  # Pictures may be smaller; those that are not become drops.
            raise ConfigError(
                f"{url} refuses a budget ({sizes}): {error.detail}: have it take"
                " budgets (vLLM: --trust-request-mm-kwargs), or set no tiles"
            ) from None
        counts.append(_prompt_tokens(reply))
    if areas[0] < areas[-1] and counts[0] == counts[1] > 0:
        raise ConfigError(
            f"{url} ignores image budgets: a large picture makes {counts[0]} tokens of the prompt"
            f" with the smallest and with the largest: set images.family as {config.model!r} takes"
            " them, or set no tiles"
        )


async def _turn_closed(post: Post, body: Mapping[str, Any], asked: int) -> str:
    """Why an answer cannot be begun for it; "". Chat templates may end the turn, drop its thought
    or double a blank: the number of the prompt's tokens tells."""
    if not asked:
        return "it does not say how many tokens a prompt has, so what it renders cannot be checked"
    for prefix in ("A", " A"):  # One token in every vocabulary that was looked at.
        try:
            reply = await post("chat/completions", {**body, **open_turn(body["messages"], prefix)})
        except RowError as error:
            return f"it refuses continue_final_message ({error.detail})"
        if (found := _prompt_tokens(reply)) != asked + 1:
            return (
                "its chat template does not leave an assistant's turn open as a prompt begins it"
                f" ({found} tokens with {prefix!r}, {asked} without)"
            )
    return ""


def open_turn(messages: list[Any], prefix: str) -> dict[str, Any]:
    """The fields that make a chat continue the beginning of an answer."""
    return {
        "messages": [*messages, {"role": "assistant", "content": prefix}],
        "continue_final_message": True,
        "add_generation_prompt": False,
    }


def reasoning(message: Mapping[str, Any]) -> str:
    """The thoughts that a server took out of a text, under either of their names."""
    return str(message.get("reasoning_content") or message.get("reasoning") or "")


def fingerprint(reply: Mapping[str, Any]) -> str:
    """vLLM's word for its version and settings; "" of others, which change theirs at will."""
    found = str(reply.get("system_fingerprint") or "")
    return found if found.startswith("vllm-") else ""


def prompt_ids(reply: Mapping[str, Any]) -> list[int]:
    """The prompt's tokens, where a reply has them: vLLM once, SGLang in each choice."""
    first = (reply.get("choices") or [{}])[0]
    return list(reply.get("prompt_token_ids") or first.get("prompt_token_ids") or ())


def _prompt_tokens(reply: Mapping[str, Any]) -> int:
    return int((reply.get("usage") or {}).get("prompt_tokens") or 0)


async def tokens_of(post: Post, config: Config, text: str) -> list[int]:
    """The tokens of a text alone."""
    found = await _native(post, config, "tokenize", prompt=text, add_special_tokens=False)
    return list(found["tokens"])


async def _native(post: Post, config: Config, path: str, **body: Any) -> Any:
    """What is no part of OpenAI's protocol, and lies above `/v1/`."""
    root = base_url(config.sampling.endpoint).removesuffix("v1/")
    return await post(root + path, {"model": config.model, **body})


def shown(opened: Image.Image) -> dict[str, Any]:
    """A picture as a part of a message, with a data URL: what every other engine sees."""
    buffer = io.BytesIO()
    opened.save(buffer, "PNG", compress_level=1)
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": url}}


# --- asking it --------------------------------------------------------------------------------


def base_url(settings: Settings) -> str:
    """The configured URL with one slash at its end. Raises `ConfigError` when there is none, or
    one with a password in it: settings are kept with the build, and published."""
    if not settings.url:
        raise ConfigError(
            "sampling.engine = 'endpoint' needs sampling.endpoint.url,"
            " say sampling.endpoint.url=http://127.0.0.1:8000/v1"
        )
    if "@" in settings.url.partition("//")[2].partition("/")[0]:
        raise ConfigError(
            "the URL of an endpoint holds a name or password, which would be written into run.json:"
            f" leave it out and put the key into the environment variable {settings.api_key_env}"
        )
    return settings.url.rstrip("/") + "/"


def headers(settings: Settings) -> dict[str, str]:
    """The key from the environment, if there is one; it is never written anywhere."""
    key = os.environ.get(settings.api_key_env)
    return {"Authorization": f"Bearer {key}"} if key else {}


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, where an event loop may be running already (a notebook's)."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


async def send(
    client: httpx.AsyncClient, method: str, path: str, body: Any = None
) -> httpx.Response:
    """A reply, read to its end; the key, should a server repeat it, is hidden.

    Raises `httpx.RequestError`, for a reply of more bytes than was asked for, too, and
    `TimeoutError`: the limit of the client itself begins anew with every byte.
    """
    asked = body or {}
    left = _MAX_REPLY + _MAX_TOKEN * asked.get("n", 1) * asked.get("max_tokens", 1)
    read, seconds = bytearray(), client.timeout.read
    async with asyncio.timeout(seconds), client.stream(method, path, json=body) as reply:
        if reply.headers.get("content-encoding", "identity") != "identity":
            raise httpx.DecodingError("a compressed reply, which was not asked for")
        async for chunk in reply.aiter_raw():
            read += chunk
            if len(read) > left:
                raise httpx.ReadError(f"the reply is over {left} bytes")
    key = client.headers.get("authorization", "")[len("Bearer ") :].encode()
    text = bytes(read.replace(key, HIDDEN.encode()) if len(key) >= _SHORTEST_KEY else read)
    kept = {"retry-after": reply.headers.get("retry-after", "")}
    return httpx.Response(reply.status_code, headers=kept, content=text, request=reply.request)


async def tried(
    client: httpx.AsyncClient,
    path: str,
    body: Any,
    settings: Settings,
    lost: Callable[[], object] = lambda: None,
) -> httpx.Response | str:
    """The reply to a request, which is tried again on errors that pass; what the last try came to,
    if all failed so. `lost` is called whenever there was no server."""
    said = ""
    for attempt in range(settings.retries + 1):
        reply = None
        try:
            reply = await send(client, "POST", path, body)
        except (httpx.RequestError, TimeoutError) as error:
            lost()
            said = f"{type(error).__name__}: {error}"
        else:
            if reply.status_code not in PASSING:
                return reply
            said = what(reply)
        if attempt < settings.retries:
            await asyncio.sleep(pause(attempt, reply))
    return said


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of the `httpx` client for a server."""
    return {
        "base_url": base_url(settings),
        "headers": {"Accept-Encoding": "identity"} | headers(settings),
        "timeout": httpx.Timeout(settings.timeout_s, connect=min(30.0, settings.timeout_s)),
        "limits": httpx.Limits(max_connections=settings.concurrency),
    }


def json_of(response: httpx.Response) -> Any:
    """A reply's body. Raises `EngineError` when it is not JSON."""
    try:
        return response.json()
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{response.url} answered no JSON: {response.text[:300]!r}") from error


def refusal(
    response: httpx.Response, settings: Settings, keys: str = "sampling.endpoint"
) -> Exception:
    """The error for a refusal that another try does not change."""
    said = what(response)
    if response.status_code in (401, 403):
        return InputError(
            f"{settings.url} refuses access ({said}): put the key into the environment variable"
            f" {settings.api_key_env} ({keys}.api_key_env)"
        )
    if response.status_code in _REFUSED:
        # Servers agree on no code for it; OpenAI's, vLLM's and SGLang's texts share this word.
        too_long = response.status_code == 413 or "context" in said.lower()
        return RowError("prompt_too_long" if too_long else "prompt_refused", said)
    return InputError(f"{settings.url}: {said}: correct {keys}.url or the model")


def what(response: httpx.Response) -> str:
    """Status and the beginning of the body, for messages."""
    text = " ".join(response.text.split())
    return f"HTTP {response.status_code}: {text[:400]}"


def pause(attempt: int, response: httpx.Response | None) -> float:
    """Seconds before the next try: as many as the server asks for, else doubling, with jitter."""
    value = "" if response is None else response.headers.get("retry-after", "")
    if value.isdigit() and int(value):
        return min(float(value), _LONGEST_PAUSE_S)
    return min(_LONGEST_PAUSE_S, 0.5 * 2.0**attempt) * random.uniform(0.5, 1.0)
