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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmpr_builder.config import DecontaminateConfig
from mmpr_builder.errors import InputError, RowError
from mmpr_builder.io.access import Access
from mmpr_builder.io.images import NO_NETWORK
from mmpr_builder.io.ordered_map import Spread, in_threads
from mmpr_builder.quality.likeness import (
    EQUAL,
    RADIUS,
    Likeness,
    hashes_with_crops,
    near,
    ngrams,
    same_picture,
    similarity,
    squared,
    weight,
    whole,
    words,
)
from mmpr_builder.records import Drop, ImageRef, Seed

CONTAMINATED = "contaminated"
_NGRAM = 3
_SHARED_NGRAMS = 0.25  # Of a question's own; below it there is nothing to compare word by word.


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One question of an evaluation set. `name` is the set as it was given."""

    name: str
    origin: str
    id: str
    words: tuple[str, ...]
    images: tuple[ImageRef, ...]


@dataclass(frozen=True, slots=True)
class EvaluationIndex:
    """The rows of all evaluation sets, and what finds them.

    `hashes` (uint64) has a row per picture, `owners` to whom it belongs as (row, picture in it).
    `postings`: run of words -> rows whose question is long enough to count alone.
    """

    rows: tuple[EvaluationRow, ...]
    hashes: Any
    owners: Sequence[tuple[int, int]]
    postings: dict[str, list[int]] = field(repr=False)


def index_evaluation(
    items: Iterable[tuple[str, Seed | Drop]],
    config: DecontaminateConfig,
    spread: Spread = in_threads,
    access: Access = NO_NETWORK,
    told: Callable[[int], object] = lambda _: None,
) -> EvaluationIndex:
    """Hash what evaluation sets hold: (name of the set, its rows as `read_seeds` gives them).

    `spread` opens the pictures; `told` gets the number of each. Raises `InputError` without a
    usable row, and for a row or picture that cannot be read unless `config.unreadable` is "skip".
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
    hashes: list[tuple[int, ...]] = []
    owners: list[tuple[int, int]] = []
    places = ((number, i) for number, row in enumerate(rows) for i in range(len(row.images)))
    open_hashes = functools.partial(functools.partial, _hashes_or_error, access)
    opened = spread(open_hashes, places, lambda at: rows[at[0]].images[at[1]])
    for count, ((number, i), result) in enumerate(opened, 1):
        told(count)
        if isinstance(result, tuple):
            hashes.append(result)
            owners.append((number, i))
        else:
            why = result or "its picture ends every process that opens it, or memory ran out"
            _refuse(f"{rows[number].name}: {rows[number].origin}: {why}", config)
    postings = _postings(rows, config.question_words)
    return EvaluationIndex(tuple(rows), np.array(hashes, np.uint64), owners, postings)


class Decontaminator:
    """Compares seeds with an index. Safe to use from threads."""

    def __init__(
        self, index: EvaluationIndex, config: DecontaminateConfig, access: Access = NO_NETWORK
    ) -> None:
        self._index = index
        self._config = config
        self._access = access

    def leak(self, seed: Seed) -> str | None:
        """The rule by which a seed repeats an evaluation row, that row (the first one of the
        strongest rule) and how alike they are; None if it repeats none.

        Pictures that cannot be opened match nothing (sampling drops such a seed).
        """
        asked = words(seed.question)
        return self._by_picture(seed, asked) or self._by_question(seed, asked)

    def _by_picture(self, seed: Seed, asked: Sequence[str]) -> str | None:
        alone: str | None = None
        for ref in seed.images if self._index.owners else ():
            try:
                mine = whole(ref, self._access)
            except RowError:
                continue
            hashes = np.array(hashes_with_crops(mine), np.uint64)
            for place in np.flatnonzero(near(hashes, self._index.hashes, RADIUS)).tolist():
                number, picture = self._index.owners[place]
                row = self._index.rows[number]
                alike = similarity(asked, row.words)
                similar = alike >= self._config.question_similarity
                if not similar and (self._config.policy != "image" or alone is not None):
                    continue
                try:
                    theirs = whole(row.images[picture], self._access)
                except RowError:  # It was there a moment ago.
                    continue
                found = same_picture(mine, theirs, strict=not similar)
                if found is None and alike >= self._config.text_similarity:
                    # Also where there is hardly anything on it.
                    equal = squared(mine).tobytes() == squared(theirs).tobytes()
                    found = EQUAL if equal else None
                if found is not None and similar:
                    return f"question_and_image: {_alike(row, alike, found)}"
                if found is not None:
                    alone = f"image: {_alike(row, alike, found)}"
        return alone

    def _by_question(self, seed: Seed, asked: Sequence[str]) -> str | None:
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
                return f"question: {_alike(row, alike)}"
        return None


def _alike(row: EvaluationRow, questions: float, pictures: Likeness | None = None) -> str:
    text = f"{row.name}, {row.origin} ({row.id}), questions {questions:.2f} alike"
    if pictures is None:
        return text
    return (
        f"{text}, pictures {pictures.correlation:.3f} alike,"
        f" colours differ by {pictures.worst:.0f} at most"
    )


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
        return hashes_with_crops(whole(ref, access))
    except RowError as error:
        return str(error)
