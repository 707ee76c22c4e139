"""The settings of a build: a recipe in YAML, `key=value` overrides, and what they mean.

    config = load_config("pipelines/demo.yaml", ["sampling.n=16", "seeds=a.jsonl", "out=out/x"])

Unknown keys are errors that name the nearest valid one. What is in `sampling_identity` decides
what a rollout says; a build folder made with other values of those is refused, all the rest can
change between runs.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mmpr_builder.errors import ConfigError
from mmpr_builder.records import Kind

ScorerName = Literal["auto", "math", "choice", "relaxed", "vqa", "anls", "exact"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SourceConfig(_Section):
    """One file, folder or data set of seeds, and what is particular about it."""

    path: str = Field(description="File, folder, glob, URL or hub id; `demo` is the small world.")
    name: str | None = Field(None, description="Source name; default: a row's own, or the stem.")
    root: str | None = Field(None, description="Where relative image paths start; default: beside.")
    split: str = Field("train", description="Split, for data sets from a hub or folder.")
    scorer: ScorerName = Field("auto", description="How answers of this source are scored.")
    template: str | dict[str, str] | None = Field(
        None, description="Template name or path for seeds with a truth, or one per language."
    )
    limit: int | None = Field(None, ge=1, description="Read at most this many rows of it.")


class PromptConfig(_Section):
    """How a seed becomes a prompt; see `prompts/`."""

    style: Literal["final_answer", "boxed", "think_boxed"] = Field(
        "final_answer", description="How the answer is asked for: picks `prompts/STYLE_LANGUAGE`."
    )
    language: Literal["auto", "en", "zh"] = Field(
        "auto", description="Prompt language; `auto` follows each seed's own."
    )
    template: str | dict[str, str] | None = Field(
        None, description="Template name or path instead of the style's own, or one per language."
    )
    open_template: str | dict[str, str] | None = Field(
        None, description="Template for seeds without a truth; default: the bare question."
    )


class EndpointConfig(_Section):
    """An OpenAI-compatible server, for `sampling.engine=endpoint`."""

    url: str | None = Field(None, description="Base URL, such as `http://127.0.0.1:8000/v1`.")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; may be unset."
    )
    concurrency: int = Field(64, ge=1, description="Requests in flight at once.")
    timeout_s: float = Field(600.0, gt=0, description="Seconds to wait for one request.")
    retries: int = Field(5, ge=0, description="Tries again on 429, 5xx and broken connections.")
    continuation: Literal["continue_final_message", "none"] = Field(
        "continue_final_message",
        description="How the server continues an open assistant turn (vLLM and SGLang can).",
    )


class SamplingConfig(_Section):
    """What is sampled. Defaults are the paper's: 32 at temperature 1.0 (arXiv 2411.10442, 7)."""

    engine: Literal["vllm", "endpoint", "replay"] = Field("vllm", description="Who answers.")
    n: int = Field(32, ge=1, le=4096, description="Responses per seed.")
    temperature: float = Field(1.0, ge=0, le=10, description="Sampling temperature.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; 1 = off.")
    top_k: int = Field(0, ge=0, description="Sample from the k likeliest tokens; 0 = off.")
    max_tokens: int = Field(4096, ge=1, description="Longest response in tokens.")
    seed: int = Field(0, ge=0, description="Run seed; each seed's own derives from it by hash.")
    logprobs: bool = Field(False, description="Keep each response's mean log-probability.")
    replay_from: str | None = Field(
        None, description="`DIR/rollouts` of an earlier build, for `sampling.engine=replay`."
    )
    endpoint: EndpointConfig = Field(default_factory=lambda: EndpointConfig())


class DropoutConfig(_Section):
    """DropoutNTP: cut a response, let the same model go on without the image."""

    apply: Literal["no_truth", "all", "none"] = Field(
        "no_truth", description="Which seeds get continuations: those without a truth, all, none."
    )
    keep: float = Field(
        0.5, ge=0, le=0.95, description="Part of the response kept; 0.5 is best in the paper."
    )
    image: bool = Field(False, description="Show the image to the continuation (ablation).")
    max_tokens: int | None = Field(
        None, ge=1, description="Longest continuation; default: sampling.max_tokens."
    )


class ScoringConfig(_Section):
    """How responses are judged."""

    scorer: ScorerName = Field("auto", description="Scorer where a source does not fix one.")
    timeout_s: float = Field(2.0, gt=0, le=60, description="Limit for one symbolic comparison.")
    memory_mb: int = Field(1024, ge=256, description="Memory limit of one symbolic worker.")


