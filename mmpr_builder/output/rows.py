"""Rows of `pairs/*.parquet`: what TRL reads, and beside it the flat columns.

    images    [<image>]
    prompt    [{"role": "user", "content": [{"type": "image", "text": None},
                                            {"type": "text", "text": "How many …?"}]}]
    chosen    [{"role": "assistant", "content": [{"type": "text", "text": "… Final answer: 3"}]}]
    rejected  [{"role": "assistant", "content": [{"type": "text", "text": "… Final answer: 4"}]}]

Contents are lists of typed parts, the form that TRL's vision collator takes as it is: it fills an
image part from `images` at its own place in the text, and puts all images in front of a bare
string. Rows without images have no image parts and `images: []`, in the same schema. Arrow repeats
what all pairs of a seed share: rows as dicts took as long as scoring and pairing.
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
from mmpr_builder.io.tables import plain, to_table, values_array
from mmpr_builder.pairing.pass_rate import curriculum
from mmpr_builder.pairing.pooled import PooledRollout, member_at, rates_by_model
from mmpr_builder.records import Continuation, Pair, Response, Rollout, Trace, Verdict

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
    "curriculum": "float64",
    "blind_pass_rate": "float64",
    "n_samples": "int64",
    "model": "string",
    "chosen_model": "string",
    "rejected_model": "string",
    "template": "string",
    "sampling": "string",
    "rejected_sampling": "string",
    "model_pass_rates": "string",
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
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps", "reference")
"""Columns of builds with `sampling.logprobs=tokens`, named as in TRL: sums of log-probabilities in
nats, and what model gave them."""
_TEXT_LISTS = ("answers", "choices", "image_sha256")
_OPTIONAL = {
    **{"shared_steps": "int64", "faithfulness": "float64", "truth_source": "string"},
    **dict(zip(REFERENCE, ("float64", "float64", "string"), strict=True)),
}
_TYPES = {**_FLAT, **_OPTIONAL}

_PART = pa.struct([("type", pa.string()), ("text", pa.string())])
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(_PART))])

TEXT_SCHEMA = pa.schema(
    [
        *((name, pa.list_(_MESSAGE)) for name in ("prompt", "chosen", "rejected")),
        *((name, pa.type_for_alias(kind)) for name, kind in _FLAT.items()),
        *((name, pa.list_(pa.string())) for name in _TEXT_LISTS),
    ]
)
"""`pair_schema` without `images` and without the metadata that only `datasets` can write."""

_OF_SEED = (
    *("prompt", "source", "question", "answer", "model", "template", "sampling", "prompt_text"),
    *("style", "language", "origin", "builder", *_TEXT_LISTS),
)
_SEED_SCHEMA = pa.schema([TEXT_SCHEMA.field(name) for name in _OF_SEED])


def optional_columns(config: Config) -> tuple[str, ...]:
    """Columns that the pairs of a build have behind the others, for what it asks for."""
    asked = {
        "shared_steps": "step" in config.pairing.kinds,
        "faithfulness": config.steps.faithful > 0,
        "truth_source": any(source.branch == "majority" for source in config.seeds),
        **dict.fromkeys(REFERENCE, config.sampling.traced),
    }
    return tuple(name for name in _OPTIONAL if asked[name])


def text_schema(optional: tuple[str, ...] = ()) -> pa.Schema:
    """`TEXT_SCHEMA` with some of the `optional_columns`."""
    return pa.schema(
        [*TEXT_SCHEMA, *((name, pa.type_for_alias(_OPTIONAL[name])) for name in optional)]
    )


@functools.cache
def pair_features(optional: tuple[str, ...] = ()) -> Any:
    """The `datasets.Features` of a pair row."""
    from datasets import Features, Image, List

    texts = Features.from_arrow_schema(text_schema(optional))
    return Features({"images": List(Image(mode="RGB")), **texts})


@functools.cache
def pair_schema(optional: tuple[str, ...] = ()) -> pa.Schema:
    """The Arrow schema of `pairs/*.parquet`; its metadata makes `datasets` decode the images."""
    return schema_of(pair_features(optional))


def schema_of(features: Any) -> pa.Schema:
    """The Arrow schema of `datasets.Features`, with metadata that versions before 4 read, too.

    `datasets` writes `{"_type": "List", "feature": …}` since version 4; a plain list means the
    same to all of them.
    """
    schema = features.arrow_schema
    told = json.loads(schema.metadata[b"huggingface"])
    return schema.with_metadata({"huggingface": json.dumps(_plain_lists(told))})


def _plain_lists(told: Any) -> Any:
    if not isinstance(told, dict):
        return told
    if told.get("_type") == "List":
        return [_plain_lists(told["feature"])]
    return {name: _plain_lists(one) for name, one in told.items()}


def sampling_json(config: Config) -> str:
    """How responses were sampled, as one JSON object with sorted keys."""
    sampling = config.sampling.model_dump(mode="json", exclude={"endpoint", "replay_from"})
    return json.dumps({**sampling, "lora": config.lora}, sort_keys=True, ensure_ascii=False)


def seed_row(rollout: Rollout, n_images: int, how: str) -> dict[str, Any]:
    """What all pairs of a seed share, as plain values. `how` is `sampling_json(config)`.

    Raises `RowError` "placeholder_mismatch" when the prompt does not show each image once.
    """
    seed = rollout.seed
    return {
        "prompt": [{"role": "user", "content": _prompt_parts(rollout.prompt, n_images)}],
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
        "builder": f"mmpr_builder {__version__}",
        "answers": plain(seed.answers),
        "choices": plain(seed.choices),
        "image_sha256": list(rollout.image_sha256),
    }


def pair_rows(
    shared: Sequence[dict[str, Any]],
    paired: Sequence[tuple[Rollout, Sequence[Verdict], Sequence[Pair]]],
    optional: tuple[str, ...] = (),
) -> pa.Table:
    """The rows of some seeds as a table of `text_schema(optional)`; `shared` has the `seed_row` of
    each."""
    seeds = to_table(shared, _SEED_SCHEMA)
    of_row = [number for number, item in enumerate(paired) for _ in item[2]]
    columns = {name: seeds.column(name).combine_chunks() for name in _OF_SEED}
    columns = {name: column.take(pa.array(of_row)) for name, column in columns.items()}
    columns |= _pair_columns([pair for _, _, pairs in paired for pair in pairs])
    columns |= _side_columns(paired)
    columns["chosen"] = _assistant(columns["chosen_text"])
    columns["rejected"] = _assistant(columns["rejected_text"])
    schema = text_schema(optional)
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _pair_columns(pairs: Sequence[Pair]) -> dict[str, pa.Array]:
    """The pairs' own fields, which go by the same names, and what follows from them."""
    names = [name for name in _TYPES if name in Pair.__dataclass_fields__]
    columns = {name: _array(name, [getattr(pair, name) for pair in pairs]) for name in names}
    course = [curriculum(pair.seed_id, pair.pass_rate) for pair in pairs]
    return {**columns, "curriculum": _array("curriculum", course)}


