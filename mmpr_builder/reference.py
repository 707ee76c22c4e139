"""TRL trains with the reference log-probabilities that sampling gave, and without a second model.

    class Trainer(StoredReference, trl.DPOTrainer): ...

    Trainer("my-vlm", args=config, train_dataset=mb.load_pairs("out/mine")).train()

The pairs are of a build with `sampling.logprobs=tokens`. With images TRL 1.16 refuses
`precompute_ref_log_probs`, and its collator leaves the columns out.
"""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Any

from mmpr_builder.engines.models import template_digest, weights_digest
from mmpr_builder.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

_COLUMNS = ("ref_chosen_logps", "ref_rejected_logps")
_BY = "reference"
_MEASURED = 8  # Pairs whose log-probabilities the trainer computes, too.
TOLERANCE = 0.05
"""Nats per token by which the median of these may differ: engines round differently."""


class StoredReference:
    """A mix-in for `DPOTrainer` of TRL 1.16; it stands before it among the bases.

    Raises `InputError` where rows lack a reference, where it is another model's, adapter's or chat
    template's, and where what the trainer itself computes for a few pairs differs too much.
    """

    args: Any
    model: Any
    processing_class: Any
    data_collator: Any
    _signature_columns: list[str]

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        collate = self.data_collator

        def with_reference(rows: list[dict[str, Any]]) -> Any:
            import torch

            found = {name: torch.tensor([row[name] for row in rows]) for name in _COLUMNS}
            batch = collate(rows)
            batch.update(found)
            return batch

        self.data_collator = with_reference

    def create_accelerator_and_postprocess(self) -> None:
        """The trainer's own; behind it TRL looks whether to load a reference model."""
        super().create_accelerator_and_postprocess()  # type: ignore[misc]
        self.args.precompute_ref_log_probs = self.precompute_ref_logps = True

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, *_COLUMNS]))

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """The rows as they are, once they are known to fit."""
        self.args.precompute_ref_log_probs = False  # Of use no more; an error must not leave it.
        self._check_identity(_only_reference(dataset, name))
        step = max(1, len(dataset) // _MEASURED)
        some = dataset.select(range(0, len(dataset), step)[:_MEASURED])
        bare = some.remove_columns([*_COLUMNS])
        computed = super()._precompute_ref_logps(bare, name, batch_size)  # type: ignore[misc]
        apart = []
        for stored, own in zip(some, computed, strict=True):
            tokens = self.data_collator([dict(own)])["completion_mask"].sum(1).tolist()
            sides = zip(_COLUMNS, tokens, strict=True)
            apart += [abs(stored[column] - own[column]) / n for column, n in sides]
        if not (median := statistics.median(apart)) <= TOLERANCE:
            raise InputError(
                f"the reference log-probabilities of {name} rows are {median:.3f} nats per token"
                f" off what this trainer computes (at most {TOLERANCE}): train the model that was"
                " sampled, with pictures of the same size"
            )
        return dataset

    def _check_identity(self, stored: dict[str, str]) -> None:
        """Raises `InputError` for another model, adapter or chat template."""
        base = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        name = base.config._name_or_path
        template = template_digest(
            lambda messages, opened: self.processing_class.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=opened
            )
        )
        # Weights that lie nowhere are known by what they compute.
        own = {"model": weights_digest(name) or stored["model"], "lora": "", "template": template}
        if other := [part for part, found in own.items() if found != stored[part]]:
            raise InputError(
                f"the pairs' reference is of another {' and '.join(other)} than this trainer's"
                f" ({name}): train what was sampled, or use DPOTrainer alone"
            )


def _only_reference(dataset: Dataset, name: str) -> dict[str, str]:
    """What gave the reference of all rows. Raises `InputError` where some have none, or another."""
    if lacking := sorted({*_COLUMNS, _BY} - {*dataset.column_names}):
        raise InputError(
            f"the {name} rows have no column {lacking[0]}: sample with sampling.logprobs=tokens"
        )
    if without := sum(value is None for column in _COLUMNS for value in dataset[column]):
        raise InputError(
            f"{without:,} sides of the {name} rows have no reference (`references` in run.json says"
            " why): leave their rows out with dataset.filter"
        )
    if len(found := dataset.unique(_BY)) > 1:
        raise InputError(f"the {name} rows have references of {len(found)} models: give one's")
    return dict(json.loads(found[0]))