class PairingConfig(_Section):
    """Which pairs are made of judged responses."""

    max_per_seed: int = Field(15, ge=1, description="Pairs per seed at most (the paper's 15).")
    kinds: tuple[Kind, ...] = Field(
        ("correctness", "format", "dropout_ntp"),
        description="Kinds to make; add `truncated` to use responses cut at max_tokens.",
    )
    seed: int = Field(0, ge=0, description="Breaks ties between equally good pairs.")

    @field_validator("kinds", mode="before")
    @classmethod
    def _accept_commas(cls, value: object) -> object:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class OutputConfig(_Section):
    """How Parquet is written."""

    shard_bytes: int = Field(512 * 2**20, ge=2**16, description="New file after this many bytes.")
    row_group_bytes: int = Field(64 * 2**20, ge=2**14, description="Row group size at most.")


class DistributedConfig(_Section):
    """Where and how wide it runs."""

    address: str | None = Field(
        None, description="Ray cluster to use; default: RAY_ADDRESS if set, else a local Ray."
    )
    replicas: int | Literal["auto"] = Field(
        "auto", description="Engine replicas; `auto`: GPUs / tensor-parallel size, 1 without GPUs."
    )
    unit_queries: int = Field(64, ge=1, le=4096, description="Seeds in one unit of work.")
    unit_bytes: int = Field(
        256 * 2**20, ge=2**20, description="Image bytes in one unit at most, as read from disk."
    )
    units_in_flight: int = Field(4, ge=1, description="Units open in one engine at a time.")
    max_tries: int = Field(3, ge=1, description="Tries of a unit before it is split.")
    scoring_workers: int | Literal["auto"] = Field("auto", description="Processes that score.")


class Config(_Section):
    """Everything a build needs to know."""

    name: str = Field("mmpr", description="Name of the data set, for its card.")
    out: str = Field("out/mmpr", description="Build folder: path or fsspec URL.")
    model: str = Field("demo", description="Model path or hub id; `demo` is the shipped one.")
    lora: str | None = Field(None, description="LoRA adapter folder to sample with.")
    seeds: tuple[SourceConfig, ...] = Field(
        (SourceConfig(path="demo"),),
        description="Sources: paths (comma-separated on the command line) or tables of settings.",
    )
    limit: int | None = Field(None, ge=1, description="Use only the first so many seeds in all.")
    prompts: PromptConfig = Field(default_factory=lambda: PromptConfig())
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig())
    dropout: DropoutConfig = Field(default_factory=lambda: DropoutConfig())
    engine: dict[str, Any] = Field(
        default_factory=dict, description="Any vLLM engine argument: dtype, quantization, …"
    )
    scoring: ScoringConfig = Field(default_factory=lambda: ScoringConfig())
    pairing: PairingConfig = Field(default_factory=lambda: PairingConfig())
    output: OutputConfig = Field(default_factory=lambda: OutputConfig())
    distributed: DistributedConfig = Field(default_factory=lambda: DistributedConfig())

    @field_validator("seeds", mode="before")
    @classmethod
    def _accept_paths(cls, value: object) -> object:
        """`a.jsonl,b.jsonl`, a list of paths, a table, or a list of tables."""
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, Mapping):
            value = [value]
        if isinstance(value, list | tuple):
            if not value:
                raise ValueError("name at least one file, folder or data set")
            return tuple({"path": item} if isinstance(item, str) else item for item in value)
        return value


# Only these decide what the rollouts of given seeds say. `sampling.endpoint` is left out (where a
# model is served does not change it); so are the sizes of units and the number of replicas.
_IDENTITY = ("model", "lora", "seeds", "limit", "prompts", "sampling", "dropout", "engine")


def sampling_identity(config: Config) -> dict[str, Any]:
    """The settings that decide what rollouts say, flat: dotted key -> value."""
    flat: dict[str, Any] = {}
    for key in _IDENTITY:
        _flatten(key, config.model_dump(mode="json")[key], flat)
    kept = {k: v for k, v in flat.items() if not k.startswith("sampling.endpoint.")}
    # A source's scorer belongs to the second half: changing it must not cost a token.
    return {k: v for k, v in kept.items() if not (k.startswith("seeds.") and ".scorer" in k)}


