"""`make test-faults`: the long tests run only when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest
from fault_harness import Outcome, adopt_orphans
from kills import KILLS


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
