"""Other stages of training from the same rollouts, as Parquet in TRL's forms.

    sft    prompt, completion            the best right responses of a question, unlike each other
    kto    prompt, completion, label     every response whose verdict is certain
    grpo   prompt, answers, style, …     questions of middling pass rate; `trl_reward` judges them

Each row has `images`, and its prompt is typed parts as in a build's pairs. What TRL's collators do
with them is as for pairs (trl.py); GRPOTrainer (trl 1.16) stops at a batch in which some prompts
have images and others none. Rejection sampling for `sft` is that of RFT (arXiv 2308.01825):
right responses only, several for a question where they differ.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config, QualityConfig
from mmpr_builder.errors import RowError
from mmpr_builder.export.faults import Fault, pair_faults
from mmpr_builder.export.items import BadRow, Item, item_of
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.trl import SplitFiles
from mmpr_builder.export.verl import about_query, query_item, within
from mmpr_builder.export.writing import Format, Rows
from mmpr_builder.io.tables import plain
from mmpr_builder.output import make_block, schema_of
from mmpr_builder.pairing import Scores, judge_and_pair
from mmpr_builder.pairing.candidates import is_positive, negative_kind
from mmpr_builder.pairing.pooled import PooledRollout, member_at, rate_of
from mmpr_builder.quality.filters import filtered
from mmpr_builder.records import Response, Rollout, Verdict, content_id

_HOW = """
```py
from datasets import load_dataset
from trl import {0}Config, {0}Trainer

data = load_dataset("parquet", data_files="DEST/train/*.parquet", split="train")
{0}Trainer("my-vlm", args={0}Config({1}), train_dataset=data).train()
```
"""
_REWARD = """
`reward_funcs=trl_reward` of `mmpr_builder.export.verl_reward` judges as the pairs were judged.
"""


@cache
def features(stage: str) -> Any:
    """The `datasets.Features` of a row."""
    from datasets import Features, Image, List, Value

    text, number, count = Value("string"), Value("float64"), Value("int64")
    message = {"role": text, "content": List({"type": text, "text": text})}
    said = {"completion": List(message), "response_index": count, "response_tokens": count}
    own = {"sft": said, "kto": {**said, "label": Value("bool"), "kind": text}, "grpo": {}}
    return Features(
        {
            "images": List(Image(mode="RGB")),
            "prompt": List(message),
            **own[stage],
            **dict.fromkeys(("id", "seed_id", "source", "model", "question", "answer"), text),
            **dict.fromkeys(("answers", "choices"), List(text)),
            **dict.fromkeys(("style", "scorer"), text),
            "pass_rate": number,
            "n_samples": count,
        }
    )


class StageWriter(SplitFiles):
    """`train/*.parquet` with the columns of a stage."""

    def __init__(self, stage: str, folder: Path, home: Path, options: ExportOptions) -> None:
        super().__init__(folder, "train", schema_of(features(stage)), options)

    def add(self, item: Item) -> None:
        images = [{"bytes": picture.read(), "path": None} for picture in item.pictures]
        self.put(item, {**(item.row or {}), "images": images})


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


def unfiltered_pairs(
    rollouts: Iterable[tuple[Rollout, Config]], judge: Scores
) -> Iterator[Item | BadRow]:
    """The pairs of rollouts as they would be with every control of `quality` off."""
    for rollout, config in rollouts:
        plain_config = config.model_copy(update={"quality": QualityConfig()})
        block = make_block([(rollout, *judge_and_pair(rollout, plain_config, judge))], plain_config)
        for number, row in enumerate(block.rows.table().to_pylist()):
            yield replace(item_of(f"{rollout.seed.origin}:{number}", row), row=row)
        for _, drop in block.drops:
            if drop.stage == "output":
                seed = rollout.seed
                yield BadRow(seed.origin, seed.id, drop.reason, drop.detail, seed.source)


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
            "completion": [{"role": "assistant", "content": [{"type": "text", "text": text}]}],
            "response_index": index,
            "response_tokens": response.tokens,
            "id": name,
            "n_samples": len(rollout.responses),
            **told,
        }
        yield replace(item, id=name, chosen=text, kind=told.get("kind", ""), row=row)


def _row(rollout: Rollout, item: Item, config: Config, rate: float | None) -> dict[str, Any]:
    """What the rows of all stages have."""
    parts = [
        {"type": "image", "text": None} if part is None else {"type": "text", "text": plain(part)}
        for part in item.parts
    ]
    return {
        "prompt": [{"role": "user", "content": parts}],
        **about_query(rollout, config, rate),
        "seed_id": rollout.seed.id,
        "source": plain(rollout.seed.source),
        "model": plain(rollout.model),
    }


def _grpo_faults(item: Item) -> Iterator[Fault]:
    if not item.pictures:
        yield Fault("text_only", "GRPOTrainer stops at batches with and without images")
    yield from pair_faults(item)


def _format(name: str, how: str, rows: Rows, option: str) -> Format:
    queries = name == "grpo"
    faults = _grpo_faults if queries else pair_faults
    writer = partial(StageWriter, name)
    return Format(name, faults, writer, how, (option,), queries=queries, rows=rows)


SFT = _format("sft", _HOW.format("SFT", "max_length=None"), _sft, "per_question")
KTO = _format("kto", _HOW.format("KTO", "max_length=None"), _kto, "")
GRPO = _format("grpo", _HOW.format("GRPO", "") + _REWARD, _grpo, "pass_rate")
