"""Small files of a build's folder on any file system: whole or not there at all."""

from __future__ import annotations

import json
from typing import Any

from mmpr_builder.errors import InputError, StorageError
from mmpr_builder.escaping import redacted
from mmpr_builder.io.stores import is_there, read_bytes, remove_folder
from mmpr_builder.io.tables import put_text

__all__ = ["exists", "join", "read_json", "remove_folder", "write_json"]


def join(uri: str, *names: str) -> str:
    """A path below a folder given as path or URL."""
    return "/".join([uri.rstrip("/"), *names])


def exists(uri: str) -> bool:
    """Whether a file or folder is there; a storage that does not answer is an error."""
    return is_there(uri)


def write_json(uri: str, content: Any) -> None:
    """Replace a file by `content` as JSON, without secrets; a reader sees the old or the new one,
    never a part."""
    put_text(json.dumps(redacted(content, names=False), ensure_ascii=False, indent=1) + "\n", uri)


def read_json(uri: str) -> Any:
    """Raises `InputError` when the file is not there or is not JSON."""
    try:
        return json.loads(read_bytes(uri))
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"{uri}: cannot be read ({error}): restore it, or start again with another out="
        ) from error
