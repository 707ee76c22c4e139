"""Examples of responses and continuations that controls left aside, out of the rollouts.

The counts of a build say how many there were; here the first of each reason are found again by the
same functions, in the order of the build. Where the rollouts are gone there are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from mmpr_builder.escaping import visible
from mmpr_builder.extraction import extract_answer
from mmpr_builder.io import tables
from mmpr_builder.quality import continuation_fault, response_fault
from mmpr_builder.records import Continuation, Drop, Response, Rollout
from mmpr_builder.report.texts import question_text

# ---- dropped
# Examples of seeds that gave no pair, a few for each reason.


EXAMPLES = 3
_SHOWN = 300
_AT_ONCE = 1024  # Drops held at a time; a large build has hundreds of thousands.


@dataclass(frozen=True, slots=True)
class Example:
    """One dropped seed; `question` is empty where its rollout is not there."""

    item_id: str
    detail: str
    question: str = ""


def read_examples(out: str) -> dict[tuple[str, str], list[Example]]:
    """The first seeds of each (stage, reason), in the order of the build."""
    found: dict[tuple[str, str], list[Example]] = {}
    for drop in read_drops(out):
        examples = found.setdefault((drop.stage, drop.reason), [])
        if len(examples) < EXAMPLES:
            examples.append(_example_dropped(drop))
    questions = _questions(out, {e.item_id for examples in found.values() for e in examples})
    return {
        key: [replace(e, question=questions.get(e.item_id, "")) for e in examples]
        for key, examples in found.items()
    }


def read_drops(out: str) -> Iterator[Drop]:
    """All drops of a build, in its order."""
    for part in tables.list_parts(f"{out}/drops", tables.DROP_SCHEMA):
        for group in tables.read_groups(part, tables.DROP_SCHEMA.names):
            for start in range(0, group.num_rows, _AT_ONCE):
                yield from tables.drops_from_table(group.slice(start, _AT_ONCE))


def _example_dropped(drop: Drop) -> Example:
    return Example(drop.item_id, visible(drop.detail[:_SHOWN]))


def _questions(out: str, wanted: set[str]) -> dict[str, str]:
    """Questions by seed id, out of the rollouts as far as they are there."""
    found: dict[str, str] = {}
    for part in tables.list_parts(f"{out}/rollouts") if wanted else []:
        rows = tables.read_parquet(part, ["id", "question"])
        for name, question in zip(
            rows["id"].to_pylist(), rows["question"].to_pylist(), strict=True
        ):
            if name in wanted:
                found[name] = question_text(question)[:_SHOWN]
        if len(found) == len(wanted):
            break
    return found


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
