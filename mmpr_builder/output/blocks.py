"""What some consecutive seeds come to, ready to be written: made anywhere, written by one writer.

Workers send blocks instead of rollouts and verdicts: the one process that writes has nothing left
to do per row, and each image travels once for all pairs of its seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa

from mmpr_builder.config import Config
from mmpr_builder.errors import RowError
from mmpr_builder.io.access import Access, sampled_access
from mmpr_builder.output.counts import Counts, Entry, Slip
from mmpr_builder.output.rows import TEXT_SCHEMA, pair_rows, sampling_json, seed_row
from mmpr_builder.output.shards import PairRows
from mmpr_builder.output.stored_images import load_images
from mmpr_builder.pairing.balance import Balance, is_weighed
from mmpr_builder.pairing.pooled import PooledRollout, member_at
from mmpr_builder.pairing.unpaired import read_reject_list, without_rejected
from mmpr_builder.records import Drop, Pair, Rollout, Verdict

Judged = tuple[Rollout, Sequence[Verdict], Sequence[Pair], Sequence[Drop]]
"""One seed's way to the end: its rollout, what scoring says, its pairs or its drop."""

_ROWS_AT_ONCE = 256  # Bounds one array of texts far below Arrow's 2 GiB of offsets.


@dataclass(frozen=True, slots=True)
class Block:
    """The pairs, drops and counts of consecutive seeds."""

    rows: PairRows
    drops: tuple[tuple[int, Drop], ...]
    """(index of the seed, its drop)."""
    counts: Counts
    slips: tuple[Slip, ...] = ()
    """Of the seeds with pairs, in the order of their rows, where pairs can still be left out."""

    @property
    def seeds(self) -> int:
        """Seeds in the block."""
        return self.counts.seeds["read"]

    @property
    def pairs(self) -> int:
        """Pairs in the block."""
        return len(self.rows.picture_of)


@dataclass(slots=True)
class _Filling:
    """A block while it is being made. `how` is `sampling_json` of its build."""

    how: str
    access: Access
    tables: list[pa.Table] = field(default_factory=list)
    shared: list[dict[str, Any]] = field(default_factory=list)
    paired: list[tuple[Rollout, Sequence[Verdict], Sequence[Pair]]] = field(default_factory=list)
    rows: int = 0
    pictures: list[tuple[bytes, ...]] = field(default_factory=list)
    picture_of: list[int] = field(default_factory=list)

    def add(self, rollout: Rollout, verdicts: Sequence[Verdict], pairs: Sequence[Pair]) -> None:
        """Raises `RowError`, having added nothing, when the images are not those sampled from."""
        images = load_images(rollout, self.access)
        runs = [(rollout, self.how, list(pairs))]
        if isinstance(rollout, PooledRollout):
            runs = _by_member(rollout, pairs)
        shared = [seed_row(member, len(images), said) for member, said, _ in runs]
        self.shared += shared
        self.paired += [(rollout, verdicts, run) for _, _, run in runs]
        self.picture_of += [len(self.pictures)] * len(pairs)
        self.pictures.append(tuple(images))
        self.rows += len(pairs)
        if self.rows >= _ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        if self.rows:
            self.tables.append(pair_rows(self.shared, self.paired))
        self.shared, self.paired, self.rows = [], [], 0

    def done(self) -> PairRows:
        self.flush()
        texts = pa.concat_tables(self.tables) if self.tables else TEXT_SCHEMA.empty_table()
        return PairRows(texts, tuple(self.pictures), tuple(self.picture_of))


def _by_member(
    rollout: PooledRollout, pairs: Sequence[Pair]
) -> list[tuple[Rollout, str, list[Pair]]]:
    """The pairs in their order, cut where the chosen one is of another build: its rollout says the
    prompt, template and model of their rows, its settings how it was sampled."""
    runs = groupby(pairs, key=lambda pair: member_at(rollout, pair.chosen_index))
    return [
        (rollout.members[number], sampling_json(rollout.settings[number]), list(run))
        for number, run in runs
    ]


def rejected_ids(config: Config) -> frozenset[str]:
    """The ids on `pairing.reject_list`. Raises `InputError` when it cannot be read."""
    listed = config.pairing.reject_list
    return frozenset() if listed is None else read_reject_list(listed)


def make_block(
    judged: Iterable[Judged], config: Config, rejects: frozenset[str] = frozenset()
) -> Block:
    """A block of judged and paired seeds; `rejects` are ids of pairs to leave out.

    Images that are gone or no longer those that were sampled turn a seed's pairs into a drop, and
    so does a reject list that names them all.
    """
    filling, counts = _Filling(sampling_json(config), sampled_access(config)), Counts()
    drops: list[tuple[int, Drop]] = []
    weighed, slips = is_weighed(config), list[Slip]()
    for rollout, verdicts, made, unpaired in judged:
        pairs, dropped = without_rejected(rollout.seed, made, unpaired, rejects)
        rejected = len(made) - len(pairs)
        if pairs:
            try:
                filling.add(rollout, verdicts, pairs)
            except RowError as error:
                pairs = []
                dropped = [Drop(rollout.seed.id, "output", error.reason, error.detail)]
        drops += [(rollout.index, drop) for drop in dropped]
        slip = counts.add(
            rollout, verdicts, pairs, dropped, rejected_by_list=rejected, weighed=weighed
        )
        if weighed and pairs:
            slips.append(slip)
    return Block(filling.done(), tuple(drops), counts, tuple(slips))


# ---- balancing
# Leaves pairs out of a block so that the build as a whole is balanced (`quality.balance`).
#
#     block of 64 seeds, 812 pairs -> 771 pairs; 2 seeds have none left -> drops "length_balance"
#
# The blocks come in the order of the seeds to the one process that writes, so which pairs go
# depends
# on the pairs alone, not on the workers or the sizes of the blocks (pairing/balance.py decides).


def balance_of(config: Config) -> Balance | None:
    """What balances a build; None where nothing is to be balanced."""
    balance = config.quality.balance
    return Balance(balance) if balance.lengths or balance.answers else None


def balanced(block: Block, balance: Balance) -> Block:
    """The block without the pairs that the balance leaves out.

    A seed that loses its last pair so becomes a drop of stage "quality", with what took most of
    its pairs for the reason. The counts of the block are corrected.
    """
    rows: list[int] = []
    drops = list(block.drops)
    first = 0
    for slip in block.slips:
        reasons = [_decide(balance, slip, entry) for entry in slip.entries]
        stay = [place for place, reason in enumerate(reasons) if reason is None]
        rows += [first + place for place in stay]
        first += len(reasons)
        if len(stay) == len(reasons):
            continue
        dropped = None if stay else _drop(slip, reasons)
        if dropped is not None:
            drops.append((slip.index, dropped))
        block.counts.leave_out(slip, reasons, dropped)
    if len(rows) == first:
        return block
    drops.sort(key=lambda numbered: numbered[0])
    return Block(block.rows.only(rows), tuple(drops), block.counts)


def _decide(balance: Balance, slip: Slip, entry: Entry) -> str | None:
    assert entry.weighed is not None
    return balance.decide(slip.source, entry.weighed)


def _drop(slip: Slip, reasons: Sequence[str | None]) -> Drop:
    counts = Counter(reason for reason in reasons if reason is not None)
    reason = max(sorted(counts), key=lambda name: counts[name])
    said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return Drop(slip.seed_id, "quality", reason, f"all its {len(reasons)} pairs: {said}")
