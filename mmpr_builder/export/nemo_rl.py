"""NVIDIA NeMo RL's MMPR loader: the same recipe, read by other rules.

What it does (NVIDIA-NeMo/RL, `nemo_rl/data/datasets/preference_datasets/mmpr.py`): `root` and
`annotation` are joined to the folder *above* the recipe's own, hence `DEST/recipe/meta.json`. The
key `image` must be there, and rows with other than one existing image are passed over in silence.
`<image>` and `<image_1>`, `<image_2>`, … all count as placeholders, and a number of them other than
0 or the number of images raises; in responses they are deleted. A response without `<think>` gets
an empty `<think></think>` in front. `repeat_time` is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mmpr_builder.export.faults import Fault, pair_faults
from mmpr_builder.export.items import Item
from mmpr_builder.export.options import ExportOptions
from mmpr_builder.export.recipe import RecipeWriter
from mmpr_builder.export.writing import Format

_MARKS = re.compile(r"<image(?:_\d+)?>")

_HOW = """
Give NeMo RL's `MMPRPreferenceDataset` the recipe:

```yaml
data_path: DEST/recipe/meta.json
```

The loader takes rows with exactly one image; all others were left out. It puts an empty
`<think></think>` in front of responses that have none.
"""


def faults(item: Item) -> Iterator[Fault]:
    """What NeMo RL would pass over in silence, or raise at."""
    if not item.pictures:
        yield Fault("text_only", "the loader takes rows with exactly one image")
    elif len(item.pictures) > 1:
        yield Fault(
            "multi_image",
            f"the loader takes rows with exactly one image, this has {len(item.pictures)}",
        )
    yield from pair_faults(item, _MARKS, may_lack=True)


def _open(folder: Path, home: Path, options: ExportOptions) -> RecipeWriter:
    return RecipeWriter(folder, "recipe/meta.json", "", options)


FORMAT = Format("nemo-rl", faults, _open, _HOW)
