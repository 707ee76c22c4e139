"""A build's folder: pairs, drops, run.json and the data card.

    pairs/part-00000.parquet   one row per pair, images inside          rows.py, pictures.py
    drops/part-00000.parquet   one row per seed that gave no pair
    run.json                   config, counts, versions, seconds        counts.py
    README.md                  Hugging Face data card                   card.py

Workers make blocks of rows (blocks.py), one writer puts them together (writer.py, sizes.py).
A seed ends in exactly one of pairs and drops. Both folders appear at once, at the end (shards.py);
pairing again replaces them wholly, and the same rollouts and config give the same bytes.

    with BuildWriter(config) as writer:
        for part in parts:                             # in seed order
            judged = [(rollout, *judge_and_pair(rollout, config, judge)) for rollout in part]
            writer.add(make_block(judged, config))     # blocks can be made by many workers
    finish_build(config, writer.counts(), seconds={"pairing": 12.3})
"""

from __future__ import annotations

from mmpr_builder.output.blocks import Block, Judged, make_block, rejected_ids
from mmpr_builder.output.load import load_pairs, pair_parts, read_run
from mmpr_builder.output.rows import pair_features, pair_schema, sampling_json
from mmpr_builder.output.writer import BuildWriter, finish_build, versions

__all__ = [
    "Block",
    "BuildWriter",
    "Judged",
    "finish_build",
    "load_pairs",
    "make_block",
    "pair_features",
    "pair_parts",
    "pair_schema",
    "read_run",
    "rejected_ids",
    "sampling_json",
    "versions",
]