def _side_columns(
    paired: Sequence[tuple[Rollout, Sequence[Verdict], Sequence[Pair]]],
) -> dict[str, pa.Array]:
    """Where the two texts come from: rules that judged them, random seeds, kept part."""
    rows = []
    for rollout, verdicts, pairs in paired:
        rates = rates_by_model(rollout, verdicts)
        told = json.dumps(rates, sort_keys=True, ensure_ascii=False) if rates else None
        rows += [{**_sides(pair, rollout, verdicts), "model_pass_rates": told} for pair in pairs]
    names = rows[0] if rows else ()
    return {name: _array(name, [row[name] for row in rows]) for name in names}


def _sides(pair: Pair, rollout: Rollout, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    responses = rollout.responses
    chosen, rejected = responses[pair.chosen_index], responses[pair.rejected_index]
    is_continued = pair.kind == "dropout_ntp" or pair.dropout_keep is not None
    continuation = _continuation(pair, rejected) if is_continued else None
    judge = "judge" if pair.kind == "judged" else ""
    own = pair.kind == "step"  # Then the chosen side is a continuation.
    from_step = (c for c in chosen.with_image if own and c.prefix + c.text == pair.chosen_text)
    chosen_model, rejected_model, rejected_sampling = _models(pair, rollout)
    return {
        "chosen_rule": judge or (verdicts[pair.chosen_index].rule if verdicts and not own else ""),
        "rejected_rule": judge
        or ("" if continuation or not verdicts else verdicts[pair.rejected_index].rule),
        "chosen_seed": next((c.seed for c in from_step), chosen.seed),
        "rejected_seed": rejected.seed if continuation is None else continuation.seed,
        "chosen_logprob": None if own else chosen.logprob,
        "dropout_keep": None if continuation is None else continuation.keep,
        "dropout_image": None if continuation is None else continuation.image,
        "chosen_model": chosen_model,
        "rejected_model": rejected_model,
        "rejected_sampling": rejected_sampling,
        "truth_source": rollout.seed.truth_source if rollout.seed.has_truth else None,
        **_reference(None if own else chosen.trace, (continuation or rejected).trace),
    }


def _reference(chosen: Trace | None, rejected: Trace | None) -> dict[str, Any]:
    """Sums of both sides by one model; null where a side has none, or one of another model."""
    if chosen is None or rejected is None or chosen.by != rejected.by:
        return dict.fromkeys(REFERENCE)
    return dict(zip(REFERENCE, (chosen.reference, rejected.reference, chosen.by), strict=True))


def _continuation(pair: Pair, response: Response) -> Continuation | None:
    """The one that a pair rejects, known by its ratio."""
    if pair.dropout_keep is None:
        return response.continuation
    return next((c for c in response.continuations if c.keep == pair.dropout_keep), None)


def _models(pair: Pair, rollout: Rollout) -> tuple[str, str, str | None]:
    """The model of either side; and how the rejected one was sampled if not as `sampling` says."""
    if not isinstance(rollout, PooledRollout):
        return rollout.model, rollout.model, None
    sides = [member_at(rollout, index) for index in (pair.chosen_index, pair.rejected_index)]
    chosen, rejected = (rollout.members[number].model for number in sides)
    how, other = (sampling_json(rollout.settings[number]) for number in sides)
    return chosen, rejected, None if how == other else other


def _array(name: str, values: Sequence[Any]) -> pa.Array:
    return values_array(values, pa.type_for_alias(_TYPES[name]))


def _assistant(texts: pa.Array) -> pa.Array:
    """One turn of one text part each."""
    one_each = pa.array(range(len(texts) + 1), type=pa.int32())
    parts = pa.StructArray.from_arrays([pa.repeat("text", len(texts)), texts], fields=list(_PART))
    content = pa.ListArray.from_arrays(one_each, parts)
    role = pa.repeat("assistant", len(texts))
    messages = pa.StructArray.from_arrays([role, content], fields=list(_MESSAGE))
    return pa.ListArray.from_arrays(one_each, messages)


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
