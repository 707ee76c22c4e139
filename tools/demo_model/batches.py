"""Batches of training rows: token ids beside each other, by length, with loss on responses only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mmpr_builder.demo.world import Scene
from tools.demo_model.corpus import IGNORE, Row, make_row
from tools.demo_model.network import IMAGE_TOKENS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

GROUP = 32  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class Batch:
    """Rows side by side, padded on the right; only positions in `labels` bear loss."""

    tokens: Tensor
    labels: Tensor
    scenes: list[int]


def batches(
    scenes: list[Scene],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    steps: int,
    careful_steps: int,
    size: int,
    open_share: float,
) -> Iterator[Batch]:
    """Batches of rows of like length: `GROUP` batches are drawn, sorted and shuffled at a time.

    The rows of the first `careful_steps` batches, or thereabouts, were written without habits.
    """
    shuffle = np.random.default_rng(seed)
    for first in range(0, steps, GROUP):
        count = min(GROUP, steps - first)
        span = range(first * size, (first + count) * size)
        habits = first >= careful_steps
        rows = [make_row(scenes, seed, i, habits=habits, open_share=open_share) for i in span]
        encoded = _encode(rows, tokenizer)
        # As if every row had a picture: else all those without one would share a batch.
        encoded.sort(key=lambda item: len(item[0]) + IMAGE_TOKENS * (item[2] is None))
        for number in shuffle.permutation(count):
            yield _pad(encoded[number * size : (number + 1) * size], tokenizer)


_Encoded = tuple[list[int], int, "int | None"]


def _encode(rows: list[Row], tokenizer: PreTrainedTokenizerFast) -> list[_Encoded]:
    """Token ids of prompt and response, where the response starts, and the scene."""
    prompts = tokenizer([row.prompt for row in rows]).input_ids
    responses = tokenizer([row.response for row in rows]).input_ids
    return [
        (prompt + response, len(prompt), row.scene)
        for prompt, response, row in zip(prompts, responses, rows, strict=True)
    ]


def _pad(items: list[_Encoded], tokenizer: PreTrainedTokenizerFast) -> Batch:
    width = max(len(tokens) for tokens, _, _ in items)
    tokens = torch.full((len(items), width), tokenizer.pad_token_id or 0)
    labels = torch.full((len(items), width), IGNORE)
    for line, (ids, start, _) in enumerate(items):
        tokens[line, : len(ids)] = torch.tensor(ids)
        labels[line, start - 1 : len(ids) - 1] = torch.tensor(ids[start:])
    return Batch(tokens, labels, [scene for _, _, scene in items if scene is not None])
