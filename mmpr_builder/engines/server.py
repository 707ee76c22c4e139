"""An OpenAI-compatible server: whether it is there, what it serves, what its refusals mean."""

from __future__ import annotations

import difflib
import os
import random
from typing import Any

import httpx

from mmpr_builder.config import EndpointConfig, JudgeConfig
from mmpr_builder.errors import ConfigError, EngineError, InputError, RowError

Settings = EndpointConfig | JudgeConfig

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Status codes of errors that pass: the request is tried again."""
_REFUSED = frozenset({400, 413, 415, 422})
_CHECK_TIMEOUT_S = 15.0
_LONGEST_PAUSE_S = 60.0


def check_server(
    settings: Settings, model: str, keys: str = "sampling.endpoint", model_key: str = "model"
) -> list[dict[str, Any]]:
    """Ask the server for its models and return them; `keys` and `model_key` are for messages.

    Raises `SetupError` when there is no URL, no server, no access, or no such model. For a server
    without a list of models (404) the list comes back empty, and nothing is checked.
    """
    base = base_url(settings)
    try:
        reply = httpx.get(f"{base}models", headers=headers(settings), timeout=_CHECK_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise InputError(
            f"{keys}.url = {settings.url!r} does not answer"
            f" ({type(error).__name__}: {error}): start the server, or correct the URL"
        ) from None
    if reply.status_code == 404:
        return []
    if reply.status_code in (401, 403):
        raise refusal(reply, settings, keys)
    try:
        listed = [item for item in reply.raise_for_status().json()["data"] if item.get("id")]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{base}models answered {what(reply)}: {keys}.url must be the base of an"
            " OpenAI-compatible server, such as http://127.0.0.1:8000/v1"
        ) from None
    names = [str(item["id"]) for item in listed]
    if names and model not in names:
        near = difflib.get_close_matches(model, names, n=1, cutoff=0.0)
        raise InputError(
            f"{model_key} = {model!r} is not served by {settings.url}; it serves"
            f" {', '.join(names[:10])}; the nearest is {near[0]!r}"
        )
    return listed


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


def client_arguments(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of the `httpx` client for a server."""
    return {
        "base_url": base_url(settings),
        "headers": headers(settings),
        "timeout": httpx.Timeout(settings.timeout_s, connect=min(30.0, settings.timeout_s)),
        "limits": httpx.Limits(max_connections=settings.concurrency),
    }


def json_of(response: httpx.Response) -> Any:
    """A reply's body. Raises `EngineError` when it is not JSON."""
    try:
        return response.json()
    except ValueError as error:
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
