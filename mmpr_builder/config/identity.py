"""Which settings decide what rollouts say; a build folder made with others is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mmpr_builder.config.sections import SamplingConfig
from mmpr_builder.config.whole import Config
from mmpr_builder.escaping import redacted

# Only these decide what the rollouts of given seeds say. `sampling.endpoint` is left out (where a
# model is served does not change it); so are the sizes of units and the number of replicas.
_IDENTITY = (
    "model",
    "lora",
    "seeds",
    "limit",
    "prompts",
    "sampling",
    "dropout",
    "steps",
    "images",
    "engine",
)
# Known to later versions only. Left out where they change nothing: the identity goes into every
# part of the rollouts, which stay the same bytes.
_ADDED = (
    "sampling.blind",
    "sampling.target_per_response",
    "sampling.target_gap",
    "dropout.part",
    "images.pixels",
)
_AIMS = ("target_kinds", "target_per_response", "target_gap", "round")
_LIKENESS = ("text_similarity", "question_words")


def sampling_identity(config: Config) -> dict[str, Any]:
    """The settings that decide what rollouts say, flat and without secrets: dotted key -> value."""
    settings = config.model_dump(mode="json")
    flat = flattened({key: settings[key] for key in _IDENTITY})
    beside = ("sampling.endpoint.", "images.asked")
    kept = {k: v for k, v in flat.items() if not k.startswith(beside)}
    # With "open" the seeds that planning would drop are sampled, and continued.
    kept["scoring.unusable_truth"] = config.scoring.unusable_truth
    judge = config.scoring.judge
    if judge.open:
        asked = {"open": judge.open, "model": judge.model, "max_tokens": judge.max_tokens}
        kept |= flattened(asked, "scoring.judge")
    if not config.steps.is_on:
        kept = {k: v for k, v in kept.items() if not k.startswith("steps.")}
    usual = flattened(Config().model_dump(mode="json", include={"sampling", "dropout", "images"}))
    for name in _ADDED:
        if kept[name] == usual[name]:
            del kept[name]
    # The controls that choose seeds, where they are on; the others can change between runs.
    chosen = settings["quality"]
    if chosen["decontaminate"]["against"]:
        kept |= flattened(chosen["decontaminate"], "quality.decontaminate")
    if chosen["near_duplicates"]:
        kept["quality.near_duplicates"] = True
    opened = (".roots", ".allow", ".columns", ".require_image")
    kept = {
        k: v for k, v in kept.items() if v or not (k.startswith("seeds.") and k.endswith(opened))
    }
    # These belong to the second half: changing them must not cost a token.
    later = (".scorer", ".license", ".get", ".forbidden_splits")
    kept = {k: v for k, v in kept.items() if not (k.startswith("seeds.") and k.endswith(later))}
    return redacted(kept)


def as_stated(config: Config, identity: Mapping[str, Any]) -> Config:
    """`config` with what a plan's `sampling_identity` states and a run need not repeat.

    What adaptive sampling aims for: the limits of pairing that it follows can change between runs.
    How alike a question alone must be. `images.family=internvl`: the recipes of MMPR set it while a
    model's class did not decide.
    """
    stated = {name: identity.get(f"sampling.{name}") for name in _AIMS}
    aims = SamplingConfig.model_validate({k: v for k, v in stated.items() if v is not None})
    sampling = config.sampling.model_copy(update={name: getattr(aims, name) for name in _AIMS})
    quality = config.quality
    alike = {name: identity.get(f"quality.decontaminate.{name}") for name in _LIKENESS}
    if None not in alike.values():
        of = quality.decontaminate.model_copy(update=alike)
        quality = quality.model_copy(update={"decontaminate": of})
    images = config.images
    if not (images.family or images.kwargs) and identity.get("images.family") == "internvl":
        images = images.model_copy(update={"family": "internvl"})
    stating = {"sampling": sampling, "images": images, "quality": quality}
    return config.model_copy(update=stating)


def identity_hash(identity: Mapping[str, Any]) -> str:
    """16 hex digits over `sampling_identity`, independent of key order."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables and lists of tables as dotted key -> value."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= flattened(item, f"{prefix}.{key}" if prefix else str(key))
    return found
