"""Leaves pairs out of a block so that the build as a whole is balanced (`quality.balance`).

    block of 64 seeds, 812 pairs -> 771 pairs; 2 seeds have none left -> drops "length_balance"

The blocks come in the order of the seeds to the one process that writes, so which pairs go depends
on the pairs alone, not on the workers or the sizes of the blocks (pairing/balance.py decides).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mmpr_builder.config import Config
from mmpr_builder.output.blocks import Block
from mmpr_builder.output.slips import Entry, Slip
from mmpr_builder.pairing.balance import Balance
from mmpr_builder.records import Drop


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
