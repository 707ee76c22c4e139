"""Stage 8: into other trainers' formats, back from the released one, and what would go wrong.

    internvl.py       meta.json + JSON lines + images (recipe.py), InternVL's own trainer
    nemo_rl.py        the same recipe by the rules of NVIDIA NeMo RL's MMPR loader
    ms_swift.py       messages + rejected_response
    llama_factory.py  ShareGPT ranking + dataset_info.json
    trl.py            Parquet as a build has it
    verl.py           queries by pass rate, in the form of MMPR-Tiny; verl_reward.py judges them

`writing.py` runs over the pairs once and reports every row that a loader would misread, by the
same rules (faults.py) that `lint.py` goes by. `importing.py` reads a released data set.
"""

from __future__ import annotations

from mmpr_builder.export import internvl, llama_factory, ms_swift, nemo_rl, trl, verl
from mmpr_builder.export.options import ExportOptions, PerEntry
from mmpr_builder.export.writing import Exported, Format, write_export

__all__ = ["FORMATS", "ExportOptions", "Exported", "Format", "PerEntry", "write_export"]

FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (internvl, nemo_rl, verl, ms_swift, llama_factory, trl)
}
"""By the names that `--to` and `--for` take."""
