"""One row of `pairs/*.parquet`: what TRL reads, and beside it the flat columns.

    images    [<image>]
    prompt    [{"role": "user", "content": [{"type": "image", "text": None},
                                            {"type": "text", "text": "How many …?"}]}]
    chosen    [{"role": "assistant", "content": [{"type": "text", "text": "… Final answer: 3"}]}]
    rejected  [{"role": "assistant", "content": [{"type": "text", "text": "… Final answer: 4"}]}]

Contents are lists of typed parts, the form that TRL's vision collator takes as it is: an image
part is filled from `images` at its own place in the text, where a bare string would get all images
put in front. Rows without images have no image parts and `images: []`, in the same schema.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from mmpr_builder import __version__, prompts
from mmpr_builder.config import Config
from mmpr_builder.errors import RowError
from mmpr_builder.records import Pair, Rollout, Verdict
from mmpr_builder.tables import plain

_FLAT = {
    "id": "string",
    "seed_id": "string",
    "source": "string",
    "kind": "string",
    "question": "string",
    "answer": "string",
    "chosen_text": "string",
    "rejected_text": "string",
    "chosen_answer": "string",
    "rejected_answer": "string",
    "chosen_tokens": "int64",
    "rejected_tokens": "int64",
    "pass_rate": "float64",
    "n_samples": "int64",
    "model": "string",
    "template": "string",
    "sampling": "string",
    "rng_seed": "int64",
    "prompt_text": "string",
    "style": "string",
    "language": "string",
    "origin": "string",
    "chosen_rule": "string",
    "rejected_rule": "string",
    "chosen_finish_reason": "string",
    "rejected_finish_reason": "string",
    "chosen_index": "int64",
    "rejected_index": "int64",
    "chosen_seed": "int64",
    "rejected_seed": "int64",
    "chosen_logprob": "float64",
    "dropout_keep": "float64",
    "dropout_image": "bool",
    "builder": "string",
}
_TEXT_LISTS = ("answers", "choices", "image_sha256")


@functools.cache
def pair_features() -> Any:
    """The `datasets.Features` of a pair row."""
    from datasets import Features, Image, List, Value

    part = {"type": Value("string"), "text": Value("string")}
    messages = List({"role": Value("string"), "content": List(part)})
    return Features(
        {
            "images": List(Image(mode="RGB")),
            "prompt": messages,
            "chosen": messages,
            "rejected": messages,
            **{name: Value(kind) for name, kind in _FLAT.items()},
            **{name: List(Value("string")) for name in _TEXT_LISTS},
        }
    )


def pair_schema() -> pa.Schema:
    """The Arrow schema of `pairs/*.parquet`; its metadata makes `datasets` decode the images."""
    return pair_features().arrow_schema


def sampling_json(config: Config) -> str:
    """How responses were sampled, as one JSON object with sorted keys."""
    sampling = config.sampling.model_dump(mode="json", exclude={"endpoint", "replay_from"})
    return json.dumps({**sampling, "lora": config.lora}, sort_keys=True, ensure_ascii=False)


def pair_row(
    pair: Pair, rollout: Rollout, verdicts: Sequence[Verdict], images: Sequence[bytes], how: str
) -> dict[str, Any]:
    """One pair as plain values of `pair_schema`. `how` is `sampling_json(config)`.

    Raises `RowError` "placeholder_mismatch" when the prompt does not show each image once.
    """
    seed = rollout.seed
    return {
        "images": [{"bytes": data, "path": None} for data in images],
        "prompt": [{"role": "user", "content": _prompt_parts(rollout.prompt, len(images))}],
        "chosen": _assistant(pair.chosen_text),
        "rejected": _assistant(pair.rejected_text),
        **{
            name: value
            for name, value in plain(pair).items()
            if name in _FLAT  # The pair's own fields go by the same names.
        },
        "source": plain(seed.source),
        "question": plain(seed.question),
        "answer": plain(seed.answers[0]) if seed.answers else None,
        "model": plain(rollout.model),
        "template": plain(rollout.template),
        "sampling": how,
        "prompt_text": plain(rollout.prompt),
        "style": rollout.style,
        "language": seed.language,
        "origin": plain(seed.origin),
        **_sides(pair, rollout, verdicts),
        "builder": f"mmpr_builder {__version__}",
        "answers": plain(seed.answers),
        "choices": plain(seed.choices),
        "image_sha256": list(rollout.image_sha256),
    }


def _sides(pair: Pair, rollout: Rollout, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Where the two texts come from: rules that judged them, random seeds, kept part."""
    chosen, rejected = (
        rollout.responses[pair.chosen_index],
        rollout.responses[pair.rejected_index],
    )
    continuation = rejected.continuation if pair.kind == "dropout_ntp" else None
    return {
        "chosen_rule": plain(verdicts[pair.chosen_index].rule) if verdicts else "",
        "rejected_rule": (
            "" if continuation or not verdicts else plain(verdicts[pair.rejected_index].rule)
        ),
        "chosen_seed": chosen.seed,
        "rejected_seed": rejected.seed if continuation is None else continuation.seed,
        "chosen_logprob": chosen.logprob,
        "dropout_keep": None if continuation is None else continuation.keep,
        "dropout_image": None if continuation is None else continuation.image,
    }


def _prompt_parts(prompt: str, n_images: int) -> list[dict[str, str | None]]:
    parts: list[dict[str, str | None]] = [
        {"type": "image", "text": None} if part is None else {"type": "text", "text": plain(part)}
        for part in prompts.parts(prompt)  # The very parts that engines are given.
    ]
    shown = sum(part["type"] == "image" for part in parts)
    if shown != n_images:
        raise RowError(
            "placeholder_mismatch",
            f"the prompt shows {shown} images where the seed has {n_images}",
        )
    return parts


def _assistant(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": [{"type": "text", "text": plain(text)}]}]
