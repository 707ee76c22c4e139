"""Examples of seeds that gave no pair, a few for each reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mmpr_builder import tables
from mmpr_builder.escaping import visible
from mmpr_builder.records import Drop
from mmpr_builder.report.texts import question_text

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
            examples.append(_example(drop))
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


def _example(drop: Drop) -> Example:
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
