"""How large a model sees an image: the budget of a source as its image processor takes it.

    InternVLChatModel, tiles 12                              ->  {"max_dynamic_patch": 12}
    Qwen2_5_VLForConditionalGeneration, tiles 12             ->  {"max_pixels": 2408448}
    images.family {"max_crops": "{tiles}"}, tiles 12         ->  {"max_crops": 12}

The classes that a model's configuration names decide, unless `images.family` does; nothing is read
out of a model's name. Whether a budget works is measured before the model is loaded (`rendering`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mmpr_builder.config import Config, ImagesConfig
from mmpr_builder.errors import ConfigError

TILE_SIDE = 448
"""Pixels: InternVL's tile. A budget for a family without tiles is that many pixels."""
_PIECE = 364
"""Pixels: the side of Idefics3's pieces; SmolVLM's are larger, so no more of them are cut."""

_TILES, _PIXELS, _PATCHES = "{tiles}", "{pixels}", "{patches}"
_FRAMES = "{frames}"  # GLM counts a picture as two frames.
_SIDE, _EDGE = "{side}", "{edge}"  # Of a square that large, and of so many pieces.
_QWEN = ("Qwen2VL", "Qwen2_5_VL", "Qwen3VL", "Qwen3VLMoe", "Qwen3_5", "Qwen3_5Moe")
_BY_REQUEST: Mapping[Sequence[str], Mapping[str, Any]] = {
    ("InternVLChatModel",): {"max_dynamic_patch": _TILES},
    ("InternVL", "InternS1"): {"max_patches": _TILES},
    _QWEN: {"max_pixels": _PIXELS},
    ("Glm4v", "Glm4vMoe"): {"size": {"shortest_edge": 112 * 112, "longest_edge": _FRAMES}},
    ("Mistral3",): {"size": {"longest_edge": _SIDE}},
    ("Idefics3", "SmolVLM"): {"size": {"longest_edge": _EDGE}},
    ("Phi4MMForCausalLM",): {"dynamic_hd": _TILES},
}
"""Arguments that vLLM 0.32 hands on with each request, by class (`ForConditionalGeneration` left
out). A processor that its model has switched to one size takes none of them."""
_ONE_FOR_ALL: Mapping[Sequence[str], Mapping[str, Any]] = {
    ("Llama4",): {"max_patches": _TILES},
    ("KimiVL",): {"in_token_limit": _PATCHES},
    ("MiniCPMV",): {"max_slice_nums": _TILES},
}
"""Arguments that vLLM takes only when it starts: the same budget for all sources."""
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "internvl": {"max_dynamic_patch": _TILES},
    "qwen_vl": {"max_pixels": _PIXELS},
}
"""What a name as `images.family` sets, whatever the class; `internvl` knows its two layouts."""
CHAT_MODEL = "InternVLChatModel"
"""Its largest budget is a setting of the model: vLLM would pass an engine argument to its video
processor, too, which does not take it."""


def _of_class(
    table: Mapping[Sequence[str], Mapping[str, Any]], architectures: Sequence[str]
) -> Mapping[str, Any]:
    named = [name.removesuffix("ForConditionalGeneration") for name in architectures]
    return next((value for keys, value in table.items() if set(keys) & {*named}), {})


def processor_arguments(
    images: ImagesConfig, tiles: int | None, architectures: Sequence[str] = ()
) -> dict[str, Any]:
    """What an image processor is given for a budget; {} without one, or where the class is unknown.

    `architectures` are the classes that the model's configuration names; `tiles` is the source's
    budget, and without it `images.pixels` holds.
    """
    if tiles is None and images.pixels is None:
        return {}
    area = pixels(images, tiles)
    tiles = tiles or max(1, area // TILE_SIDE**2)
    values = {
        _TILES: tiles,
        _PIXELS: area,
        _SIDE: math.isqrt(area),
        _EDGE: math.isqrt(tiles) * _PIECE,
        _PATCHES: area // 14**2,
        _FRAMES: 2 * area,
    }
    own = _of_class({**_BY_REQUEST, **_ONE_FOR_ALL}, architectures)
    is_layout = images.family == "internvl" and "max_patches" in own
    if images.kwargs or (images.family and not is_layout):
        own = FAMILIES.get(images.family or "", {})
    return {key: _filled(value, values) for key, value in {**own, **images.kwargs}.items()}


def pixels(images: ImagesConfig, tiles: int | None) -> int:
    """A budget of `tiles`, or without it `images.pixels`, in pixels."""
    return images.pixels or 0 if tiles is None else tiles * TILE_SIDE**2


def _filled(value: Any, values: Mapping[str, int]) -> Any:
    """`{tiles}` and `{pixels}` as numbers, in tables too: {"size": {"longest_edge": 2408448}}."""
    if isinstance(value, Mapping):
        return {key: _filled(item, values) for key, item in value.items()}
    return values.get(value, value) if isinstance(value, str) else value


def wanted(config: Config) -> list[int | None]:
    """The budgets of all sources in tiles, smallest first, each once; None is `images.pixels`.

    Empty without any.
    """
    images = config.images
    found = {source.tiles or images.tiles for source in config.seeds}
    if images.pixels is None:
        found -= {None}
    return sorted(found, key=lambda tiles: pixels(images, tiles))


def engine_arguments(config: Config, architectures: Sequence[str]) -> dict[str, Any]:
    """What the engine is set up with, so that it has room for the largest budget."""
    found = wanted(config)
    room = processor_arguments(config.images, found[-1], architectures) if found else {}
    if not room:
        return {}
    key = "hf_overrides" if CHAT_MODEL in architectures else "mm_processor_kwargs"
    given = config.engine.get(key, {})
    return {key: {**room, **given}} if isinstance(given, dict) else {}


def check(config: Config, architectures: Sequence[str] = ()) -> None:
    """Raise `ConfigError` for budgets that cannot all be kept."""
    found, images = wanted(config), config.images
    if not found:
        return
    without = [source.name or source.path for source in config.seeds if not source.tiles]
    if without and len(without) < len(config.seeds) and not (images.tiles or images.pixels):
        raise ConfigError(
            f"sources {', '.join(without)} have no `tiles` while others have: the engine is set up"
            " for the largest budget, so set images.tiles as theirs"
        )
    given = config.engine.get("mm_processor_kwargs")
    own = processor_arguments(images, found[-1], architectures)
    both = sorted(set(given) & set(own)) if isinstance(given, Mapping) else []
    if both:
        raise ConfigError(
            f"engine.mm_processor_kwargs = {given!r}: {', '.join(both)} is set by the image"
            " budget, too: keep one of them"
        )
    if len(found) > 1 and takes_one(images, architectures):
        raise ConfigError(
            f"the sources have {len(found)} image budgets, and vLLM takes one for all pictures of"
            f" a model of class {', '.join(architectures)}: give all sources the same `tiles`"
        )


def check_named(config: Config) -> None:
    """Raise `ConfigError` for budgets of a model whose class is not known: a server's."""
    images = config.images
    if wanted(config) and not (images.family or images.kwargs):
        raise ConfigError(
            "the sources have image budgets (tiles), and a server does not say how its model takes"
            " them: set images.family (internvl, qwen_vl, or a table of its processor's arguments)"
        )


def takes_one(images: ImagesConfig, architectures: Sequence[str]) -> bool:
    """Whether vLLM takes a budget of such a model only when it starts."""
    named = bool(images.kwargs or images.family)
    return not named and bool(_of_class(_ONE_FOR_ALL, architectures))
