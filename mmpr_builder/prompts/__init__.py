r"""Stage 2: prompts. A template is a text file; the style of the answer travels with the text.

    ---
    style: boxed
    language: en
    ---
    {question}

    Work it out step by step, then give the final answer once, inside \boxed{}.

`{question}` is replaced as plain text, once: braces in questions and templates mean nothing. A file
without the block at the top gets its style from what the text itself asks for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mmpr_builder.errors import InputError
from mmpr_builder.prompts.templates import (
    JUDGE_PREFIX as JUDGE_PREFIX,
    SLOT,
    Templates as Templates,
    load_template as load_template,
    load_templates as load_templates,
    template_names as template_names,
)
from mmpr_builder.records import IMAGE_PLACEHOLDER, Seed, Template

CONTROL = re.compile(
    r"<[|｜]|[|｜]>|</?s>|<(?:bos|eos|pad|unk)>|<\w+_of_\w+>|\[/?(?:INST|SYS)\]|<</?SYS>>",
    re.IGNORECASE,
)
"""Control tokens of chats, which servers obey wherever they stand."""
_SLOTS = re.compile(r"\{(\w+)\}")


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text with values in its `{slots}`, in one pass: what stands inside a value fills nothing,
    and other braces stay."""
    return _SLOTS.sub(lambda slot: values.get(slot[1], slot[0]), text)


def render(template: Template, seed: Seed) -> str:
    """The prompt text of a seed; keeps one `<image>` per image (see `split_images`). Raises
    `InputError` for a template that has no place for the question."""
    if SLOT not in template.text:
        raise InputError(
            f"template {template.name!r} has no {SLOT}: write it once, where the question goes"
        )
    return template.text.replace(SLOT, seed.question, 1)


def split_images(prompt: str) -> list[str | None]:
    """A prompt as its text parts, with None where an image stands; empty texts are left out.

    `"<image>\\nWhat is this?"` -> `[None, "\\nWhat is this?"]`
    """
    first, *others = prompt.split(IMAGE_PLACEHOLDER)
    found = [first, *(part for text in others for part in (None, text))]
    return [part for part in found if part != ""]


def parts(prompt: str) -> list[str | None]:
    """A prompt as the parts of a chat message: texts, and None for each image. The line break that
    data sets write between the two is dropped: that is up to the model's own chat template."""
    raw = split_images(prompt)
    shown: list[str | None] = []
    for before, part, after in zip(["", *raw], raw, [*raw[1:], ""], strict=False):
        if part is None:
            shown.append(None)
            continue
        text = part.removeprefix("\n") if before is None else part
        text = text.removesuffix("\n") if after is None else text
        if text:
            shown.append(text)
    return shown
