"""What all tests share: no hub is asked, and property tests neither race a clock nor roll dice."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A busy machine is slow, which is no failure; and a run that fails must fail again.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    # Where tests run in other processes, the one that sums up does not read conftests below this.
    sys.path += [str(Path(__file__).parent / name) for name in ("faults", "families")]
    import kills

    config.pluginmanager.register(kills, "kills")
