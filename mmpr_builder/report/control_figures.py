"""The quality controls of a build for its page: what those that were on left aside, with examples.

    decontamination   31 of 12,400 questions: contaminated
                      mathvista.jsonl, found by question and image: 31

What a control measured besides (samples without images, balance) the page takes from the counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmpr_builder.escaping import visible
from mmpr_builder.output import read_drops
from mmpr_builder.quality.contamination import CONTAMINATED
from mmpr_builder.quality.controls import Control, Left, controls_of
from mmpr_builder.report.examples import Example, read_asides

_RULE = re.compile(r": (question_and_image|question|image): ")


@dataclass(frozen=True, slots=True)
class Row:
    """One reason for which a control left something aside; `share` of what it was given."""

    label: str
    count: int
    unit: str
    share: float | None
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A control as the page shows it, with the figures that only some have."""

    control: Control
    rows: tuple[Row, ...]
    measured: Mapping[str, Any]
    """From run.json: `counts.blind`, or a table of `counts.balance`."""
    removed: tuple[tuple[str, str, int], ...]
    """(evaluation set, rule, questions)."""


Examples = Mapping[tuple[str, str], Sequence[Example]]


def shown_controls(out: str, run: Mapping[str, Any], examples: Examples) -> dict[str, Any]:
    """`controls` that were on, and `controls_off`, as the page's template takes them."""
    on, off = controls_of(run)
    asides = read_asides(out, run["this_run"].get("quality", {}) if on else {})
    measured = {**(run["counts"].get("balance") or {}), "blind": run["counts"].get("blind")}
    shown = [
        Shown(
            control,
            tuple(_row(control, left, examples, asides) for left in control.left),
            measured.get(control.name) or {},
            _removed(out, run) if control.name == "decontamination" else (),
        )
        for control in on
    ]
    return {"controls": shown, "controls_off": off}


def _row(
    control: Control, left: Left, examples: Examples, asides: Mapping[str, Sequence[Example]]
) -> Row:
    found = examples.get((left.stage, left.reason), ())
    if not left.stage:
        found = asides.get(left.reason) or asides.get(f"continuation_{left.reason}") or ()
    of_given = control.given and left.unit == control.unit
    share = left.count / control.given if of_given and control.given else None
    return Row(visible(left.reason), left.count, left.unit, share, tuple(found))


def _removed(out: str, run: Mapping[str, Any]) -> tuple[tuple[str, str, int], ...]:
    """How many questions each evaluation set cost, by the rule that found them."""
    against = run["config"]["quality"]["decontaminate"]["against"]
    found: Counter[tuple[str, str]] = Counter()
    for drop in read_drops(out):
        rule = _RULE.search(drop.detail) if drop.reason == CONTAMINATED else None
        if rule is not None:
            rest = drop.detail[rule.end() :]
            sets = [name for name in against if rest.startswith(f"{name}, ")]
            found[max(sets, key=len, default="?"), rule[1]] += 1
    rows = sorted(found.items(), key=lambda row: (-row[1], row[0]))
    return tuple((visible(name), rule.replace("_", " "), n) for (name, rule), n in rows)
