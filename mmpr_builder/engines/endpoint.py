"""Any OpenAI-compatible server as a sampler: `POST URL/chat/completions`, images as data URLs.

    {"model": "org/vlm", "n": 8, "seed": 2871, "temperature": 1.0, "top_p": 1.0, "max_tokens": 4096,
     "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBOR…"}},
        {"type": "text", "text": "How many red shapes are there?"}]}]}

A server that answers fewer than n times is asked again for the rest, with the seeds that follow.

What else it can do is tried out before the first seed, and again when it was away
(`server.examine`). A server that takes prompts as tokens continues a response by them: whatever its
chat template does with an assistant's turn, nothing lies between prompt and response.

`Response.tokens` is exact where token ids come back (vLLM, SGLang), with `sampling.logprobs`, and
where a server answers once per request; else a reply's total, which is exact, is shared out among
its choices by their length. `Response.seed` is request seed + i, which vLLM uses for choice i;
other servers may use others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

import httpx

from mmpr_builder.config import Config
from mmpr_builder.dropout import truncate
from mmpr_builder.engines import budgets, server
from mmpr_builder.engines.rendering import content_parts
from mmpr_builder.engines.server import Server, shown
from mmpr_builder.errors import ConfigError, EngineError, InputError
from mmpr_builder.escaping import redacted
from mmpr_builder.records import Continuation
from mmpr_builder.sampling import Continue, Request, Sample, cancelled, without_images


def read_choices(reply: Any) -> list[Sample]:
    """The choices of a reply, in order, with their numbers as seeds. Raises `EngineError`
    for what is not a chat completion.

    {"choices": [{"index": 0, "message": {"content": "…"}, "finish_reason": "stop"}, …],
     "usage": {"prompt_tokens": 61, "completion_tokens": 744}}       the sum over all choices
    """
    try:
        raw = sorted(reply["choices"], key=lambda choice: choice.get("index", 0))
        usage = reply.get("usage") or {}
        asked, given = (int(usage.get(f"{of}_tokens") or 0) for of in ("prompt", "completion"))
        if not 0 <= min(asked, given) <= max(asked, given) < 2**31:
            raise ValueError("no numbers of tokens")
        choices = [_choice(i, item, asked) for i, item in enumerate(raw)]
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise EngineError(f"not a chat completion: {reply!r:.300}") from error
    return choices if all(choice.tokens for choice in choices) else _share_out(choices, given)


def _choice(number: int, item: dict[str, Any], prompt_tokens: int) -> Sample:
    message = item["message"] if "message" in item else {"content": item["text"]}
    text = "" + (message.get("content") or "")  # A list of parts is a TypeError.
    # Some servers return the reasoning beside the text, which it is part of.
    if thoughts := server.reasoning(message):
        text = f"<think>{thoughts}" + (f"</think>{text}" if text else "")
    logprobs = [token["logprob"] for token in (item.get("logprobs") or {}).get("content") or ()]
    ids = tuple(item.get("token_ids") or ())
    return Sample(
        index=number,
        text=text,
        tokens=len(ids or logprobs),
        finish_reason=str(item.get("finish_reason") or "stop"),
        seed=number,
        prompt_tokens=prompt_tokens,
        logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        token_ids=ids,
    )


def _share_out(choices: list[Sample], total: int) -> list[Sample]:
    """Shares of `total` tokens by length of text; they add up to it exactly."""
    lengths = [max(1, len(choice.text)) for choice in choices]
    ends = [0, *(round(total * length / sum(lengths)) for length in accumulate(lengths))]
    shares = (end - start for start, end in pairwise(ends))
    return [replace(choice, tokens=share) for choice, share in zip(choices, shares, strict=True)]


_log = logging.getLogger(__name__)


def check(config: Config) -> None:
    """Try the server out, and warn of what it was seen to do. Raises `SetupError`."""

    async def look() -> Server:
        sampler = EndpointSampler(config)
        try:
            return await sampler.examined()
        finally:
            await sampler.close()

    found = server.run(look())
    for warning in found.warnings:
        _log.warning("%s", redacted(f"{config.sampling.endpoint.url}: {warning}"))
    if config.dropout.apply == "all" or config.steps.is_on:
        _check_continues(config, found)


def _check_continues(config: Config, found: Server) -> None:
    if config.steps.is_on and config.sampling.endpoint.continuation == "none":
        raise ConfigError(
            "sampling.endpoint.continuation = 'none' continues nothing, and `steps` continues"
            " responses: leave one of them out"
        )
    if found.closed:
        raise ConfigError(
            f"{config.sampling.endpoint.url} cannot continue a response of {config.model!r}:"
            f" {found.closed}: set sampling.endpoint.continuation=none to go without DropoutNTP, or"
            " sample with sampling.engine=vllm"
        )


class EndpointSampler:
    """Holds the connections to one server."""

    def __init__(self, config: Config) -> None:
        """Ask the server what it is (`GET /models`). Raises `SetupError` as `check_server` does."""
        self._config = config
        self._settings = config.sampling.endpoint
        server.check_server(self._settings, config.model)
        self._first: Server | None = None
        self._known: Server | None = None
        self._examining = asyncio.Lock()
        self._honours_n = True
        self._in_flight = asyncio.Semaphore(self._settings.concurrency)
        self._client = httpx.AsyncClient(**server.client_arguments(self._settings))

    async def examined(self) -> Server:
        """What the server was seen to do. Raises `SetupError` where it refuses what every seed asks
        for, and where it is another one than before."""
        async with self._examining:
            if self._known is None:
                found = await server.examine(self._config, self._post)
                if self._first not in (None, found):
                    raise InputError(
                        f"{self._settings.url} was restarted with other settings: it was"
                        f" {self._first}, and is {found}; start it as it was, or run again to go on"
                        " with it as it is"
                    )
                self._first = self._known = found
            return self._known

    async def sample(self, request: Request) -> AsyncGenerator[Sample, None]:
        """See `sampling.Sampler`. Samples come reply by reply; a vLLM server gives all in one."""
        content = await _shown(request)
        found = await self.examined()
        body = {**self._body(request, found), "messages": [{"role": "user", "content": content}]}
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
                    for choice in choices:
                        yield replace(
                            choice,
                            index=request.first + given + choice.index,
                            text=found.opened + choice.text,
                            seed=request.seed + request.first + given + choice.seed,
                            logprob=choice.logprob if request.logprobs else None,
                        )
                    given += len(choices)
            finally:
                await cancelled(asked)
            self._honours_n = self._honours_n and (given > 1 or request.n == 1)

    async def continue_response(
        self, request: Request, sample: Sample, how: Continue
    ) -> Continuation | None:
        """See `sampling.Sampler`. None with `endpoint.continuation: none`, and when a response
        cannot be cut. The prefix is cut as text. Raises `ConfigError` for a server that cannot."""
        if self._settings.continuation == "none":
            return None
        found = await self.examined()
        _check_continues(self._config, found)
        at = how.gap
        prefix = truncate(sample.text, how.keep, how.part) if at is None else sample.text[: at[0]]
        if prefix == sample.text or (not prefix and how.keep > 0):
            return None
        if len(prefix) < len(found.opened):
            prefix = found.opened
        body = {**self._body(request, found), "max_tokens": how.max_tokens}
        body.pop("logprobs", None)
        content = await _shown(request) if how.image else without_images(request.prompt)
        messages = [{"role": "user", "content": content}]
        kept: int | None = None
        if found.by_tokens and not how.image:
            prompt = await self._prompt_ids(request, messages)
            ids = await self._prefix_ids(prefix.removeprefix(found.opened), sample.token_ids)
            kept, body["prompt"] = len(ids), [*prompt, *ids]
            if found.context:
                room = found.context - len(prompt) - kept
                body["max_tokens"] = max(1, min(how.max_tokens, room))
        else:
            body |= server.open_turn(messages, prefix) if prefix else {"messages": messages}
        choice = (await self._ask(body, 1, how.seed))[0]
        return how.made(choice, prefix, choice.text, prefix_tokens=kept)

    async def _prompt_ids(self, request: Request, messages: list[Any]) -> list[int]:
        """The prompt's tokens without its images, asked for once for all responses."""
        key = ("ids", request.prompt)
        if key not in request.memo:
            body = {"model": self._config.model, "messages": messages, "max_tokens": 1}
            body |= {"return_token_ids": True}
            request.memo[key] = asyncio.ensure_future(self._post("chat/completions", body))
        return server.prompt_ids(await asyncio.shield(request.memo[key]))

    async def _prefix_ids(self, text: str, own: Sequence[int]) -> list[int]:
        """A prefix in tokens. Some tokenizers put a blank before a text: where the response's own
        tokens begin otherwise, the blank that is there already is left to them."""
        ids = await server.tokens_of(self._post, self._config, text) if text else []
        if text[:1] == " " and [*own[: len(ids)]] != ids:
            bare = await server.tokens_of(self._post, self._config, text[1:])
            return bare if [*own[: len(bare)]] == bare else ids
        return ids

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _body(self, request: Request, found: Server) -> dict[str, Any]:
        body: dict[str, Any] = {
            **found.beyond,
            "model": self._config.model,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
        }
        if request.top_k > 0:
            body["top_k"] = request.top_k
        if request.logprobs:
            body["logprobs"] = True
        sizes = budgets.processor_arguments(self._config.images, request.tiles)
        if sizes and request.images:  # Only vLLM's servers know it: sent where a budget is set.
            body["mm_processor_kwargs"] = sizes
        return body

    async def _ask(self, body: Mapping[str, Any], n: int, seed: int) -> list[Sample]:
        async with self._in_flight:
            path = "completions" if "prompt" in body else "chat/completions"
            known = self._known
            reply = await self._post(path, {**body, "n": n, "seed": seed})
        choices = read_choices(reply)
        if not choices:
            raise EngineError(f"{self._settings.url} answered with no choices: {reply!r:.300}")
        if known is not None and known.fingerprint != server.fingerprint(reply):
            self._known = None
        await self.examined()
        return choices[:n]

    async def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        """One reply, tried again on errors that pass. Where there was no server meanwhile, it is to
        be examined again."""
        found = await server.tried(self._client, path, body, self._settings, self._forget)
        if isinstance(found, str):
            raise EngineError(
                f"{self._settings.url}: no answer in {self._settings.retries + 1} tries"
                f" (sampling.endpoint.retries); the last one: {found}"
            )
        if not found.is_success:
            raise server.refusal(found, self._settings)
        return server.json_of(found)

    def _forget(self) -> None:
        self._known = None


async def _shown(request: Request) -> Any:
    """The message with its pictures, encoded once for all rounds of a seed."""
    key = (request.prompt, request.images)
    if key not in request.memo:
        request.memo[key] = await asyncio.to_thread(content_of, request)
    return request.memo[key]


def content_of(request: Request) -> Any:
    """What a user's message holds: text alone, or texts and pictures in their places. Raises
    `RowError` where the prompt shows another number of images, or one does not open."""
    content = content_parts(request, map(shown, request.opened()))
    return content if request.images else without_images(request.prompt)
