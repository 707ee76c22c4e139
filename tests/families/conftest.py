"""`make test-families`: all families run only when they are asked for."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "families" in config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("families")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]
