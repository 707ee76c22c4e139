"""`mmpr push`: a build onto the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from mmpr_builder.cli.app import HAND_ON, app, console


@app.command(rich_help_panel=HAND_ON)
def push(
    out: Annotated[str, typer.Argument(metavar="OUT", help="A build's folder.")],
    repo_id: Annotated[str, typer.Argument(metavar="REPO", help="NAME/DATASET on the hub.")],
    private: Annotated[bool, typer.Option("--private", help="Make it private if new.")] = False,
    rollouts: Annotated[
        bool, typer.Option("--rollouts", help="Send the rollouts too: all responses.")
    ] = False,
    revision: Annotated[str | None, typer.Option(help="Branch to commit to.")] = None,
    message: Annotated[str | None, typer.Option(help="Commit message.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be sent.")
    ] = False,
) -> None:
    """Upload pairs, drops, data card and report to the Hugging Face hub.

    [dim]Examples:[/]

      mmpr push out/run-1 me/my-pairs --private --dry-run

      mmpr push out/run-1 me/my-pairs --rollouts
    """
    from mmpr_builder import push as sending

    if dry_run:
        files = sending.uploads(out, rollouts=rollouts)
        table = Table("would be sent", "bytes", box=None, pad_edge=False)
        for file in files:
            table.add_row(escape(file.path), f"{file.size:,}")
        table.add_row(f"{len(files)} files", f"{sum(file.size for file in files):,}")
        console.print(table)
        return
    url = sending.push(
        out, repo_id, private=private, rollouts=rollouts, revision=revision, message=message
    )
    console.print(f"sent: {escape(url)}")
