"""Nobody outlives an engine's actor: not even when it, its raylet and the driver die at once.

vLLM's engine core and its workers are processes of their own. Ray ends them with their actor while
it lives itself; measured, one in three kills of a driver left them behind, with all their memory.
So the actor gets a process group of its own, which its children inherit, and a small process
outside of it that ends the whole group once the actor is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys

# Asks for its parent rather than waiting for a pipe to close: a forked child would hold that open.
_WATCH = """
import os, signal, sys, time
group = int(sys.argv[1])
while os.getppid() == group:
    time.sleep(0.5)
try:
    os.killpg(group, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


def end_children_with_us() -> None:
    """From now on all children of this process, and theirs, die soon after it, however it ends."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid())],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
