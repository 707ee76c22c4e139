"""verl: queries of middling difficulty for online training, in the form of MMPR-Tiny.

    data_source, prompt: [{role, content}], images: [Image], ability,
    reward_model: {style, ground_truth}, extra_info: {index, question, answers, pass_rate, …}

MMPR-Tiny is the queries whose pass rate over the rollouts lies in 0.2-0.8 (InternVL3.5): a query
that always or never succeeds teaches nothing. The pass rate is that of the pairs, over decided
responses; the LLM judge is not asked again.

What the loader does (verl, `verl/utils/dataset/rl_dataset.py`): it splits the prompt at `<image>`
and `<video>` and asserts one image for each; images are decoded by the Parquet file's own metadata;
a query without images is text (older versions need the key to be missing).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config, QualityConfig
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.export.destination import suffix_of
from mmpr_builder.export.faults import pair_faults
from mmpr_builder.export.items import BadRow, Item, Picture
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.trl import SplitFiles
from mmpr_builder.export.writing import Exported, Format, write_items
from mmpr_builder.io.access import sampled_access
from mmpr_builder.io.tables import (
    ROLLOUT_SCHEMA,
    list_parts,
    plain,
    read_parquet,
    rollouts_from_table,
)
from mmpr_builder.output import schema_of
from mmpr_builder.output.stored_images import load_images
from mmpr_builder.pairing import Scores, judge_and_pair, scorer_for
from mmpr_builder.pairing.pooled import rate_of
from mmpr_builder.prompts import parts as prompt_parts
from mmpr_builder.quality.suspects import SOLVED_BLIND, SUSPECT_TRUTH
from mmpr_builder.records import Rollout, Verdict

ABILITY = "multimodal_reasoning"
_ROUNDING = 1e-9

_MARKS = re.compile(r"<image>|<video>|<audio>")

_HOW = """
```sh
reward=$(python -c "import mmpr_builder.export.verl_reward as r; print(r.__file__)")
python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo \\
    data.train_files=DEST/train.parquet data.val_files=DEST/train.parquet \\
    data.image_key=images data.train_batch_size=64 \\
    data.max_prompt_length=4096 data.max_response_length=2048 \\
    reward.custom_reward_function.path=$reward \\
    reward.custom_reward_function.name=compute_score \\
    actor_rollout_ref.model.path=my-vlm actor_rollout_ref.rollout.name=vllm \\
    actor_rollout_ref.rollout.n=8 actor_rollout_ref.actor.ppo_mini_batch_size=64 \\
    actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 \\
    actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4 \\
    actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=4
```

