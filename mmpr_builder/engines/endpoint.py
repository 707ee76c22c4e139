"""Any OpenAI-compatible server as a sampler: `POST URL/chat/completions`, images as data URLs.

    {"model": "org/vlm", "n": 8, "seed": 2871, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4096,
     "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR…"}},
        {"type": "text", "text": "How many red shapes are there?"}]}]}

A server that answers fewer than n times is asked again for the rest, with the seeds that follow.

`Response.tokens` is exact with vLLM's server (it returns token ids), with `sampling.logprobs`, and
where a server answers once per request; else a reply's total, which is exact, is shared out among
its choices by their length. `Response.seed` is request seed + i, which vLLM uses for choice i;
other servers may use others.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from mmpr_builder.config import Config
from mmpr_builder.dropout import truncate
from mmpr_builder.engines import budgets, server
from mmpr_builder.engines.rendering import content_parts
from mmpr_builder.errors import EngineError
from mmpr_builder.io.images import open_image
from mmpr_builder.records import Continuation
from mmpr_builder.sampling import Continue, Request, Sample, without_images


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
    """The choices of a reply, in order. Raises `EngineError` for what is not a chat completion.

    {"choices": [{"index": 0, "message": {"content": "…"}, "finish_reason": "stop"}, …],
     "usage": {"prompt_tokens": 61, "completion_tokens": 744}}       the sum over all choices
    """
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
    # Some servers return the reasoning beside the text, which it is part of.
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


class EndpointSampler:
    """Holds the connections to one server."""

    def __init__(self, config: Config) -> None:
        """Ask the server what it is (`GET /models`). Raises `SetupError` as `check_server` does."""
        self._settings = config.sampling.endpoint
        self._model = config.model
        self._images = config.images
        served = server.check_server(self._settings, config.model)
        owners = {item["id"]: item.get("owned_by") for item in served}
        self._returns_ids = owners.get(config.model) == "vllm"
        self._honours_n = True
        self._in_flight = asyncio.Semaphore(self._settings.concurrency)
        self._client = httpx.AsyncClient(**server.client_arguments(self._settings))

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """See `sampling.Sampler`. Samples come reply by reply; a vLLM server gives all in one."""
        content = await _shown(request)
        body = {**self._body(request), "messages": [{"role": "user", "content": content}]}
        given = 0
        while given < request.n:
            # One at a time where a server knows no n, else what is missing at once.
            missing = request.n - given
            sizes = [missing] if self._honours_n else [1] * missing
            seed = request.seed + request.first + given
            asked = [
                asyncio.ensure_future(self._ask(body, size, seed + i))
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
            self._honours_n = self._honours_n and (given > 1 or request.n == 1)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """See `sampling.Sampler`. None with `endpoint.continuation: none`, and when a response
        cannot be cut. The prefix is cut as text."""
        prefix = truncate(sample.text, how.keep)
        cannot = (not prefix and how.keep > 0) or prefix == sample.text
        if self._settings.continuation == "none" or cannot:
            return None
        content = await _shown(request) if how.image else without_images(request.prompt)
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
        if sizes and request.images:  # Only vLLM's servers know it: sent where a budget is set.
            body["mm_processor_kwargs"] = sizes
        if self._returns_ids:
            body["return_token_ids"] = True
        return body

    async def _ask(self, body: Mapping[str, Any], n: int, seed: int) -> list[Choice]:
        async with self._in_flight:
            reply = await self._post({**body, "n": n, "seed": seed})
        choices = read_choices(reply)
        if not choices:
            raise EngineError(f"{self._settings.url} answered with no choices: {reply!r:.300}")
        return choices[:n]

    async def _post(self, body: Mapping[str, Any]) -> Any:
        """One reply, tried again on errors that pass."""
        reason = ""
        for attempt in range(self._settings.retries + 1):
            response = None
            try:
                # The client's own limit begins anew with every byte.
                async with asyncio.timeout(self._settings.timeout_s):
                    response = await self._client.post("chat/completions", json=body)
            except (httpx.RequestError, TimeoutError) as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    return server.json_of(response)
                if response.status_code not in server.PASSING:
                    raise server.refusal(response, self._settings)
                reason = server.what(response)
            if attempt < self._settings.retries:
                await asyncio.sleep(server.pause(attempt, response))
        raise EngineError(
            f"{self._settings.url}: no answer in {self._settings.retries + 1} tries"
            f" (sampling.endpoint.retries); the last one: {reason}"
        )


async def _shown(request: Request) -> Any:
    """The message with its pictures, encoded once for all rounds of a seed."""
    key = (request.prompt, request.images)
    if key not in request.memo:
        request.memo[key] = await asyncio.to_thread(content_of, request)
    return request.memo[key]


def content_of(request: Request) -> Any:
    """What a user's message holds: text alone, or texts and pictures in their places. Raises
    `RowError` where the prompt shows another number of images, or one does not open."""
    pictures = (
        {"type": "image_url", "image_url": {"url": data_url(data)}} for data in request.images
    )
    content = content_parts(request, pictures)
    return content if request.images else without_images(request.prompt)


def _samples(choices: Sequence[Choice], request: Request, given: int) -> list[Sample]:
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
