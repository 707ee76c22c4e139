"""The README is true: its code runs, its settings and its layout are the real ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mmpr_builder.config import settings_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", README, flags=re.S | re.M)


def test_there_is_code_to_run() -> None:
    assert CODE


@pytest.mark.parametrize("code", CODE)
def test_the_code_runs_as_it_stands(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})  # noqa: S102 (our own text)


def test_the_settings_table_is_the_one_of_the_code() -> None:
    for key, default, description in settings_table():
        assert settings_row(key, default, description) in README


def settings_row(key: str, default: str, description: str) -> str:
    shown = f"`{default}`" if default else ""
    return f"| `{key}` | {shown} | {description} |"


def test_the_layout_names_every_module_and_nothing_else() -> None:
    layout = README.split("## Layout")[1].split("```")[1]
    named = set(re.findall(r"^\s*([a-z_]+(?:\.py|/))", layout, flags=re.M))
    package = ROOT / "mmpr_builder"
    real = {p.name for p in package.glob("*.py")} | {
        f"{p.name}/" for p in package.iterdir() if (p / "__init__.py").exists()
    }
    inside = {p.name for p in package.glob("*/*.py")}
    assert real <= named, f"not in the README: {sorted(real - named)}"
    gone = {n for n in named if n.endswith(".py")} - real - inside - {"build_mmpr.py"}
    assert not gone, f"in the README only: {sorted(gone)}"


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:`|^)make ([a-z-]+)", README, flags=re.M)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
        assert not os.path.isabs(target)
