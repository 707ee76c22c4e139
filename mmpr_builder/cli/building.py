"""`mmpr build | sample | pair | plan | settings`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmpr_builder.cli import closing
from mmpr_builder.cli.app import (
    BUILD,
    EXIT_NOTHING,
    EXIT_QUARANTINED,
    Settings,
    app,
    be_offline_safe,
    console,
    read_settings,
)
from mmpr_builder.config import settings_table

if TYPE_CHECKING:
    from mmpr_builder.build import BuildResult

Extend = Annotated[
    bool,
    typer.Option("--extend", help="Add seeds that the inputs have and the build has not."),
]


@app.command(rich_help_panel=BUILD)
def build(settings: Settings = None, extend: Extend = False) -> None:
    """Do both halves: sample responses, then make pairs, card and report.

    After an interruption the same command goes on where it was.

    [dim]Examples:[/]

      mmpr build demo

      mmpr build demo seeds=my/seeds.jsonl model=/models/my-vlm out=out/mine sampling.n=32

      mmpr build my_recipe.yaml limit=100

      mmpr build my_recipe.yaml limit=200 --extend
    """
    _run("build", settings, extend=extend)


@app.command(rich_help_panel=BUILD)
def sample(settings: Settings = None, extend: Extend = False) -> None:
    """Do the first half only: seeds to rollouts (needs the engine).

    [dim]Example:[/]  mmpr sample demo out=out/run-1
    """
    _run("sample", settings, extend=extend)


@app.command(rich_help_panel=BUILD)
def pair(settings: Settings = None) -> None:
    """Do the second half only: rollouts to pairs (no engine, any number of times).

    [dim]Examples:[/]

      mmpr pair demo out=out/run-1 pairing.max_per_seed=5

      mmpr pair demo out=out/run-1 pairing.reject_list=reject_list.txt
    """
    _run("pair", settings)


@app.command(rich_help_panel=BUILD)
def plan(
    settings: Settings = None,
    extend: Extend = False,
    probe: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=2, help="Sample about N seeds, in a temporary folder, and extrapolate."
        ),
    ] = None,
) -> None:
    """Check everything and show what a build would do and cost at most, sampling nothing.

    With --probe the engine really samples a few seeds of every source; tokens, engine-hours, disk
    and pairs of the whole build are worked out from them, with their uncertainty.

    [dim]Examples:[/]

      mmpr plan demo seeds=my/seeds.jsonl

      mmpr plan demo seeds=my/seeds.jsonl --probe 64
    """
    config = read_settings(settings)
    be_offline_safe(config)
    from mmpr_builder import build as stages

    console.print(closing.planned(config, stages.plan(config, extend=extend)))
    if probe is not None:
        from mmpr_builder.probe import run_probe
        from mmpr_builder.progress import Progress

        with Progress.auto() as progress:
            found = run_probe(config, probe, progress, extend=extend)
        console.print(closing.probed(config, found))


@app.command("settings", rich_help_panel=BUILD)
def show_settings() -> None:
    """List every setting with its default and what it does."""
    table = Table("setting", "default", "what it does", box=None, pad_edge=False)
    for key, default, description in settings_table():
        table.add_row(f"[bold]{key}[/]", escape(default), escape(description))
    Console().print(table)


def _run(command: str, settings: list[str] | None, **options: bool) -> None:
    config = read_settings(settings)
    be_offline_safe(config)
    from mmpr_builder import build as stages
    from mmpr_builder.progress import Progress

    step: Callable[..., BuildResult] = getattr(stages, command)
    with Progress.auto() as progress:
        result = step(config, progress, **options)
    if result.run is not None:
        console.print(closing.finished(config, result.run))
    elif result.sampling is not None:
        console.print(closing.sampled(config, result.sampling))
    if result.sampling is not None and result.sampling.quarantined:
        sys.exit(EXIT_QUARANTINED)
    if result.run is not None and not result.run["counts"]["pairs"]["total"]:
        console.print("[bold red]no pairs:[/] the drops above say why")
        sys.exit(EXIT_NOTHING)
