"""Any OpenAI-compatible server as a sampler: `POST URL/chat/completions`, images as data URLs.

    {"model": "org/vlm", "n": 8, "seed": 2871, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4096,
     "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR…"}},
        {"type": "text", "text": "How many red shapes are there?"}]}]}

A server that answers fewer than n times is asked again for the rest, with the seeds that follow.

What servers do not tell: `Response.tokens` is exact with vLLM's server (it returns token ids),
with `sampling.logprobs`, and where a server answers once per request; else a reply's total, which
is exact, is shared out among its choices by their length. `Response.seed` is request seed + i: what
vLLM uses for choice i, and other servers' own affair.
"""

from __future__ import annotations

import asyncio
import base64
import io
import random
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from mmpr_builder.config import Config
from mmpr_builder.dropout import truncate
from mmpr_builder.engines import budgets, server
from mmpr_builder.errors import EngineError, RowError
from mmpr_builder.io.images import open_image
from mmpr_builder.prompts import parts
from mmpr_builder.records import Continuation
from mmpr_builder.sampling import Continue, Request, Sample, without_images

# --- what comes back --------------------------------------------------------------------------
#     {"choices": [{"index": 0, "message": {"content": "…"}, "finish_reason": "stop"}, …],
#      "usage": {"prompt_tokens": 61, "completion_tokens": 744}}       the sum over all choices


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a reply. `logprob` is the mean per token in nats where it came along."""

    text: str
    tokens: int
    finish_reason: str
    prompt_tokens: int
    logprob: float | None = None


def data_url(data: bytes) -> str:
    """An image file as a data URL of the upright RGB picture that every other engine sees.

    Raises `RowError` when it cannot be opened.
    """
    buffer = io.BytesIO()
    open_image(data).save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def read_choices(reply: Any) -> list[Choice]:
    """The choices of a reply, in order. Raises `EngineError` for what is no such reply."""
    try:
        raw = sorted(reply["choices"], key=lambda choice: choice.get("index", 0))
        usage = reply.get("usage") or {}
        choices = [_choice(item, int(usage.get("prompt_tokens") or 0)) for item in raw]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise EngineError(f"not a chat completion: {reply!r:.300}") from error
    if all(choice.tokens for choice in choices):
        return choices
    return _share_out(choices, int(usage.get("completion_tokens") or 0))


def _choice(item: dict[str, Any], prompt_tokens: int) -> Choice:
    message = item["message"]
    # Servers that take the thoughts out of the text put them beside it; they are part of it.
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    text = (f"<think>{thoughts}</think>" if thoughts else "") + (message.get("content") or "")
    logprobs = [token["logprob"] for token in (item.get("logprobs") or {}).get("content") or ()]
    return Choice(
        text=text,
        tokens=len(item.get("token_ids") or logprobs),
        finish_reason=str(item.get("finish_reason") or "stop"),
        prompt_tokens=prompt_tokens,
        logprob=sum(logprobs) / len(logprobs) if logprobs else None,
    )


def _share_out(choices: list[Choice], total: int) -> list[Choice]:
    """Shares of `total` tokens by length of text; they add up to it exactly."""
    lengths = [max(1, len(choice.text)) for choice in choices]
    shared, length, given = [], 0, 0
    for choice, own in zip(choices, lengths, strict=True):
        length += own
        upto = round(total * length / sum(lengths))
        shared.append(replace(choice, tokens=upto - given))
        given = upto
    return shared


_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_LONGEST_PAUSE_S = 60.0


class EndpointSampler:
    """Holds the connections to one server; close it."""

    def __init__(self, config: Config) -> None:
        """Ask the server what it is (`GET /models`). Raises `SetupError`, see `check`."""
        self._settings = config.sampling.endpoint
        self._model = config.model
        self._images = config.images
        self._returns_ids = server.owner(server.check(config), config.model) == "vllm"
        self._honours_n = True
        self._seats = asyncio.Semaphore(self._settings.concurrency)
        self._client = httpx.AsyncClient(
            base_url=server.base_url(self._settings),
            headers=server.headers(self._settings),
            timeout=httpx.Timeout(self._settings.timeout_s, connect=30.0),
            limits=httpx.Limits(max_connections=self._settings.concurrency),
        )

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """See `sampling.Sampler`. Samples come reply by reply; a vLLM server gives all in one."""
        content = await _shown(request)
        body = {**self._body(request), "messages": [{"role": "user", "content": content}]}
        given = 0
        if self._honours_n or request.n == 1:
            replies = [await self._ask(body, request.n, request.seed + request.first)]
            for sample in _samples(replies[0], request, given):
                yield sample
            given = len(replies[0])
            self._honours_n = self._honours_n and (given > 1 or request.n == 1)
        while given < request.n:
            # One at a time where a server knows no n, else what is missing at once.
            missing = request.n - given
            sizes = [missing] if self._honours_n else [1] * missing
            asked = [
                asyncio.ensure_future(
                    self._ask(body, size, request.seed + request.first + given + i)
                )
                for i, size in enumerate(sizes)
            ]
            try:
                for task in asked:
                    choices = await task
                    for sample in _samples(choices, request, given):
                        yield sample
                    given += len(choices)
            finally:
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """See `sampling.Sampler`. The prefix is cut and handed on as text.

        None with `endpoint.continuation: none`, and when a response cannot be cut.
        """
        prefix = truncate(sample.text, how.keep)
        cannot = (not prefix and how.keep > 0) or prefix == sample.text
        if self._settings.continuation == "none" or cannot:
            return None
        if how.image:
            content: Any = await _shown(request)
        else:
            content = without_images(request.prompt)
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        body = {**self._body(request), "messages": messages, "max_tokens": how.max_tokens}
        if prefix:
            messages.append({"role": "assistant", "content": prefix})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        choice = (await self._ask(body, 1, how.seed))[0]
        return Continuation(
            prefix=prefix,
            text=choice.text,
            tokens=choice.tokens,
            finish_reason=choice.finish_reason,
            seed=how.seed,
            keep=how.keep,
            image=how.image,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
        }
        if request.top_k > 0:  # Not OpenAI's own; servers that sample this way know it.
            body["top_k"] = request.top_k
        if request.logprobs:
            body["logprobs"] = True
        sizes = budgets.processor_arguments(self._images, request.tiles)
        if sizes and request.images:  # vLLM's own; only sent where a budget was asked for.
            body["mm_processor_kwargs"] = sizes
        if self._returns_ids:
            body["return_token_ids"] = True
        return body

    async def _ask(self, body: Mapping[str, Any], n: int, seed: int) -> list[Choice]:
        async with self._seats:
            reply = await self._post({**body, "n": n, "seed": seed})
        choices = read_choices(reply)
        if not choices:
            raise EngineError(f"{self._settings.url} answered with no choices: {reply!r:.300}")
        return choices[:n]

    async def _post(self, body: Mapping[str, Any]) -> Any:
        """One reply, tried again on errors that pass. The pauses double, with some jitter."""
        reason = ""
        for attempt in range(self._settings.retries + 1):
            try:
                # The client's own limit begins anew with every byte.
                async with asyncio.timeout(self._settings.timeout_s):
                    response = await self._client.post("chat/completions", json=body)
            except (httpx.RequestError, TimeoutError) as error:
                reason, pause = f"{type(error).__name__}: {error}", None
            else:
                if response.is_success:
                    return server.json_of(response)
                if response.status_code not in _AGAIN:
                    raise server.refusal(response, self._settings)
                reason, pause = server.what(response), server.asked_pause(response)
            if attempt < self._settings.retries:
                await asyncio.sleep(pause or _pause(attempt))
        raise EngineError(
            f"{self._settings.url}: no answer in {self._settings.retries + 1} tries"
            f" (sampling.endpoint.retries); the last one: {reason}"
        )


async def _shown(request: Request) -> Any:
    """The message with its pictures, encoded once for all rounds of a seed."""
    key = (request.prompt, request.images)
    if key not in request.memo:
        request.memo[key] = await asyncio.to_thread(_content, request)
    return request.memo[key]


def _content(request: Request) -> Any:
    shown = parts(request.prompt)
    if shown.count(None) != len(request.images):
        raise RowError(
            "image_count",
            f"{len(request.images)} images for {shown.count(None)} <image> in the prompt",
        )
    pictures = iter(request.images)
    if not request.images:
        return without_images(request.prompt)
    return [
        {"type": "image_url", "image_url": {"url": data_url(next(pictures))}}
        if part is None
        else {"type": "text", "text": part}
        for part in shown
    ]


def _samples(choices: list[Choice], request: Request, given: int) -> list[Sample]:
    return [
        Sample(
            index=request.first + given + i,
            text=choice.text,
            tokens=choice.tokens,
            finish_reason=choice.finish_reason,
            seed=request.seed + request.first + given + i,
            logprob=choice.logprob if request.logprobs else None,
            prompt_tokens=choice.prompt_tokens,
        )
        for i, choice in enumerate(choices)
    ]


def _pause(attempt: int) -> float:
    return min(_LONGEST_PAUSE_S, 0.5 * 2.0**attempt) * random.uniform(0.5, 1.0)
