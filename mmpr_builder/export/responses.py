"""Parquet in TRL's forms: a build's pairs, and other stages of training from the same rollouts.

    trl    the pairs as they are: picked, checked and united under one schema
    sft    prompt, completion            the best right responses of a question, unlike each other
    kto    prompt, completion, label     every response whose verdict is certain
    grpo   prompt, answers, style, …     questions of middling pass rate; `trl_reward` judges them

What TRL's collators do (trl 1.16, `DataCollatorForVisionPreference`): the image parts of a prompt
are filled from `images` in order and another number of them raises; rows without images carry
`images: []`. All shards must have one schema: pairs of older builds get null in columns they lack.
GRPOTrainer stops at a batch in which some prompts have images and others none. Rejection sampling
for `sft` is that of RFT (arXiv 2308.01825): right responses only, several for a question where they
differ.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmpr_builder.config import Config
from mmpr_builder.errors import RowError
from mmpr_builder.export.destination import ParquetFiles
from mmpr_builder.export.faults import Fault, pair_faults
from mmpr_builder.export.items import Item, Picture, turn_of
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.writing import Format
from mmpr_builder.io.access import sampled_access
from mmpr_builder.io.tables import plain
from mmpr_builder.output import pair_schema, schema_of
from mmpr_builder.output.rows import REFERENCE
from mmpr_builder.output.stored_images import load_images
from mmpr_builder.pairing import scorer_for
from mmpr_builder.pairing.candidates import is_positive, negative_kind
from mmpr_builder.pairing.pooled import PooledRollout, member_at, rate_of
from mmpr_builder.prompts import parts as prompt_parts
from mmpr_builder.quality.filters import filtered
from mmpr_builder.records import Response, Rollout, Verdict, content_id

_ROUNDING = 1e-9


class SplitFiles:
    """Parquet for training in one folder, and in `validation` what is kept for that.

    `row` makes the row of an item. Images are inside, not files.
    """

    def __init__(
        self,
        folder: Path,
        options: ExportOptions,
        train: str,
        schema: pa.Schema,
        row: Callable[[Item], Mapping[str, Any]],
        **how: int,
    ) -> None:
        self._names = {"train": train}
        if options.validation:
            self._names["validation"] = "validation"
        self._files = {
            split: ParquetFiles(folder / name, schema, **how) for split, name in self._names.items()
        }
        self._row = row
        self.rows: Counter[str] = Counter()

    def add(self, item: Item) -> None:
        self._files[item.split].add(self._row(item))
        self.rows[item.split] += 1

    def finish(self) -> dict[str, Any]:
        for file in self._files.values():
            file.close()
        entries = {name: self.rows[split] for split, name in self._names.items()}
        return {"images": 0, "entries": entries}


def _open_pairs(folder: Path, home: Path, options: ExportOptions) -> SplitFiles:
    schema = pair_schema(REFERENCE if options.referenced else ())
    return SplitFiles(folder, options, "pairs", schema, partial(_pair, schema.names))


def _pair(names: Sequence[str], item: Item) -> Mapping[str, Any]:
    if any(picture.data is None for picture in item.pictures):
        raise RowError("image_missing", "the row holds no bytes for an image")
    row = {name: (item.row or {}).get(name) for name in names}
    # Pairs made elsewhere may have the conversations alone.
    texts = {f"{side}_text": text for side, text in item.sides}
    told = {"question": item.text, "prompt_text": item.text, **texts}
    return row | {k: text for k, text in told.items() if row[k] is None}


TRL = Format("trl", pair_faults, _open_pairs)


def query_features() -> dict[str, Any]:
    """The types of what `about_query` gives."""
    from datasets import List, Value

    text = Value("string")
    return {
        **dict.fromkeys(("id", "question", "answer"), text),
        **dict.fromkeys(("answers", "choices"), List(text)),
        **dict.fromkeys(("style", "scorer"), text),
        "pass_rate": Value("float64"),
        "n_samples": Value("int64"),
    }


@cache
def features(stage: str) -> Any:
    """The `datasets.Features` of a row."""
    from datasets import Features, Image, List, Value

    text, count = Value("string"), Value("int64")
    message = {"role": text, "content": List({"type": text, "text": text})}
    said = {"completion": List(message), "response_index": count, "response_tokens": count}
    own = {"sft": said, "kto": {**said, "label": Value("bool"), "kind": text}, "grpo": {}}
    return Features(
        {
            "images": List(Image(mode="RGB")),
            "prompt": List(message),
            **own[stage],
            **dict.fromkeys(("id", "seed_id", "source", "model"), text),
            **query_features(),
        }
    )


def _open(stage: str, folder: Path, home: Path, options: ExportOptions) -> SplitFiles:
    return SplitFiles(folder, options, "train", schema_of(features(stage)), with_images)


def with_images(item: Item) -> dict[str, Any]:
    images = [{"bytes": picture.read(), "path": None} for picture in item.pictures]
    return {**(item.row or {}), "images": images}


def within(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, options: ExportOptions
) -> float:
    """The pass rate of a question. Raises `RowError` where it is none or outside the band.

    With `control` any rate is inside.
    """
    rate = rate_of(rollout, verdicts, config)
    if rate is None:
        raise RowError("nothing_decided", "no response could be judged for certain")
    low, high = (0.0, 1.0) if options.control else options.pass_rate
    # Rates of adaptive sampling are means, and 0.8 three times is 0.8000000000000002 on average.
    if not low - _ROUNDING <= rate <= high + _ROUNDING:
        raise RowError("too_hard" if rate < low else "too_easy", f"pass rate {rate:.3f}")
    return rate


def query_item(rollout: Rollout, config: Config) -> Item:
    """The prompt of a rollout with its images. Raises `RowError` where one cannot be read."""
    seed = rollout.seed
    return Item(
        seed.origin,
        seed.id,
        tuple(prompt_parts(rollout.prompt)),
        rollout.prompt,
        tuple(Picture(data) for data in load_images(rollout, sampled_access(config))),
        source=seed.source,
    )


def about_query(rollout: Rollout, config: Config, rate: float | None) -> dict[str, Any]:
    """What a reward needs to judge a response, and how hard the question is."""
    seed = rollout.seed
    return {
        "id": seed.id,
        "question": plain(seed.question),
        "answer": plain(seed.answers[0]),
        "answers": plain(seed.answers),
        "choices": plain(seed.choices),
        "style": rollout.style,
        "scorer": scorer_for(seed, config),
        "pass_rate": rate,
        "n_samples": len(rollout.responses),
    }


def _sft(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, options: ExportOptions
) -> Iterator[Item]:
    """The best right responses of a question; with `control` any that are finished."""
    barred = filtered(rollout.seed, rollout.responses, verdicts, config.quality).chosen
    fit = [
        index
        for index, (response, verdict) in enumerate(zip(rollout.responses, verdicts, strict=True))
        if response.text not in barred
        and is_positive(response, Verdict("correct") if options.control else verdict)
    ]
    if not fit:
        raise RowError("no_correct", "no right response that is finished and passes the filters")
    best = _unlike(rollout.responses, fit, options.per_question)
    yield from _items(rollout, verdicts, config, "sft", ((index, {}) for index in best))


def _kto(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, options: ExportOptions
) -> Iterator[Item]:
    """Every response that could stand on a side of a pair, once."""
    barred = filtered(rollout.seed, rollout.responses, verdicts, config.quality)
    taken: dict[str, tuple[int, dict[str, Any]]] = {}
    for index, (response, verdict) in enumerate(zip(rollout.responses, verdicts, strict=True)):
        right = is_positive(response, verdict)
        kind = "correctness" if right else negative_kind(response, verdict)
        if kind and response.text not in (barred.chosen if right else barred.rejected):
            taken.setdefault(response.text, (index, {"label": right, "kind": kind}))
    if not taken:
        raise RowError("nothing_decided", "no response could be judged for certain")
    yield from _items(rollout, verdicts, config, "kto", taken.values())


def _grpo(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, options: ExportOptions
) -> Iterator[Item]:
    """The question itself, if its pass rate lies in the band."""
    rate = within(rollout, verdicts, config, options)
    item = query_item(rollout, config)
    yield replace(item, row=_row(rollout, item, config, rate))


def _unlike(responses: Sequence[Response], fit: Sequence[int], most: int) -> Iterator[int]:
    """The best of `fit`, then again and again the one least like those before it.

    The best is the likeliest by its mean log-probability; where none was kept, one of middling
    length. The order of the responses plays no part.
    """
    from rapidfuzz.distance import Indel

    texts = {responses[index].text: index for index in reversed(fit)}
    middle = statistics.median(len(text) for text in texts)

    def worth(text: str) -> tuple[float, float, str]:
        logprob = responses[texts[text]].logprob
        return (-logprob if logprob is not None else 0.0, abs(len(text) - middle), content_id(text))

    left = sorted(texts, key=worth)
    nearest = dict.fromkeys(left, 0.0)
    for _ in range(min(most, len(left))):
        taken = min(left, key=lambda text: nearest[text])  # The first in order among equals.
        left.remove(taken)
        for text in left:
            nearest[text] = max(nearest[text], Indel.normalized_similarity(text, taken))
        yield texts[taken]


def _items(
    rollout: Rollout,
    verdicts: Sequence[Verdict],
    config: Config,
    stage: str,
    taken: Iterable[tuple[int, dict[str, Any]]],
) -> Iterator[Item]:
    """A row for each response, to the prompt that it answers; `taken` has indices and columns."""
    rate = rate_of(rollout, verdicts, config)
    asked: dict[int, tuple[Item, dict[str, Any]]] = {}
    for index, told in taken:
        number, own = 0, rollout
        if isinstance(rollout, PooledRollout):
            number = member_at(rollout, index)
            own = rollout.members[number]
        if number not in asked:  # Images are read once.
            item = query_item(own, config)
            asked[number] = item, _row(own, item, config, rate)
        item, shared = asked[number]
        response = rollout.responses[index]
        name, text = content_id(rollout.seed.id, stage, response.text), plain(response.text)
        row = {
            **shared,
            "completion": [turn_of("assistant", text)],
            "response_index": index,
            "response_tokens": response.tokens,
            "id": name,
            "n_samples": len(rollout.responses),
            **told,
        }
        yield replace(item, id=name, chosen=text, kind=told.get("kind", ""), row=row)


def _row(rollout: Rollout, item: Item, config: Config, rate: float | None) -> dict[str, Any]:
    """What the rows of all stages have."""
    return {
        "prompt": [turn_of("user", *map(plain, item.parts))],
        **about_query(rollout, config, rate),
        "seed_id": rollout.seed.id,
        "source": plain(rollout.seed.source),
        "model": plain(rollout.model),
    }


def _grpo_faults(item: Item) -> Iterator[Fault]:
    if not item.pictures:
        yield Fault("text_only", "GRPOTrainer stops at batches with and without images")
    yield from pair_faults(item)


SFT = Format("sft", pair_faults, partial(_open, "sft"), options=("per_question",), rows=_sft)
KTO = Format("kto", pair_faults, partial(_open, "kto"), rows=_kto)
GRPO = Format(
    "grpo",
    _grpo_faults,
    partial(_open, "grpo"),
    options=("pass_rate",),
    queries=True,
    rows=_grpo,
)
