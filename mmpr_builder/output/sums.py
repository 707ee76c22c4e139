"""Sums added up, and told as the tables of run.json with a fixed order of keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args

from mmpr_builder.quality import Findings, GateYield, gate_yield
from mmpr_builder.records import Outcome


def merge(into: Any, other: Any) -> None:
    """Add up two records of sums, or two dicts of them, entry by entry."""
    if isinstance(into, Counter):
        into.update(other)
        return
    if isinstance(into, dict):
        for name, sums in other.items():
            merge(into.setdefault(name, type(sums)()), sums)
        return
    for entry in fields(into):
        mine, theirs = getattr(into, entry.name), getattr(other, entry.name)
        if isinstance(mine, int):
            setattr(into, entry.name, mine + theirs)
        else:
            merge(mine, theirs)


def fixed(counter: Counter[str], keys: Sequence[str]) -> dict[str, int]:
    return {key: counter[key] for key in keys}


def by_ratio(findings: Findings, pairs: Counter[float]) -> dict[str, dict[str, Any]]:
    """What became of the continuations at each ratio: those that were asked for, and those made."""
    made = {at.keep: at for at in gate_yield(findings.continuations)}
    nothing = GateYield(0.0, 0, {})
    return {
        f"{keep:g}": {
            "made": at.continuations,
            "fit": at.fit,
            "pairs": pairs[keep],
            "unfit": by_number(Counter(at.faults)),
            "not_made": findings.not_made[keep],
        }
        for keep in sorted({*made, *findings.not_made})
        for at in [made.get(keep, nothing)]
    }


def blind(findings: Findings) -> dict[str, dict[str, int]]:
    """How seeds did without their images; empty where that was not asked for."""
    if not findings.blind:
        return {}
    tables = nested(findings.blind)
    return {
        "seeds": fixed(Counter(tables.get("seeds")), ("measured", "not_measured", "solved")),
        "responses": fixed(Counter(tables.get("responses")), get_args(Outcome)),
        "pass_rates": dict(sorted(tables.get("pass_rates", {}).items())),
    }


def by_number(counter: Counter[str]) -> dict[str, int]:
    """By falling number, then by name; what was counted and taken back again is left out."""
    counted = [(name, count) for name, count in counter.items() if count]
    return dict(sorted(counted, key=lambda item: (-item[1], item[0])))


def nested(counter: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    tables: dict[str, Counter[str]] = {}
    for (outer, inner), count in sorted(counter.items()):
        if count:
            tables.setdefault(outer, Counter())[inner] = count
    return {outer: by_number(table) for outer, table in tables.items()}
