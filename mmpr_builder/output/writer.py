"""Blocks of rows, which workers make, and the one process that writes them.

    worker    64 judged seeds  -> a block: 812 pairs laid out, 3 drops, counts
    writer    the next block   -> balanced: 771 pairs, 5 drops -> counted -> pairs/, drops/

Workers send blocks instead of rollouts and verdicts: the writer has nothing left to do per row, and
each image travels once for all pairs of its seed. A balance over the build needs all pairs before
it can tell which stay: until then the blocks wait in a temporary file beside the build.
"""

from __future__ import annotations

import math
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa

from mmpr_builder.config import Config
from mmpr_builder.errors import RowError
from mmpr_builder.escaping import json_text
from mmpr_builder.io import stores, tables
from mmpr_builder.io.access import Access, sampled_access
from mmpr_builder.output import shards
from mmpr_builder.output.counts import Counts, SeedTally, tally_of
from mmpr_builder.output.rows import (
    optional_columns,
    pair_rows,
    pair_schema,
    sampling_json,
    seed_row,
    text_schema,
)
from mmpr_builder.output.shards import Rows
from mmpr_builder.output.stored_images import load_images
from mmpr_builder.pairing import label_id
from mmpr_builder.pairing.balance import Balance, Reason, is_weighed
from mmpr_builder.pairing.pooled import PooledRollout, member_at
from mmpr_builder.pairing.unpaired import read_reject_list, without_rejected
from mmpr_builder.records import Drop, Pair, Rollout, Verdict

Judged = tuple[Rollout, Sequence[Verdict], Sequence[Pair], Sequence[Drop]]
"""One seed's way to the end: its rollout, what scoring says, its pairs or its drop."""

UNDECIDED = 1_000
"""Undecided answers that are listed, the first ones in the order of the seeds."""
UNDECIDED_NAME = "undecided.jsonl"
_SHOWN = 2_000  # Characters of a text there.
_ROWS_AT_ONCE = 256  # Bounds one array of texts far below Arrow's 2 GiB of offsets.


@dataclass(frozen=True, slots=True)
class Block:
    """The pairs, drops (with the index of the seed) and counts of consecutive seeds.

    `tallies` are of the seeds with pairs, in the order of their rows, where a balance has still to
    decide which pairs stay; `counts` do not have their ends.
    """

    rows: Rows
    drops: list[tuple[int, Drop]]
    counts: Counts
    tallies: Sequence[SeedTally] = ()
    undecided: Sequence[dict[str, Any]] = ()
    """Answers that no rule decides, for a person to label."""

    @property
    def seeds(self) -> int:
        return self.counts.sums["seeds", "read"]

    @property
    def pairs(self) -> int:
        return int(self.rows.data.num_rows)


@dataclass(slots=True)
class _Filling:
    """The rows of a block while they are being made. `how` is `sampling_json` of its build."""

    how: str
    access: Access
    optional: tuple[str, ...]
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
            self.tables.append(pair_rows(self.shared, self.paired, self.optional))
        self.shared, self.paired, self.rows = [], [], 0

    def done(self) -> Rows:
        self.flush()
        empty = text_schema(self.optional).empty_table
        texts = pa.concat_tables(self.tables) if self.tables else empty()
        return Rows(texts, tuple(self.pictures), tuple(self.picture_of))


def _by_member(
    rollout: PooledRollout, pairs: Sequence[Pair]
) -> list[tuple[Rollout, str, list[Pair]]]:
    """The pairs in their order, cut where the chosen text is of another build, with that build's
    rollout and settings."""
    runs = groupby(pairs, key=lambda pair: member_at(rollout, pair.chosen_index))
    return [
        (rollout.members[number], sampling_json(rollout.settings[number]), list(run))
        for number, run in runs
    ]


