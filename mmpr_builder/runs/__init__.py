"""Builds on one machine or many: planning, sampling and pairing as runs that can be continued.

    plan(config)                     seeds -> units of work on disk, and manifest.json
    run_sampling(config, progress)   units -> rollouts/unit-*.parquet, on Ray actors
    run_pairing(config, progress)    rollouts -> pairs, drops, run.json, on CPU workers

planning     units and manifest       inputs        all rows of the inputs, screened
extending    more seeds for a build
sample_run   the first half           driver        its loop: hands out units, counts
work_queue   which work is next       fleet         engines as nodes come and go
actors       one engine's process
pair_run     the second half          pair_workers  where it runs
builds       what it reads            pooling       several builds as one
opinions     of the LLM judge, kept
"""

from __future__ import annotations

from mmpr_builder.folder.manifest import Manifest as Manifest, Unit as Unit
from mmpr_builder.runs.actors import Counts as Counts
from mmpr_builder.runs.inputs import Pictures as Pictures, Usable as Usable
from mmpr_builder.runs.pair_run import PairingSummary as PairingSummary, run_pairing as run_pairing
from mmpr_builder.runs.planning import plan as plan, read_inputs as read_inputs
from mmpr_builder.runs.sample_run import (
    SamplingSummary as SamplingSummary,
    run_sampling as run_sampling,
)
