"""Small files of a build's folder on any file system: whole or not there at all."""

from __future__ import annotations

import json
from typing import Any

from mmpr_builder.errors import InputError
from mmpr_builder.tables import put_text, resolve


def join(uri: str, *names: str) -> str:
    """A path below a folder given as path or URL."""
    return "/".join([uri.rstrip("/"), *names])


def exists(uri: str) -> bool:
    fs, path = resolve(uri)
    fs.invalidate_cache()  # Another process may have written it a moment ago.
    return bool(fs.exists(path))


def write_json(uri: str, content: Any) -> None:
    """Replace a file by `content` as JSON; a reader sees the old or the new one, never a part."""
    put_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", uri)


def read_json(uri: str) -> Any:
    """Raises `InputError` when the file is not there or is not JSON."""
    fs, path = resolve(uri)
    try:
        return json.loads(fs.cat_file(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{uri}: cannot be read ({error}): restore it, or start again with another out="
        ) from error


def remove_folder(uri: str) -> None:
    """Remove a folder with all it holds; one that is not there is fine."""
    fs, path = resolve(uri)
    fs.invalidate_cache()
    if fs.exists(path):
        fs.rm(path, recursive=True)
