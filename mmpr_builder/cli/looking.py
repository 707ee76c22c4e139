"""`mmpr report | show | diff | status`: look at what a build gave, or at how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.text import Text

from mmpr_builder.cli.app import (
    LOOK,
    Out,
    argument,
    command,
    facts,
    option,
    print_json,
    say,
    switch,
)
from mmpr_builder.records import Kind

if TYPE_CHECKING:
    from mmpr_builder.folder.status import Overview, Status

_PAIRS = 3
_GO_ON = "run the same command again to go on"
_STATES = {
    "running": "running",
    "silent": "no sign of life for longer than it should be",
    "killed": "killed, or its machine went away",
    "sampled": "all seeds are sampled, pairs are not made yet",
    "done": "done",
    "interrupted": "interrupted",
    "failed": "failed",
}


_KINDS: tuple[str, ...] = get_args(Kind)


def _complete_kinds(incomplete: str) -> list[str]:
    return [kind for kind in _KINDS if kind.startswith(incomplete)]


@command(LOOK)
def report(
    out: Out,
    all_pairs: Annotated[bool, switch("--all", "Pages for all pairs, however many.")] = False,
) -> None:
    """Write the report of a finished build again: OUT/report/index.html.

    $ mmpr report out/demo
    $ mmpr report out/demo --all
    """
    from mmpr_builder.report import write_report

    say(f"wrote {write_report(out, all_pairs=all_pairs)}")


@command(LOOK)
def show(
    out: Out,
    name: Annotated[
        str | None,
        argument("ID", "A question's id, or a pair's id or its beginning."),
    ] = None,
    kind: Annotated[
        str | None, option("KIND", "Only this kind of pair.", autocompletion=_complete_kinds)
    ] = None,
    source: Annotated[str | None, option("NAME", "Only this source.")] = None,
    n: Annotated[
        int | None,
        option(
            "N", "Pairs to print.", "--n", "-n", min=1, show_default="3; with an ID, all of them"
        ),
    ] = None,
    skip: Annotated[int, option("N", "Leave out the first N.", min=0)] = 0,
    random: Annotated[int | None, option("SEED", "Draw at random, by this number.")] = None,
    as_json: Annotated[bool, switch("--json", "One JSON object a line.")] = False,
) -> None:
    """Print pairs: question, truth, and chosen beside rejected with the difference marked.

    With the ID of a question: all its pairs, or why it has none.

    $ mmpr show out/demo --kind dropout_ntp -n 5
    $ mmpr show out/demo demo-00017
    $ mmpr show out/demo --random 1 --json | jq .chosen_text
    """
    from mmpr_builder.errors import InputError
    from mmpr_builder.output import pair_parts
    from mmpr_builder.report.lookup import find_pairs

    if kind is not None and kind not in _KINDS:
        raise InputError(f"--kind {kind!r}: the kinds are {', '.join(_KINDS)}")
    if skip and random is not None:
        raise InputError("--skip means nothing to a draw at random: leave out one of the two")
    limit = n or (_PAIRS if name is None else sys.maxsize)
    wanted = {"name": name, "kind": kind, "source": source}
    rows, found = find_pairs(pair_parts(out), n=limit, **wanted, skip=skip, draw=random)
    if not rows:
        _explain_none(out, wanted, found)
    if as_json:
        for row in rows:
            print_json(row)
    else:
        _print_pairs(rows, found, skip if random is None else None)


def _print_pairs(rows: list[dict[str, Any]], found: int, skip: int | None) -> None:
    from mmpr_builder.cli import showing

    page = Console()
    for row in rows:
        page.print(showing.pair(row, page.width))
        page.print()
    shown = (skip or 0) + len(rows)
    more = f"; next: --skip {shown}" if skip is not None and found > shown else ""
    page.print(Text(f"{len(rows):,} of {found:,} pairs{more}", style="dim"))


def _explain_none(out: str, wanted: Mapping[str, str | None], found: int) -> None:
    from mmpr_builder.errors import InputError
    from mmpr_builder.report.lookup import find_drop

    drop = find_drop(out, wanted["name"]) if wanted["name"] else None
    if drop is not None:
        detail = f": {drop.detail}" if drop.detail else ""
        say(f"{drop.item_id} gave no pair: {drop.reason} ({drop.stage}){detail}")
        raise typer.Exit(1)
    if found:
        raise InputError(f"{out}: only {found:,} pairs fit: give a smaller --skip")
    flags = {"name": "ID", "kind": "--kind", "source": "--source"}
    words = " ".join(f"{flags[key]} {value}" for key, value in wanted.items() if value is not None)
    if not words:
        raise InputError(f"{out}: this build gave no pair: its report and its drops/ say why")
    raise InputError(
        f"{out}: no pair fits {words}: ids, kinds and sources are in its report and in"
        " pairs/*.parquet"
    )


@command(LOOK)
def diff(
    left: Annotated[str, argument("OUT1", "A build's folder.")],
    right: Annotated[str, argument("OUT2", "Another.")],
    show: Annotated[int, option("N", "Questions and texts to list.", min=0)] = 10,
    as_json: Annotated[bool, switch("--json", "Everything, as JSON.")] = False,
) -> None:
    """Compare two builds: settings, counts, pass rates, verdicts and pairs that differ.

    $ mmpr diff out/run-1 out/run-2 --json > diff.json
    """
    from mmpr_builder.cli import showing
    from mmpr_builder.diff import compare_builds

    found = compare_builds(left, right)
    if as_json:
        print_json(asdict(found), indent=1)
    else:
        Console().print(showing.difference(found, left, right, show))


@command(LOOK)
def status(
    out: Annotated[str, argument("OUT", "A build's folder (path or URL).")],
    as_json: Annotated[bool, switch("--json", "Print it as JSON.")] = False,
) -> None:
    """Show how far a build is, how fast it goes, and whether it still runs.

    $ mmpr status out/run-1
    """
    from mmpr_builder.folder.status import look

    found = look(out)
    if as_json:
        print_json({"state": state(found), **asdict(found)})
    else:
        # Where no person reads along lines are as long as they need be.
        page = Console(width=None if sys.stdout.isatty() else 200)
        page.print(facts(rows(out, found, time.time())))


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
    told, name, alive = found.status, state(found), found.life == "alive"
    words = _STATES[name]
    if told is not None:
        words += f" ({told.half})" if told.state in ("running", "interrupted", "failed") else ""
        words += f": {told.message}" if told.message else ""
    yield "build", out
    yield "state", words
    if found.units_total:
        yield "shards", f"{found.units:,}/{found.units_total:,} sampled"
    if name == "done" and found.paired:
        yield from _stages(out)
    elif told is not None:
        yield from _figures(told.figures, alive)
    if told is not None:
        yield from _run(told, alive, now)
    if name == "silent":
        yield "next", f"check the machine; once the process is gone, {_GO_ON}"
    elif name not in ("running", "done"):
        sampled = name == "sampled" or (found.units_total and found.units == found.units_total)
        yield "next", "mmpr pair (or the same command again)" if sampled else _GO_ON


def _stages(out: str) -> Iterator[tuple[str, str]]:
    """What each step of a finished build came to, by its run.json."""
    from mmpr_builder.folder import join
    from mmpr_builder.io.stores import is_there
    from mmpr_builder.output import read_run
    from mmpr_builder.progress import clock_time

    run, page = read_run(out), join(out, "report/index.html")
    counts, seconds = run["counts"], run["this_run"]["seconds"]
    seeds, pairs = counts["seeds"], counts["pairs"]["total"]
    made = (
        f"{seeds['read']:,} seeds, {counts['responses']['sampled']:,} responses,"
        f" {counts['tokens']['generated']:,} tokens"
    )
    yield "sampling", f"{made}  {clock_time(seconds.get('sampling', 0.0))}"
    yield (
        "pairing",
        f"{pairs:,} pairs of {seeds['with_pairs']:,} seeds, {seeds['dropped']:,} dropped"
        f"  {clock_time(seconds.get('pairing', 0.0))}",
    )
    yield "report", page if is_there(page) else f"not written: mmpr report {out}"


def _figures(figures: dict[str, Any], alive: bool) -> Iterator[tuple[str, str]]:
    from mmpr_builder.progress import clock_time

    if not figures:
        return
    done, total, unit = figures["done"], figures["total"], figures["unit"]
    if total:
        yield unit, f"{done:,}/{total:,}  {100 * done // total} %"
    elif figures["stage"]:
        so_far = f"{done:,} {unit}" if done else ""
        yield "step", "  ".join(filter(None, (figures["stage"], so_far, figures["detail"])))
    rates = (("per_second", f"{unit}/s"), ("tokens_per_second", "tokens/s"))
    if said := [f"{figures[name]:,.1f} {what}" for name, what in rates if figures.get(name)]:
        yield "rate", "  ".join(said)
    if figures.get("decided"):
        share = figures.get("correct", 0) / figures["decided"]
        yield "right", f"{share:.0%} of judged, {figures.get('undecided', 0):,} undecided"
    names = ("tokens", "responses", "pairs", "saved", "retries")
    if said := [f"{figures[name]:,} {name}" for name in names if figures.get(name)]:
        yield "this run", "  ".join(said)
    if alive and figures.get("engines") is not None:
        waits = figures["detail"] if not figures["engines"] else ""
        yield "engines", f"{figures['engines']}  {waits}".strip()
    if alive and figures.get("seconds_left") is not None and done != total:
        yield "time left", clock_time(figures["seconds_left"])


def _run(status: Status, alive: bool, now: float) -> Iterator[tuple[str, str]]:
    from mmpr_builder.progress import clock_time

    job = f", Ray job {status.job}" if status.job else ""
    yield "process", f"{status.pid} on {status.host}{job}"
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status.started))
    yield "started", f"{began}, ran {clock_time(status.updated - status.started)}"
    if status.state == "running":
        word = "last sign" if alive else "last heard"
        yield word, f"{clock_time(now - status.updated)} ago"
