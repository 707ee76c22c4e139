"""`make test-faults`: the long tests run only when they are asked for, and end in a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fault_harness import Outcome, adopt_orphans, table

KILLS = "kills"
"""Property of a test's report: its outcomes, which so reach whoever sums up, also from another
process."""
WRITE = "FAULTS_WRITE"
"""Environment: where the table is written to; unset: nowhere."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "faults" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("faults")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="module", autouse=True)
def orphans_are_ours() -> Iterator[None]:
    adopt_orphans(True)
    yield
    adopt_orphans(False)


@pytest.fixture
def outcomes(request: pytest.FixtureRequest) -> Iterator[list[Outcome]]:
    found: list[Outcome] = []
    yield found
    told = [{**asdict(one), "others": []} for one in found]
    request.node.user_properties.append((KILLS, told))


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
