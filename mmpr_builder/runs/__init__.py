"""Builds on one machine or many: planning, sampling and pairing as runs that can be continued.

    plan(config)                     seeds -> units of work on disk, and manifest.json
    run_sampling(config, progress)   units -> rollouts/unit-*.parquet, on Ray actors
    run_pairing(config, progress)    rollouts -> pairs, drops, run.json, on CPU workers

manifest     what is sampled, with which settings, in which units; who may continue it
planning     writes it            demo_source   the seeds `demo`
extending    more seeds for a build that is there   order   where each then stands
lock         one driver per folder
units        which work is next; the hunt for a row that kills
parts        published units and rows kept of unfinished ones
actors       what runs beside the engine          seats    how many seeds at once
fleet        engines as nodes come and go   capacity    how many fit
replicas     one as a Ray actor             deaths      what errors say of its end
status       what a run says of itself      overview    what its folder says     metrics   Ray's
cluster      which Ray
runner       the first half   driver       its loop   signals      asked to stop
judging      the second half      builds        what it reads       workers   where it runs
pooling      several builds as one              pool_pieces   their work
opinions     of the optional judge, kept

The only folder that imports ray, and it does so inside the functions that need it.
"""

from __future__ import annotations

from mmpr_builder.folder.manifest import Manifest, Unit
from mmpr_builder.runs.actors import Counts
from mmpr_builder.runs.inputs import Usable
from mmpr_builder.runs.pair_run import PairingSummary, run_pairing
from mmpr_builder.runs.planning import plan, read_inputs
from mmpr_builder.runs.sample_run import SamplingSummary, run_sampling

__all__ = [
    "Counts",
    "Manifest",
    "PairingSummary",
    "SamplingSummary",
    "Unit",
    "Usable",
    "plan",
    "read_inputs",
    "run_pairing",
    "run_sampling",
]
