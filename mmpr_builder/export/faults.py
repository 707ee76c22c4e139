"""What is wrong with a pair for every trainer, judged by its texts alone.

Exports refuse a row at its first fault and lint reports all of them, by the same functions
(`lint_checks.RowChecks`): what passes lint is exported, and the other way round. A format adds the
rules of its own loader.
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


def pair_faults(
    item: Item, marks: re.Pattern[str] = re.compile(r"<image>"), *, may_lack: bool = False
) -> Iterator[Fault]:
    """Faults of prompt and sides. `marks` is what a loader takes for a place of media.

    `may_lack`: the loader puts images in front where a prompt shows none.
    """
    want, have = len(item.pictures), item.parts.count(None)
    if want != have and not (may_lack and not have):
        yield Fault("placeholder_mismatch", f"the prompt shows {have} images, the row has {want}")
    if not any(part and part.strip() for part in item.parts):
        yield Fault("empty_text", "the prompt is empty")
    asked = next(filter(None, map(marks.search, item.asked)), None)
    if asked is not None:
        yield Fault("placeholder_in_prompt", f"the question says {_around(asked)}")
    for side, text in item.sides:
        if not text.strip():
            yield Fault("empty_text", f"{side} is empty")
        if found := marks.search(text):
            yield Fault("placeholder_in_response", f"{side} says {_around(found)}")
    said = {text.strip() for _, text in item.sides}
    if len(item.sides) == 2 and len(said) == 1 and said != {""}:
        yield Fault("identical_sides", f"both begin {said.pop()[:60]!r}")


def _around(found: re.Match[str]) -> str:
    return repr(found.string[max(0, found.start() - 20) : found.end() + 20])


REMEDIES: dict[str, str] = {
    "placeholder_mismatch": "Trainers stop, or take another row in silence: leave these rows out"
    " (mmpr export does), and mend the question's <image> marks in the seeds.",
    "placeholder_in_prompt": "The loader takes it for an image: leave the row out (mmpr export"
    " does), or word the question without it.",
    "placeholder_in_response": "Loaders count or delete it: leave the row out (mmpr export does).",
    "identical_sides": "The loss of such a pair is constant: leave it out (mmpr export does).",
    "empty_text": "Nothing to learn from, and some trainers stop: leave it out (mmpr export does).",
    "odd_prompt": "Only single questions can be exported: make it one turn of the user.",
    "odd_response": "Only single responses can be exported: make it one turn of the assistant.",
    "text_only": "The trainer passes over rows without an image: mmpr export leaves them out.",
    "multi_image": "The trainer passes over rows with several images: mmpr export leaves them out.",
    "image_missing": "Put the file back, or export again: the trainer stops or takes another row.",
    "image_unreadable": "Replace or remove it and build or export again: the trainer stops at it.",
    "image_too_large": "Shrink it in the seeds and build again: decoders refuse it.",
    "image_bad_aspect": "Processors refuse such ratios: leave the row out (mmpr export does), or"
    " crop it in the seeds and build again.",
    "image_large": "Memory may not do: shrink it in the seeds, or raise --max-pixels.",
    "image_refused": "The model's own processor raises at this size: change or remove the image.",
    "too_long": "It is cut or dropped in training: leave the row out (mmpr export --model does),"
    " lower sampling.max_tokens, or train with a longer context.",
    "special_token": "It would be read as a mark of the chat template, and some trainers stop:"
    " leave the row out (mmpr export does; --model says which tokens a model has).",
    "mixed_schema": "Loaders refuse such a folder: mmpr export OUT DEST --to trl gives one schema.",
    "bad_json": "The trainer stops at this line: export again.",
    "missing_field": "The trainer stops at this row: export again.",
    "bad_recipe": "The trainer does not find or accept it: export again, with --mount where it"
    " sees other paths.",
}
"""What a finding of lint means for training, and what to do about it."""
