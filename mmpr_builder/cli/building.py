"""`mmpr build | sample | pair | plan | report | settings | version`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmpr_builder import __version__, summary
from mmpr_builder.cli.app import (
    EXIT_QUARANTINED,
    Settings,
    app,
    be_offline_safe,
    console,
    read_settings,
)
from mmpr_builder.config import Config, settings_table

if TYPE_CHECKING:
    from mmpr_builder.build import BuildResult
    from mmpr_builder.progress import Progress


@app.command()
def build(settings: Settings = None) -> None:
    """Do both halves: sample responses, then make pairs, card and report."""
    _run("build", settings)


@app.command()
def sample(settings: Settings = None) -> None:
    """Do the first half only: seeds to rollouts (needs the engine)."""
    _run("sample", settings)


@app.command()
def pair(settings: Settings = None) -> None:
    """Do the second half only: rollouts to pairs (no engine, any number of times)."""
    _run("pair", settings)


@app.command()
def plan(settings: Settings = None) -> None:
    """Check everything and show what a build would do and cost, sampling nothing."""
    config = read_settings(settings)
    be_offline_safe(config)
    from mmpr_builder import build as stages

    console.print(summary.planned(config, stages.plan(config)))


@app.command()
def report(
    out: Annotated[str, typer.Argument(help="A build's folder.")],
) -> None:
    """Write the report of a finished build again: OUT/report/index.html."""
    from mmpr_builder.report import write_report

    console.print(f"wrote {escape(write_report(out))}")


@app.command("settings")
def show_settings() -> None:
    """List every setting with its default and what it does."""
    table = Table("setting", "default", "what it does", box=None, pad_edge=False)
    for key, default, description in settings_table():
        table.add_row(f"[bold]{key}[/]", escape(default), escape(description))
    Console().print(table)


@app.command()
def version() -> None:
    """Print the version."""
    Console().print(__version__)


def _run(command: str, settings: list[str] | None) -> None:
    config = read_settings(settings)
    be_offline_safe(config)
    from mmpr_builder import build as stages
    from mmpr_builder.progress import Progress

    step: Callable[[Config, Progress], BuildResult] = getattr(stages, command)
    with Progress.auto() as progress:
        result = step(config, progress)
    if result.run is not None:
        console.print(summary.finished(config, result.run))
    elif result.sampling is not None:
        console.print(summary.sampled(config, result.sampling))
    if result.sampling is not None and result.sampling.quarantined:
        sys.exit(EXIT_QUARANTINED)
