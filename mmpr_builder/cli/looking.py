"""`mmpr report | show | diff`: look at what a build gave."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from mmpr_builder.cli.app import LOOK, app, console
from mmpr_builder.errors import InputError
from mmpr_builder.records import Kind

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
    from mmpr_builder.cli import shown

    page = Console()
    for row in rows:
        page.print(shown.pair(row, page.width))
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
    from mmpr_builder.cli import shown
    from mmpr_builder.diff import compare_builds

    found = compare_builds(left, right)
    if as_json:
        sys.stdout.write(json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n")
        return
    Console().print(shown.difference(found, left, right, show))
