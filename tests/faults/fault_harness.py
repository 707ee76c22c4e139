"""Runs a build, kills something of it at random moments, starts it again, and looks at the end.

    victim        kills  lost  doubled  orphans  resumed
    the driver       33     0        0        0       33

The test process adopts orphans (Linux `PR_SET_CHILD_SUBREAPER`), so that nothing a killed run
leaves behind is out of sight.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mmpr_builder.io import stores
from mmpr_builder.io.tables import list_parts, read_parquet, rollouts_from_table
from mmpr_builder.records import Rollout

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENDED_S, AGENTS_S = 20.0, 90.0
"""After the end of a run its processes may live so long, and Ray's agents so long."""
RUN_S = 600.0
"""No run may take longer."""
_SUBREAPER = 36  # prctl(PR_SET_CHILD_SUBREAPER)


@dataclass
class Outcome:
    """One line of the table."""

    victim: str
    compared: str
    kills: int = 0
    lost: int = 0
    doubled: int = 0
    orphans: int = 0
    resumed: int = 0
    seconds: float = 0.0
    others: set[int] = field(default_factory=set)
    """Processes that were there before."""


@dataclass
class Build:
    """A build that is started again until it is done."""

    out: str
    words: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = "build"
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def start(self) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment |= {"PYTHONPATH": str(HERE), "HF_HUB_OFFLINE": "1", **self.environment}
        with self.log.open("ab") as log:
            self.process = awaited(
                subprocess.Popen(
                    [sys.executable, str(HERE / "fault_build.py"), self.command, *self.words],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        self.starts += 1
        return self.process

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def finish(
        self, *, limit: int = 8, codes: tuple[int, ...] = (0,), within_s: float = 600
    ) -> int:
        """Start it again until it ends well; returns its exit code."""
        for _ in range(limit):
            process = self.process if self.process is not None else self.start()
            code = process.wait(timeout=RUN_S)
            if code in codes:
                return code
            self.process = None
        raise AssertionError(f"not done after {limit} more starts:\n{self.tail()}")

    def tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:]

    def parts(self) -> int:
        return len([n for n in stores.names_in(f"{self.out}/rollouts") if n.endswith(".parquet")])


def adopt_orphans(whether: bool) -> None:
    """Make every process below this one that loses its parent a child of this one."""
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, int(whether), 0, 0, 0)


def family() -> list[psutil.Process]:
    """All that lives below this process; the dead among the adopted are buried."""
    alive = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_ZOMBIE:
                _bury(process)
            else:
                alive.append(process)
    return alive


def awaited(process: subprocess.Popen[Any]) -> subprocess.Popen[Any]:
    """Note a process whose end its starter waits for."""
    _AWAITED.append(process)
    return process


_AWAITED: list[subprocess.Popen[Any]] = []


def _bury(process: psutil.Process) -> None:
    """Only the adopted: `subprocess` buries its own."""
    if process.ppid() == os.getpid() and process.pid not in {p.pid for p in _AWAITED}:
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)


def titled(*starts: str) -> list[psutil.Process]:
    """Members of the family whose title begins so: `ray::SamplerActor`, `VLLM::EngineCore`."""
    return [process for process in family() if _title(process).startswith(starts)]


def orphans(expected: set[int], within_s: float = ENDED_S, *, agents: bool = False) -> list[str]:
    """Those of the family, besides `expected`, that outlive the run; they are ended then.

    Ray's two agents try for a minute to tell their dead server of its death; with `agents` they
    count, too.
    """
    deadline = time.monotonic() + within_s
    while left := [p for p in family() if p.pid not in expected and (agents or not _is_agent(p))]:
        if time.monotonic() > deadline:
            found = [f"{process.pid} {_title(process)}" for process in left]
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            return found
        time.sleep(0.2)
    return []


def _title(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline()).strip() or process.name()
    return ""


def _is_agent(process: psutil.Process) -> bool:
    title = _title(process)
    # By their scripts before they give themselves titles.
    scripts = ("dashboard/agent.py", "runtime_env/agent/main.py")
    return title.startswith(("ray::Dashboard", "ray::RuntimeEnv")) or any(
        script in title for script in scripts
    )


# --- what kills -----------------------------------------------------------------------------


