"""Where pairing runs: in this process, in several of this machine, or on the CPUs of a cluster.

All three call the same pure function on one slice after the other and return the results in order,
a bounded number of them ahead of the writer.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from multiprocessing.util import Finalize
from typing import Any

from mmpr_builder import pairing
from mmpr_builder.cluster.parallel import in_tasks
from mmpr_builder.cluster.session import has_ray_at_hand
from mmpr_builder.config import Config
from mmpr_builder.folder.order import Slice
from mmpr_builder.io.ordered_map import ahead
from mmpr_builder.output import Block, Judged, make_block, rejected_ids
from mmpr_builder.pairing import Scores
from mmpr_builder.quality.filters import Findings
from mmpr_builder.records import Rollout
from mmpr_builder.runs.pooling import PooledSlice

Piece = Slice | PooledSlice
"""Rollouts that are paired together: (a slice of) a part, or of several builds."""
Paired = tuple[Block, Counter[str]]
"""The results of one piece, and the work they took (see `PartJudge.pair`)."""

_AHEAD = 2  # Results per worker that may wait for the writer.
_IMAGE_BYTES_AHEAD = 2**30  # Of all results that may wait, with their images.
_RESPONSES_WORTH_A_PROCESS = 4_000  # About what one core scores while a process starts.
_CLUSTER_WORKERS = 64  # One writer cannot keep more busy.


class PartJudge:
    """Holds one judge (with its killable processes) and pairs whole parts with it."""

    def __init__(self, config: Config) -> None:
        from mmpr_builder import scoring  # Not wanted where engines run, which import this folder.

        self._config = config
        self._rejects = rejected_ids(config)
        self._labels = pairing.read_labels(config.scoring.labels)
        self._held = ExitStack()
        self._judge = self._held.enter_context(scoring.Judge(config.scoring))
        self._opinions = None
        if config.scoring.judge.url is not None:
            from mmpr_builder.runs.opinions import OpinionGiver

            self._opinions = OpinionGiver(config)

    def pair(self, piece: Piece) -> Paired:
        """The results of one piece, in order, ready to be written, and the work done.

        The work is `responses` to seeds with a truth, their different `texts`, answers `cached` and
        `compared`, questions to the LLM judge (`judge.NAME`, see opinions.py) and what quality
        controls filtered (`quality.REASON`).
        """
        rollouts = piece.read()
        before = Counter(self._judge.stats())
        asked: Counter[str] = Counter()
        findings = Findings()
        if self._opinions is None:
            judged: Iterable[Judged] = self._judged(rollouts, self._judge, findings)
        else:
            judged, asked = self._opinions.settle(
                piece,
                self._judge,
                lambda scores: list(self._judged(rollouts, scores, findings)),
            )
        block = make_block(judged, self._config, self._rejects)
        block.counts.findings.add(findings)
        done = Counter(self._judge.stats()) - before
        work = Counter(
            responses=sum(len(r.responses) + len(r.blind) for r in rollouts if r.seed.has_truth),
            texts=done["verdicts"],
            cached=done["cached"],
            compared=done["verdicts"] - done["cached"] - done["rule.extraction"],
        )
        work.update({f"judge.{name}": count for name, count in asked.items()})
        work.update({f"quality.{name}": count for name, count in findings.filtered.items()})
        return block, work

    def _judged(
        self, rollouts: Sequence[Rollout], scores: Scores, findings: Findings
    ) -> Iterator[Judged]:
        findings.clear()  # Rollouts are scored again with new opinions of the LLM judge.
        for one in rollouts:
            rollout = pairing.settled(one, self._config, scores)
            found = pairing.judge_and_pair(
                rollout, self._config, scores, findings=findings, labels=self._labels
            )
            yield rollout, *found

    def is_for(self, config: Config) -> bool:
        return self._config == config

    def close(self) -> None:
        self._held.close()


def pair_parts(
    config: Config, pieces: Iterable[Piece], count: int, responses: int
) -> Iterator[Paired]:
    """The results for `pieces` in their order.

    `count` is about how many pieces there are, `responses` how many responses in all.
    """
    if has_ray_at_hand(config):
        asked = config.distributed.scoring_workers
        limit = _CLUSTER_WORKERS * _AHEAD if asked == "auto" else asked
        yield from in_tasks(_pair_in_task, config, pieces, partial(_full, limit))
        return
    workers = min(local_workers(config), count, 1 + responses // _RESPONSES_WORTH_A_PROCESS)
    if workers <= 1:
        with closing(PartJudge(config)) as judge:
            yield from map(judge.pair, pieces)
    else:
        yield from _in_processes(config, pieces, workers)


def local_workers(config: Config) -> int:
    """Scoring processes on this machine: as set, else one per core that we may use."""
    asked = config.distributed.scoring_workers
    return len(os.sched_getaffinity(0)) if asked == "auto" else asked


def _in_processes(config: Config, pieces: Iterable[Piece], workers: int) -> Iterator[Paired]:
    pool = ProcessPoolExecutor(
        workers,
        # A fork would copy locks that other threads hold (the display's, Arrow's).
        mp_context=multiprocessing.get_context("spawn"),
    )
    try:
        full = partial(_full, workers * _AHEAD)
        pair = partial(_pair_in_task, config)
        for _, future in ahead(pieces, lambda piece: pool.submit(pair, piece), full):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


_in_this_process: list[PartJudge] = []  # At most one, for all parts of a build.


def _pair_in_task(config: Config, piece: Piece) -> Paired:
    """The results of one piece. Ray's processes run many tasks, also those of other builds."""
    if _in_this_process and not _in_this_process[0].is_for(config):
        _in_this_process.pop().close()
    if not _in_this_process:
        _in_this_process.append(PartJudge(config))
        # Worker processes run these, and no atexit.
        Finalize(None, _in_this_process[0].close, exitpriority=10)
    return _in_this_process[0].pair(piece)


def _full(limit: int, waiting: Sequence[tuple[Piece, Any]], piece: Piece) -> bool:
    """Whether `limit` pieces, or as many bytes of images as memory has room for, are under way."""
    held = sum(one.image_bytes for one, _ in waiting)
    return len(waiting) >= limit or held + piece.image_bytes > _IMAGE_BYTES_AHEAD
