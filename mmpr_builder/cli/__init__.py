"""The command line. Every command that builds takes a recipe and `key=value` overrides:

    mmpr build pipelines/demo.yaml out=out/demo sampling.n=16
    mmpr pair  pipelines/demo.yaml out=out/demo pairing.max_per_seed=5

Exit codes: 0 done; 2 a set-up error; 3 done, but rows that kill the engine were set aside;
130 / 143 stopped by SIGINT / SIGTERM after publishing what was finished.
"""

from __future__ import annotations

import sys

from rich.markup import escape

from mmpr_builder.cli import building
from mmpr_builder.cli.app import EXIT_SETUP, app, console
from mmpr_builder.errors import Interrupted, MmprError, SetupError

__all__ = ["building", "main"]


def main(args: list[str] | None = None) -> None:
    """Entry point of `mmpr` and of pipelines/build_mmpr.py. Ends the process with an exit code."""
    try:
        app(args=args, standalone_mode=True)
    except SetupError as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(EXIT_SETUP)
    except Interrupted as error:
        console.print(f"[bold yellow]stopped:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(128 + error.signum)
    except MmprError as error:
        console.print(f"[bold red]failed:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
