"""Nobody outlives an engine's actor: not even when it, its raylet and the driver die at once.

vLLM's engine core and its workers are processes of their own. Ray ends them with their actor while
it lives itself; measured, one in three kills of a driver left them behind, with all their memory.
So the actor gets a process group of its own, which its children inherit, and a small process
outside of it that ends the whole group once the actor is gone. It removes the group's folder for
temporary files as well: vLLM leaves its sockets where they are, four for each engine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

# It waits for the process itself rather than for a pipe to close, which a forked child would hold
# open; and it forks, for Ray ends the children of a worker that ends.
_WATCH = """
import os, select, shutil, signal, sys, time
group, scratch = int(sys.argv[1]), sys.argv[2]
gone = os.pidfd_open(group)
if os.fork():
    os._exit(0)
select.select([gone], [], [])
try:
    os.killpg(group, signal.SIGKILL)
except ProcessLookupError:
    pass
time.sleep(0.5)
shutil.rmtree(scratch, ignore_errors=True)
"""


def end_children_with_us() -> None:
    """From now on all children of this process, and theirs, die soon after it, however it ends.

    What they and it leave among the temporary files goes with them.
    """
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    scratch = tempfile.mkdtemp(prefix="mmpr-engine-")
    os.environ["TMPDIR"] = scratch
    tempfile.tempdir = None  # Is looked up again.
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid()), scratch],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
