"""What `mmpr show` and `mmpr diff` print: pairs side by side, and tables of differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mmpr_builder.cli.app import columns
from mmpr_builder.escaping import visible
from mmpr_builder.report.texts import compare, question_text

if TYPE_CHECKING:
    from mmpr_builder.diff import BuildDiff, Change
    from mmpr_builder.report.texts import Span


SIDE_BY_SIDE = 100
"""Columns of a terminal from which two texts stand beside each other."""

_COLOURS = {"chosen": "green", "rejected": "red"}


def pair(row: Mapping[str, Any], width: int) -> RenderableType:
    """One pair: where it is from, the question, and both texts with what differs marked."""
    spans = compare(visible(row["chosen_text"]), visible(row["rejected_text"]), row["kind"])
    sides = [
        Panel(_text(said, colour), title=_title(row, name), title_align="left", border_style=colour)
        for (name, colour), said in zip(_COLOURS.items(), spans, strict=True)
    ]
    return Group(_head(row), Text(question_text(row["question"])), _truth(row), _both(sides, width))


def _head(row: Mapping[str, Any]) -> Text:
    head = Text()
    head.append(f" {row['kind'] or 'pair'} ", style="reverse")
    parts = [name for name in (row["source"], row["seed_id"]) if name]
    if row["pass_rate"] is not None:
        parts.append(f"{row['pass_rate']:.0%} of {row['n_samples']} right")
    images = len(row["image_sha256"] or [])
    parts.append(f"{images} image{'s' if images != 1 else ''}" if images else "no image")
    head.append("  " + visible("  ".join(parts)), style="bold")
    head.append(f"  {visible(row['id'] or '')}", style="dim")
    return head


def _truth(row: Mapping[str, Any]) -> Text:
    answers = list(dict.fromkeys(row["answers"] or []))
    if not answers:
        return Text("The truth is not known.", style="dim")
    return Text.assemble(("Truth: ", "dim"), (visible(" · ".join(answers)), "bold"))


def _title(row: Mapping[str, Any], side: str) -> Text:
    title = Text(side, style="bold")
    if row[f"{side}_answer"] is not None:
        title.append(f" · answer {visible(row[f'{side}_answer'])[:40]}")
    if row[f"{side}_rule"] and row["kind"] != "dropout_ntp":
        title.append(f" · rule {row[f'{side}_rule']}")
    # An import does not know the rest of it.
    if row[f"{side}_tokens"] is not None:
        title.append(f" · {row[f'{side}_tokens']:,} tokens")
    if row[f"{side}_finish_reason"] not in (None, "stop"):
        title.append(f" · ended by {row[f'{side}_finish_reason']}")
    return title


def _text(spans: Sequence[Span], colour: str) -> Text:
    text = Text()
    styles = {"new": f"bold {colour}", "prefix": "dim"}
    for span in spans:
        text.append(span.text, style=styles.get(span.mark))
    return text


def _both(sides: Sequence[RenderableType], width: int) -> RenderableType:
    if width < SIDE_BY_SIDE:
        return Group(*sides)
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(*sides)
    return grid


def difference(diff: BuildDiff, left: str, right: str, show: int) -> RenderableType:
    """The tables of `mmpr diff`; of seeds and texts the first `show`."""
    rates = [change for change in diff.pass_rates if (change.left, change.right) != (None, None)]
    return Group(
        Text.assemble("1  ", (visible(left), "bold"), "\n2  ", (visible(right), "bold")),
        *_changes("settings that differ", diff.settings),
        *_changes("versions that differ", diff.versions),
        *_changes("counts that differ", diff.counts, numbers=True),
        Text(),
        columns(
            ("pairs", "only in 1", "only in 2", "in both"),
            ((kind, *(f"{n:,}" for n in counts)) for kind, counts in diff.pairs.items()),
        ),
        *_changes("mean share right", rates, percent=True),
        *chain.from_iterable(
            _changes(f"in both: {name}", found, numbers=True, percent="tokens" not in name)
            for name, found in diff.drift.items()
        ),
        *_changes("questions that end differently", diff.seeds, most=show),
        *_changes("questions with another share right", diff.rates, percent=True, most=show),
        *_flips(diff, show),
    )


def _changes(
    title: str,
    changes: Sequence[Change],
    *,
    numbers: bool = False,
    percent: bool = False,
    most: int | None = None,
) -> Iterator[RenderableType]:
    shown = 4 if numbers or percent else 3
    rows = [
        (c.name, _said(c.left, percent), _said(c.right, percent), _moved(c, percent))[:shown]
        for c in changes[:most]
    ]
    yield from _table((title, "1", "2", "change")[:shown], rows, len(changes))


def _flips(diff: BuildDiff, show: int) -> Iterator[RenderableType]:
    rows = [
        (
            flip.seed_id,
            f"{flip.left} ({flip.left_rule})",
            f"{flip.right} ({flip.right_rule})",
            " ".join(flip.text.split()),
        )
        for flip in diff.flips[:show]
    ]
    yield from _table(("texts judged differently", "1", "2", "text"), rows, len(diff.flips))


def _table(
    names: Sequence[str], rows: Sequence[Sequence[str]], there: int
) -> Iterator[RenderableType]:
    if there:
        yield Text()
        yield columns(names, rows)
    if there > len(rows):
        more = f"… {there - len(rows):,} more: --show {there} or --json"
        yield Text(more, style="dim")


def _said(value: Any, percent: bool) -> str:
    if value is None:
        return "–"
    if percent:
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _moved(change: Change, percent: bool) -> str:
    sides = (change.left, change.right)
    if not all(isinstance(side, int | float) for side in sides):
        return ""
    moved = change.right - change.left
    return f"{100 * moved:+.1f} points" if percent else f"{moved:+,.10g}"
