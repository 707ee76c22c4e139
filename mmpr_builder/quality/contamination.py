"""Seeds that are in an evaluation set, found before a token is spent on them.

    same picture and a similar question                        rule "question_and_image"
    nearly the same long question, one of the two without
      a picture                                                rule "question"
    same picture, whatever is asked (`policy: image` only)     rule "image"

Many data sets share pictures between their splits on purpose (COCO, charts with several questions),
so by default a picture alone is no leak. Nor is a question alone where both have pictures: "How
many objects are there?" is asked of thousands. "Similar" is loose next to the same picture (a
paraphrase is still a leak) and tight without one. An index holds some 300 bytes of hashes per
picture, and the questions, in memory.
"""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mmpr_builder.config import DecontaminateConfig
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.access import Access
from mmpr_builder.io.images import NO_NETWORK
from mmpr_builder.io.ordered_map import Spread, in_threads
from mmpr_builder.quality.likeness import (
    EQUAL,
    RADIUS,
    Box,
    Likeness,
    best_box,
    hashes_with_crops,
    likeness,
    ngrams,
    opened,
    picture_hash,
    same_details,
    similarity,
    weight,
    whole,
    words,
)
from mmpr_builder.records import Drop, ImageRef, Seed

if TYPE_CHECKING:
    from PIL.Image import Image

