"""Where shipped recipes and prompts lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def shipped_folder(kind: Literal["pipelines", "prompts"]) -> Path:
    """The folder of shipped recipes or prompts, in an installed package or in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_shipped" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_names(kind: Literal["pipelines", "prompts"], suffix: str) -> list[str]:
    """Names (without suffix) of what is shipped, sorted."""
    return sorted(path.stem for path in shipped_folder(kind).glob(f"*{suffix}"))


def find_shipped(kind: Literal["pipelines", "prompts"], name: str, suffix: str) -> Path | None:
    """`name` as a file of the user's, else as a shipped one (`demo`, `pipelines/demo.yaml`)."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_folder(kind) / path.name.removesuffix(suffix)
    shipped = shipped.with_name(shipped.name + suffix)
    is_ours = path.parent in (Path(), Path(kind))
    return shipped if is_ours and shipped.is_file() else None
