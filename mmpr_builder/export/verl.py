"""verl: queries of middling difficulty for online training, in the form of MMPR-Tiny.

    data_source, prompt: [{role, content}], images: [Image], ability,
    reward_model: {style, ground_truth}, extra_info: {index, question, answers, pass_rate, …}

MMPR-Tiny is the queries whose pass rate over the rollouts lies in 0.2-0.8 (InternVL3.5): a query
that always or never succeeds teaches nothing. The pass rate is the one of the pairs, over decided
responses (a model that judges what no rule decides is not asked again here).

What the loader does (verl, `verl/utils/dataset/rl_dataset.py`): it splits the prompt at `<image>`
and `<video>` and asserts one image for each; images are decoded by the Parquet file's own metadata;
a query without images is text (older versions need the key to be missing).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.errors import ConfigError, InputError, RowError
from mmpr_builder.export.destination import JsonlFiles, ParquetFiles, staged, suffix_of
from mmpr_builder.export.faults import Fault, pair_faults
from mmpr_builder.export.items import Item, Picture
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.writing import DROPS, Exported, Format, check_options, finish_folder
from mmpr_builder.io.access import sampled_access
from mmpr_builder.io.tables import plain, read_parquet, rollouts_from_table
from mmpr_builder.output.stored_images import load_images
from mmpr_builder.pairing import Scores, judge_and_pair, scorer_for
from mmpr_builder.pairing.pooled import rate_of
from mmpr_builder.prompts import parts as prompt_parts
from mmpr_builder.records import Rollout

TRAIN = "train.parquet"
ABILITY = "multimodal_reasoning"
_ROUNDING = 1e-9

_MARKS = re.compile(r"<image>|<video>|<audio>")

_HOW = """
```sh
reward=$(python -c "import mmpr_builder.export.verl_reward as r; print(r.__file__)")
python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo \\
    data.train_files=DEST/train.parquet data.image_key=images \\
    custom_reward_function.path=$reward \\
    custom_reward_function.name=compute_score \\
    actor_rollout_ref.model.path=my-vlm
```

The reward judges as the pairs were judged, and needs mmpr_builder beside verl.
"""


def faults(item: Item) -> Iterator[Fault]:
    """What verl's loader would stumble over in a query."""
    yield from pair_faults(item, _MARKS)


FORMAT = Format("verl", faults, None, _HOW, options=("pass_rate",))


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


def write_queries(
    outs: Sequence[str],
    rollouts: Iterable[tuple[Rollout, Config]],
    judge: Scores,
    dest: str,
    options: ExportOptions,
) -> Exported:
    """Write the queries of builds whose pass rate lies within `options.pass_rate`, ends included.

    `rollouts` come with the config they were paired with. Raises `SetupError` like `write_export`.
    """
    check_options(FORMAT, options)
    low, high = options.pass_rate
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"--pass-rate {low} {high}: give two numbers with 0 <= low <= high <= 1")
    seen = Counter[str]()
    kept = Counter[str]()
    images = set[str]()
    with staged(dest, overwrite=options.overwrite) as (folder, home):
        rows = ParquetFiles(folder, features().arrow_schema, shard_bytes=2**62)  # One file.
        refused = _Refused(JsonlFiles(folder), Counter())
        for rollout, config in rollouts:
            seed = rollout.seed
            seen[seed.source] += 1
            if options.sources and seed.source not in options.sources:
                continue
            try:
                row = _query(rollout, config, judge, kept.total(), options.pass_rate)
            except RowError as error:
                refused.add(rollout, error)
                continue
            images.update(image["path"] for image in row["images"])
            kept[seed.source or "unnamed"] += 1
            rows.add(row)
        rows.close()
        (folder / "part-00000.parquet").rename(folder / TRAIN)
        refused.lines.flush()
        _check_result(outs, seen, kept, refused.reasons, options)
        drops = dict(refused.reasons.most_common())
        found = Exported(dest, kept.total(), len(images), dict(sorted(kept.items())), drops)
        finish_folder(folder, home, FORMAT, found, outs, options)
    return found