Prompts over `max_prompt_length` (512 unless set, less than one image) are left out by the loader.
The reward judges as the pairs were judged, and needs mmpr_builder beside verl.
"""


def features() -> Any:
    """The `datasets.Features` of a row."""
    from datasets import Features, Image, List, Value

    text, number = Value("string"), Value("float64")
    return Features(
        {
            "data_source": text,
            "prompt": List({"role": text, "content": text}),
            "images": List(Image()),
            "ability": text,
            "reward_model": {"style": text, "ground_truth": text},
            "extra_info": {
                "index": Value("int64"),
                "split": text,
                "id": text,
                "question": text,
                "answer": text,
                "answers": List(text),
                "choices": List(text),
                "style": text,
                "scorer": text,
                "pass_rate": number,
                "n_samples": Value("int64"),
            },
        }
    )


class VerlWriter(SplitFiles):
    """One Parquet file of queries, and one of those kept for validation."""

    def __init__(self, folder: Path, home: Path, options: ExportOptions) -> None:
        super().__init__(folder, "train", schema_of(features()), options, shard_bytes=2**62)
        self._folder = folder
        self._kept: Counter[str] = Counter()
        self._images: set[str] = set()

    def add(self, item: Item) -> None:
        assert item.row is not None
        images = [_image(picture.read()) for picture in item.pictures]
        own = {"index": self.rows[item.split], "split": item.split}
        about = {**item.row["extra_info"], **own}
        self.put(item, {**item.row, "extra_info": about, "images": images})
        self._images.update(image["path"] for image in images)
        self._kept[item.source or "unnamed"] += 1

    def finish(self) -> dict[str, Any]:
        for split in super().finish()["entries"]:
            folder = (self._folder / split).rename(self._folder / f".{split}")
            (folder / "part-00000.parquet").rename(self._folder / f"{split}.parquet")
            folder.rmdir()
        return {"images": len(self._images), "entries": dict(sorted(self._kept.items()))}


def _image(data: bytes) -> dict[str, Any]:
    return {"bytes": data, "path": f"{hashlib.sha256(data).hexdigest()}.{suffix_of(data)}"}


def write_queries(
    outs: Sequence[str],
    rollouts: Iterable[tuple[Rollout, Config]],
    judge: Scores,
    dest: str,
    options: ExportOptions,
    form: Format | None = None,
) -> Exported:
    """Write what `form` (verl) makes of the rollouts of builds, judged as their pairs were.

    `rollouts` come with the config they were paired with; they are read twice where a number of
    rows is asked for. Raises `SetupError` like `write_export`.
    """
    form = form or FORMAT
    low, high = options.pass_rate
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"--pass-rate {low} {high}: give two numbers with 0 <= low <= high <= 1")
    sources: set[str] = set()

    def items(how: ExportOptions) -> Iterator[Item | BadRow]:
        assert form.rows is not None
        for rollout, config in rollouts:
            seed = rollout.seed
            sources.add(seed.source)
            if how.sources and seed.source not in how.sources:
                continue
            try:
                if rollout.error is not None:
                    raise RowError(*rollout.error)
                if not seed.has_truth:
                    raise RowError("no_truth", "without a truth no response is right or wrong")
                if how.control:
                    config = config.model_copy(update={"quality": QualityConfig()})
                verdicts, _, drops = judge_and_pair(rollout, config, judge)
                for drop in drops:
                    if drop.reason in (SUSPECT_TRUTH, SOLVED_BLIND):
                        raise RowError(drop.reason, drop.detail)
                yield from form.rows(rollout, verdicts, config, how)
            except RowError as error:
                yield BadRow(seed.origin, seed.id, error.reason, error.detail, seed.source)

    return write_items(outs, form, items, lambda: sources, dest, options)


def read_rollouts(parts: Iterable[str], config: Config) -> Iterator[tuple[Rollout, Config]]:
    """The rollouts of parts, part by part, each with the config they were paired with."""
    for part in parts:
        found = rollouts_from_table(read_parquet(part))
        for rollout in sorted(found, key=lambda one: one.index):
            yield rollout, config


def within(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, options: ExportOptions
) -> float:
    """The pass rate of a question. Raises `RowError` where it is none or outside the band.

    With `control` any rate is inside.
    """
    rate = rate_of(rollout, verdicts, config)
    if rate is None:
        raise RowError("nothing_decided", "no response could be judged for certain")
    low, high = (0.0, 1.0) if options.control else options.pass_rate
    # Rates of adaptive sampling are means, and 0.8 three times is 0.8000000000000002 on average.
    if not low - _ROUNDING <= rate <= high + _ROUNDING:
        raise RowError("too_hard" if rate < low else "too_easy", f"pass rate {rate:.3f}")
    return rate


def query_item(rollout: Rollout, config: Config) -> Item:
    """The prompt of a rollout with its images. Raises `RowError` where one cannot be read."""
    seed = rollout.seed
    return Item(
        seed.origin,
        seed.id,
        tuple(prompt_parts(rollout.prompt)),
        rollout.prompt,
        tuple(Picture(data) for data in load_images(rollout, sampled_access(config))),
        source=seed.source,
    )


def about_query(rollout: Rollout, config: Config, rate: float | None) -> dict[str, Any]:
    """What a reward needs to judge a response, and how hard the question is."""
    seed = rollout.seed
    return {
        "id": seed.id,
        "question": plain(seed.question),
        "answer": plain(seed.answers[0]),
        "answers": plain(seed.answers),
        "choices": plain(seed.choices),
        "style": rollout.style,
        "scorer": scorer_for(seed, config),
        "pass_rate": rate,
        "n_samples": len(rollout.responses),
    }


def _rows(
    rollout: Rollout, verdicts: Sequence[Verdict], config: Config, options: ExportOptions
) -> Iterator[Item]:
    rate = within(rollout, verdicts, config, options)
    item = query_item(rollout, config)
    about = about_query(rollout, config, rate)
    row = {
        "data_source": plain(rollout.seed.source) or "mmpr_builder",
        "prompt": [{"role": "user", "content": plain(item.shown)}],
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": about["answer"]},
        "extra_info": {"split": "train", **about},
    }
    yield replace(item, row=row)


FORMAT = Format(
    "verl",
    partial(pair_faults, marks=_MARKS),
    VerlWriter,
    _HOW,
    options=("pass_rate",),
    queries=True,
    rows=_rows,
)


def rollout_parts(out: str | Path) -> list[str]:
    """The finished parts of a build's rollouts. Raises `InputError` when there are none."""
    parts = list_parts(f"{str(out).rstrip('/')}/rollouts", ROLLOUT_SCHEMA)
    if not parts:
        raise InputError(
            f"{out}: no rollouts here, and this export is made of them: give a build's folder"
        )
    return parts
