"""The documentation is true: its code runs, its links lead somewhere, its names are real ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from markdown.extensions.toc import slugify
from pair_samples import sample_rollouts, write_build
from typer.main import get_command

import mmpr_builder as mb
from mmpr_builder.cli import app
from mmpr_builder.config import settings_table
from mmpr_builder.export import ExportOptions, write_export
from tools import reference

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
SECURITY = ROOT / "docs" / "security.md"
PAGES = [
    README,
    CONTRIBUTING,
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
RECIPES = sorted((ROOT / "pipelines").glob("*.yaml"))
WRITE_ANEW = "run: python -m tools.reference"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", flags=re.S | re.M)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks; `python` marks those that run, `py` those that need a model or a GPU."""
    return [code for kind, code in FENCE.findall(text_of(page)) if kind == language]


def runnable() -> Iterator[Any]:
    for page in PAGES:
        for number, code in enumerate(blocks(page, "python"), start=1):
            yield pytest.param(page, code, id=f"{page.name}-{number}")


def run(page: Path, code: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": page.stem}
    exec(compile(code, page.name, "exec"), names)  # noqa: S102 (our own text)
    return names


@pytest.mark.parametrize(("page", "code"), list(runnable()))
def test_the_code_runs_as_it_stands(
    page: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(page, code)


def test_readme_and_contributing_guide_have_code_that_runs() -> None:
    assert len(blocks(README, "python")) >= 1
    assert len(blocks(CONTRIBUTING, "python")) == len(EXTENSIONS)


def test_each_guarantee_names_tests_that_there_are() -> None:
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| (`.*) \|$", text_of(SECURITY), flags=re.M)
    named = [name for row in rows for name in re.findall(r"`(test_\w+)`", row)]
    files = (ROOT / "tests").rglob("test_*.py")
    there = {name for file in files for name in re.findall(r"def (test_\w+)", text_of(file))}
    assert len(rows) > 15
    assert not set(named) - there


# --- README


def test_the_readme_fits_a_screen_and_names_exactly_two_commands() -> None:
    assert README.stat().st_size <= 10_000
    section = text_of(README).split("## Two commands\n")[1].split("\n## ")[0]
    assert re.findall(r"^make [a-z-]+", section, flags=re.M) == ["make build-mmpr", "make test"]


# --- What is named exists


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text_of(page)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_relative_to(ROOT), link
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def headings(page: Path) -> list[str]:
    found = re.findall(r"^#+ +(.*)$", FENCE.sub("", text_of(page)), flags=re.M)
    return [slugify(heading, "-") for heading in found]


@pytest.mark.parametrize(
    "page",
    [*PAGES, *sorted((ROOT / ".github" / "workflows").iterdir())],
    ids=lambda page: page.name,
)
def test_make_targets_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), flags=re.M)
    named = re.findall(r"(?:`|^|run: )make ([a-z-]+)", text_of(page), flags=re.M)
    assert set(named) <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    commands = get_command(app).commands
    assert set(re.findall(r"(?:`|^)mmpr ([a-z]+)", text_of(page), flags=re.M)) <= set(commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_are_named_exist(page: Path) -> None:
    keys = [key for key, _, _ in settings_table()]
    # Sources are named by the user, and `engine` takes any argument of vLLM's engine.
    sections = {key.partition(".")[0] for key in keys if "." in key} - {"seeds", "engine"}
    key = rf"(?<![\w/.])((?:{'|'.join(sections)})(?:\.(?!py\b)[a-z_]+)+)(?==|`)"
    for name in re.findall(key, text_of(page)):
        assert any(key == name or key.startswith(f"{name}.") for key in keys), name


def test_the_guide_has_a_line_for_every_room_of_the_package() -> None:
    table = text_of(CONTRIBUTING).split("| room of `mmpr_builder/` |")[1].split("\n\n")[0]
    named = re.findall(r"`([a-z_]+(?:\.py|/))`", table)
    package = ROOT / "mmpr_builder"
    folders = [f"{path.parent.name}/" for path in package.glob("*/__init__.py")]
    modules = [path.name for path in package.glob("[a-z]*.py")]
    assert Counter(named) == Counter([*folders, *modules])


# --- What is generated


def test_the_settings_page_is_the_one_of_the_code() -> None:
    assert text_of(reference.SETTINGS) == reference.settings_page(), (
        "run: python -m tools.reference"
    )


def test_the_schema_of_recipes_is_the_one_of_the_code() -> None:
    assert json.loads(text_of(reference.SCHEMA)) == reference.recipe_schema(), WRITE_ANEW


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_shipped_recipes_follow_the_schema(recipe: Path) -> None:
    jsonschema.Draft202012Validator(reference.recipe_schema()).validate(
        yaml.safe_load(text_of(recipe))
    )


@pytest.mark.parametrize(
    ("recipe", "at"),
    [
        ({"smapling": {"n": 4}}, []),
        ({"sampling": {"m": 4}}, ["sampling"]),
        ({"sampling": {"n": "many"}}, ["sampling", "n"]),
        ({"sampling": {"policy": "adaptvie"}}, ["sampling", "policy"]),
        ({"seeds": [{"path": "a.jsonl", "scorrer": "exact"}]}, ["seeds"]),
    ],
    ids=str,
)
def test_the_schema_finds_what_a_recipe_gets_wrong(recipe: Any, at: list[str]) -> None:
    validator = jsonschema.Draft202012Validator(reference.recipe_schema())
    assert [list(error.path) for error in validator.iter_errors(recipe)] == [at]


# --- Contributing


EXTENSIONS = ("a scorer", "a source layout", "a prompt", "an exporter")


def example(title: str) -> str:
    section = text_of(CONTRIBUTING).split(f"### … {title}\n")[1]
    found = FENCE.search(section)
    assert found is not None
    return found[2]


@pytest.mark.parametrize("title", EXTENSIONS)
def test_an_extension_takes_twenty_lines_at_most(title: str) -> None:
    assert len([line for line in example(title).splitlines() if line.strip()]) <= 20


@pytest.mark.usefixtures("own_cache")
def test_the_exporter_of_the_guide_writes_a_build(tmp_path: Path) -> None:
    write_build(tmp_path / "out", sample_rollouts(tmp_path / "seeds"))
    form = run(CONTRIBUTING, example("an exporter"))["LINES"]
    dest = tmp_path / "dest"
    done = write_export([str(tmp_path / "out")], form, str(dest), ExportOptions())
    lines = [json.loads(line) for line in text_of(dest / "pairs.jsonl").splitlines()]
    assert len(lines) == done.rows > 0
    assert all(line["chosen"] != line["rejected"] for line in lines)


# --- The site and the project's own papers


def build_site(config: Path, dest: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    return subprocess.run(
        [*words, "-f", str(config), "-d", str(dest)], capture_output=True, text=True
    )


def test_the_site_builds_with_all_public_names_and_the_picture(tmp_path: Path) -> None:
    done = build_site(ROOT / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 0, done.stderr
    described = re.findall(
        r'id="mmpr_builder\.([\w.]+)"', text_of(tmp_path / "site/api/index.html")
    )
    assert {*mb.__all__} - {"__version__"} <= {name.rpartition(".")[2] for name in described}
    assert (tmp_path / "site" / "repository" / "github" / "pairs.png").exists()


def test_a_dead_link_fails_the_site(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    settings = yaml.safe_load(text_of(ROOT / "mkdocs.yml"))
    settings |= {"plugins": [], "nav": ["index.md"], "hooks": [str(ROOT / settings["hooks"][0])]}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(settings))
    for text, code in (("[it](index.md)", 0), ("[it](gone.md)", 1), ("[it](index.md#gone)", 1)):
        (tmp_path / "docs" / "index.md").write_text(f"# Page\n\n{text}\n")
        done = build_site(tmp_path / "mkdocs.yml", tmp_path / "site")
        assert done.returncode == code, (text, done.stderr)


def test_the_citation_names_this_version() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    citation = yaml.safe_load(text_of(ROOT / "CITATION.cff"))
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert f"## {project['version']}" in text_of(ROOT / "CHANGELOG.md")