@dataclass(frozen=True, slots=True)
class _Refused:
    lines: JsonlFiles
    reasons: Counter[str]

    def add(self, rollout: Rollout, error: RowError) -> None:
        self.reasons[error.reason] += 1
        seed = rollout.seed
        row = {"row": seed.origin, "id": seed.id, "reason": error.reason, "detail": error.detail}
        self.lines.add(DROPS, row)


def _check_result(
    outs: Sequence[str],
    seen: Counter[str],
    kept: Counter[str],
    reasons: Counter[str],
    options: ExportOptions,
) -> None:
    unknown = [source for source in options.sources if source not in seen]
    if unknown:
        raise ConfigError(
            f"--sources: no rollout from {unknown[0]!r}: there are {', '.join(sorted(seen)[:20])}"
        )
    if not kept:
        low, high = options.pass_rate
        why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        raise InputError(
            f"{', '.join(outs)}: no query with a pass rate in {low:g}-{high:g}"
            f" ({why or 'no rollouts'}): nothing was written"
        )


def read_rollouts(parts: Iterable[str], config: Config) -> Iterator[tuple[Rollout, Config]]:
    """The rollouts of parts, part by part, each with the config they were paired with."""
    for part in parts:
        found = rollouts_from_table(read_parquet(part))
        for rollout in sorted(found, key=lambda one: one.index):
            yield rollout, config


def _query(
    rollout: Rollout, config: Config, judge: Scores, index: int, bounds: tuple[float, float]
) -> dict[str, Any]:
    seed = rollout.seed
    if rollout.error is not None:
        raise RowError(*rollout.error)
    if not seed.has_truth:
        raise RowError("no_truth", "a reward needs a truth")
    verdicts = judge_and_pair(rollout, config, judge)[0]
    rate = rate_of(rollout, verdicts, config)
    if rate is None:
        raise RowError("nothing_decided", "no response could be judged for certain")
    # Rates of adaptive sampling are means, and 0.8 three times is 0.8000000000000002 on average.
    if not bounds[0] - _ROUNDING <= rate <= bounds[1] + _ROUNDING:
        reason = "too_hard" if rate < bounds[0] else "too_easy"
        raise RowError(reason, f"pass rate {rate:.3f}")
    pictures = load_images(rollout, sampled_access(config))
    item = Item(
        seed.origin,
        seed.id,
        tuple(prompt_parts(rollout.prompt)),
        rollout.prompt,
        tuple(Picture(data) for data in pictures),
    )
    fault = next(faults(item), None)
    if fault is not None:
        raise RowError(*fault)
    return {**_texts(rollout, item, config, index, rate), "images": _named(pictures)}


def _texts(
    rollout: Rollout, item: Item, config: Config, index: int, rate: float
) -> Mapping[str, Any]:
    seed = rollout.seed
    truth = plain(seed.answers[0])
    return {
        "data_source": plain(seed.source) or "mmpr_builder",
        "prompt": [{"role": "user", "content": plain(item.shown)}],
        "ability": ABILITY,
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {
            "index": index,
            "split": "train",
            "id": seed.id,
            "question": plain(seed.question),
            "answer": truth,
            "answers": plain(seed.answers),
            "choices": plain(seed.choices),
            "style": rollout.style,
            "scorer": scorer_for(seed, config),
            "pass_rate": rate,
            "n_samples": len(rollout.responses),
        },
    }


def _named(pictures: Sequence[bytes]) -> list[dict[str, Any]]:
    return [
        {"bytes": data, "path": f"{hashlib.sha256(data).hexdigest()}.{suffix_of(data)}"}
        for data in pictures
    ]


def rollout_parts(out: str | Path) -> list[str]:
    """The finished parts of a build's rollouts. Raises `InputError` when there are none."""
    from mmpr_builder.io.tables import ROLLOUT_SCHEMA, list_parts

    parts = list_parts(f"{str(out).rstrip('/')}/rollouts", ROLLOUT_SCHEMA)
    if not parts:
        raise InputError(
            f"{out}: no rollouts here, and verl takes its queries from them: give a build's folder"
        )
    return parts
