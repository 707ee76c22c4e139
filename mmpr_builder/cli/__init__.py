"""The command line. Every command that builds takes a recipe and `key=value` overrides:

    mmpr build pipelines/demo.yaml out=out/demo sampling.n=16
    mmpr pair  pipelines/demo.yaml out=out/demo pairing.max_per_seed=5

Exit codes: 0 done; 2 a set-up error; 3 done, but seeds that kill the engine were quarantined;
4 done, and `mmpr audit` has findings; 5 the same of `mmpr lint`; 6 nothing came of it: no seed
can give a pair, or none gave one; 7 a limit is reached; 130 / 143 stopped by SIGINT / SIGTERM after
publishing what was finished; 1 anything else.
"""

from __future__ import annotations

import sys

from mmpr_builder.cli import auditing, building, exporting, looking
from mmpr_builder.cli.app import EXIT_LIMIT, EXIT_NOTHING, EXIT_SETUP, PANELS, app, console, say
from mmpr_builder.errors import Interrupted, MmprError, NothingUsableError, SetupError

__all__ = ["auditing", "building", "exporting", "looking", "main"]


def main(args: list[str] | None = None) -> None:
    """Entry point of `mmpr` and of pipelines/build_mmpr.py. Ends the process with an exit code."""
    app.registered_commands.sort(key=lambda c: PANELS.index(str(c.rich_help_panel)))
    try:
        app(args=args, standalone_mode=True)
    except MmprError as error:
        console.quiet = False
        if isinstance(error, SetupError):
            say(str(error), "error: ", "bold red")
            sys.exit(EXIT_NOTHING if isinstance(error, NothingUsableError) else EXIT_SETUP)
        if isinstance(error, Interrupted):
            say(str(error), "stopped: ", "bold yellow")
            sys.exit(128 + error.signum if error.signum else EXIT_LIMIT)
        say(str(error), "failed: ", "bold red")
        sys.exit(1)
