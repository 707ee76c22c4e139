"""A picture's tensors go to the engine once per request, not once per response.

    n = 32:   [tensors] [-] [-] [-] … [-]        instead of        [tensors] [tensors] … [tensors]

vLLM makes one request of its own for each response, and sends each with the processed pictures,
megabytes of them, although the engine's process keeps what it was sent, by its hash. Here only the
first one of a request has them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

WHOLE = "whole-"
"""Requests whose name begins so are sent as vLLM does it, each response with its pictures."""

_KNOWN = 1024  # Requests whose responses are remembered; they leave in one go, so few would do.


def send_pictures_once(engine: Any) -> None:
    """Change how `engine` (an `AsyncLLM` whose process keeps pictures) sends its requests."""
    if engine.vllm_config.parallel_config.data_parallel_size == 1:  # Else siblings go apart.
        engine.engine_core.add_request_async = _Once(engine.engine_core.add_request_async)


class _Once:
    """Stands before `AsyncMPClient.add_request_async`."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self._light: OrderedDict[str, list[Any]] = OrderedDict()

    async def __call__(self, request: Any) -> None:
        name = request.external_req_id
        if request.mm_features and name is not None and not name.startswith(WHOLE):
            if name in self._light:
                request.mm_features = self._light[name]
            else:
                self._light[name] = [replace(f, data=None) for f in request.mm_features]
                if len(self._light) > _KNOWN:
                    self._light.popitem(last=False)
        await self._send(request)