def kill_driver(build: Build, chance: random.Random) -> bool:
    process = build.process
    if process is None or process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    build.process = None
    return True


def kill_one(*titles: str) -> Callable[[Build, random.Random], bool]:
    """Kill a process of that title, if there is one while the driver lives."""

    def kill(build: Build, chance: random.Random) -> bool:
        found = sorted(titled(*titles), key=lambda process: process.pid)
        if not build.running() or not found:
            return False
        with suppress(psutil.NoSuchProcess):
            chance.choice(found).kill()
            return True
        return False

    return kill


def disturb(
    build: Build,
    kills: int,
    kill: Callable[[Build, random.Random], bool],
    chance: random.Random,
    *,
    gap_s: tuple[float, float],
    need_progress: float = 0.0,
) -> int:
    """Kill up to `kills` times at random moments while the build goes on; returns how often.

    After a kill it waits a random time of `gap_s`, and with probability `need_progress` also until
    a part was published, so that there is something to lose.
    """
    done = 0
    most = build.starts + 2 * kills + 8
    while done < kills:
        if build.process is None:
            assert build.starts < most, f"it ends before it can be killed:\n{build.tail()}"
            build.start()
        before = build.parts()
        patient = chance.random() < need_progress
        until = time.monotonic() + chance.uniform(*gap_s)
        while build.running() and (
            time.monotonic() < until or (patient and build.parts() <= before)
        ):
            time.sleep(0.05)
        if build.running():
            done += kill(build, chance)
        elif build.process is not None and build.process.returncode == 0:
            return done
        else:
            build.process = None  # It gave up, as it may: a person would start it again.
    return done


# --- what is left ---------------------------------------------------------------------------


def digests(out: str, *names: str) -> dict[str, str]:
    """Name -> SHA-256 of every file in these folders of a build."""
    return {
        f"{name}/{file}": hashlib.sha256(stores.read_bytes(f"{out}/{name}/{file}")).hexdigest()
        for name in names
        for file in stores.names_in(f"{out}/{name}")
    }


def rollouts(out: str) -> list[Rollout]:
    return [
        rollout
        for uri in list_parts(f"{out}/rollouts")
        for rollout in rollouts_from_table(read_parquet(uri))
    ]


def judge(outcome: Outcome, out: str, expected: str) -> None:
    """Count what is lost (not there, or set aside without guilt) and doubled against the
    undisturbed build, and compare the rest."""
    found = rollouts(out)
    wanted = {rollout.index: rollout for rollout in rollouts(expected)}
    times = Counter(rollout.index for rollout in found)
    failed = [r for r in found if r.error is not None and wanted[r.index].error is None]
    outcome.doubled += sum(count - 1 for count in times.values())
    outcome.lost += len(wanted.keys() - times.keys()) + len(failed)
    assert set(times) <= set(wanted)
    assert not failed, failed[0].error
    if outcome.compared == "bytes":
        for folder in ("rollouts", "pairs", "drops"):
            assert digests(out, folder) == digests(expected, folder), folder
        return
    # An engine that batches differently may round differently: its words can differ, not more.
    for rollout in found:
        other = wanted[rollout.index]
        assert (rollout.seed, rollout.prompt) == (other.seed, other.prompt)
        assert [r.seed for r in rollout.responses] == [r.seed for r in other.responses]
    pairs = [read_parquet(uri, ["id"])["id"].to_pylist() for uri in list_parts(f"{out}/pairs")]
    ids = [pair for part in pairs for pair in part]
    assert ids
    assert len(ids) == len(set(ids))


def table(outcomes: Sequence[Outcome]) -> str:
    """The table as Markdown: kills of one kind together, and a line of sums."""
    numbers = ("kills", "lost", "doubled", "orphans", "resumed")
    lines: dict[tuple[str, str], Counter[str]] = {}
    for one in outcomes:
        line = lines.setdefault((one.victim, one.compared), Counter())
        line.update({name: getattr(one, name) for name in numbers})
    lines["all", ""] = sum(lines.values(), Counter())
    rows = [f"| victim | {' | '.join(numbers)} | compared |", "|---|--:|--:|--:|--:|--:|---|"]
    rows += [
        f"| {victim} | {' | '.join(str(line[name]) for name in numbers)} | {compared} |"
        for (victim, compared), line in lines.items()
    ]
    return "\n".join(rows)
