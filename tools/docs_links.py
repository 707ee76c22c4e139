"""A hook of mkdocs: pages may link to files outside of docs/, as they do on a code host.

`[slurm.sh](../pipelines/cluster/slurm.sh)` leads to a copy of that file in the site, Markdown files
become pages of it. A link to a file that is not there stays as it is, and fails the build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HOME = "repository"
"""The site's folder of such copies."""
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to, and what those pages link to in turn."""
    waiting = [Path(f.abs_src_path) for f in files.documentation_pages() if f.abs_src_path]
    while waiting:
        page = waiting.pop()
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            to = target(page, link)
            if to.is_file() and place(to, config) not in files.src_uris:
                files.append(File.generated(config, place(to, config), abs_src_path=str(to)))
                waiting += [to] if to.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files of the repository into links between pages of the site."""
    assert page.file.abs_src_path is not None
    here, folder = Path(page.file.abs_src_path), posixpath.dirname(page.file.src_uri)

    def moved(found: re.Match[str]) -> str:
        to = target(here, found[1])
        return posixpath.relpath(place(to, config), folder) if to.exists() else found[1]

    return LINK.sub(moved, markdown)


def target(page: Path, link: str) -> Path:
    """The file that a relative link of a file means."""
    return Path(posixpath.normpath(page.parent / link))


def place(path: Path, config: MkDocsConfig) -> str:
    """Where a file of the repository lies in the site."""
    if path.is_relative_to(config.docs_dir):
        return path.relative_to(config.docs_dir).as_posix()
    # mkdocs leaves out what lies in folders with a dot before their names.
    inside = path.relative_to(Path(config.docs_dir).parent).as_posix().removeprefix(".")
    return f"{HOME}/{inside}"
