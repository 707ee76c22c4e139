"""What is wrong with a pair for every trainer, judged by its texts alone.

Exports refuse a row at its first fault and lint reports all of them, by the same functions: what
passes lint is exported, and the other way round. A format adds the rules of its own loader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from mmpr_builder.export.items import Item


class Fault(NamedTuple):
    """`reason` is a snake_case word for counting, `detail` says what was found."""

    reason: str
    detail: str


IMAGE_MARK = re.compile(r"<image>")


def pair_faults(
    item: Item, marks: re.Pattern[str] = IMAGE_MARK, *, may_lack: bool = False
) -> Iterator[Fault]:
    """Faults of prompt and sides. `marks` is what a loader takes for a place of media.

    `may_lack`: the loader puts images in front where a prompt shows none.
    """
    yield from _prompt_faults(item, marks, may_lack=may_lack)
    for side, text in item.sides:
        if not text.strip():
            yield Fault("empty_text", f"{side} is empty")
        found = marks.search(text)
        if found:
            yield Fault("placeholder_in_response", f"{side} says {_around(text, found)}")
    said = {text.strip() for _, text in item.sides}
    if len(item.sides) == 2 and len(said) == 1 and said != {""}:
        yield Fault("identical_sides", f"both begin {said.pop()[:60]!r}")


def _prompt_faults(item: Item, marks: re.Pattern[str], *, may_lack: bool) -> Iterator[Fault]:
    want, have = len(item.pictures), item.placeholders
    if want != have and not (may_lack and not have):
        yield Fault("placeholder_mismatch", f"the prompt shows {have} images, the row has {want}")
    texts = [part for part in item.parts if part is not None]
    if not any(text.strip() for text in texts):
        yield Fault("empty_text", "the prompt is empty")
    for text in texts:
        found = marks.search(text)
        if found:
            yield Fault("placeholder_in_prompt", f"the question says {_around(text, found)}")
            break


def _around(text: str, found: re.Match[str]) -> str:
    return repr(text[max(0, found.start() - 20) : found.end() + 20])
