"""The quality controls of a build for its page: those that were on with figures and examples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmpr_builder.escaping import visible
from mmpr_builder.quality.contamination import CONTAMINATED
from mmpr_builder.quality.controls import Control, Left, controls_of
from mmpr_builder.report.examples import Example, read_asides, read_drops
from mmpr_builder.report.figures import Bar, mean_rate, pass_rate_bars

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
class Blind:
    """Pass rates of questions with and without their images, 0 to 1."""

    measured: int
    solved: int
    with_images: float | None
    without: float | None
    bars: tuple[Bar, ...]
    """Questions by their pass rate without images."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Mean tokens of chosen less rejected over pairs of one kind and source, before and after."""

    kind: str
    source: str
    pairs: tuple[int, int]
    gap: tuple[float, float]
    reached: bool


@dataclass(frozen=True, slots=True)
class Habits:
    """Answers of one family (yes and no, or letters): how often each is (chosen, rejected), before
    and after; `surplus` is the share of the pairs that is in excess (0 to 1)."""

    source: str
    family: str
    surplus: tuple[float, float]
    reached: bool
    answers: tuple[tuple[str, tuple[int, int], tuple[int, int]], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A control as the page shows it, with the figures that only some have."""

    name: str
    title: str
    what: str
    settings: tuple[str, ...]
    given: int | None
    unit: str
    rows: tuple[Row, ...]
    removed: tuple[tuple[str, str, int], ...] = ()
    """(evaluation set, rule, questions)."""
    blind: Blind | None = None
    gaps: tuple[Gap, ...] = ()
    habits: tuple[Habits, ...] = ()


Examples = Mapping[tuple[str, str], Sequence[Example]]


def shown_controls(out: str, run: Mapping[str, Any], examples: Examples) -> dict[str, Any]:
    """`controls` that were on, and `controls_off`, as the page's template takes them."""
    on, off = controls_of(run)
    faults = run["this_run"].get("quality", {}) if on else {}
    asides = read_asides(out, faults)
    shown = []
    for control in on:
        rows = tuple(_row(control, left, examples, asides) for left in control.left)
        settings = tuple(map(visible, control.settings))
        said = (control.name, control.title, control.what, settings, control.given, control.unit)
        shown.append(Shown(*said, rows, **_figures(control.name, out, run)))
    return {"controls": shown, "controls_off": off}


def _figures(name: str, out: str, run: Mapping[str, Any]) -> dict[str, Any]:
    counts = run["counts"]
    balance = counts.get("balance") or {}
    if name == "decontamination":
        return {"removed": _removed(out, run["config"]["quality"]["decontaminate"]["against"])}
    if name == "blind":
        return {"blind": _blind(counts)}
    if name == "lengths":
        return {"gaps": _gaps(balance.get("lengths") or {})}
    if name == "answers":
        return {"habits": _habits(balance.get("answers") or {})}
    return {}


def _row(
    control: Control, left: Left, examples: Examples, asides: Mapping[str, Sequence[Example]]
) -> Row:
    found = examples.get((left.stage, left.reason), ())
    if not left.stage:
        found = asides.get(left.reason) or asides.get(f"continuation_{left.reason}") or ()
    of_given = control.given and left.unit == control.unit
    share = left.count / control.given if of_given and control.given else None
    return Row(visible(left.reason), left.count, left.unit, share, tuple(found))


def _removed(out: str, against: Sequence[str]) -> tuple[tuple[str, str, int], ...]:
    """How many questions each evaluation set cost, by the rule that found them."""
    found: Counter[tuple[str, str]] = Counter()
    for drop in read_drops(out):
        rule = _RULE.search(drop.detail) if drop.reason == CONTAMINATED else None
        if rule is not None:
            rest = drop.detail[rule.end() :]
            sets = [name for name in against if rest.startswith(f"{name}, ")]
            found[max(sets, key=len, default="?"), rule[1]] += 1
    rows = sorted(found.items(), key=lambda row: (-row[1], row[0]))
    return tuple((visible(name), rule.replace("_", " "), n) for (name, rule), n in rows)


def _blind(counts: Mapping[str, Any]) -> Blind | None:
    found = counts.get("blind")
    if not found:
        return None
    return Blind(
        found["seeds"]["measured"],
        found["seeds"]["solved"],
        mean_rate(counts["pass_rates"]),
        mean_rate(found["pass_rates"]),
        tuple(pass_rate_bars(found["pass_rates"])),
    )


def _gaps(lengths: Mapping[str, Mapping[str, Any]]) -> tuple[Gap, ...]:
    return tuple(
        Gap(
            kind,
            visible(source) or "(unnamed)",
            (at["before"]["pairs"], at["after"]["pairs"]),
            (at["before"]["mean_gap"], at["after"]["mean_gap"]),
            at["reached"],
        )
        for kind, sources in lengths.items()
        for source, at in sources.items()
    )


def _habits(answers: Mapping[str, Mapping[str, Any]]) -> tuple[Habits, ...]:
    return tuple(
        Habits(
            visible(source) or "(unnamed)",
            family.replace("_", "/"),
            (at["before"]["surplus"], at["after"]["surplus"]),
            at["reached"],
            tuple(
                (visible(name), _sides(before), _sides(at["after"]["answers"][name]))
                for name, before in at["before"]["answers"].items()
            ),
        )
        for source, families in answers.items()
        for family, at in families.items()
    )


def _sides(counts: Mapping[str, int]) -> tuple[int, int]:
    return counts["chosen"], counts["rejected"]
