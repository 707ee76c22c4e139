"""Models by name: where they lie, whether they are there, and their identity."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmpr_builder.config import Config
from mmpr_builder.errors import InputError
from mmpr_builder.records import IMAGE_PLACEHOLDER, content_id

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")
_MARK = re.compile(r"[^\w\s][^\w\n]*+\w.*[^\w\s]")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_TEXTS = (".json", ".jinja", ".txt", ".model")
_MOST_BYTES = 64 * 2**20
"""Of a file that describes a model; the largest tokenizers have half of that."""
_MOST_SPECIAL, _LONGEST_SPECIAL = 50_000, 200
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
        _check_files(path)
        return
    if (path.is_file() and path.suffix == ".gguf") or "://" in name:
        return
    if path.exists() or name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise InputError(
            f"{setting} = {name!r} is neither a model folder with a {wanted} nor a hub id:"
            f" give the path of a folder, or an id such as 'org/name'"
        )
    if (there := cached(name, wanted, revision)) is not None:
        _check_files(there.parent)
        return
    if any(os.environ.get(key, "").upper() in ("1", "ON", "YES", "TRUE") for key in _OFFLINE):
        raise InputError(
            f"{setting} = {name!r} is not a folder, and as a hub id it is not in the local cache,"
            " and HF_HUB_OFFLINE forbids fetching it: give a folder, or unset HF_HUB_OFFLINE"
        )
    _check_hub(name, revision, setting)


def _check_files(folder: Path) -> None:
    """Raise `InputError` for what would wait or read for ever, here or in vLLM."""
    for path in sorted([*folder.iterdir(), *folder.glob("additional_chat_templates/*")]):
        if path.exists() and not path.is_dir():
            _check_file(path)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is no regular file: give a model's own files")
    size = path.stat().st_size
    if path.suffix in _TEXTS and size > _MOST_BYTES:
        raise InputError(
            f"{path}: {size:,} bytes, and what describes a model has {_MOST_BYTES:,} at most: give"
            " a model's own files"
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


def read_config(
    name: str, revision: str | None = None, file: str = "config.json"
) -> dict[str, Any]:
    """A model's config.json, or another such file; {} where it cannot be read here.

    Raises `InputError` for what is no regular file, or has more bytes than any has.
    """
    folder = _folder(name, file, revision)
    if folder is None or not (folder / file).exists():
        return {}
    _check_file(folder / file)
    try:
        found = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def special_tokens(config: Config) -> re.Pattern[str] | None:
    """What the model's tokenizer takes for its special tokens, `<image>` left out; None where its
    files are not on this machine, and for rollouts that are read again.

    A special token that is not written as a mark (some models pad with "!") is not counted.
    """
    if config.sampling.engine == "replay":
        return None
    name = str(config.engine.get("tokenizer") or config.model)
    revision, names = config.engine.get("revision"), set[str]()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        found = read_config(name, revision, file)
        for tokens in (found.get("added_tokens"), found.get("added_tokens_decoder")):
            listed = list(tokens.values()) if isinstance(tokens, dict) else tokens or []
            try:
                names |= {str(token["content"]) for token in listed if token.get("special")}
            except (AttributeError, LookupError, TypeError) as error:
                raise InputError(
                    f"model = {name!r}: {file}: added tokens are tables with a content ({error!r}):"
                    " give the model's own file"
                ) from None
    names = {token for token in names if len(token) <= _LONGEST_SPECIAL}
    if len(names) > _MOST_SPECIAL:
        raise InputError(
            f"model = {name!r}: its tokenizer has {len(names):,} special tokens, and"
            f" {_MOST_SPECIAL:,} are the most that questions are searched for"
        )
    marks = sorted(filter(_MARK.fullmatch, names - {IMAGE_PLACEHOLDER}), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, marks))) if marks else None


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
    """Name, hash of configuration, commit, sizes and digest of the weights of the model and of its
    LoRA adapter."""
    revision = config.engine.get("revision")
    found = _identity("model", config.model, "config.json", revision)
    if config.lora is not None:
        found |= _identity("lora", config.lora, "adapter_config.json", None)
    return found


def reference_of(config: Config, template: str) -> str:
    """What reference log-probabilities depend on, as JSON: digests of the model's weights, of its
    adapter's ("" without one), and of what the chat template makes (`template_digest`)."""
    revision = config.engine.get("revision")
    lora = weights_digest(config.lora, "adapter_config.json") if config.lora else ""
    found = {"model": weights_digest(config.model, revision=revision), "lora": lora}
    return json.dumps({**found, "template": template}, sort_keys=True)


_PIECES, _PIECE_BYTES = 64, 16_384


def weights_digest(name: str, file: str = "config.json", revision: str | None = None) -> str:
    """16 hex digits over pieces of each of a model's files of weights, which training changes; ""
    where they cannot be read here. Their names do not count."""
    folder = _folder(name, file, revision)
    found = hashlib.sha256()
    files = [] if folder is None else folder.iterdir()
    weights = [path for path in files if path.suffix in _WEIGHTS and path.is_file()]
    for path in sorted(weights):
        size = path.stat().st_size
        found.update(str(size).encode())
        with path.open("rb") as opened:
            for piece in range(_PIECES):
                opened.seek(piece * size // _PIECES)
                found.update(opened.read(_PIECE_BYTES))
    return found.hexdigest()[:16] if weights else ""


def template_digest(written: Callable[[list[dict[str, Any]], bool], str]) -> str:
    """16 hex digits over what a chat template makes of a question and an answer; `written` gets
    messages and whether an assistant's turn is opened behind them."""
    question, answer = turn("user", "?"), turn("assistant", "!")
    return content_id(written([question], True), written([question, answer], False))[:16]


def turn(role: str, text: str) -> dict[str, Any]:
    """A message of one text part, as TRL has it."""
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _folder(name: str, file: str, revision: str | None) -> Path | None:
    """Where a model lies, as a folder or in the hub's cache; None if it is not there."""
    folder = Path(resolve(name))
    if folder.is_dir():
        return folder
    place = cached(name, file, revision) if _HUB_ID.fullmatch(name) else None
    return None if place is None else place.parent


def _identity(label: str, name: str, file: str, revision: str | None) -> dict[str, str]:
    """Without the folder's path: a moved copy of a model is the same model."""
    found = {label: name}
    if revision is not None:
        found[f"{label}.revision"] = revision
    folder = _folder(name, file, revision)
    if folder is None:
        return found
    if folder != Path(resolve(name)):
        found[f"{label}.commit"] = folder.name  # cache: models--ORG--NAME/snapshots/COMMIT/
    if (folder / file).is_file():
        found[f"{label}.config"] = hashlib.sha256((folder / file).read_bytes()).hexdigest()[:16]
    sizes = sorted((p.name, p.stat().st_size) for p in folder.iterdir() if p.suffix in _WEIGHTS)
    found[f"{label}.weights"] = hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:16]
    # A model trained further and saved in its place has the same configuration and sizes.
    found[f"{label}.content"] = weights_digest(name, file, revision)
    return found
