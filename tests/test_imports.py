"""Imports point downwards only; ray and vllm stay in their folders."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmpr_builder"

# Lowest first. A module may import from lower layers and from its own.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("records", "errors", "escaping"),
    ("config",),
    (
        *("files", "access", "fetching", "embedded", "images"),
        *("columns", "schemas", "parquet", "tables", "stores"),
    ),
    (
        *("seeds", "prompts", "sampling", "dropout", "extraction", "scoring"),
        *("pairing", "output", "report", "progress", "display", "quality", "export"),
        *("audit", "diff", "push", "estimates"),
    ),
    ("demo",),
    ("engines",),
    ("distributed",),
    ("build", "probe"),
    ("summary", "cli"),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
HOME_OF = {"ray": "distributed", "vllm": "engines"}
# The demo's trainer and its measuring are commands of their own.
COMMANDS = {"demo/train.py", "demo/measure.py"}


def modules() -> list[Path]:
    return sorted(
        p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py"
    )


def top(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards_only(path: Path) -> None:
    relative = str(path.relative_to(PACKAGE))
    own = top(path)
    assert own in RANK, f"{own} has no layer: place it in LAYERS"
    for name in imported(path):
        root, *rest = name.split(".")
        if root in HOME_OF and relative not in COMMANDS:
            assert own == HOME_OF[root], f"{relative} imports {root}"
        if root == "mmpr_builder" and rest and rest[0] in RANK and relative not in COMMANDS:
            assert RANK[rest[0]] <= RANK[own], f"{relative} imports {name} from above"
