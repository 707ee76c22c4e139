"""Images and lengths of a data set, as a trainer's workers would meet them hours in.

    RowChecks(FORMATS["trl"].faults).run(items)      (item, [Fault("special_token", …)]), …
    ImageChecker(2**24).check(picture)               (480, 640), None
    TokenCounter("models/my-vlm").longest(…)         [412, 1890, …] tokens of each row

Every image is opened once. How many tokens an image adds depends on its size alone, so the
processor counts them once for each size, with a blank picture. For Hugging Face processors the sum
is what they give for the whole row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from mmpr_builder.errors import InputError, MissingExtraError, RowError
from mmpr_builder.export.faults import Fault
from mmpr_builder.export.items import BadRow, Item, Picture, digest_of
from mmpr_builder.io import images

_BATCH = 64  # Rows checked together: images of a few hundred KB each.
_SIZES = 65_536  # Sizes remembered: real photographs have many.
# What chat templates of common models mark turns and images with, where no model is given.
_COMMON_MARKS = re.compile(
    r"<\|[\w-]{1,40}\|>|<(?:start|end)_of_(?:turn|utterance)>|\[/?INST\]"
    r"|<fake_token_around_image>"
)

Size = tuple[int, int]
"""Height and width in pixels."""
Checked = tuple[Size | None, Fault | None]


class RowChecks:
    """All faults of a row: what its format says, special tokens, images, and lengths by a model."""

    def __init__(
        self,
        of_format: Callable[[Item], Iterator[Fault]],
        *,
        model: str | None = None,
        context: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        """Raises `InputError` for a model that cannot count tokens or has no known context."""
        self._of_format = of_format
        self.counter = None if model is None else TokenCounter(model)
        self._limit = context or (self.counter.context if self.counter else None)
        if self.counter is not None and self._limit is None:
            raise InputError(
                f"--model {model!r} does not say how long its context is: give --context"
            )
        self._marks = self.counter.special_tokens() if self.counter else _COMMON_MARKS
        self.images = ImageChecker(max_pixels)

    def run(self, items: Iterable[Item | BadRow]) -> Iterator[tuple[Item | BadRow, list[Fault]]]:
        """Each row with its faults; images are opened and lengths counted for some rows at once."""
        left = iter(items)
        while batch := list(islice(left, _BATCH)):
            yield from zip(batch, self._faults(batch), strict=True)

    def _faults(self, batch: Sequence[Item | BadRow]) -> list[list[Fault]]:
        found: list[list[Fault]] = []
        measured: list[tuple[list[Fault], Item, list[Size]]] = []
        for item in batch:
            if isinstance(item, BadRow):
                found.append([Fault(item.reason, item.detail)])
                continue
            faults = [*self._of_format(item), *self._leaks(item)]
            checked = [self.images.check(picture) for picture in item.pictures]
            faults += [fault for _, fault in checked if fault is not None]
            found.append(faults)
            sizes = [size for size, _ in checked if size is not None]
            # The processor would raise where images do not fit their places.
            if len(sizes) == len(item.pictures):
                measured.append((faults, item, sizes))
        if self.counter is not None:
            self._measure(measured, self.counter)
        return found

    def _leaks(self, item: Item) -> Iterator[Fault]:
        asked = (("the question", text) for text in item.asked)
        for side, text in (*asked, *item.sides):
            found = self._marks.search(text)
            if found:
                yield Fault("special_token", f"{side} says {found[0]!r}")

    def _measure(
        self, rows: Sequence[tuple[list[Fault], Item, list[Size]]], counter: TokenCounter
    ) -> None:
        """Add to the faults of rows what is wrong with their lengths."""
        fine = []
        for faults, item, sizes in rows:
            try:
                for size in sizes:
                    counter.image_tokens(size)
                fine.append((faults, item, sizes))
            # Each processor has its own way to refuse a size.
            except Exception as error:  # noqa: BLE001
                faults.append(Fault("image_refused", f"{size}: {error}"[:200]))
        totals = counter.longest([item for _, item, _ in fine], [sizes for *_, sizes in fine])
        limit = self._limit or 0
        for (faults, *_), total in zip(fine, totals, strict=True):
            if total > limit:
                faults.append(Fault("too_long", f"{total:,} tokens, over {limit:,}"))


class ImageChecker:
    """Remembers what it has seen: 32 bytes and a verdict per distinct image, never the image."""

    def __init__(self, max_pixels: int | None = None) -> None:
        self._max_pixels = max_pixels
        self._seen: dict[bytes, Checked] = {}
        self._files: dict[Path, Checked] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def check(self, picture: Picture) -> Checked:
        """Its size, if it opens, and what is wrong with it."""
        if picture.path is None:
            return self._look(picture)
        if picture.path not in self._files:
            self._files[picture.path] = self._look(picture)
        return self._files[picture.path]

    def _look(self, picture: Picture) -> Checked:
        try:
            data = picture.read()
        except RowError as error:
            return None, Fault(error.reason, error.detail)
        digest = digest_of(data)
        if digest not in self._seen:
            self._seen[digest] = self._open(data)
        return self._seen[digest]

    def _open(self, data: bytes) -> Checked:
        try:
            width, height = images.open_image(data).size
        except RowError as error:
            return None, Fault(error.reason, error.detail)
        most = self._max_pixels
        if most is not None and width * height > most:
            said = f"{width} x {height} pixels, over {most:,}"
            return (height, width), Fault("image_large", said)
        return (height, width), None


class TokenCounter:
    """Counts tokens with the processor of one local model."""

    def __init__(self, model: str) -> None:
        """Raises `InputError` for a model without a processor and chat template of its own."""
        try:
            from transformers import AutoConfig, AutoProcessor
            from transformers.utils import logging
        except ImportError:
            raise MissingExtraError(
                "--model needs transformers: pip install 'mmpr-builder[train]'"
            ) from None
        noise = logging.get_verbosity()
        logging.set_verbosity_error()  # Half-made text configs of vision models warn in vain.
        try:
            self._processor: Any = AutoProcessor.from_pretrained(model)
            config: Any = AutoConfig.from_pretrained(model)
        # Several libraries raise their own types here (no file, unknown class, bad JSON …).
        except Exception as error:  # noqa: BLE001
            said = " ".join(str(error).split())  # All of it: what is missing may come last.
            raise InputError(
                f"--model {model!r}: no processor can be loaded ({said}): give the folder of a"
                " vision-language model"
            ) from None
        finally:
            logging.set_verbosity(noise)
        if getattr(self._processor, "image_processor", None) is None or not getattr(
            self._processor, "chat_template", None
        ):
            raise InputError(
                f"--model {model!r}: it has no image processor and chat template: give the folder"
                " of a vision-language model"
            )
        self._tokenizer: Any = self._processor.tokenizer
        text = config.get_text_config()
        self.context: int | None = getattr(text, "max_position_embeddings", None)
        """Positions that the model has, in tokens."""
        self.image_tokens = lru_cache(_SIZES)(self._image_tokens)

    def special_tokens(self) -> re.Pattern[str]:
        """Matches any text that its tokenizer turns into a special token (`<image>` left out)."""
        added = self._tokenizer.added_tokens_decoder.values()
        names = {str(token) for token in added if token.special} - {"<image>", ""}
        return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")

    def longest(self, items: Sequence[Item], sizes: Sequence[Sequence[Size]]) -> list[int]:
        """Tokens of each row with its longer response; `sizes` has the images of each row.

        Raises `ValueError` and the like where the processor refuses an image of such a size.
        """
        texts = [self._rendered(item, reply) for item in items for reply in _replies(item)]
        counts = iter(self._count(texts))
        return [
            max(next(counts) for _ in _replies(item)) + sum(map(self.image_tokens, pictures))
            for item, pictures in zip(items, sizes, strict=True)
        ]

    def _rendered(self, item: Item, reply: str | None) -> str:
        shown = [
            {"type": "image"} if part is None else {"type": "text", "text": part}
            for part in item.parts
        ]
        turns = [("user", shown)]
        if item.system:
            turns.insert(0, ("system", [{"type": "text", "text": item.system}]))
        if reply is not None:
            turns.append(("assistant", [{"type": "text", "text": reply}]))
        rendered: str = self._processor.apply_chat_template(
            [{"role": role, "content": content} for role, content in turns],
            tokenize=False,
            add_generation_prompt=reply is None,
        )
        return rendered

    def _count(self, texts: list[str]) -> list[int]:
        if not texts:
            return []
        return [len(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def _image_tokens(self, size: Size) -> int:
        """Tokens that an image of this size adds to its placeholder."""
        height, width = size
        text = self._rendered(Item("", "", (None, "?"), "?"), None)
        blank = Image.new("RGB", (width, height))
        whole = self._processor(text=[text], images=[[blank]], add_special_tokens=False)
        return len(whole["input_ids"][0]) - self._count([text])[0]


def _replies(item: Item) -> tuple[str | None, ...]:
    """The responses to measure; a query alone is measured as a prompt."""
    return tuple(text for _, text in item.sides) or (None,)
