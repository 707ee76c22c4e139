"""What the kills of all fault tests came to: a table at the end, wherever the tests ran."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fault_harness import Outcome, table

KILLS = "kills"
"""Property of a test's report: its outcomes, which so reach whoever sums up, also from another
process."""
WRITE = "FAULTS_WRITE"
"""Environment: where the table is written to; unset: nowhere."""


def reported(terminalreporter: Any) -> list[Outcome]:
    """The outcomes of all tests, in the order of the tests."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    ended = [report for report in reports if getattr(report, "when", "") == "teardown"]
    ended.sort(key=lambda report: report.location)
    told = [told for report in ended for name, told in report.user_properties if name == KILLS]
    return [Outcome(**{**one, "others": set()}) for some in told for one in some]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found = reported(terminalreporter)
    if not found:
        return
    terminalreporter.section("what the kills came to")
    terminalreporter.write_line(table(found))
    where = os.environ.get(WRITE)
    if where:
        seconds = sum(one.seconds for one in found)
        now = datetime.now(UTC).date().isoformat()
        Path(where).write_text(
            "# Kills\n\nWritten by `make test-faults`. After the kills every build is finished by"
            " the same command; its rollouts, pairs and drops are compared with those of a build"
            " that nobody disturbed: by their bytes where answers are replayed, by seeds, prompts"
            " and random numbers where the real engine samples. Orphans are processes alive"
            " 20 s after the end, Ray's own agents 90 s.\n\n"
            f"{now}, {os.cpu_count()} cores, {platform.system()}, Python"
            f" {platform.python_version()}; {seconds / 60:.0f} minutes.\n\n{table(found)}\n",
            encoding="utf-8",
        )
