"""Examples of responses and continuations that controls left aside, out of the rollouts.

The counts of a build say how many there were; here the first of each reason are found again by the
same functions, in the order of the build. Where the rollouts are gone there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mmpr_builder import tables
from mmpr_builder.escaping import visible
from mmpr_builder.extraction import extract_answer
from mmpr_builder.quality import continuation_fault, response_fault
from mmpr_builder.records import Continuation, Response, Rollout
from mmpr_builder.report.dropped import EXAMPLES, Example

_MOST_RESPONSES = 4_000
"""Looked at, at most: about a second. What is rarer than one in a thousand may show no example."""
_TEXT = 160


def read_asides(out: str, wanted: Iterable[str]) -> dict[str, list[Example]]:
    """The first examples of each reason of `this_run.quality` that is wanted."""
    found: dict[str, list[Example]] = {reason: [] for reason in wanted}
    looked = 0
    for rollout in _rollouts(out) if found else ():
        if looked >= _MOST_RESPONSES or all(len(some) >= EXAMPLES for some in found.values()):
            break
        looked += len(rollout.responses)
        for reason, example in _faults(rollout):
            some = found.get(reason)
            # Of different questions: what is wrong once is often wrong in all its responses.
            if some is not None and len(some) < EXAMPLES and _last_of(some) != example.item_id:
                some.append(example)
    return {reason: some for reason, some in found.items() if some}


def _last_of(examples: list[Example]) -> str | None:
    """The question of the last of these examples."""
    return examples[-1].item_id if examples else None


def _rollouts(out: str) -> Iterator[Rollout]:
    for part in tables.list_parts(f"{out}/rollouts"):
        yield from tables.rollouts_from_table(tables.read_parquet(part))


def _faults(rollout: Rollout) -> Iterator[tuple[str, Example]]:
    seed = rollout.seed
    for response in rollout.responses:
        answer = None if rollout.style == "open" else extract_answer(response.text, rollout.style)
        fault = response_fault(
            response.text, question=seed.question, language=seed.language, answer=answer
        )
        if fault is not None:
            yield fault.reason, _example(seed.id, fault.detail, response.text)
        for continuation in response.continuations:
            yield from _continued(seed.id, response, continuation)


def _continued(
    name: str, response: Response, continuation: Continuation
) -> Iterator[tuple[str, Example]]:
    fault = continuation_fault(response, continuation)
    if fault is not None and continuation.finish_reason == "stop":
        yield f"continuation_{fault.reason}", _example(name, fault.detail, continuation.text)


def _example(name: str, detail: str, text: str) -> Example:
    shown = text.strip()
    return Example(
        name,
        visible(detail[:_TEXT]),
        visible(shown[:_TEXT]) + ("…" if len(shown) > _TEXT else ""),
    )
