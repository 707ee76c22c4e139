"""Pairs that a person looked at and does not want: a list of pair ids, marked in the report.

    # bad pairs of run-1, marked in its report
    9f3c0a6d2b7e41c58d90e1f2a3b4c5d6
    0b1c2d3e4f5061728394a5b6c7d8e9f0   the truth is wrong

A line is an id, then whatever else somebody noted. Ids are hashes of seed and texts: the list
stays good when pairs are made again with other settings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from mmpr_builder import stores
from mmpr_builder.errors import InputError
from mmpr_builder.records import Drop, Pair, Seed

_ID = re.compile(r"[0-9a-f]{32}")


def read_reject_list(uri: str | Path) -> frozenset[str]:
    """The pair ids of a list; blank lines and what follows an id or a `#` are passed over.

    Raises `InputError` when the file is not there or a line does not begin with a pair's id.
    """
    try:
        text = stores.read_bytes(uri).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"pairing.reject_list={uri}: cannot be read ({error}): give a list saved in a report"
        ) from None
    found = set()
    # Notes hold names of sources, in which other characters that end a line may stand.
    for number, line in enumerate(text.split("\n"), 1):
        word = line.split("#", 1)[0].split()
        if word and not _ID.fullmatch(word[0]):
            raise InputError(
                f"{uri}:{number}: {word[0][:40]!r} is not the id of a pair (32 hex digits):"
                " remove the line, or put # before it"
            )
        found.update(word[:1])
    return frozenset(found)


def without_rejected(
    seed: Seed, pairs: Sequence[Pair], drops: Sequence[Drop], listed: frozenset[str]
) -> tuple[list[Pair], list[Drop]]:
    """What is left of a seed's pairs; none left gives one `Drop` "rejected_by_list".

    The others stay what they were and nothing moves up into the free places: a list takes away
    what was looked at and adds nothing that was not. Only `quality.balance`, which comes after it,
    decides anew over what is left.
    """
    kept = [pair for pair in pairs if pair.id not in listed]
    if pairs and not kept:
        detail = f"all its {len(pairs)} pairs are on the list"
        return [], [Drop(seed.id, "pairing", "rejected_by_list", detail)]
    return kept, list(drops)
