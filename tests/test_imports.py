"""Imports point downwards only; ray and vllm stay in their rooms; no two files share a name."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmpr_builder"

# Lowest first. A module may import from lower rooms and from its own.
ROOMS: tuple[tuple[str, ...], ...] = (
    ("records", "escaping"),
    ("errors",),
    ("config", "progress", "extraction"),
    ("io", "prompts", "dropout", "steps", "scoring", "demo"),
    ("seeds",),
    ("quality",),
    ("pairing",),
    ("sampling", "output", "audit"),
    ("engines", "export", "report", "diff", "push"),
    ("folder",),
    ("cluster",),
    ("runs",),
    ("stages", "library", "probe", "previews", "reference"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, room in enumerate(ROOMS) for name in room}
HOMES = {"ray": ("cluster",), "vllm": ("engines",)}
# Only in a checkout: the wheel does not have them.
NOT_SHIPPED = ("tools", "benchmarks", "tests")


def modules() -> list[Path]:
    return sorted(
        p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.name != "__init__.py"
    )


def room(path: Path) -> str:
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
    own = room(path)
    assert own in RANK, f"{own} has no rank: place it in ROOMS"
    for name in imported(path):
        root, *rest = name.split(".")
        assert root not in NOT_SHIPPED, f"{relative} imports {root}"
        if root in HOMES:
            assert own in HOMES[root], f"{relative} imports {root}"
            inside = root == "vllm" and rest and rest[0].islower()
            assert not inside or relative == "engines/vllm_internals.py", f"{relative}: {name}"
        if root == "mmpr_builder" and rest and rest[0] in RANK:
            assert RANK[rest[0]] < RANK[own] or rest[0] == own, f"{relative} imports {name}"


def test_no_module_imports_one_that_imports_it() -> None:
    names = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts): p for p in modules()}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    edges = {name: at_import(path) & names.keys() - {name} for name, path in names.items()}
    # Whatever imports nothing that is left, or is imported by nothing, lies on no circle.
    while edges:
        imported_by_others = set().union(*edges.values())
        free = {name for name, to in edges.items() if not to or name not in imported_by_others}
        if not free:
            break
        edges = {name: to - free for name, to in edges.items() if name not in free}
    assert not edges, f"import circles among {edges}"


def at_import(path: Path) -> set[str]:
    """What a module imports when it is imported, not later inside its functions."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            place = PACKAGE.parent.joinpath(*node.module.split("."))
            parts = [a.name for a in node.names if is_module(place / a.name)]
            found |= {f"{node.module}.{name}" for name in parts}
            if len(parts) < len(node.names):
                found.add(node.module)
    return found


def test_no_file_name_stands_in_two_folders() -> None:
    folders = defaultdict(list)
    for path in modules():
        if not path.name.startswith("__") and room(path) != "scoring":
            folders[path.name].append(str(path.parent.relative_to(PACKAGE)))
    assert not {name: where for name, where in folders.items() if len(where) > 1}


def is_module(place: Path) -> bool:
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


SCORING: tuple[tuple[str, ...], ...] = (
    ("clean", "decision"),
    ("latex",),
    ("numbers",),
    ("maths",),
    ("words",),
    ("auto",),
    ("pool", "worker"),
    ("judge",),
)


@pytest.mark.parametrize("path", sorted((PACKAGE / "scoring").rglob("*.py")), ids=lambda p: p.stem)
def test_scoring_reads_numbers_before_maths_and_maths_before_words(path: Path) -> None:
    rank = {name: i for i, layer in enumerate(SCORING) for name in layer}
    parts = path.relative_to(PACKAGE / "scoring").with_suffix("").parts
    own = rank.get(parts[0], len(SCORING))  # scoring's own __init__ is above all
    for name in imported(path):
        below = name.removeprefix("mmpr_builder.scoring.").split(".")[0]
        if name.startswith("mmpr_builder.scoring.") and below in rank:
            assert rank[below] <= own, f"{'/'.join(parts)} imports {name} from above"
