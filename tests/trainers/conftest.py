"""`make test-trainers`: the real loaders run only when they are asked for."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "trainers" in config.option.markexpr:
        return
    real = [item for item in items if item.get_closest_marker("trainers")]
    config.hook.pytest_deselected(items=real)
    items[:] = [item for item in items if item not in real]
