"""InternVL's own trainer: `meta.json`, JSON lines, a folder of images.

What its loader does (OpenGVLab/InternVL, `internvl_chat/internvl/train/internvl_chat_dpo.py` and
`dataset.py`): `annotation` must end in `jsonl` and, like `root`, is opened as it stands, so both
are absolute here. A row without the key `image`, or with an empty one, is text only; `null` raises.
One image may go without a placeholder, it is put in front. Fewer placeholders than images raise
inside the loader, which then takes a *random other row* in silence; more are left in the text. A
`repeat_time` under 1 takes a random share of the rows, one over 1 is cut to a whole number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mmpr_builder.export.faults import Fault, pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.recipe import RecipeWriter, check_numbers
from mmpr_builder.export.writing import Format

# Its tokenizer gets <img>, </img> and <IMG_CONTEXT> as tokens: in a text they are counted as image.
_MARKS = re.compile(r"<image>|<IMG_CONTEXT>|</?img>")

_HOW = """
Both losses and data are those of MPO in `internvl_chat`; set in one of its scripts
`shell/internvl2.*_mpo/preference_optimization/*.sh`:

```sh
  --meta_path DEST/meta.json \\
```

Paths in `meta.json` are absolute: export with `--mount` if the trainer sees the folder elsewhere.
"""


def faults(item: Item) -> Iterator[Fault]:
    """What InternVL's loader would replace by a random row, or read wrongly."""
    yield from pair_faults(item, _MARKS, may_lack=len(item.pictures) == 1)


def _open(folder: Path, home: Path, options: ExportOptions) -> RecipeWriter:
    check_numbers(options)
    return RecipeWriter(folder, "meta.json", f"{home}/", options)


FORMAT = Format(
    "internvl", faults, _open, _HOW, options=("repeat_time", "max_dynamic_patch", "mount")
)
