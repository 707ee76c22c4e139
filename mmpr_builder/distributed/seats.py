"""How many seeds one engine answers at once."""

from __future__ import annotations

import math

from mmpr_builder.config import Config

_USUAL_SEQUENCES = 512  # vLLM's own default is 128 to 1,024, by device.
_MOST_SEATS = 256
_PER_ROUND = 4  # Responses of a seed under way, taken over all its rounds; about that.


def seats(config: Config) -> int:
    """Seeds being answered by one engine at once.

    Enough that the engine always finds its next sequences waiting (twice what it runs at once),
    few enough that decoded images and requests stay within tens of megabytes.
    """
    if config.sampling.engine == "endpoint":
        return config.sampling.endpoint.concurrency
    running = config.engine.get("max_num_seqs")
    running = running if isinstance(running, int) else _USUAL_SEQUENCES
    if config.sampling.policy == "adaptive":
        # In a later round a seed has but a few responses under way.
        return max(8, min(2 * _MOST_SEATS, math.ceil(2 * running / _PER_ROUND)))
    return max(8, min(_MOST_SEATS, math.ceil(2 * running / config.sampling.n)))
