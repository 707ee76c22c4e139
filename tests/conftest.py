"""What all tests share: no hub is asked, and property tests neither race a clock nor roll dice."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A busy machine is slow, which is no failure; and a run that fails must fail again.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
