"""A build's folder, on any file system: manifest, lock, status, parts of rollouts.

The functions here are for its small files, which are whole or not there at all.
"""

from __future__ import annotations

import json
from typing import Any

from mmpr_builder.errors import InputError, StorageError
from mmpr_builder.escaping import redacted
from mmpr_builder.io.stores import read_bytes
from mmpr_builder.io.tables import put_text


def join(uri: str, *names: str) -> str:
    """A path below a folder given as path or URL."""
    return "/".join([uri.rstrip("/"), *names])


def write_json(uri: str, content: Any) -> None:
    """Replace a file by `content` as JSON, without secrets; readers see the old or the new one."""
    put_text(json.dumps(redacted(content, names=False), ensure_ascii=False, indent=1) + "\n", uri)


def read_json(uri: str) -> Any:
    """Raises `InputError` when the file is missing or not JSON, `StorageError` without an answer
    from the storage."""
    try:
        return json.loads(read_bytes(uri))
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"{uri}: cannot be read ({error}): restore it, or start again with another out="
        ) from error
