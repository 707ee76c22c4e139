"""The command line. Every command that builds takes a recipe and `key=value` overrides:

    mmpr build pipelines/demo.yaml out=out/demo sampling.n=16
    mmpr pair  pipelines/demo.yaml out=out/demo pairing.max_per_seed=5

Exit codes: 0 done; 2 a set-up error; 3 done, but rows that kill the engine were set aside;
4 done, and there are findings (`mmpr audit`); 5 the same of `mmpr lint`; 6 nothing came of it: no
seed that pairs could come of, or no pair;
130 / 143 stopped by SIGINT / SIGTERM after publishing what was finished.
"""

from __future__ import annotations

import sys

from rich.markup import escape

from mmpr_builder.cli import auditing, building, exporting, looking
from mmpr_builder.cli.app import EXIT_NOTHING, EXIT_SETUP, PANELS, app, console
from mmpr_builder.errors import Interrupted, MmprError, NothingUsableError, SetupError
from mmpr_builder.escaping import visible

__all__ = ["auditing", "building", "exporting", "looking", "main", "sharing", "status"]


def main(args: list[str] | None = None) -> None:
    """Entry point of `mmpr` and of pipelines/build_mmpr.py. Ends the process with an exit code."""
    app.registered_commands.sort(key=lambda c: PANELS.index(str(c.rich_help_panel)))
    try:
        app(args=args, standalone_mode=True)
    except SetupError as error:
        console.print(f"[bold red]error:[/] {escape(visible(str(error)))}", soft_wrap=True)
        sys.exit(EXIT_NOTHING if isinstance(error, NothingUsableError) else EXIT_SETUP)
    except Interrupted as error:
        console.print(f"[bold yellow]stopped:[/] {escape(visible(str(error)))}", soft_wrap=True)
        sys.exit(128 + error.signum)
    except MmprError as error:
        console.print(f"[bold red]failed:[/] {escape(visible(str(error)))}", soft_wrap=True)
        sys.exit(1)
