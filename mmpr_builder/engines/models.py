"""Models by name: where they lie, whether they are there, and their identity."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.errors import InputError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def resolve(name: str) -> str:
    """A model's path, hub id or URL as the engine takes it; `demo` is the shipped model."""
    if name == "demo":
        from mmpr_builder.demo import model_path

        return str(model_path())
    expanded = Path(name).expanduser()
    return str(expanded) if expanded.exists() else name


def check(name: str, *, revision: str | None = None, setting: str = "model") -> None:
    """Raise `InputError` unless `name` is a model folder, a URL or a hub id.

    Offline a hub id must lie in the local cache; online it must exist.
    """
    wanted = "adapter_config.json" if setting == "lora" else "config.json"
    resolved = resolve(name)
    path = Path(resolved)
    if path.is_dir():
        if not any((path / file).is_file() for file in (wanted, "params.json")):
            raise InputError(f"{setting} = {name!r}: the folder {path} holds no {wanted}")
        return
    if (path.is_file() and path.suffix == ".gguf") or "://" in name:
        return
    if path.exists() or name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise InputError(
            f"{setting} = {name!r} is neither a model folder with a {wanted} nor a hub id:"
            f" give the path of a folder, or an id such as 'org/name'"
        )
    if cached(name, wanted, revision) is not None:
        return
    if not is_offline():
        _check_hub(name, revision, setting)
    else:
        raise InputError(
            f"{setting} = {name!r} is not a folder, and as a hub id it is not in the local cache,"
            " and HF_HUB_OFFLINE forbids fetching it: give a folder, or unset HF_HUB_OFFLINE"
        )


def _check_hub(name: str, revision: str | None, setting: str) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        HfApi().model_info(name, revision=revision, timeout=10)
    except (RepositoryNotFoundError, RevisionNotFoundError):
        at = f" at revision {revision!r}" if revision else ""
        raise InputError(
            f"{setting} = {name!r}: the hub has no such model{at}, or not for you: check the"
            " spelling, or log in with `hf auth login`"
        ) from None
    except Exception:  # noqa: BLE001  A hub that is away is for the engine to tell of.
        return


def read_config(name: str, revision: str | None = None) -> dict[str, Any]:
    """A model's config.json; {} where it cannot be read here."""
    folder = Path(resolve(name))
    path = folder / "config.json" if folder.is_dir() else None
    if path is None and _HUB_ID.fullmatch(name):
        path = cached(name, "config.json", revision)
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def is_offline() -> bool:
    """Whether the environment forbids requests to a model hub."""
    return any(os.environ.get(key, "").upper() in ("1", "ON", "YES", "TRUE") for key in _OFFLINE)


def cached(name: str, file: str, revision: str | None = None) -> Path | None:
    """A hub file's path in the local cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, file, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def identity(config: Config) -> dict[str, str]:
    """Name, configuration hash, commit and weight sizes of the model and its LoRA adapter."""
    revision = config.engine.get("revision")
    found = _identity("model", config.model, "config.json", revision)
    if config.lora is not None:
        found |= _identity("lora", config.lora, "adapter_config.json", None)
    return found


def _identity(label: str, name: str, file: str, revision: str | None) -> dict[str, str]:
    """Without the folder's path: a moved copy of a model is the same model."""
    found = {label: name}
    if revision is not None:
        found[f"{label}.revision"] = revision
    folder = Path(resolve(name))
    if not folder.is_dir():
        place = cached(name, file, revision) if _HUB_ID.fullmatch(name) else None
        if place is None:
            return found
        folder = place.parent
        found[f"{label}.commit"] = folder.name  # cache: models--ORG--NAME/snapshots/COMMIT/
    if (folder / file).is_file():
        found[f"{label}.config"] = hashlib.sha256((folder / file).read_bytes()).hexdigest()[:16]
    sizes = sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.suffix in _WEIGHTS)
    found[f"{label}.weights"] = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:16]
    return found