def identity_hash(identity: Mapping[str, Any]) -> str:
    """16 hex digits over `sampling_identity`, independent of key order."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _flatten(prefix: str, value: Any, into: dict[str, Any]) -> None:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            _flatten(f"{prefix}.{key}", item, into)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for i, item in enumerate(value):
            _flatten(f"{prefix}.{i}", item, into)
    else:
        into[prefix] = value


def load_config(recipe: str | Path | None, overrides: Iterable[str] = ()) -> Config:
    """Read a recipe (or only defaults), apply overrides, check everything.

    Raises `ConfigError` quoting the value, the key and the nearest valid key.
    """
    data = _read_recipe(recipe) if recipe is not None else {}
    overrides = list(overrides)
    for override in overrides:
        _apply_override(data, override)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        lines = [_explain(item, str(recipe), overrides) for item in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def _read_recipe(recipe: str | Path) -> dict[str, Any]:
    path = find_shipped("pipelines", str(recipe), ".yaml")
    if path is None:
        raise ConfigError(
            f"recipe {str(recipe)!r} is neither a file nor a shipped recipe"
            f" ({', '.join(shipped_names('pipelines', '.yaml'))}): give the path of a YAML file"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a recipe is a table of settings, got {type(data).__name__}")
    return data


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, raw = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"override {override!r} is not of the form key=value, say sampling.n=16")
    try:
        value = yaml.safe_load(raw) if raw.strip() else None
    except yaml.YAMLError:
        value = raw
    *parents, last = key.strip().split(".")
    table: Any = data
    for parent in parents:
        table = _step_into(table, parent, override)
    if isinstance(table, list):
        _step_into(table, last, override)
        table[int(last)] = raw
        return
    # Text stays text, even where YAML would read something else out of it (say, out=2024).
    table[last] = raw if raw.strip() and _is_text(key.strip(), raw) else value


def _step_into(table: Any, part: str, override: str) -> Any:
    """The table under `part`; `seeds.0` is the first source, a bare path or a table."""
    if isinstance(table, list):
        if not part.isdigit() or int(part) >= len(table):
            raise ConfigError(f"override {override!r}: the recipe has {len(table)} sources, from 0")
        if isinstance(table[int(part)], str):
            table[int(part)] = {"path": table[int(part)]}
        return table[int(part)]
    child = table.setdefault(part, {})
    if not isinstance(child, dict | list):
        raise ConfigError(f"override {override!r}: {part!r} is a value, not a table")
    return child


_TEXT_KEYS = ("out", "model", "name", "lora", "sampling.replay_from", "sampling.endpoint.url")


def _is_text(key: str, raw: str) -> bool:
    if key == "seeds":
        return not raw.lstrip().startswith(("[", "{"))
    return key in _TEXT_KEYS or (key.startswith("seeds.") and key.endswith((".path", ".root")))


def _explain(item: Any, recipe: str, overrides: list[str]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    # An override is to blame if it set the key or something under or above it.
    given = [(o.split("=")[0].strip(), o) for o in overrides]
    blamed = [o for k, o in given if f"{k}.".startswith(f"{key}.") or f"{key}.".startswith(f"{k}.")]
    where = blamed[-1] if blamed else recipe
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, valid_keys(), n=1, cutoff=0.0)
        hint = f"; the nearest valid key is {near[0]!r}" if near else ""
        return f"{where}: unknown key {key!r} (value {item['input']!r}){hint}"
    return f"{where}: {key} = {item['input']!r}: {item['msg']}"


def valid_keys() -> list[str]:
    """All dotted keys of the settings, in the order of the settings table."""
    return [key for key, _, _ in settings_table()]


def settings_table() -> list[tuple[str, str, str]]:
    """(key, default, description) of every setting, for the README and `mmpr settings`."""
    rows: list[tuple[str, str, str]] = []
    _collect(Config, "", rows)
    return rows


def _collect(model: type[BaseModel], prefix: str, rows: list[tuple[str, str, str]]) -> None:
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            _collect(section, f"{prefix}{name}.", rows)
            continue
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        if name == "seeds":
            default = "demo"
        shown = "" if default is None else json.dumps(_plain(default), ensure_ascii=False)
        rows.append((f"{prefix}{name}", shown.strip('"'), field.description or ""))
        if name == "seeds":
            _collect(SourceConfig, "seeds.N.", rows)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def shipped_folder(kind: Literal["pipelines", "prompts"]) -> Path:
    """The folder of shipped recipes or prompts, in an installed package or in a checkout."""
    package = Path(__file__).parent
    installed = package / "_shipped" / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_names(kind: Literal["pipelines", "prompts"], suffix: str) -> list[str]:
    """Names (without suffix) of what is shipped, sorted."""
    return sorted(path.stem for path in shipped_folder(kind).glob(f"*{suffix}"))


def find_shipped(kind: Literal["pipelines", "prompts"], name: str, suffix: str) -> Path | None:
    """`name` as a file of the user's, else as a shipped one (`demo`, `pipelines/demo.yaml`)."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    shipped = shipped_folder(kind) / path.name.removesuffix(suffix)
    shipped = shipped.with_name(shipped.name + suffix)
    is_ours = path.parent in (Path(), Path(kind))
    return shipped if is_ours and shipped.is_file() else None
