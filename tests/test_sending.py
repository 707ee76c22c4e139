"""Pictures on their way to vLLM's core: once per request, whatever the number of responses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from mmpr_builder.engines.vllm_internals import WHOLE, send_pictures_once


@dataclass
class Feature:
    data: str | None
    mm_hash: str = "4f1c"


@dataclass
class Sent:
    external_req_id: str | None
    mm_features: list[Feature] | None = field(default_factory=lambda: [Feature("tensor")])


def sent(requests: list[Sent], *, engines: int = 1) -> list[list[str | None] | None]:
    """The pictures' data of each request as it arrives."""
    arrived: list[Sent] = []

    async def add_request_async(request: Sent) -> None:
        arrived.append(request)

    engine: Any = SimpleNamespace(
        engine_core=SimpleNamespace(add_request_async=add_request_async),
        vllm_config=SimpleNamespace(parallel_config=SimpleNamespace(data_parallel_size=engines)),
    )
    send_pictures_once(engine)

    async def send() -> None:
        for request in requests:
            await engine.engine_core.add_request_async(request)

    asyncio.run(send())
    assert [r.external_req_id for r in arrived] == [r.external_req_id for r in requests]
    return [r.mm_features and [f.data for f in r.mm_features] for r in arrived]


CASES = {
    "the first response of a request has them": (
        [Sent("a-0"), Sent("a-0"), Sent("a-0")],
        [["tensor"], [None], [None]],
    ),
    "requests that are sent side by side keep apart": (
        [Sent("a-0"), Sent("b-1"), Sent("a-0"), Sent("b-1")],
        [["tensor"], ["tensor"], [None], [None]],
    ),
    "another request for the same picture has it again": (
        [Sent("a-0"), Sent("a-1")],
        [["tensor"], ["tensor"]],
    ),
    "asked for again whole": ([Sent(f"{WHOLE}a-0")] * 2, [["tensor"], ["tensor"]]),
    "without pictures": ([Sent("a-0", None), Sent("a-0", None)], [None, None]),
    "without a name": ([Sent(None)] * 2, [["tensor"], ["tensor"]]),
}


@pytest.mark.parametrize(("requests", "data"), CASES.values(), ids=CASES)
def test_pictures_are_sent_once_per_request(
    requests: list[Sent], data: list[list[str | None] | None]
) -> None:
    assert sent(requests) == data


def test_nothing_is_left_out_where_responses_go_to_several_engines() -> None:
    assert sent([Sent("a-0"), Sent("a-0")], engines=2) == [["tensor"], ["tensor"]]
