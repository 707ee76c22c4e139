"""How large a model sees an image: the tile budget of a source as its image processor takes it.

    images.family internvl, tiles 12, InternVLChatModel      ->  {"max_dynamic_patch": 12}
    images.family internvl, tiles 12, InternVL-hf            ->  {"max_patches": 12}
    images.family qwen_vl, tiles 12                          ->  {"max_pixels": 2408448}
    images.family {"max_crops": "{tiles}"}, tiles 12         ->  {"max_crops": 12}

The family is a setting: nothing is read out of a model's name. The class that a model's
configuration names decides between a family's layouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmpr_builder.config import Config, ImagesConfig
from mmpr_builder.errors import ConfigError

TILE_SIDE = 448
"""Pixels: InternVL's tile. A budget for a family without tiles is that many pixels."""

_TILES, _PIXELS = "{tiles}", "{pixels}"
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "internvl": {"max_dynamic_patch": _TILES},
    "qwen_vl": {"max_pixels": _PIXELS},
}
"""Arguments of each family's image processor, as vLLM 0.32 passes them."""
LAYOUTS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("internvl", "InternVLForConditionalGeneration"): {"max_patches": _TILES},
}
"""Arguments for models of a family that have another class."""
CHAT_MODEL = "InternVLChatModel"
"""Its largest budget is a setting of the model: vLLM would pass an engine argument to its video
processor, too, which does not take it."""


def processor_arguments(
    images: ImagesConfig, tiles: int | None, architectures: Sequence[str] = ()
) -> dict[str, Any]:
    """An image processor's arguments for a budget; {} without one, or without a family.

    `architectures` are the classes that the model's configuration names.
    """
    if tiles is None:
        return {}
    values = {_TILES: tiles, _PIXELS: tiles * TILE_SIDE**2}
    family = images.family or ""
    own = next((LAYOUTS[family, name] for name in architectures if (family, name) in LAYOUTS), None)
    wanted = {**(FAMILIES.get(family, {}) if own is None else own), **images.kwargs}
    return {key: _filled(value, values) for key, value in wanted.items()}


def _filled(value: Any, values: Mapping[str, int]) -> Any:
    """`{tiles}` and `{pixels}` as numbers, in tables too: {"size": {"longest_edge": 2408448}}."""
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    return values.get(value, value) if isinstance(value, str) else value


def largest(config: Config) -> int | None:
    """The largest budget of any source, in tiles."""
    budgets = [source.tiles or config.images.tiles for source in config.seeds]
    return max((tiles for tiles in budgets if tiles is not None), default=None)


def engine_arguments(config: Config, architectures: Sequence[str]) -> dict[str, Any]:
    """Arguments with which the engine has room for the largest budget."""
    room = processor_arguments(config.images, largest(config), architectures)
    if not room:
        return {}
    key = "hf_overrides" if CHAT_MODEL in architectures else "mm_processor_kwargs"
    given = config.engine.get(key, {})
    return {key: {**room, **given}} if isinstance(given, dict) else {}


def check(config: Config) -> None:
    """Raise `ConfigError` for budgets that cannot all be kept."""
    if not (config.images.family or config.images.kwargs):
        return
    without = [source.name or source.path for source in config.seeds if not source.tiles]
    if without and len(without) < len(config.seeds) and config.images.tiles is None:
        raise ConfigError(
            f"sources {', '.join(without)} have no `tiles` while others have: the engine is set up"
            " for the largest budget, so set images.tiles as theirs"
        )
    given = config.engine.get("mm_processor_kwargs")
    own = processor_arguments(config.images, largest(config))
    both = sorted(set(given) & set(own)) if isinstance(given, Mapping) else []
    if both:
        raise ConfigError(
            f"engine.mm_processor_kwargs = {given!r}: {', '.join(both)} is set by images.family,"
            " too: keep one of them"
        )