def write_pairs(
    pairs: Iterable[Pair],
    path: str | Path,
    rollouts: Iterable[Rollout],
    *,
    verdicts: Mapping[str, Sequence[Verdict]] | None = None,
    config: Config | None = None,
) -> int:
    """Write pairs to `path/pairs/*.parquet`, as `load_pairs` and TRL read them; returns how many.

    `rollouts` are what they were made of, with prompt and images; `verdicts` by seed id, and the
    `config` that was sampled with, go into the columns of provenance. Pairs there are replaced.
    Raises `ValueError` for pairs of a seed that has no rollout, `RowError` for images that changed.
    """
    out, settings = os.fspath(path).rstrip("/"), config or Config()
    how, access = (sampling_json(config) if config else "{}"), sampled_access(settings)
    optional = optional_columns(settings)
    of_seed: dict[str, list[Pair]] = {}
    for pair in pairs:
        of_seed.setdefault(pair.seed_id, []).append(pair)
    count = sum(map(len, of_seed.values()))
    shards.discard(out)
    writer = _shards(out, "pairs", pair_schema(optional), settings)
    try:
        for rollout in rollouts:
            if found := of_seed.pop(rollout.seed.id, None):
                filling = _Filling(how, access, optional)
                filling.add(rollout, (verdicts or {}).get(rollout.seed.id, ()), found)
                writer.add(filling.done())
        if of_seed:
            raise ValueError(f"no rollout of the pairs of {', '.join(sorted(of_seed))[:200]}")
    except BaseException:
        writer.abandon()
        shards.discard(out)
        raise
    writer.close()
    shards.publish(out, ("pairs",))
    return count


def _shards(out: str, name: str, schema: pa.Schema, config: Config) -> shards.ShardWriter:
    return shards.ShardWriter(
        f"{out}/{shards.STAGED}/{name}",
        schema,
        row_group_bytes=config.output.row_group_bytes,
        shard_bytes=config.output.shard_bytes,
    )


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
    optional = optional_columns(config)
    filling, counts = _Filling(sampling_json(config), sampled_access(config), optional), Counts()
    drops: list[tuple[int, Drop]] = []
    balance = config.quality.balance
    weighed = is_weighed(config.pairing, balance)
    tallies: list[SeedTally] = []
    undecided: list[dict[str, Any]] = []
    for rollout, verdicts, made, unpaired in judged:
        if len(undecided) < UNDECIDED:
            undecided += _undecided(rollout, verdicts)
        pairs, dropped = without_rejected(rollout.seed, made, unpaired, rejects)
        counts.sums["reject_list", "left_out"] += len(made) - len(pairs)
        if pairs:
            try:
                filling.add(rollout, verdicts, pairs)
            except RowError as error:
                pairs = []
                dropped = [Drop(rollout.seed.id, "output", error.reason, error.detail)]
        drops += [(rollout.index, drop) for drop in dropped]
        counts.add_sampled(rollout, verdicts, pairs[0] if pairs else None)
        tally = tally_of(rollout, verdicts, pairs, weighed=weighed)
        if pairs and balance.is_on:
            tallies.append(tally)
        else:
            counts.add_end(tally, dropped[0] if dropped else None)
    return Block(filling.done(), drops, counts, tallies, undecided)


