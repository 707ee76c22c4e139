"""What all tests share: no hub is asked, and property tests neither race a clock nor roll dice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A busy machine is slow, which is no failure; and a run that fails must fail again.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    # Where tests run in other processes, the one that sums up does not read conftests below this.
    import kills

    config.pluginmanager.register(kills, "kills")


@pytest.fixture(autouse=True)
def same_environ() -> Iterator[None]:
    """`datasets` leaves a copy in the place of `os.environ` when it maps in several processes; Rich
    and others hold the first one and would not see what later tests set."""
    first = os.environ
    yield
    os.environ = first  # noqa: B003 - It is the environment itself.


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of the test's own for what `datasets` keeps."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def judge() -> Iterator[Any]:
    """One with patience: a busy machine is no reason for another verdict."""
    from mmpr_builder.config import ScoringConfig
    from mmpr_builder.scoring import Judge

    with Judge(ScoringConfig(timeout_s=20.0)) as shared:
        yield shared
