"""`mmpr status OUT`: how far a build is and whether somebody works on it, from its folder alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmpr_builder.cli.app import LOOK, app
from mmpr_builder.display import clock_time

if TYPE_CHECKING:
    from mmpr_builder.distributed.overview import Overview
    from mmpr_builder.distributed.status import Status

_GO_ON = "run the same command again to go on"


@app.command(rich_help_panel=LOOK)
def status(
    out: Annotated[str, typer.Argument(help="A build's folder (path or URL).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show how far a build is: units, seeds, rates, time left, and whether its driver lives."""
    from mmpr_builder.distributed.overview import look

    found = look(out)
    if as_json:
        typer.echo(json.dumps({"state": state(found), **asdict(found)}, ensure_ascii=False))
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows(out, found, time.time()):
        table.add_row(label, escape(text))
    # Where no person reads along lines are as long as they need be.
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def state(found: Overview) -> str:
    """`running`, `silent`, `killed`, `sampled`, `done`, `interrupted` or `failed`."""
    if found.status is None:
        # A folder of a version that kept no status, or one that was moved without it.
        sampled = found.units == found.units_total
        return "done" if found.paired else "sampled" if sampled else "killed"
    if found.status.state == "running":
        return {"alive": "running", "silent": "silent", "gone": "killed"}[found.life]
    return found.status.state


def rows(out: str, found: Overview, now: float) -> Iterator[tuple[str, str]]:
    """The lines of the table, as (label, text)."""
    yield "build", out
    yield "state", _state(found)
    if found.units_total:
        yield "units", f"{found.units:,}/{found.units_total:,} sampled"
    if found.status is not None:
        yield from _figures(found.status.figures, found.life == "alive")
        yield from _run(found.status, found.life == "alive", now)
    if (hint := _next(found)) is not None:
        yield "next", hint


def _state(found: Overview) -> str:
    told = found.status
    words = {
        "running": "running",
        "silent": "running, but nothing was heard of it for longer than it should be",
        "killed": "ended without a word: killed, or its machine went",
        "sampled": "all seeds are sampled, pairs are not made yet",
        "done": "done",
        "interrupted": "interrupted",
        "failed": "failed",
    }[state(found)]
    if told is None:
        return words
    half = f" ({told.half})" if told.state in ("running", "interrupted", "failed") else ""
    return f"{words}{half}" + (f": {told.message}" if told.message else "")


def _figures(figures: dict[str, Any], alive: bool) -> Iterator[tuple[str, str]]:
    if not figures:
        return
    done, total, unit = figures["done"], figures["total"], figures["unit"]
    if total:
        yield unit, f"{done:,}/{total:,}  {100 * done // total} %"
    elif figures["stage"]:
        so_far = f"{done:,} {unit}" if done else ""
        yield "step", "  ".join(filter(None, (figures["stage"], so_far, figures["detail"])))
    rates = [
        f"{figures[name]:,.1f} {what}"
        for name, what in (("per_second", f"{unit}/s"), ("tokens_per_second", "tokens/s"))
        if figures.get(name)
    ]
    if rates:
        yield "rate", "  ".join(rates)
    if figures.get("decided"):
        share = figures.get("correct", 0) / figures["decided"]
        yield "right", f"{share:.0%} of judged, {figures.get('undecided', 0):,} undecided"
    names = ("tokens", "responses", "pairs", "saved", "retries")
    counts = [f"{figures[name]:,} {name}" for name in names if figures.get(name)]
    if counts:
        yield "this run", "  ".join(counts)
    if alive and figures.get("engines") is not None:
        waits = figures["detail"] if not figures["engines"] else ""
        yield "engines", f"{figures['engines']}  {waits}".strip()
    if alive and figures.get("seconds_left") is not None and done != total:
        yield "time left", clock_time(figures["seconds_left"])


def _run(status: Status, alive: bool, now: float) -> Iterator[tuple[str, str]]:
    job = f", Ray job {status.job}" if status.job else ""
    yield "driver", f"process {status.pid} on {status.host}{job}"
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.started))
    yield "started", f"{began}, ran {clock_time(status.updated - status.started)}"
    if status.state == "running":
        word = "last sign" if alive else "last heard"
        yield word, f"{clock_time(max(0.0, now - status.updated))} ago"


def _next(found: Overview) -> str | None:
    now = state(found)
    if now in ("running", "done"):
        return None
    if now == "silent":
        return f"look after the machine; once it is gone, {_GO_ON}"
    if now == "sampled" or (found.units_total and found.units == found.units_total):
        return "mmpr pair (or the same command again)"
    return _GO_ON
