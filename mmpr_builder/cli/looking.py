"""`mmpr report | show | diff`: look at what a build gave."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mmpr_builder.cli.app import LOOK, app, console
from mmpr_builder.errors import InputError
from mmpr_builder.progress import clock_time
from mmpr_builder.records import Kind

if TYPE_CHECKING:
    from mmpr_builder.folder.status import Overview, Status


_PAIRS = 3

Out = Annotated[str, typer.Argument(metavar="OUT", help="A build's folder.", show_default=False)]


def _complete_kinds(incomplete: str) -> list[str]:
    return [kind for kind in get_args(Kind) if kind.startswith(incomplete)]


@app.command(rich_help_panel=LOOK)
def report(out: Out) -> None:
    """Write the report of a finished build again: OUT/report/index.html.

    [dim]Example:[/]  mmpr report out/demo
    """
    from mmpr_builder.report import write_report

    console.print(f"wrote {escape(write_report(out))}")


@app.command(rich_help_panel=LOOK)
def show(
    out: Out,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="A question's id, or a pair's id or its beginning.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only this kind of pair.", autocompletion=_complete_kinds)
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n", "-n", min=1, help="Pairs to print.", show_default="3; with an ID, all of them"
        ),
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="Pass over so many first.")] = 0,
    random: Annotated[
        int | None, typer.Option(metavar="SEED", help="Draw at random by this seed instead.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print pairs: question, truth, and chosen beside rejected with the difference marked.

    [dim]Examples:[/]

      mmpr show out/demo --kind dropout_ntp -n 5

      mmpr show out/demo demo-00017              [dim]all pairs of a question, or why it has none[/]

      mmpr show out/demo --random 1 --json | jq .chosen_text
    """
    from mmpr_builder.output import pair_parts
    from mmpr_builder.report.lookup import Wanted, find_pairs

    _check_kind(kind)
    if skip and random is not None:
        raise InputError("--skip means nothing to a draw at random: leave out one of the two")
    wanted = Wanted(name, kind, source)
    limit = n or (_PAIRS if name is None else sys.maxsize)
    rows, found = find_pairs(pair_parts(out), wanted, n=limit, skip=skip, draw=random)
    if not rows:
        _explain_none(out, wanted, found)
    if as_json:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    _print_pairs(rows, found, skip if random is None else None)


def _print_pairs(rows: list[dict[str, Any]], found: int, skip: int | None) -> None:
    from mmpr_builder.cli import showing

    page = Console()
    for row in rows:
        page.print(showing.pair(row, page.width))
        page.print()
    left = found - (skip or 0) - len(rows)
    more = f"; next: --skip {(skip or 0) + len(rows)}" if skip is not None and left > 0 else ""
    page.print(Text(f"{len(rows):,} of {found:,} pairs{more}", style="dim"))


def _check_kind(kind: str | None) -> None:
    if kind is not None and kind not in get_args(Kind):
        raise InputError(f"--kind {kind!r}: the kinds are {', '.join(get_args(Kind))}")


def _explain_none(out: str, wanted: Any, found: int) -> None:
    from mmpr_builder.escaping import visible
    from mmpr_builder.report.lookup import find_drop

    drop = find_drop(out, wanted.name) if wanted.name else None
    if drop is not None:
        detail = f": {drop.detail}" if drop.detail else ""
        console.print(
            f"{escape(visible(drop.item_id))} gave no pair: [bold]{escape(drop.reason)}[/]"
            f" ({escape(drop.stage)}){escape(visible(detail))}"
        )
        raise typer.Exit(1)
    asked = {"ID": wanted.name, "--kind": wanted.kind, "--source": wanted.source}
    words = " ".join(f"{key} {value}" for key, value in asked.items() if value is not None)
    if found:
        raise InputError(f"{out}: only {found:,} pairs fit: give a smaller --skip")
    if not words:
        raise InputError(f"{out}: this build gave no pair: its report and its drops/ say why")
    raise InputError(
        f"{out}: no pair fits {words}: ids, kinds and sources are in its report and in"
        " pairs/*.parquet"
    )


@app.command(rich_help_panel=LOOK)
def diff(
    left: Annotated[str, typer.Argument(metavar="OUT1", help="A build's folder.")],
    right: Annotated[str, typer.Argument(metavar="OUT2", help="Another.")],
    show: Annotated[int, typer.Option(min=0, help="Questions and texts to list.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Compare two builds: settings, counts, share right, verdicts that flipped, pairs in one only.

    [dim]Example:[/]  mmpr diff out/run-1 out/run-2 --json > diff.json
    """
    from mmpr_builder.cli import showing
    from mmpr_builder.diff import compare_builds

    found = compare_builds(left, right)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n")
        return
    Console().print(showing.difference(found, left, right, show))


# ---- status
# `mmpr status OUT`: how far a build is and whether somebody works on it, from its folder alone.


_GO_ON = "run the same command again to go on"


@app.command(rich_help_panel=LOOK)
def status(
    out: Annotated[str, typer.Argument(help="A build's folder (path or URL).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show how far a build is: units, seeds, rates, time left, and whether its driver lives."""
    from mmpr_builder.folder.status import look

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
