"""torchvision's ordinary wheel beside a CPU build of torch; `make setup` puts this into .venv.

Most model families import torchvision for its resizing, which needs none of its C++ operators.
The wheel on PyPI is built for CUDA: beside CPU torch its library does not load, and importing it
fails where it describes two operators of that library. PyTorch's own index has a CPU build, but
not every machine can reach it. Here the two operators are declared, and never run.

Every process of the environment imports this when it starts (a `.pth` file says so), for vLLM's
processes import torchvision before they run anybody's code. Nothing happens until they do.
"""

from __future__ import annotations

import functools
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

OPERATORS = ("nms", "qnms")
"""Those that torchvision 0.20 to 0.29 describes while it is imported."""

_kept: list[Any] = []  # A declaration lasts as long as its object.


class _BeforeTorchvision:
    """The first finder on `sys.meta_path`. It finds torchvision where Python does, and declares its
    operators once it runs. Asking whether it is there, as `datasets` does, imports no torch."""

    def find_spec(self, name: str, *where: Any) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, *where) if name == "torchvision" else None
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def declared(module: ModuleType) -> None:
                _declare()
                run(module)

            spec.loader.exec_module = declared  # type: ignore[method-assign]
        return spec


@functools.cache
def _declare() -> None:
    import torch

    library = Path(__file__).parent / "torchvision" / "_C.so"
    if torch.version.cuda is not None or not library.is_file():
        return
    try:
        torch.ops.load_library(str(library))
    except OSError:
        _kept.append(torch.library.Library("torchvision", "DEF"))
        for operator in OPERATORS:
            _kept[0].define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )


sys.meta_path.insert(0, _BeforeTorchvision())
