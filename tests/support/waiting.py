"""How tests wait: for what they wait for, never for a time that a busy machine may need twice."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], object], limit_s: float = 840.0) -> None:
    """Until `condition()` holds; the limit ends a wait for what never comes,
    just before pytest would end its worker."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "nothing of it happened"
        time.sleep(0.05)
