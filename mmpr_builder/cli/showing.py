"""What `mmpr show` and `mmpr diff` print: pairs side by side, and tables of differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mmpr_builder.escaping import visible
from mmpr_builder.report.texts import compare, question_text

if TYPE_CHECKING:
    from mmpr_builder.diff import BuildDiff, Change
    from mmpr_builder.report.texts import Span


SIDE_BY_SIDE = 100
"""Columns of a terminal from which two texts stand beside each other."""

_NEW = {"chosen": "bold green", "rejected": "bold red"}


def pair(row: Mapping[str, Any], width: int) -> RenderableType:
    """One pair: where it is from, the question, and both texts with what differs marked."""
    spans = compare(visible(row["chosen_text"]), visible(row["rejected_text"]), row["kind"])
    sides = [
        Panel(
            _text(said, name),
            title=_title(row, name),
            title_align="left",
            border_style="green" if name == "chosen" else "red",
        )
        for name, said in zip(("chosen", "rejected"), spans, strict=True)
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
    head.append(f"  {row['id'] or ''}", style="dim")
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


def _text(spans: Sequence[Span], side: str) -> Text:
    text = Text()
    for span in spans:
        styles = {"new": _NEW[side], "prefix": "dim"}
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
    pairs = Table("pairs", "only in 1", "only in 2", "in both", **_LOOK)
    for kind, numbers in diff.pairs.items():
        pairs.add_row(kind, *(f"{n:,}" for n in numbers))
    tables: list[RenderableType] = [Text.assemble("1  ", (left, "bold"), "\n2  ", (right, "bold"))]
    tables += _changes("settings that differ", diff.settings)
    tables += _changes("versions that differ", diff.versions)
    tables += _changes("counts that differ", diff.counts, numbers=True)
    tables += [Text(), pairs]
    rates = [change for change in diff.pass_rates if (change.left, change.right) != (None, None)]
    tables += _changes("mean share right", rates, percent=True)
    tables += _changes("questions that end differently", diff.seeds, most=show)
    tables += _changes("questions with another share right", diff.rates, percent=True, most=show)
    tables += _flips(diff, show)
    return Group(*tables)


_LOOK: dict[str, Any] = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}


def _changes(
    title: str,
    changes: Sequence[Change],
    *,
    numbers: bool = False,
    percent: bool = False,
    most: int | None = None,
) -> list[RenderableType]:
    if not changes:
        return []
    columns = [title, "1", "2", *(["change"] if numbers or percent else [])]
    table = Table(*columns, **_LOOK)
    for change in changes[:most]:
        row = [change.name, _said(change.left, percent), _said(change.right, percent)]
        if len(columns) > 3:
            row.append(_moved(change, percent))
        table.add_row(*(Text(visible(cell)) for cell in row))
    return [Text(), table, *_more(len(changes), most)]


def _flips(diff: BuildDiff, show: int) -> list[RenderableType]:
    if not diff.flips:
        return []
    table = Table("texts judged differently", "1", "2", "text", **_LOOK)
    for flip in diff.flips[:show]:
        cells = (
            flip.seed_id,
            f"{flip.left} ({flip.left_rule})",
            f"{flip.right} ({flip.right_rule})",
            " ".join(flip.text.split()),
        )
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return [Text(), table, *_more(len(diff.flips), show)]


def _more(there: int, shown: int | None) -> Iterable[RenderableType]:
    if shown is not None and there > shown:
        yield Text(f"… {there - shown:,} more: --show {there} or --json", style="dim")


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
