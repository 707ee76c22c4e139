"""Stage 8: into other trainers' formats, back from the released one, and what would go wrong.

    recipe.py         meta.json + JSON lines + images: InternVL's own trainer, NVIDIA NeMo RL
    messages.py       ms-swift, LLaMA-Factory
    verl.py           queries by pass rate, in the form of MMPR-Tiny; verl_reward.py judges them
    responses.py      TRL: pairs as a build has them; SFT, KTO and GRPO from the same rollouts
    process.py        labels of steps, for process reward models

`writing.py` runs over the pairs once and reports every row that a loader would misread, by the
same rules (faults.py) that `lint.py` goes by. `importing.py` reads a released data set.
"""

from __future__ import annotations

from mmpr_builder.export import messages, process, recipe, responses, verl
from mmpr_builder.export.options import ExportOptions, PerEntry
from mmpr_builder.export.writing import Exported, Format, write_export

__all__ = ["FORMATS", "ExportOptions", "Exported", "Format", "PerEntry", "write_export"]

FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        recipe.INTERNVL,
        recipe.NEMO_RL,
        verl.FORMAT,
        messages.MS_SWIFT,
        messages.LLAMA_FACTORY,
        responses.TRL,
        responses.SFT,
        responses.KTO,
        responses.GRPO,
        process.PRM,
        process.STEPWISE,
    )
}
"""By the names that `--to` and `--for` take."""