CONTAMINATED = "contaminated"
_NGRAM = 3
_SHARED_NGRAMS = 0.25  # Of a question's own; below it there is nothing to compare word by word.
_KEPT_OPEN = 512  # Pictures of evaluation sets, 192 KiB each.


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One question of an evaluation set. `name` is the set as it was given."""

    name: str
    origin: str
    id: str
    words: tuple[str, ...]
    images: tuple[ImageRef, ...]


@dataclass(frozen=True, slots=True)
class Leak:
    """Why a seed counts as part of an evaluation set, and of which row; `question` is the
    similarity of the questions, 0 to 1."""

    rule: str
    row: EvaluationRow
    question: float
    picture: Likeness | None = None

    @property
    def detail(self) -> str:
        row, picture = self.row, self.picture
        text = f"{self.rule}: {row.name}, {row.origin} ({row.id}), questions {self.question:.2f}"
        if picture is None:
            return f"{text} alike"
        return (
            f"{text} alike, pictures {picture.correlation:.3f} alike,"
            f" colours differ by {picture.worst:.0f} at most"
        )


@dataclass(frozen=True, slots=True)
class EvaluationIndex:
    """The rows of all evaluation sets, and what finds them.

    `hashes` (uint64) has one per picture and crop, `owners` (int64) for each (row, picture in it)
    packed as row * 2**16 + picture. `postings`: run of words -> rows whose question is long enough
    to count alone.
    """

    rows: tuple[EvaluationRow, ...]
    hashes: Any
    owners: Any
    postings: dict[str, list[int]] = field(repr=False)


def index_evaluation(
    items: Iterable[tuple[str, Seed | Drop]],
    config: DecontaminateConfig,
    spread: Spread = in_threads,
    access: Access = NO_NETWORK,
) -> EvaluationIndex:
    """Hash what evaluation sets hold: (name of the set, its rows as `read_seeds` gives them).

    `spread` opens the pictures. Raises `InputError` without a usable row, and for a row or picture
    that cannot be read unless `config.unreadable` is "skip".
    """
    rows: list[EvaluationRow] = []
    for name, item in items:
        if isinstance(item, Drop):
            _refuse(f"{name}: {item.item_id}: {item.reason}: {item.detail}", config)
        else:
            asked = words(item.question)
            rows.append(EvaluationRow(name, item.origin, item.id, asked, item.images))
    if not rows:
        raise InputError(
            f"quality.decontaminate.against={','.join(config.against)}: no row could be read, so"
            " nothing would be found: give files that `mmpr audit` can read"
        )
    hashes: list[int] = []
    owners: list[int] = []
    places = ((number, i) for number, row in enumerate(rows) for i in range(len(row.images)))
    open_hashes = functools.partial(functools.partial, _hashes_or_error, access)
    for (number, i), result in spread(open_hashes, places, lambda at: rows[at[0]].images[at[1]]):
        if isinstance(result, tuple):
            hashes += result
            owners += [number * 2**16 + i] * len(result)
        else:
            why = result or "its picture ends every process that opens it, or memory ran out"
            _refuse(f"{rows[number].name}: {rows[number].origin}: {why}", config)
    return EvaluationIndex(
        tuple(rows),
        np.array(hashes, np.uint64),
        np.array(owners, np.int64),
        _postings(rows, config.question_words),
    )


class Decontaminator:
    """Compares seeds with an index; holds some opened pictures of it. Safe to use from threads."""

    def __init__(
        self, index: EvaluationIndex, config: DecontaminateConfig, access: Access = NO_NETWORK
    ) -> None:
        self._index = index
        self._config = config
        self._access = access
        self._open = functools.lru_cache(_KEPT_OPEN)(functools.partial(opened, access=access))

    def leak(self, seed: Seed) -> Leak | None:
        """The evaluation row that a seed repeats, the first one of the strongest rule, or None.

        Pictures that cannot be opened match nothing (sampling drops such a seed).
        """
        asked = words(seed.question)
        return self._by_picture(seed, asked) or self._by_question(seed, asked)

    def _by_picture(self, seed: Seed, asked: Sequence[str]) -> Leak | None:
        alone: Leak | None = None
        for ref in seed.images if len(self._index.hashes) else ():
            try:
                picture = opened(ref, self._access)
            except RowError:
                continue
            for number, place in self._candidates(picture):
                row = self._index.rows[number]
                alike = similarity(asked, row.words)
                similar = alike >= self._config.question_similarity
                if not similar and (self._config.policy != "image" or alone is not None):
                    continue
                other = self._open(row.images[place])
                box = best_box(picture, other)
                found = likeness(picture, other, box)
                if alike >= self._config.text_similarity and picture.tobytes() == other.tobytes():
                    found = EQUAL  # Also where there is hardly anything on it.
                elif found.is_same() and not self._same_details(ref, row.images[place], box):
                    continue
                if similar and found.is_same():
                    return Leak("question_and_image", row, alike, found)
                if self._config.policy == "image" and found.is_same(strict=True):
                    alone = alone or Leak("image", row, alike, found)
        return alone

    def _same_details(self, one: ImageRef, other: ImageRef, box: Box) -> bool:
        """Whether `one` agrees with the `box` of `other` where values can be read."""
        try:
            pictures = whole(one, self._access), whole(other, self._access)
        except RowError:  # It was there a moment ago.
            return False
        return same_details(*pictures, box)

    def _candidates(self, picture: Image) -> list[tuple[int, int]]:
        """(row, picture of it) whose hash is near, in the order of the rows."""
        distances = np.bitwise_count(self._index.hashes ^ np.uint64(picture_hash(picture)))
        near = np.unique(self._index.owners[distances <= RADIUS]).tolist()
        return [divmod(owner, 2**16) for owner in near]

    def _by_question(self, seed: Seed, asked: Sequence[str]) -> Leak | None:
        if weight(asked) < self._config.question_words:
            return None
        runs = ngrams(asked, _NGRAM)
        shared = Counter(
            number for run in sorted(runs) for number in self._index.postings.get(run, ())
        )
        for number in sorted(shared):
            row = self._index.rows[number]
            if shared[number] < _SHARED_NGRAMS * len(runs) or (seed.images and row.images):
                continue
            alike = similarity(asked, row.words)
            if alike >= self._config.text_similarity:
                return Leak("question", row, alike)
        return None


def _postings(rows: Sequence[EvaluationRow], least: float) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if weight(row.words) >= least:
            for run in ngrams(row.words, _NGRAM):
                found[run].append(number)
    return dict(found)


def _refuse(what: str, config: DecontaminateConfig) -> None:
    if config.unreadable == "stop":
        raise InputError(
            f"quality.decontaminate.against: {what}: mend the row, as it would not be looked for,"
            " or set quality.decontaminate.unreadable=skip"
        )


def _hashes_or_error(access: Access, ref: ImageRef) -> tuple[int, ...] | str:
    try:
        return hashes_with_crops(opened(ref, access))
    except RowError as error:
        return str(error)
