"""Nobody outlives an engine's actor: not even when it, its raylet and the driver die at once.

vLLM's engine core and its workers are processes of their own. Ray ends them with their actor while
it lives itself; measured, one in three kills of a driver left them behind, with all their memory.
So the actor gets a process group of its own, which its children inherit, and a small process
outside of it that ends the whole group once the actor is gone. It removes the group's folder for
temporary files as well: vLLM leaves its sockets where they are, four for each engine.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile

# It looks at the process itself rather than at a pipe, which a forked child would hold open, nor by
# a pidfd, which older kernels and Pythons built for them do not have; and it forks, for Ray ends
# the children of a worker that ends. Number and start time together are never used again; systems
# without /proc tell the number only.
_WATCH = """
import os, shutil, signal, sys, time
group, scratch = int(sys.argv[1]), sys.argv[2]
def started():
    if not os.path.isdir("/proc/self"):
        try:
            os.kill(group, 0)
        except ProcessLookupError:
            return None
        return "there"
    try:
        with open(f"/proc/{group}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
actor = started()
os.mkdir(scratch, 0o700)
if os.fork():
    os._exit(0)
while actor is not None and started() == actor:
    time.sleep(0.5)
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
    # Made by the process that removes it: this one can be ended before the other has begun.
    scratch = os.path.join(tempfile.gettempdir(), f"mmpr-engine-{secrets.token_hex(4)}")
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WATCH, str(os.getpid()), scratch],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    os.environ["TMPDIR"] = scratch
    tempfile.tempdir = None  # Is looked up again.
