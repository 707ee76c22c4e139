"""SHA-256 of images that come again and again: the pairs of a seed follow each other."""

from __future__ import annotations

import hashlib
from collections import deque

_KEPT = 8  # Images of one multi-image seed; comparing them is nothing beside hashing them.


class Digests:
    """Remembers the last few images, so that the next pair of the same seed costs no hash."""

    def __init__(self) -> None:
        self._last: deque[tuple[bytes, bytes]] = deque(maxlen=_KEPT)

    def of(self, data: bytes) -> bytes:
        """The 32 bytes of its SHA-256."""
        for known, digest in self._last:
            if known == data:
                return digest
        digest = hashlib.sha256(data).digest()
        self._last.append((data, digest))
        return digest
