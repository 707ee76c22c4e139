"""What the engine's caches save: counted by vLLM's own statistics, step by step.

    prefix   prompt tokens looked up in the KV cache, and found there: computed before
    image    pictures whose processed form was looked up in the front end's cache, and found

A round after the first asks for neither its picture's processing (the prompt is kept rendered) nor
its encoding (the cached prefix covers the image tokens), so later rounds show as prefix hits.
"""

from __future__ import annotations

from typing import Any

from mmpr_builder.sampling import CacheHits


class CacheCounter:
    """Sums up what `recorder` is told."""

    def __init__(self) -> None:
        self._prefix = [0, 0]
        self._image = [0, 0]

    def add(self, prefix: Any, image: Any) -> None:
        """Add one step's statistics; each has `queries` and `hits`, or is None."""
        for sums, found in ((self._prefix, prefix), (self._image, image)):
            if found is not None:
                sums[0] += found.queries
                sums[1] += found.hits

    def total(self) -> CacheHits:
        """All so far."""
        return CacheHits(*self._prefix, *self._image)


def recorder(counter: CacheCounter) -> Any:
    """What vLLM takes in `stat_loggers`: a class whose instances tell the counter."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Recorder(StatLoggerBase):  # type: ignore[misc]
        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            pass

        def record(
            self,
            scheduler_stats: Any,
            iteration_stats: Any,
            mm_cache_stats: Any = None,
            engine_idx: int = 0,
        ) -> None:
            prefix = None if scheduler_stats is None else scheduler_stats.prefix_cache_stats
            counter.add(prefix, mm_cache_stats)

        def log_engine_initialized(self) -> None:
            pass

    return Recorder


def only_ours(engine: Any) -> None:
    """Take off what comes with every recorder and costs time at every token: vLLM's Prometheus
    exporter, which nobody asks, and the times it shows."""
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    manager = engine.logger_manager
    manager.stat_loggers = [
        logger for logger in manager.stat_loggers if not isinstance(logger, PrometheusStatLogger)
    ]
    # Times of every request at every token are a third of what the front end does, and nobody reads
    # them; what the engine's own process counts comes all the same. A handler that runs already has
    # taken the old setting along: the first request starts another.
    engine.log_stats = engine.output_processor.log_stats = False
    if engine.output_handler is not None:
        engine.output_handler.cancel()
        engine.output_handler = None