def _undecided(rollout: Rollout, verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The undecided answers of a seed with a truth, each once with the number of its responses."""
    found: dict[str, dict[str, Any]] = {}
    seed = rollout.seed
    for response, verdict in zip(rollout.responses, verdicts, strict=False):
        if verdict.outcome != "undecided" or not seed.has_truth:
            continue
        name = label_id(seed, verdict.answer or response.text)
        item = found.setdefault(name, {"id": name, "seed": seed.id, "source": seed.source, "n": 0})
        item["n"] += 1
        if item["n"] == 1:
            item |= {"rule": verdict.rule, "reason": verdict.reason[:_SHOWN]}
            item |= {"question": seed.question[:_SHOWN], "truth": list(seed.answers[:3])}
            item |= {"answer": verdict.answer, "text": response.text[-_SHOWN:]}
            item["images"] = [asdict(ref) for ref in seed.images[:3]]
    return list(found.values())


def balanced(block: Block, decisions: Iterator[Reason | None]) -> Block:
    """The block with the pairs that the balance keeps, all counted; the next `decisions` are on its
    pairs.

    A seed that loses all its pairs becomes a drop of stage "quality"; its reason is the commonest.
    """
    rows: list[int] = []
    drops, counts, first = list(block.drops), block.counts, 0
    for tally in block.tallies:
        reasons = list(islice(decisions, len(tally.pairs)))
        stay = [place for place, reason in enumerate(reasons) if reason is None]
        rows += [first + place for place in stay]
        first += len(reasons)
        drop = None if stay else _drop(tally, reasons)
        if drop is not None:
            drops.append((tally.index, drop))
        counts.add_end(replace(tally, pairs=[tally.pairs[place] for place in stay]), drop)
        counts.sums.update(
            ("left_out", reason, pair.kind)
            for reason, pair in zip(reasons, tally.pairs, strict=True)
            if reason is not None
        )
    if len(rows) == first:
        return Block(block.rows, drops, counts)
    drops.sort(key=lambda numbered: numbered[0])
    return Block(block.rows.only(rows), drops, counts)


def _drop(tally: SeedTally, reasons: Sequence[str | None]) -> Drop:
    counts = Counter(reason for reason in reasons if reason is not None)
    reason = max(sorted(counts), key=lambda name: counts[name])
    said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return Drop(tally.seed_id, "quality", reason, f"all its {len(reasons)} pairs: {said}")


class BuildWriter:
    """Writes the pairs and drops of one pairing run; publishes them when the `with` block ends.

    Feed it in seed order. When the block ends with an exception the old pairs and drops stay.
    """

    def __init__(self, config: Config, *, unread: Iterable[tuple[int, Drop]] = ()) -> None:
        """`unread` are the input rows that never became a seed, by position in the input order."""
        self._out = config.out.rstrip("/")
        self._config = config
        self._counts = Counts()
        self._counts.sums["reject_list", "listed"] = len(rejected_ids(config))
        self._unread = iter(unread)
        self._next_unread = next(self._unread, None)
        self._undecided: list[dict[str, Any]] = []
        shards.discard(self._out)
        self._pairs = _shards(self._out, "pairs", pair_schema(optional_columns(config)), config)
        self._drops = _shards(self._out, "drops", tables.DROP_SCHEMA, config)
        balance = config.quality.balance
        self._balance = Balance(balance) if balance.is_on else None
        local = stores.is_local(stores.resolve(self._out)[0])
        self._waiting: IO[bytes] | None = None
        if self._balance is not None:
            folder = f"{self._out}/{shards.STAGED}" if local else None
            self._waiting = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `__exit__` does.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._settle()
            self._write_drops(self._unread_before(math.inf))
            self._pairs.close()
            self._drops.close()
            shards.publish(self._out, ("pairs", "drops"))
            lines = "".join(json_text(item) + "\n" for item in self._undecided)
            place = f"{self._out}/{UNDECIDED_NAME}"
            tables.put_text(lines, place) if lines else stores.remove_file(place)
        else:
            if self._waiting is not None:
                self._waiting.close()
            self._pairs.abandon()
            self._drops.abandon()
            shards.discard(self._out)

    def add(self, block: Block) -> int:
        """Take the pairs and drops of the next seeds; returns how many pairs there are.

        With `quality.balance` fewer can be written in the end.
        """
        self._undecided += block.undecided[: max(0, UNDECIDED - len(self._undecided))]
        if self._balance is None or self._waiting is None:
            self._write(block)
            return block.pairs
        for tally in block.tallies:
            for pair in tally.pairs:
                self._balance.note(tally.source, pair)
        pickle.dump(block, self._waiting, pickle.HIGHEST_PROTOCOL)
        return block.pairs

    def _settle(self) -> None:
        """Write the blocks that waited for the balance over all of them."""
        if self._balance is None or self._waiting is None:
            return
        decisions = self._balance.decisions()
        with self._waiting as waiting:
            end = waiting.tell()
            waiting.seek(0)
            while waiting.tell() < end:
                self._write(balanced(pickle.load(waiting), decisions))

    def _write(self, block: Block) -> None:
        if block.pairs:
            self._pairs.add(block.rows)
        rows: list[Drop] = []
        for index, drop in block.drops:
            rows += [*self._unread_before(index), drop]
        if rows:
            self._write_drops(rows)
        self._counts.add(block.counts)

    def counts(self) -> dict[str, Any]:
        """The sums of what was written (see counts.py); all of them once the block has ended."""
        quality = self._config.quality
        weighed = is_weighed(self._config.pairing, quality.balance)
        return self._counts.as_dict(quality.balance.tolerance if weighed else None)

    def _write_drops(self, drops: Iterable[Drop]) -> None:
        self._drops.add(Rows(tables.drops_to_table(drops)))

    def _unread_before(self, index: float) -> Iterator[Drop]:
        while self._next_unread is not None and self._next_unread[0] < index:
            drop = self._next_unread[1]
            self._counts.add_unread(drop)
            yield drop
            self._next_unread = next(self._unread, None)
