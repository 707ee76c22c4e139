"""What goes over the wire to an OpenAI-compatible server, and what comes back.

    {"choices": [{"index": 0, "message": {"content": "…"}, "finish_reason": "stop"}, …],
     "usage": {"prompt_tokens": 61, "completion_tokens": 744}}

`completion_tokens` is the sum over all choices.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, replace
from typing import Any

from mmpr_builder.errors import EngineError
from mmpr_builder.images import open_image


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
